"""YAML as data, with the line of everything in it; all that is wrong with its values is found at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import yaml
from yaml.constructor import SafeConstructor

from neuronscope.arguments import short
from neuronscope.errors import ConfigurationError
from neuronscope.validation import Location, Problem

_DEEPEST = 20
"""Levels of a document; no description has more than four."""
_REPEATED = 10_000
"""Values that aliases may repeat, in all; aliases of aliases soon stand for billions."""
_COLLECTIONS = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")


class Yaml(NamedTuple):
    """A document."""

    content: Any
    """Plain data; what could not be read is left out."""
    problems: list[Problem]
    """Values that cannot be read, and keys that stand twice."""
    lines: dict[Location, int]
    """Where what is, from 1."""

    def line(self, location: Location) -> int | None:
        """The line of a place in the document, or of what it would be in."""
        found = (self.lines.get(location[:length]) for length in range(len(location), 0, -1))
        return next((line for line in found if line is not None), None)


def read_yaml(path: Path) -> Yaml:
    """Read a file.

    Raises:
        ConfigurationError: it cannot be read, or is no YAML.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except OSError as error:
        raise ConfigurationError(f"Cannot read {path}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigurationError(f"{path}, line {line}, is not UTF-8. Save the file as UTF-8.") from error
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{path}{_syntax(error, text)}") from error
    except RecursionError as error:
        raise ConfigurationError(f"{path} is no description: it is nested too deeply.") from error
    reader = _Reader(most=len(text) + _REPEATED)  # each value takes a character at least
    if node is None:
        return Yaml(None, [], {})
    content = reader.read(node, ())
    if reader.size > reader.most:
        raise ConfigurationError(f"{path} repeats more than {_REPEATED:,} values. Use fewer aliases (*name).")
    return Yaml(content, reader.problems, reader.lines)


class _Reader:
    def __init__(self, most: int) -> None:
        self.most = most
        self.problems: list[Problem] = []
        self.lines: dict[Location, int] = {}
        self.size = 0
        self._constructor = SafeConstructor()

    def read(self, node: yaml.Node, location: Location) -> Any:
        self.size += 1
        if self.size > self.most:
            return None
        self.lines.setdefault(location, node.start_mark.line + 1)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, location)
        if len(location) > _DEEPEST or node.tag not in _COLLECTIONS:
            what = f"the tag {short(node.tag)}" if node.tag not in _COLLECTIONS else "so much nesting"
            self._complain(location, f"{what} is not understood here: use plain values")
            return None
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, location)
        return [self.read(item, (*location, number)) for number, item in enumerate(node.value)]

    def _mapping(self, node: yaml.MappingNode, location: Location) -> dict[str, Any]:
        seen: dict[str, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                self.lines[(*location, "?")] = line
                self.problems.append(Problem((*location, "?"), "a key must be a word"))
            elif key.value in seen and key.value != "<<":
                self.lines[(*location, key.value)] = line
                message = f"{key.value!r} stands in line {seen[key.value]} already"
                self.problems.append(Problem((*location, key.value), message))
            else:
                seen[key.value] = line
        try:
            self._constructor.flatten_mapping(node)  # merges what <<: *name stands for
        except yaml.YAMLError as error:
            self._complain(location, str(getattr(error, "problem", None) or "what << names cannot be merged"))
        found = {}
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                self.lines.setdefault((*location, key.value), key.start_mark.line + 1)
                found[key.value] = self.read(value, (*location, key.value))
        return found

    def _scalar(self, node: yaml.ScalarNode, location: Location) -> Any:
        try:
            return self._constructor.construct_object(node)
        except (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, OverflowError):
            kind = node.tag.rpartition(":")[2].lstrip("!")
            self._complain(location, f"{short(node.value)} cannot be read as {kind}: put text in quotes")
            return None

    def _complain(self, location: Location, message: str) -> None:
        place = ".".join(map(str, location))
        self.problems.append(Problem(location, f"{place}: {message}" if place else message))


def _syntax(error: yaml.YAMLError, text: str) -> str:
    """What is no YAML, and where; the parser stops at the first such thing."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        line, problem = error.problem_mark.line + 1, " ".join((error.problem or "cannot be understood").split())
        if "'\\t'" in problem or "\t" in text.splitlines()[min(line, text.count("\n") + 1) - 1][:1]:
            problem = "a tab: YAML is indented with spaces"
        elif problem.startswith("mapping values are not allowed"):
            problem = "a colon where none can stand: put text with a colon in quotes"
        elif "another document" in problem:
            problem = "a second document begins here: a file describes one run"
        return f", line {line}: {problem}."
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        return f", line {line}: the character {chr(error.character)!a} cannot stand in YAML."
    return f" is no YAML: {short(str(error))}."
