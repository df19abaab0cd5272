"""Every import leads to the same layer of packages or one below it, none in a circle; what tests may not look at."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import neuronscope

SOURCE = Path(neuronscope.__file__).parent

LAYERS: list[set[str]] = [
    {"errors", "text", "locks", "stopping", "bars", "blocking"},
    {"arguments", "validation", "types", "neurons", "cluster"},
    {"interfaces", "events", "io", "digests", "saved", "config", "results"},
    {"subject", "corpus"},
    {"exemplars"},
    {"evidence"},
    {"llm"},
    {"offline"},
    {"simulators"},
    {"metrics"},
    {"state"},
    {"agents"},
    {"graphs"},
    {"baselines"},
    {"display"},
    {"session", "resources", "explain", "evaluation", "comparison", "server", "runs", "planning", "schemas"},
    {"neuronscope"},  # the public names
    {"cli", "experiments"},
    {"__main__"},
]
"""The packages from the bottom up; those of one layer may use each other."""

UPWARD = {("config", "session"), ("results", "display"), ("metrics", "display")}
"""`Setup.open` gives a session, and a result shows itself: that of an explanation, and that of an evaluation."""


def package(module: str) -> str:
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


def test_every_package_has_a_layer():
    packages = {package(name) for name in imports()} | {"neuronscope"}
    listed = [name for layer in LAYERS for name in layer]
    assert packages == set(listed)
    assert len(listed) == len(set(listed))


def test_no_import_runs_upward():
    layer = {name: number for number, names in enumerate(LAYERS) for name in names}
    upward = [
        f"{name} imports {other}"
        for name, wanted in imports().items()
        for other in wanted
        if layer[package(other)] > layer[package(name)] and (package(name), package(other)) not in UPWARD
    ]
    assert not upward


def test_no_import_leads_in_a_circle():
    inner = {
        name: {
            other
            for other in wanted
            if (package(name), package(other)) not in UPWARD and not name.startswith(f"{other}.")  # its own
        }
        for name, wanted in imports().items()
    }
    TopologicalSorter(inner | {"neuronscope": set()}).prepare()


def test_only_the_graphs_import_langgraph():
    users = {
        package(name)
        for name, path in _paths()
        if any(one.split(".")[0] == "langgraph" for one in _imported(ast.parse(path.read_text(encoding="utf-8"))))
    }
    assert users == {"graphs"}


def test_graphs_and_agents_do_not_import_torch():
    users = {
        package(name)
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


# What tests may not look at

TESTS = Path(__file__).parent
PRIVATE = re.compile(r"_[a-z]\w*", re.IGNORECASE)
NOT_OURS = {"_exit", "_repr_html_", "_repr_png_", "_forward_hooks", "_forward_pre_hooks"}
"""How a process ends at once, what a notebook asks of an object, and where torch keeps the hooks of a module."""
CLOCKS = {"time", "perf_counter", "process_time", "thread_time", "monotonic"}


@cache
def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _names_looked_up(node: ast.AST) -> Iterator[str]:
    """What an attribute, an import, or a call such as `setattr` of a name in quotes asks of something else."""
    if isinstance(node, ast.Attribute):
        if node.attr.startswith("_") and ast.unparse(node.value) not in {"self", "cls", "super()"}:
            yield node.attr
    elif isinstance(node, ast.Import):
        yield from (part for alias in node.names for part in alias.name.split("."))
    elif isinstance(node, ast.ImportFrom):
        yield from [*(node.module or "").split("."), *(alias.name for alias in node.names)]
    elif isinstance(node, ast.Call) and _called(node) in {"setattr", "getattr", "delattr"}:
        for each in node.args[:2]:
            if isinstance(each, ast.Constant) and isinstance(each.value, str):
                yield from each.value.split(".")


def _called(call: ast.Call) -> str | None:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", None)


def test_no_test_looks_at_a_private_name():
    found = [
        f"{path.name}:{node.lineno} {name}"
        for path in TESTS.glob("*.py")
        for node in ast.walk(_parsed(path))
        for name in _names_looked_up(node)
        if PRIVATE.fullmatch(name) and name not in NOT_OURS
    ]
    assert not found, "Test what can be seen from outside, or give the name no underscore."


def _is_clock(node: ast.AST) -> bool:
    if isinstance(node, ast.ImportFrom):
        return node.module == "time"
    of_time = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "time"
    return of_time and node.attr.removesuffix("_ns") in CLOCKS


def test_no_test_looks_at_a_clock():
    found = [
        f"{path.name}:{node.lineno}"
        for path in TESTS.glob("test_*.py")
        for node in ast.walk(_parsed(path))
        if _is_clock(node)
    ]
    assert not found, "Count passes, requests or imports instead, or measure it in benchmarks/."
