"""Whether reading what a language model wrote stays linear in its length, however it was meant to be read.

    python benchmarks/hostile_reading.py            # every reader on every hostile text; exit status 1 if one is not

Processor time for a text and for one four times as long, which may take nine times as long: sixteen is quadratic.
`tests/test_agents_parsing.py` reads the same texts, without a clock.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

from langchain_core.messages import AIMessage
from langchain_core.messages.tool import InvalidToolCall

import neuronscope as ns
from neuronscope.agents.highlighting import Marks, without_marks
from neuronscope.agents.judge import read_index, read_verdicts
from neuronscope.agents.parsing import read_sentences
from neuronscope.agents.prober import read_written
from neuronscope.llm.answers import LONGEST_MENDED
from neuronscope.offline.english import LONGEST_EXPLANATION, read
from neuronscope.simulators.chat_answers import read_answer

LENGTH = LONGEST_MENDED + 1_000
"""Of the shorter text, in characters."""
MOST = 9.0
"""How much longer a text of four times the length may take."""
SLACK = 0.2
"""Seconds that do not count: what a clock cannot tell."""

BEGINNINGS = ("", '["This neuron ', "[", "- a b\n<<")
PIECES = (
    *("\n", "- ", "-\n", "1.  ", "[", "{", '["a b', '"', "\\", '\\"', "```", "<", "<think>", "</think>", "<a ", "**a"),
    *("<<", "near miss\n", "silent\n", "0 ", "true ", "\n - x\n  y", '{"a":', '["a b", ', '"a" ', "neuron\n", "’"),
    "\\u003c|",
)
"""What a hostile text repeats."""
EXPLANATION_PIECES = ("following ", "without ", "/ ", ", ,", "ends in the ", '"a" or ', "preceded by ;", "\n")
"""The same of an explanation, which the hybrid simulator reads."""

READERS: dict[str, Callable[[str], object]] = {
    "sentences": lambda text: read_sentences(AIMessage(text), "judge"),
    "texts": lambda text: read_written(AIMessage(text), "judge"),
    "call": lambda text: read_written(
        AIMessage("", invalid_tool_calls=[InvalidToolCall(name="c", args=text, id="1", error=None)]), "judge"
    ),
    "verdicts": lambda text: read_verdicts(text, 5),
    "number": lambda text: read_index(text, 5),
    "strengths": lambda text: read_answer(AIMessage(text), [["a", " b"]]),
    "draft": lambda text: without_marks(text, Marks("<<", ">>")),
}
"""All that reads an answer."""


def hostile_answer(beginning: str, piece: str, length: int) -> str:
    """An answer that repeats a piece."""
    return f"{beginning}{length}" + piece * (length // len(piece)) + "x"


def hostile_explanation(piece: str, length: int) -> str:
    """An explanation that repeats a piece."""
    return f'on "a{length}"' + piece * (length // len(piece)) + '.x "b"'


def measurements() -> Iterator[tuple[str, float, float]]:
    """Of each reader and text: its name, and the seconds for the shorter and the longer one."""
    for name, reader in READERS.items():
        for beginning in BEGINNINGS:
            for piece in PIECES:
                texts = (hostile_answer(beginning, piece, length) for length in (LENGTH, 4 * LENGTH))
                yield (f"{name} {beginning + piece!r}", *(_seconds(reader, text) for text in texts))
    for piece in EXPLANATION_PIECES:
        lengths = (LONGEST_EXPLANATION // 4, LONGEST_EXPLANATION - 100)
        yield (f"explanation {piece!r}", *(_seconds(read, hostile_explanation(piece, length)) for length in lengths))


def _seconds(reader: Callable[[str], object], text: str) -> float:
    begun = time.process_time()
    with suppress(ns.NeuronScopeError):
        reader(text)
    return time.process_time() - begun


def main() -> int:
    """Print what takes too long."""
    found = list(measurements())
    slow = [each for each in found if each[2] > MOST * each[1] + SLACK]
    for name, short, long in slow:
        print(f"{name}: {short:.2f} s, and {long:.2f} s for four times the length")
    name, _, longest = max(found, key=lambda each: each[2])
    print(f"{len(slow)} of {len(found)} take too long; the longest is {longest:.2f} s, of {name}")
    return int(bool(slow))


if __name__ == "__main__":
    sys.exit(main())
