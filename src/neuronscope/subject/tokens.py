"""The text of single tokens, so that joining them gives the text back."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal

from neuronscope.errors import ConfigurationError

_BYTE_PIECE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


Bos = bool | Literal["auto"]
"""Whether the model's BOS stands in front of every sequence; "auto" is as the tokenizer does it."""


def leading_ids(tokenizer: Any, bos: Bos = "auto") -> tuple[int, ...]:
    """The tokens that stand in front of every text.

    The tokenizer's behaviour decides, not the token that it names: GPT-2, Pythia, BLOOM and SmolLM2 name a BOS that
    nobody put in front of their texts in training, and there it changes every activation. Few put two tokens.

    Args:
        tokenizer: a transformers tokenizer. One that cannot be called is taken at its name.
        bos: `"auto"`: what `tokenizer(text)` begins with. True: that, or else the BOS that it names. False: nothing.

    Raises:
        ConfigurationError: the BOS is asked for, and the tokenizer has none; or `bos` is another word.
    """
    if bos not in (True, False, "auto"):
        raise ConfigurationError(f"bos is 'auto', True or False, not {bos!r}.")
    if bos is False:
        return ()
    own = _put_in_front(tokenizer)
    if own or bos == "auto":
        return own
    named = bos_id(tokenizer)
    if named is None:
        raise ConfigurationError("bos=True, but the tokenizer has no BOS. Leave it at 'auto'.")
    return (named,)


def bos_id(tokenizer: Any) -> int | None:
    """The token that a tokenizer names as its BOS, or None; whether it stands in front of texts is another question."""
    token = getattr(tokenizer, "bos_token_id", None)
    return None if token is None else int(token)


def _put_in_front(tokenizer: Any) -> tuple[int, ...]:
    if not callable(tokenizer):
        named = bos_id(tokenizer)
        return () if named is None else (named,)
    text, special = ([int(i) for i in tokenizer("a", add_special_tokens=flag)["input_ids"]] for flag in (False, True))
    starts = range(len(special) - len(text) + 1)
    return tuple(special[: next((start for start in starts if special[start : start + len(text)] == text), 0)])


def token_strings(tokenizer: Any, token_ids: Sequence[int]) -> list[str]:
    """The text of each token; joined, they are the decoded text, special tokens included.

    A character that spans several tokens stands on the token that completes it, and the earlier ones are empty.
    Bytes that form no character, as when a window starts inside one, are U+FFFD.

    Args:
        tokenizer: a transformers tokenizer.
        token_ids: the ids, one string each.
    """
    ids = [int(token) for token in token_ids]
    if not ids:
        return []
    text = _decode(tokenizer, ids)
    strings = _decode_pieces(tokenizer, ids)
    joined = "".join(strings)
    if joined == " " + text and strings[0].startswith(" "):  # SentencePiece drops the first word's space
        return [strings[0][1:], *strings[1:]]
    return strings if joined == text else _decode_prefixes(tokenizer, ids, text)


def _decode(tokenizer: Any, ids: list[int]) -> str:
    return str(tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))


def _decode_pieces(tokenizer: Any, ids: list[int]) -> list[str]:
    """The fast way: each token is a few bytes, and a UTF-8 decoder says when a character is complete."""
    to_bytes = _byte_level_bytes if _is_byte_level(tokenizer) else _sentencepiece_bytes
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    strings = [decoder.decode(to_bytes(piece or "")) for piece in tokenizer.convert_ids_to_tokens(ids)]
    strings[-1] += decoder.decode(b"", final=True)
    return strings


def _decode_prefixes(tokenizer: Any, ids: list[int], text: str) -> list[str]:
    """The way that is right for every tokenizer, a decode per token: how much of the text do the first n tokens fix?"""
    strings, start = [], 0
    for end in range(1, len(ids) + 1):
        prefix = text if end == len(ids) else _decode(tokenizer, ids[:end])
        settled = max(start, _common_length(prefix, text))
        strings.append(text[start:settled])
        start = settled
    return strings


def _common_length(left: str, right: str) -> int:
    pairs = enumerate(zip(left, right, strict=False))
    return next((position for position, (a, b) in pairs if a != b), min(len(left), len(right)))


def _is_byte_level(tokenizer: Any) -> bool:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    decoder = getattr(backend, "decoder", None)
    if decoder is None:
        return False
    state = json.loads(decoder.__getstate__())
    return any(part["type"] == "ByteLevel" for part in state.get("decoders", [state]))


@lru_cache(maxsize=1 << 18)
def _byte_level_bytes(piece: str) -> bytes:
    """Byte-level BPE writes each byte as one printable character; a piece with any other character is literal text."""
    try:
        return bytes(_byte_of_character()[character] for character in piece)
    except KeyError:
        return piece.encode()


@lru_cache(maxsize=1 << 18)
def _sentencepiece_bytes(piece: str) -> bytes:
    """SentencePiece writes a space as ▁, and a byte outside its vocabulary as <0x..>."""
    byte = _BYTE_PIECE.fullmatch(piece)
    return bytes.fromhex(byte[1]) if byte else piece.replace("▁", " ").encode()


@lru_cache(maxsize=1)
def _byte_of_character() -> dict[str, int]:
    """GPT-2's table: printable Latin-1 stands for itself, the other bytes for characters from U+0100 on, in order."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = (byte for byte in range(256) if byte not in printable)
    return {chr(byte): byte for byte in printable} | {chr(0x100 + rank): byte for rank, byte in enumerate(others)}
