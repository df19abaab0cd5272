"""A subject in a form that travels to other machines: how to load it there, or the objects themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch

from neuronscope.errors import ConfigurationError, SubjectError
from neuronscope.interfaces import Subject
from neuronscope.subject.layout import AnyLayout
from neuronscope.subject.loaded import LoadedSubject
from neuronscope.subject.loading import load_subject
from neuronscope.subject.tokens import Bos


@dataclass(frozen=True)
class NamedSubject:
    """A model that each machine loads from where it has it."""

    source: str
    dtype: torch.dtype
    bos: Bos = "auto"
    trust_remote_code: bool = False
    layout: AnyLayout | None = None

    def load(self, device: str) -> Subject:
        """Load it.

        Raises:
            SubjectError: it is not on this machine.
        """
        try:
            return load_subject(
                self.source,
                device=device,
                dtype=self.dtype,
                bos=self.bos,
                trust_remote_code=self.trust_remote_code,
                layout=self.layout,
            )
        except SubjectError as error:
            raise SubjectError(
                f"A worker cannot load the subject: {error} Every machine must find it under the same name or path. "
                "Where they cannot, send the objects: load_subject((model, tokenizer))."
            ) from error


@dataclass(frozen=True)
class ModelInHand:
    """A transformers model and its tokenizer, sent as they are."""

    model: Any
    tokenizer: Any
    name: str
    bos: Bos = "auto"
    layout: AnyLayout | None = None

    def load(self, device: str) -> Subject:
        """Move it to the device."""
        subject = load_subject((self.model, self.tokenizer), device=device, bos=self.bos, layout=self.layout)
        subject.name = self.name
        return subject


@dataclass(frozen=True)
class SubjectInHand:
    """A subject of another kind, sent as it is."""

    subject: Subject

    def load(self, device: str) -> Subject:
        """The subject; where it computes is its own affair."""
        return self.subject


PortableSubject = NamedSubject | ModelInHand | SubjectInHand


def portable(subject: Subject) -> PortableSubject:
    """How a subject travels: by name where `load_subject` got one, else as objects.

    Raises:
        ConfigurationError: the objects are on a GPU, where another machine cannot put them.
    """
    if not isinstance(subject, LoadedSubject):
        return SubjectInHand(subject)
    if subject.source is not None:
        return NamedSubject(subject.source, subject.dtype, subject.bos, subject.trust_remote_code, subject.layout)
    if subject.device.type != "cpu":
        raise ConfigurationError(
            f"The model in hand is on {subject.device} and cannot be sent to other machines from there. Move it first, "
            "model.to('cpu'), or load it by name or path."
        )
    return ModelInHand(subject.model, cast(Any, subject.tokenizer), subject.name, subject.bos, subject.layout)
