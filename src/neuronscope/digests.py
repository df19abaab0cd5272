"""Digests: by which a damaged file is known from a whole one, and the short names of what is found by its settings.

The former are xxh3, as fast as memory, and no secret; the latter SHA-256, of which two settings never share one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import xxhash

_BLOCK = 1 << 20


def digest(parts: Iterable[bytes | memoryview]) -> str:
    """Of bytes, one after the other."""
    hasher = xxhash.xxh3_128()
    for part in parts:
        hasher.update(part)
    return hasher.hexdigest()


def digest_of_file(path: Path) -> str:
    """Of a file's content.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return digest(iter(lambda: file.read(_BLOCK), b""))


def digest_of_json(document: Any) -> str:
    """Of what a JSON document says, however it is laid out."""
    return digest([json.dumps(document, sort_keys=True).encode()])


def name_of(document: Any, n_digits: int = 16) -> str:
    """A short name for plain data: hexadecimal digits that any change of it changes."""
    return hashlib.sha256(json.dumps(document, sort_keys=True, default=str).encode()).hexdigest()[:n_digits]
