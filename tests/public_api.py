"""What `docs/stability.md` promises, read from the package.

`python tests/public_api.py` writes it to `docs/api.json`, and the table of metrics into `docs/metrics.md`.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import cached_property
from importlib import import_module
from pathlib import Path
from textwrap import dedent
from typing import Any, ForwardRef

import typer.main
from pydantic import BaseModel
from typing_extensions import is_protocol

from neuronscope.cli.main import app
from neuronscope.schemas.write import FORMS

FILE = Path(__file__).parent.parent / "docs" / "api.json"
PACKAGES = ("neuronscope", "neuronscope.agents", "neuronscope.graphs", "neuronscope.simulators")


def public_api() -> dict[str, Any]:
    """Every promised name: signatures of functions, members of classes, options of commands, versions of files."""
    names = {f"{package}.{name}": each for package in PACKAGES for name, each in _exported(package)}
    return {
        "names": {name: describe(each) for name, each in sorted(names.items())},
        "commands": dict(sorted(_commands(typer.main.get_command(app), "neuronscope"))),
        "files": {name: {key: version} for name, (_, key, version) in FORMS.items()},
    }


def _exported(package: str) -> Iterator[tuple[str, Any]]:
    module = import_module(package)
    for name in module.__all__:
        yield name, getattr(module, name)


def describe(thing: Any) -> Any:
    if inspect.isclass(thing):
        return _class(thing)
    if inspect.isroutine(thing):
        return _signature(thing)
    called = getattr(thing, "coroutine", None) or getattr(thing, "func", None)  # a tool of LangChain's
    return f"tool {_signature(called)}" if inspect.isroutine(called) else "value"


def _class(kind: type[Any]) -> dict[str, Any]:
    """Its bases that are public, its signature, and its own members and those of our classes above it."""
    own = [each for each in kind.__mro__ if each.__module__.startswith("neuronscope")]
    described: dict[str, Any] = {
        "bases": sorted(each.__name__ for each in own[1:] if not each.__name__.startswith("_"))
    }
    if not issubclass(kind, BaseModel) and any("__init__" in vars(each) for each in own) and not _is_typed(kind):
        described["signature"] = _signature(kind.__init__)
    defaults = _defaults(kind)
    members: dict[str, str] = {}
    for each in reversed(own):
        if "__init__" in vars(each) and not issubclass(kind, BaseModel) and not is_dataclass(each):
            members |= _set_on_itself(each.__init__)
        for name, annotation in inspect.get_annotations(each).items():
            if not name.startswith("_") and name != "model_config":
                members[name] = f"{_written(annotation)}{defaults.get(name, '')}"
        for name, member in vars(each).items():
            if (not name.startswith("_") or name == "__call__") and name not in members:
                found = _member(member)
                if found:
                    members[name] = found
    return {key: value for key, value in (*described.items(), ("members", dict(sorted(members.items())))) if value}


def _set_on_itself(initialise: Callable[..., None]) -> dict[str, str]:
    """The public attributes that an object is given when it is made."""
    found = {}
    for node in ast.walk(ast.parse(dedent(inspect.getsource(initialise)))):
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        for target in (part for each in targets for part in getattr(each, "elts", [each])):
            if ast.unparse(target).startswith("self.") and not target.attr.startswith("_"):
                found[target.attr] = ast.unparse(node.annotation) if isinstance(node, ast.AnnAssign) else "attribute"
    return found


def _is_typed(kind: type[Any]) -> bool:
    """Whether the fields say how it is made."""
    return is_dataclass(kind) or hasattr(kind, "__total__") or is_protocol(kind)


def _member(member: Any) -> str | None:
    if isinstance(member, property | cached_property):
        getter: Callable[..., Any] | None = member.fget if isinstance(member, property) else member.func
        return f"property {_written(inspect.get_annotations(getter).get('return', 'Any'))}" if getter else None
    if isinstance(member, classmethod | staticmethod):
        return f"{type(member).__name__} {_signature(member.__func__)}"
    return _signature(member) if inspect.isfunction(member) else None


def _signature(function: Callable[..., Any]) -> str:
    signature = inspect.signature(function)
    parameters = [
        each.replace(
            annotation=_Shown(_written(each.annotation)) if each.annotation is not each.empty else each.empty,
            default=_Shown(_value(each.default)) if each.default is not each.empty else each.empty,
        )
        for each in signature.parameters.values()
    ]
    returned = signature.return_annotation
    shown = signature.replace(
        parameters=parameters,
        return_annotation=_Shown(_written(returned)) if returned is not signature.empty else returned,
    )
    waits = inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
    return f"async {shown}" if waits else str(shown)


class _Shown:
    """Text that a signature shows as it is."""

    __module__ = "neuronscope"

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def _defaults(kind: type[Any]) -> dict[str, str]:
    found: dict[str, Any] = {}
    if is_dataclass(kind):
        found = {each.name: each.default_factory if each.default is MISSING else each.default for each in fields(kind)}
    elif issubclass(kind, BaseModel):
        found = {
            name: each.default_factory or each.default
            for name, each in kind.model_fields.items()
            if not each.is_required()
        }
    return {name: f" = {_value(value)}" for name, value in found.items() if value is not MISSING}


def _written(annotation: Any) -> str:
    """An annotation as it is written in the source."""
    if isinstance(annotation, ForwardRef):
        return annotation.__forward_arg__
    if isinstance(annotation, str):
        return annotation
    return annotation.__name__ if inspect.isclass(annotation) else str(annotation)


def _value(value: Any) -> str:
    if inspect.isclass(value) or inspect.isroutine(value):
        return f"{value.__name__}()"
    if isinstance(value, Enum):
        return str(value)
    if value is None or isinstance(value, bool | int | float | str | tuple | list | dict | Path):
        return repr(value)
    return f"{type(value).__name__}()" if value != MISSING else "..."


def _commands(command: Any, path: str) -> Iterator[tuple[str, list[str]]]:
    """Each command with its arguments and options."""
    taken = [max(each.opts, key=len) if each.param_type_name == "option" else str(each.name) for each in command.params]
    yield path, sorted(taken)
    for name in command.list_commands(None) if hasattr(command, "list_commands") else ():
        yield from _commands(command.get_command(None, name), f"{path} {name}")


def metrics_table() -> str:
    """The table of `docs/metrics.md`, a row for each metric that has a name."""
    from neuronscope.metrics.named import named_metrics

    rows = [
        f"| `{each.name}` | {', '.join(f'`{name}`' for name in each.results)} | {each.question} | {each.baseline} |\n"
        for each in named_metrics().values()
    ]
    return "".join(rows)


METRICS_ROWS = re.compile(r"(?<=\n)(?:\| `[a-z_0-9]+` \| `[^\n]*\n)+")
"""The rows of that table."""


def main() -> None:
    """Write the file, and the table of metrics."""
    FILE.write_text(json.dumps(public_api(), ensure_ascii=False, indent=1) + "\n", "utf-8")
    page = FILE.with_name("metrics.md")
    page.write_text(METRICS_ROWS.sub(lambda _: metrics_table(), page.read_text("utf-8"), count=1), "utf-8")


if __name__ == "__main__":
    main()
