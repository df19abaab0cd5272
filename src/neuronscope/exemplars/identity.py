"""Which subject a store belongs to, and the name of a store's folder in the cache."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

from neuronscope.errors import SubjectError
from neuronscope.protocols import Subject

_anonymous: WeakKeyDictionary[Any, str] = WeakKeyDictionary()


PARTS = ("configuration", "weights", "tokenizer", "dtype")
"""What a fingerprint is made of, where a subject tells."""


def identify(subject: Subject) -> dict[str, str]:
    """Name and fingerprint of a subject, and the parts that the fingerprint is made of, if it has `parts`.

    A loaded subject has all. One of your own may offer `name` and `fingerprint`; without a fingerprint nothing tells
    it from another, so its stores are found again only for the same object in the same process.
    """
    fingerprint = getattr(subject, "fingerprint", None) or _fingerprint_of_object(subject)
    name = str(getattr(subject, "name", type(subject).__name__))
    return {"name": name, "fingerprint": str(fingerprint)} | dict(getattr(subject, "parts", {}))


def differences(made_with: Mapping[str, str], offered: Mapping[str, str]) -> str:
    """What tells two subjects apart, in words: of the parts, those that both tell and that differ."""
    found = [
        f"the {part} ({made_with[part]} there, {offered[part]} here)"
        for part in PARTS
        if part in made_with and part in offered and made_with[part] != offered[part]
    ]
    return f" They differ in {', and in '.join(found)}." if found else ""


def checked_identity(subject: Subject, expected: Mapping[str, str]) -> Subject:
    """The subject, if it is what `identify` described elsewhere; one without a fingerprint is taken at its word.

    Raises:
        SubjectError: it is another one; the message names the difference.
    """
    found = identify(subject)
    if getattr(subject, "fingerprint", None) and found["fingerprint"] != expected["fingerprint"]:
        raise SubjectError(
            f"A worker has another subject: {expected['name']} (fingerprint {expected['fingerprint']}) was asked for; "
            f"there, it is {found['name']} (fingerprint {found['fingerprint']}).{differences(expected, found)} Put the "
            "same model on every machine, or send the objects: load_subject((model, tokenizer))."
        )
    return subject


def _fingerprint_of_object(subject: Subject) -> str:
    fresh = f"object-{uuid.uuid4().hex[:16]}"
    try:
        return _anonymous.setdefault(subject, fresh)
    except TypeError:  # it cannot be hashed or referred to weakly
        return fresh


def folder_name(settings: Mapping[str, Any]) -> str:
    """A short name for everything that decides what a store holds."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:24]
