r"""Marks of chat templates in text: where a thought ends and the answer begins, and marks that must not act.

Models mark their thoughts in many ways; `FORMS` has them, one a line. A form that is missing there is one line more.

A chat model's own marks (`<|im_end|>`, `[INST]`) are tokens that part the turns of a conversation. Servers that read
them in a prompt as tokens, as llama.cpp does, would let an excerpt end the user's turn and begin another. So untrusted
text stands between lines that it cannot contain, and there the first character of such a mark is written as JSON's
escape: `\u003c|im_end|>`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Literal, NamedTuple

Kind = Literal["thought", "thought ends", "fenced thought", "fence", "answer", "answer ends", "message ends", "named"]
"""What a mark says of the text behind it.

A thought begins, or ends; one in a code fence begins, or any fence opens or closes; the answer begins, whatever came
before, or ends; a message ends, and with it a thought; or a tag by name, of which `_named` knows more.
"""

FORMS: tuple[tuple[str, Kind], ...] = (
    # gpt-oss: channels, of which only "final" is for the user; and the same where a server drops special tokens
    (r"<\|channel\|>\s{0,2}final\b[^<\n]{0,40}(?:<\|constrain\|>[\w ]{0,20})?<\|message\|>", "answer"),
    (r"<\|channel\|>(?:\s{0,2}\w[^<\n]{0,80})?(?:<\|constrain\|>[\w ]{0,20})?(?:<\|message\|>)?", "thought"),
    (r"<\|(?:end|call|return)\|>", "message ends"),
    (r"<\|(?:start|begin)\|>(?:assistant|user|system)?(?:<\|message\|>)?", "message ends"),
    (r"\A\s*(?-i:(?:assistant)?(?:analysis|commentary)(?=[A-Za-z0-9\"“(\[]))", "thought"),
    (r"assistantfinal(?:\s?json(?=\s*[\[{]))?", "answer"),
    # Gemma 4
    (r"<\|channel>\s{0,2}(?:final|response|answer)\b", "answer"),
    (r"<\|channel>\w{0,20}", "thought"),
    (r"<channel\|>", "thought ends"),
    # MedGemma and Gemma 3n
    (r"<unused94>(?:thought)?", "thought"),
    (r"<unused95>", "thought ends"),
    # Apertus
    (r"<\|inner_prefix\|>", "thought"),
    (r"<\|inner_suffix\|>", "thought ends"),
    # Solar
    (r"<\|content\|>", "answer"),
    # Granite 3
    (r"Here is my thought process:", "thought"),
    (r"Here is my response:", "answer"),
    # Ollama's command line, Open WebUI
    (r"\A\s*Thinking\.\.\.(?=\s*\n)", "thought"),
    (r"\.\.\.done thinking\.", "thought ends"),
    (r"<details\s[^<>]{0,80}reasoning[^<>]{0,120}>", "thought"),
    (r"</details>", "thought ends"),
    # code fences
    (r"```(?:think|thinking|thoughts?|reasoning|analysis|scratchpad)\b", "fenced thought"),
    (r"```", "fence"),
    # Kimi, Magistral
    (r"◁\s?think(?:ing)?\s?▷", "thought"),
    (r"◁\s?/\s?think(?:ing)?\s?▷", "thought ends"),
    (r"\[(?:think|thinking|thoughts?|reasoning)\]", "thought"),
    (r"\[/(?:think|thinking|thoughts?|reasoning)\]", "thought ends"),
    # DeepSeek, Qwen, GLM, EXAONE, Seed, LongCat, Command, OpenThinker, Hunyuan, ...: tags that say in a word what they
    # are for, such as <think>, <seed:think>, <|START_THINKING|>, <|end_of_thought|>, <|begin_of_solution|>, <answer>
    (r"</?[|｜]?/?[A-Za-z][\w:.▁-]{0,40}(?:\s[^<>]{0,200})?[|｜]?>", "named"),
)
"""How models mark their thoughts and answers: a regular expression of bounded length, and what it says."""

_THOUGHT = frozenset(
    "think thinking thinks thought thoughts reason reasoning reasons reflection reflections analysis scratchpad "
    "monologue rationale cot deliberation brainstorm introspection".split()
)
_ANSWER = frozenset("answer response solution output final conclusion result reply".split())
_END = frozenset("end close stop finish done".split())

_THOUGHT_MARK = re.compile("|".join(f"({form})" for form, _ in FORMS), re.IGNORECASE)
_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")
_LAST_MARKS = re.compile(r"(?:<[|｜][^|｜<>\s]{1,30}[|｜]>|</s>|<end_of_turn>)\s*\Z", re.IGNORECASE)
_QUOTES = "\"'`“”‘’"
_BEFORE_A_QUOTE = " \t\n([{:,\\"
_ALOUD = re.compile(
    r"\W{0,3}(?:(?:okay|ok|alright|hmm+|right|well|so|first)\b[\s,.…]{0,5})*(?:let(?: me|['’]?s) (?:think|see|start|"
    r"look|analy[sz]e|re-?read|consider)|(?:i|we) (?:need|have|want) to|i should|i['’]?m (?:trying|looking|supposed)|"
    r"the user (?:wants|is|asks|has|gave)|we(?:['’]re| are) (?:given|asked))",
    re.IGNORECASE,
)


class Parted(NamedTuple):
    """An answer without the thoughts in it."""

    answer: str
    thought: bool = False
    """Whether there was a thought."""
    is_open: bool = False
    """Whether a thought has begun and not ended, so that nothing behind it can be trusted to be an answer."""


def part(text: str) -> Parted:
    """Take the thoughts out of what a model said.

    A thought that only ends, as behind a template that opens it, takes all that stands before it. A mark in quotation
    marks of its own is spoken of, and no mark. It takes time proportional to the text's length.
    """
    pieces: list[str] = []
    position, open_kind, thought = 0, "", False
    for start, end, kind in _marks(text):
        if kind in ("fenced thought", "fence"):
            if open_kind == "fenced thought":
                open_kind, position = "", end
            elif not open_kind and kind == "fenced thought":
                pieces.append(text[position:start])
                open_kind, thought = kind, True
            continue
        if kind == "thought":
            if not open_kind:
                pieces.append(text[position:start])
            open_kind, thought = open_kind or kind, True
        elif kind == "thought ends":
            if not open_kind:
                pieces.clear()
            open_kind, position, thought = "", end, True
        elif kind == "answer":
            pieces.clear()
            open_kind, position = "", end
        elif not open_kind:  # an answer or a message ends
            pieces.append(text[position:start])
            position = end
        elif kind == "message ends":
            open_kind, position = "", end
    if not open_kind:
        pieces.append(text[position:])
    return Parted(_without_last_marks("".join(pieces)), thought, bool(open_kind))


def thinks_aloud(text: str) -> bool:
    """Whether a text begins as thoughts do that no mark opens: what is cut off there may well be no answer."""
    return _ALOUD.match(text) is not None


def _marks(text: str) -> Iterator[tuple[int, int, Kind]]:
    has_thought, beginning = False, len(text) - len(text.lstrip())
    for found in _THOUGHT_MARK.finditer(text):
        kind: Kind | None = FORMS[(found.lastindex or 1) - 1][1]
        if kind == "named":
            kind = _named(found[0], expected=has_thought or found.start() <= beginning)
        if kind == "thought ends" and found[0] == "</details>" and not has_thought:
            kind = None
        if kind is None or _is_quoted(text, found.start(), found.end()):
            continue
        has_thought |= kind.endswith("thought") or kind == "thought ends"
        yield found.start(), found.end(), kind


def _named(mark: str, *, expected: bool) -> Kind | None:
    """What a tag says by its name; a plain `<answer>` only where an answer is expected."""
    name = mark.strip("<>/|｜").split(None, 1)[0]
    words = {word.lower() for word in _WORDS.findall(name)}
    ends = "/" in mark[:3] or bool(words & _END)
    if words & _THOUGHT:
        return "thought ends" if ends else "thought"
    if words & _ANSWER and (expected or mark[1] in "|｜" or mark[-2] in "|｜"):
        return "answer ends" if ends else "answer"
    return None


def _is_quoted(text: str, start: int, end: int) -> bool:
    """Whether a mark stands alone between quotation marks."""
    before, after = text[start - 1 : start], text[end : end + 1]
    opens = start > 0 and before in _QUOTES and (start < 2 or text[start - 2] in _BEFORE_A_QUOTE)
    return opens and bool(after) and (after in _QUOTES or after == "\\")


def _without_last_marks(text: str) -> str:
    text = text.strip()
    while found := _LAST_MARKS.search(text[-40:]):
        text = text[: len(text) - len(text[-40:]) + found.start()].rstrip()
    return text


_TEMPLATE_MARK = (
    r"[|｜][^<>|｜\n]{0,60}[|｜]?>|/?[\w▁.-]{1,60}[|｜]>"  # <|im_end|>, <｜User｜>, <|channel>, <channel|>
    r"|/?(?:s|bos|eos|pad|unk|mask|sep|cls|sop|eop|eod|eot|image|human|bot|user|assistant|system)>"
    r"|/?[a-z]+_of_[a-z]+>|/?(?:start|end)[a-z_]*_(?:turn|role|text|message|header)[a-z_]*>"
    r"|(?:extra_id|unused|reserved|special|ctrl|pad|reserved_special_token)_?\d+>|_(?:user|bot|system|end|assistant)>"
    r"|/?(?:[\w]{1,20}[:_])?(?:think|thinking|thought|reasoning)>|/?tool_(?:call|response|result)s?>"
    r"|<(?-i:/?SYS)>>"
)
_SQUARE_MARK = (
    r"(?-i:/?(?:INST|SYS|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_[A-Z]{1,20}|THINK|ARGS|CALL_ID|IMG(?:_[A-Z]{1,10})?|PREFIX|SUFFIX"
    r"|MIDDLE|BOS|EOS|UNK|PAD|CLS|SEP|MASK|gMASK|sMASK|UNUSED_TOKEN_\d{1,6})\])"
    r"|[|｜][^\[\]|｜\n]{1,60}[|｜]\]"  # [|assistant|]
)
_TRIANGLE_MARK = r"\s?/?\s?think(?:ing)?\s?▷"
_TEMPLATE_TOKEN = re.compile(rf"<(?={_TEMPLATE_MARK})|\[(?={_SQUARE_MARK})|◁(?={_TRIANGLE_MARK})", re.IGNORECASE)
_DEFUSED = re.compile(
    rf"\\{{1,2}}u(?:(003c)(?={_TEMPLATE_MARK})|(005b)(?={_SQUARE_MARK})|(25c1)(?={_TRIANGLE_MARK}))", re.IGNORECASE
)


class Fence(NamedTuple):
    """The lines before and after a block of data."""

    opening: str
    closing: str


def choose_fence(name: str, lines: Sequence[str]) -> Fence:
    """The lines around a block of data: tags that none of its lines contains."""
    numbered = (name if number == 0 else f"{name}-{number}" for number in count())
    return next(
        Fence(f"<{tag}>", f"</{tag}>")
        for tag in numbered
        if not any(f"<{tag}>" in line or f"</{tag}>" in line for line in lines)
    )


def fenced(fence: Fence, lines: Sequence[str]) -> str:
    """The block of data between its fence, in which nothing is a mark of a chat model's template."""
    return "\n".join([fence.opening, *map(defused, lines), fence.closing])


def defused(text: str) -> str:
    r"""The text with the first character of every mark of a chat template written as `\uXXXX`, as in JSON."""
    count = 1
    while count:  # what has gone may have parted another mark
        text, count = _TEMPLATE_TOKEN.subn(lambda found: f"\\u{ord(found[0]):04x}", text)
    return text


def undefused(text: str) -> str:
    """A model's answer with the marks that it quotes as they were; the inverse of `defused`."""
    return _DEFUSED.sub(lambda found: chr(int(found[0][-4:], 16)), text)
