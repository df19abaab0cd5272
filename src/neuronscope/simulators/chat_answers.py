"""A chat model's answer about activating tokens, made into strengths: repaired, checked, and never guessed."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ValidationError

from neuronscope.errors import LLMError
from neuronscope.llm.answers import all_json, is_cut_off, read_text, shortened
from neuronscope.types import SCALE

if TYPE_CHECKING:
    from langchain_core.messages import AIMessage

_NUMBER = re.compile(r"\d+")
_STRENGTH = re.compile(r"\s*([-+]?(?:\d+(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?)\s*(?:/\s*10\s*)?")
_ENTRY = frozenset({"number", "token", "strength"})
_SHORTEST_BEGINNING = 3
"""Characters that a text needs to stand for longer tokens."""
_DEEPEST = 8
"""No list of entries is nested deeper."""
_WORD_STARTS = "Ġ▁"
"""How some tokenizers write the space before a word; models that know them copy it."""


@dataclass(slots=True)
class ParsedAnswer:
    """What can be used of one answer."""

    strengths: dict[int, NDArray[np.float32]]
    """Shape `(n_tokens,)`, 0-10, for each excerpt that was answered, by its index in the request."""
    named: int = 0
    """Entries of the answer."""
    repaired: int = 0
    """Entries whose number did not fit their text: the nearest token with this text is meant."""
    dropped: int = 0
    """Entries without a token of the excerpt, or without a strength."""
    complaint: str = ""
    """What is wrong if excerpts are missing from `strengths`, in words of ours; empty if none is missing."""
    details: str = ""
    """The beginning of the answer, for messages to people."""


class TokenStrength(BaseModel):
    """One entry of an answer: a token by number, text or both, and how strongly it activates, 0-10."""

    number: Annotated[int | None, BeforeValidator(lambda value: _integer(value))] = None
    token: Annotated[str | None, BeforeValidator(lambda value: value if isinstance(value, str) else None)] = None
    strength: Annotated[float, BeforeValidator(lambda value: _strength(value))]


class _Found(NamedTuple):
    positions: list[int]
    repaired: bool


def read_answer(message: AIMessage, excerpts: Sequence[Sequence[str]]) -> ParsedAnswer:
    """The strengths that an answer gives to the tokens of the excerpts; tokens that it does not name get 0.

    An excerpt counts as answered if the answer has a list for it, in which at least one entry can be used if there is
    any. The last list of an answer that was cut off does not count: nobody knows what was to follow.
    """
    try:
        answer = read_text(message, "simulator")
    except LLMError as error:
        return ParsedAnswer({}, complaint="it was empty or a refusal", details=str(error))
    lists, was_cut_off = _lists(answer, len(excerpts))
    was_cut_off |= is_cut_off(message)
    if was_cut_off and lists:
        lists.popitem()
    parsed = ParsedAnswer({}, details=shortened(answer))
    for index, entries in lists.items():
        _read_list(parsed, index, entries, excerpts[index])
    if len(parsed.strengths) < len(excerpts):
        parsed.complaint = _complaint(was_cut_off, len(lists), len(excerpts))
    return parsed


def _complaint(was_cut_off: bool, n_lists: int, n_excerpts: int) -> str:
    if was_cut_off:
        return "it was cut off"
    if n_lists < n_excerpts:
        return f"it has lists for {n_lists} of {n_excerpts} excerpts"
    return "its entries do not fit the tokens of the excerpt"


def _read_list(parsed: ParsedAnswer, index: int, entries: Sequence[Any], tokens: Sequence[str]) -> None:
    """Add one excerpt to the parsed, unless none of the entries can be used."""
    strengths = np.zeros(len(tokens), dtype=np.float32)
    usable = 0
    for entry in entries:
        try:
            named = TokenStrength.model_validate(entry)
        except ValidationError:
            continue
        found = _positions(named, tokens)
        for position in found.positions:
            strengths[position] = max(strengths[position], named.strength)
        usable += bool(found.positions)
        parsed.repaired += found.repaired
    parsed.named += len(entries)
    parsed.dropped += len(entries) - usable
    if usable or not entries:
        parsed.strengths[index] = strengths


def _positions(entry: TokenStrength, tokens: Sequence[str]) -> _Found:
    """The token that an entry means: the numbered one if the text agrees or is absent, else the nearest with the text.

    Where no token has the text, tokens that begin with it have ("bank" for " banks"). Without a number, all tokens with
    the text are meant.
    """
    number, text = entry.number, entry.token
    numbered = [number - 1] if number is not None and 1 <= number <= len(tokens) else []
    if text is None:
        return _Found(numbered, repaired=False)
    if any(_same(text, tokens[position]) or _begins(text, tokens, position) for position in numbered):
        return _Found(numbered, repaired=False)
    positions = [position for position, token in enumerate(tokens) if _same(text, token)]
    if not positions and len(_essence(text)) >= _SHORTEST_BEGINNING:
        positions = [position for position, token in enumerate(tokens) if _essence(token).startswith(_essence(text))]
    if number is not None and positions:
        positions = [min(positions, key=lambda position: abs(position + 1 - number))]
    return _Found(positions, repaired=bool(positions))


def _same(text: str, token: str) -> bool:
    return text == token or _essence(text) == _essence(token)


def _begins(text: str, tokens: Sequence[str], position: int) -> bool:
    """Whether a longer text begins with the token and goes on as the excerpt does: a word instead of its part."""
    token = _essence(tokens[position])
    continued = _essence("".join(tokens[position:]))
    return bool(token.strip()) and continued.startswith(_essence(text)) and _essence(text).startswith(token)


def _essence(text: str) -> str:
    """What remains of a token's text when copied carelessly: lower case, no space around; spaces alone stay."""
    text = text.replace("\\n", "\n").replace("\\t", "\t").casefold()
    return text.strip().lstrip(_WORD_STARTS.casefold()) or text


def _strength(value: Any) -> float | None:
    """A number on the scale, from a number or a text such as "8" or "8/10"; None if it is no finite number."""
    if isinstance(value, str):
        written = _STRENGTH.fullmatch(value)
        value = float(written[1]) if written else None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(min(max(value, 0.0), SCALE)) if abs(value) < math.inf else None


def _integer(value: Any) -> int | None:
    if isinstance(value, str):
        written = _NUMBER.search(value)
        return int(written[0][:9]) if written else None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < math.inf:
        return None
    return int(value)


def _lists(answer: str, n_excerpts: int) -> tuple[dict[int, list[Any]], bool]:
    """The entries for each excerpt, by its index and in the answer's order, and whether the answer was cut off.

    Besides the form asked for: the same within other objects or lists, entries or lists that say which `excerpt` they
    are about, and a bare list where only one excerpt was asked for.
    """
    for parsed in all_json(answer):
        lists: dict[int, list[Any]] = {}
        for index, entries in _parts(parsed.value, 0 if n_excerpts == 1 else None):
            if 0 <= index < n_excerpts:
                lists.setdefault(index, []).extend(entries)
        if lists:
            return lists, parsed.is_cut
    return {}, False


def _parts(value: Any, index: int | None, depth: int = 0) -> Iterator[tuple[int, list[Any]]]:
    """Lists of entries with the positions of their excerpts; `index` is what the surroundings say."""
    if depth > _DEEPEST:
        return
    if isinstance(value, list):
        if index is not None and (not value or any(isinstance(one, dict) and _ENTRY & one.keys() for one in value)):
            yield index, value
            return
        for member in value:
            yield from _parts(member, index, depth + 1)
    elif isinstance(value, dict):
        index = _excerpt_index(value.get("excerpt"), index)
        if "strength" in value and index is not None:
            yield index, [value]
            return
        for name, member in value.items():
            yield from _parts(member, _excerpt_index(name, index), depth + 1)


def _excerpt_index(excerpt: Any, default: int | None) -> int | None:
    number = _integer(excerpt)
    return default if number is None else number - 1
