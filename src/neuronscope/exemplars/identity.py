"""Which subject a store belongs to, and the name of a store's folder in the cache."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from neuronscope.digests import name_of
from neuronscope.errors import StoreError, SubjectError
from neuronscope.interfaces import Subject
from neuronscope.subject.sites import identify_site
from neuronscope.types import MLP

_anonymous: WeakKeyDictionary[Any, str] = WeakKeyDictionary()


PARTS = (
    "configuration",
    "weights",
    "buffers",
    "modules",
    "adapters",
    "hooks",
    "tokenizer",
    "bos",
    "layout",
    "dtype",
)
"""What a fingerprint is made of, where a subject tells; `subject.fingerprint` says what each covers."""


def identify(subject: Subject) -> dict[str, str]:
    """Name and fingerprint of a subject, and the parts that the fingerprint is made of, if it has `parts`.

    It is what the subject computes at this moment: ask again rather than keep it. A loaded subject has all. One of your
    own may offer `name` and `fingerprint`; without a fingerprint nothing tells
    it from another, so its stores are found again only for the same object in the same process.
    """
    name = str(getattr(subject, "name", type(subject).__name__))
    identity = getattr(subject, "identity", None)
    if callable(identity):  # both at one reading
        fingerprint, parts = identity()
    else:
        fingerprint, parts = getattr(subject, "fingerprint", None), getattr(subject, "parts", {})
    return {"name": name, "fingerprint": str(fingerprint or _fingerprint_of_object(subject))} | dict(parts)


def differences(made_with: Mapping[str, str], offered: Mapping[str, str]) -> str:
    """What tells two subjects apart, in words: of the parts, those that both tell and that differ."""
    if made_with.get("scheme") != offered.get("scheme"):
        return (
            " The former's fingerprint was taken by another version of neuronscope, which looked at other things; what "
            "was collected under it is not found again."
        )
    found = [
        f"the {part} ({made_with[part]} there, {offered[part]} here)"
        for part in PARTS
        if part in made_with and part in offered and made_with[part] != offered[part]
    ]
    return f" They differ in {', and in '.join(found)}." if found else ""


def require_unchanged(subject: Subject, before: Mapping[str, str], meanwhile: str) -> None:
    """Check that a subject is what it was.

    Args:
        subject: the subject.
        before: what `identify` gave then.
        meanwhile: what went on in between, as the end of a sentence.

    Raises:
        SubjectError: it is another now; the message names what has changed.
    """
    now = identify(subject)
    if now["fingerprint"] != before["fingerprint"]:
        raise SubjectError(
            f"{now['name']} has changed {meanwhile} (fingerprint {before['fingerprint']} then, {now['fingerprint']} "
            f"now), so that what was read belongs to neither.{differences(before, now)} Train, prune, hook and switch "
            "adapters before or afterwards, and call again."
        )


def require_own(path: Path, made_with: Mapping[str, Any], subject: Subject, *, bound: bool) -> None:
    """Check that a subject, and the site in it, are those that a store was made with.

    Args:
        path: the store's folder.
        made_with: its `info`.
        subject: the subject.
        bound: whether the store has had it before.

    Raises:
        StoreError: it is another one; the message names the difference.
        SubjectError: it lacks the site.
    """
    then, now = made_with["subject"], identify(subject)
    if then["fingerprint"] != now["fingerprint"]:
        it_is = "the bound subject has changed, and is now" if bound else "this subject is"
        raise StoreError(
            f"The store {path} was made with {then['name']} (fingerprint {then['fingerprint']}); {it_is} {now['name']} "
            f"(fingerprint {now['fingerprint']}).{differences(then, now)} Bind the same model in the same dtype, or "
            "collect exemplars for this one."
        )
    if made_with["site"] == MLP:
        return
    fingerprint = identify_site(subject, made_with["site"]).fingerprint
    if fingerprint != made_with["site_fingerprint"]:
        raise StoreError(
            f"The store {path} was made at the site {made_with['site']!r} (fingerprint "
            f"{made_with['site_fingerprint']!r}); the site of this name is now another (fingerprint {fingerprint!r}). "
            "Register the same one, or collect exemplars for this one."
        )


def _fingerprint_of_object(subject: Subject) -> str:
    fresh = f"object-{uuid.uuid4().hex[:16]}"
    try:
        return _anonymous.setdefault(subject, fresh)
    except TypeError:  # it cannot be hashed or referred to weakly
        return fresh


def folder_name(settings: Mapping[str, Any]) -> str:
    """A short name for everything that decides what a store holds."""
    return name_of(settings, 24)
