"""The house: every import leads to the same room or one below it, and none in a circle."""

from __future__ import annotations

import ast
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import neuronscope

SOURCE = Path(neuronscope.__file__).parent

FLOORS: list[set[str]] = [
    {"errors", "text", "locks", "stopping", "bars", "blocking"},
    {"arguments", "validation", "types", "neurons", "cluster"},
    {"interfaces", "events", "io", "digests", "saved", "config", "results"},
    {"subject", "corpus"},
    {"exemplars"},
    {"llm"},
    {"offline"},
    {"simulators"},
    {"metrics"},
    {"state"},
    {"agents", "baselines"},
    {"graphs"},
    {"display"},
    {"session", "resources", "explain", "evaluation", "server", "runs", "schemas"},
    {"neuronscope"},  # the public names
    {"cli", "experiments"},
    {"__main__"},
]
"""The rooms from the bottom up; rooms of one floor may use each other."""

UPWARD = {("config", "session"), ("results", "display"), ("metrics", "display")}
"""`Setup.open` gives a session, and a result shows itself: that of an explanation, and that of an evaluation."""


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else module


@cache
def imports() -> dict[str, set[str]]:
    """What each module imports of the package, at once or later, but for what only type checkers read."""
    found = {}
    for path in SOURCE.rglob("*.py"):
        parts = ["neuronscope", *path.relative_to(SOURCE).with_suffix("").parts]
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = set(_imported(ast.parse(path.read_text(encoding="utf-8"))))
    return {
        name: {known for one in wanted if (known := _module(one, found)) and known != name}
        for name, wanted in found.items()
        if name != "neuronscope"  # its names are loaded when they are asked for
    }


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        return [name for child in node.orelse for name in _imported(child)]
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return [name for child in ast.iter_child_nodes(node) for name in _imported(child)]


def _module(name: str, known: dict[str, set[str]]) -> str | None:
    """The module that an imported name is, or is in; a package's own name counts as the module it comes from."""
    while name.startswith("neuronscope.") and name not in known:
        name = name.rpartition(".")[0]
    return name if name in known else None


def test_every_room_has_a_floor():
    rooms = {room(name) for name in imports()} | {"neuronscope"}
    listed = [name for floor in FLOORS for name in floor]
    assert rooms == set(listed)
    assert len(listed) == len(set(listed))


def test_no_import_runs_upward():
    floor = {name: number for number, names in enumerate(FLOORS) for name in names}
    upward = [
        f"{name} imports {other}"
        for name, wanted in imports().items()
        for other in wanted
        if floor[room(other)] > floor[room(name)] and (room(name), room(other)) not in UPWARD
    ]
    assert not upward


def test_no_import_leads_in_a_circle():
    inner = {
        name: {
            other
            for other in wanted
            if (room(name), room(other)) not in UPWARD and not name.startswith(f"{other}.")  # a package is its front
        }
        for name, wanted in imports().items()
    }
    TopologicalSorter(inner | {"neuronscope": set()}).prepare()


def test_only_the_graphs_import_langgraph():
    users = {
        room(name)
        for name, path in _paths()
        if any(one.split(".")[0] == "langgraph" for one in _imported(ast.parse(path.read_text(encoding="utf-8"))))
    }
    assert users == {"graphs"}


def test_graphs_and_agents_do_not_import_torch():
    users = {
        room(name)
        for name, path in _paths()
        if any(one.split(".")[0] == "torch" for one in _imported(ast.parse(path.read_text(encoding="utf-8"))))
    }
    assert not users & {"graphs", "agents"}


def _paths() -> list[tuple[str, Path]]:
    return [
        (".".join(["neuronscope", *path.relative_to(SOURCE).with_suffix("").parts]), path)
        for path in SOURCE.rglob("*.py")
        if path.parent != SOURCE or path.stem != "__init__"
    ]
