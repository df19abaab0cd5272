"""What an agent writes to test an explanation: the arguments of a tool call, however the model puts them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from neuronscope.agents.parsing import FIRST_ITEM, list_items
from neuronscope.errors import LLMError
from neuronscope.llm.answers import LONGEST_ANSWER, first_json, read_text, shortened

if TYPE_CHECKING:
    from langchain_core.messages import AIMessage

CAPTURE = "capture_activations"
"""The name of the tool that runs texts through the subject."""

CAPTURE_DESCRIPTION = """\
Run texts of your own through the language model and read the neuron's activation at every token. Returns JSON: per \
text `{tokens, activations}`, first those of `texts`, then those of `hard_negatives`, each in the order given; the \
other sign counts as 0. Texts are cut at 256 tokens."""
"""The description that a model gets."""

MOST_TEXTS = 16
"""Texts of one call at most, of either kind."""

LONGEST_TEXT = 10_000
"""Characters of one text; the subject reads far less."""

_DEEPEST = 8
"""No texts are nested deeper in an answer, nor arguments in strings that hold JSON."""
_JSON_START = re.compile(r"""\{\s*["'“]|\[\s*["'“{]""")
_HARD_NEGATIVES = re.compile(
    r"^(?![ \t]*(?:[-*•–]|\(?\d{1,3}[.):])\s)"
    r".*(?:hard[\s_-]?negative|near[\s_-]?miss|not fire|not activate|inactive|silent)",
    re.IGNORECASE | re.MULTILINE,
)
"""A line above the second of two lists."""
_DESCRIBES = re.compile(r"\A\W*(?:this|the) neuron\b", re.IGNORECASE)

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class CaptureArguments(BaseModel):
    """The arguments of `capture_activations`."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    texts: list[Text] = Field(min_length=1, max_length=MOST_TEXTS)
    """Texts that should activate the neuron."""
    hard_negatives: list[Text] = Field(default=[], max_length=MOST_TEXTS)
    """Texts that look much the same, but that should not activate the neuron."""


class Written(NamedTuple):
    """Texts that a model has written."""

    texts: list[str]
    """Those that should activate the neuron."""
    hard_negatives: list[str]
    """Those that should not."""


def capture_tool() -> dict[str, Any]:
    """The tool as chat models get it: OpenAI's form, which LangChain turns into every provider's."""
    from langchain_core.utils.function_calling import convert_to_openai_function

    parameters = convert_to_openai_function(CaptureArguments)["parameters"]
    return {
        "type": "function",
        "function": {"name": CAPTURE, "description": CAPTURE_DESCRIPTION, "parameters": parameters},
    }


def texts_schema(n: int) -> dict[str, Any]:
    """JSON schema of an answer that has the same arguments: `n` texts of each kind."""
    texts = {"type": "array", "items": {"type": "string"}, "minItems": n, "maxItems": n}
    names = list(CaptureArguments.model_fields)
    return {
        "title": "texts",
        "description": "Texts to run through the language model.",
        "type": "object",
        "properties": dict.fromkeys(names, texts),
        "required": names,
        "additionalProperties": False,
    }


def calls_for_texts(message: AIMessage) -> bool:
    """Whether an answer is one call of the tool as it should be, which then stays as the model made it."""
    try:
        (call,) = message.tool_calls
        arguments = CaptureArguments.model_validate(call["args"])
    except ValueError:
        return False
    written = _clean(list(arguments.texts), list(arguments.hard_negatives))
    return call["name"] == CAPTURE and written == Written(arguments.texts, arguments.hard_negatives)


def read_written(message: AIMessage, agent: str) -> Written:
    """The texts of an answer: of a tool call, of a call that is written out in words, of JSON, or of two lists.

    Left out are repetitions, also among the hard negatives, and sentences about the neuron, which are no texts to test.

    Raises:
        LLMError: the model refused, returned nothing, or no text that should activate the neuron can be read.
    """
    answer = _arguments(message) if message.invalid_tool_calls else read_text(message, agent)
    found = next((written for lists in _parses(answer) if (written := _clean(*lists)).texts), None)
    if found is None:
        raise LLMError(f"{agent}: no texts in the model's answer: {shortened(answer)} Try again, or another model.")
    return found


def _arguments(message: AIMessage) -> str:
    """The arguments of a call that is no JSON, as the model wrote them."""
    return str(message.invalid_tool_calls[0]["args"])[:LONGEST_ANSWER]


def _parses(answer: str) -> Iterator[tuple[list[Any], list[Any]]]:
    """Texts and hard negatives as they may be meant, in order of trust."""
    value = _json(answer)
    for arguments in _dictionaries(value, depth=0):
        if "texts" in arguments:
            yield _listed(arguments["texts"]), _listed(arguments.get("hard_negatives"))
    if isinstance(value, list):
        yield value, []
    first = FIRST_ITEM.search(answer)
    heading = None if first is None else _HARD_NEGATIVES.search(answer, first.end())
    second = len(answer) if heading is None else heading.start()
    yield list_items(answer[:second]), list_items(answer[second:])


def _json(text: str) -> Any:
    """The JSON in a text, mended; None if there is none."""
    return first_json(text, _JSON_START).value


def _dictionaries(value: Any, depth: int) -> Iterator[dict[str, Any]]:
    """Every dictionary in a JSON value, the outermost first; also in strings that hold JSON, as arguments may."""
    if depth > _DEEPEST:
        return
    if isinstance(value, str) and value.lstrip().startswith("{"):
        value = _json(value)
    if isinstance(value, dict):
        yield value
    for member in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _dictionaries(member, depth + 1)


def _listed(value: Any) -> list[Any]:
    if isinstance(value, str):
        listed = _json(value) if value.lstrip().startswith("[") else None
        return listed if isinstance(listed, list) else [value]
    return list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []


def _clean(texts: list[Any], hard_negatives: list[Any]) -> Written:
    positives = dict.fromkeys(_strings(texts, depth=0))
    negatives = dict.fromkeys(text for text in _strings(hard_negatives, depth=0) if text not in positives)
    return Written(list(positives)[:MOST_TEXTS], list(negatives)[:MOST_TEXTS])


def _strings(values: list[Any], depth: int) -> Iterator[str]:
    """The texts of a list, or of lists in it, in their order."""
    for value in values if depth <= _DEEPEST else ():
        if isinstance(value, list):
            yield from _strings(value, depth + 1)
        elif isinstance(value, str):
            text = value[:LONGEST_TEXT].encode("utf-8", "replace").decode().strip()
            if text and not _DESCRIBES.match(text):
                yield text
