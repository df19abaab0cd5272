r"""Lines around untrusted text in a prompt, chosen so that the text cannot contain them, and text that cannot act.

A chat model's own marks (`<|im_end|>`, `[INST]`) are tokens that part the turns of a conversation. Servers that read
them in a prompt as tokens, as llama.cpp does, would let an excerpt end the user's turn and begin another. So within
fences the first character of such a mark is written as JSON's escape: `\u003c|im_end|>`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import count
from typing import NamedTuple

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
_MARK = re.compile(rf"<(?={_TEMPLATE_MARK})|\[(?={_SQUARE_MARK})|◁(?={_TRIANGLE_MARK})", re.IGNORECASE)
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
        text, count = _MARK.subn(lambda found: f"\\u{ord(found[0]):04x}", text)
    return text


def undefused(text: str) -> str:
    """A model's answer with the marks that it quotes as they were; the inverse of `defused`."""
    return _DEFUSED.sub(lambda found: chr(int(found[0][-4:], 16)), text)
