"""A subject on its way to another machine: how to load it there, or the objects themselves; the same one, or an error.

Ray's own serialization carries it. What people hold as objects, a (model, tokenizer) pair or a subject of their own,
has no name that another machine could load it by, so the objects travel; nothing of them is written to a file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from neuronscope.errors import ConfigurationError, SubjectError
from neuronscope.exemplars.identity import differences, identify
from neuronscope.interfaces import Subject
from neuronscope.subject.loaded import LoadedSubject
from neuronscope.subject.loading import load_subject


def portable(subject: Subject) -> Callable[[str], Subject]:
    """How to have the same subject on another machine, given the device there: to be called there.

    Raises:
        ConfigurationError: objects in hand are on a GPU, where another machine cannot put them.
    """
    expected = identify(subject)
    if not isinstance(subject, LoadedSubject):
        return partial(_same, subject, expected)
    settings: dict[str, Any] = {"bos": subject.bos, "layout": subject.layout}
    if subject.source is not None:
        settings |= {"dtype": subject.dtype, "trust_remote_code": subject.trust_remote_code}
        return partial(_loaded, subject.source, settings, expected)
    if subject.device.type != "cpu":
        raise ConfigurationError(
            f"The model in hand is on {subject.device} and cannot be sent to other machines from there. Move it first, "
            "model.to('cpu'), or load it by name or path."
        )
    return partial(_loaded, (subject.model, subject.tokenizer), settings, expected)


def _loaded(source: Any, settings: Mapping[str, Any], expected: Mapping[str, str], device: str) -> Subject:
    """The model, on a worker.

    Raises:
        SubjectError: it cannot be loaded there, or is another one.
    """
    try:
        subject = load_subject(source, device=device, **settings)
    except SubjectError as error:
        raise SubjectError(
            f"A worker cannot load the subject: {error} Every machine must find it under the same name or path. "
            "Where they cannot, send the objects: load_subject((model, tokenizer))."
        ) from error
    subject.name = expected["name"]
    return _same(subject, expected, device)


def _same(subject: Subject, expected: Mapping[str, str], device: str) -> Subject:
    """The subject, if it is what was asked for; one without a fingerprint is taken at its word.

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
