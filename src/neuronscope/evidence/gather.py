"""The one place that gathers a neuron's evidence: once, for all agents and all rounds."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar, cast

from neuronscope.config import ExplainConfig
from neuronscope.errors import NeuronScopeError
from neuronscope.evidence.look_back import look_back
from neuronscope.evidence.outputs import output_tokens
from neuronscope.evidence.record import Evidence
from neuronscope.evidence.texts import evidence_of, peaks
from neuronscope.evidence.vocabulary import Vocabulary, is_model
from neuronscope.interfaces import ExemplarSource, ModelSubject, Subject
from neuronscope.locks import Lock
from neuronscope.types import ExemplarIds, HookPoint, Neuron

logger = logging.getLogger(__name__)

TOP_TEXTS, RANDOM_TEXTS = 100, 100
"""Train texts that the token table is made from, and texts that show what the neuron does on ordinary text."""
PEAKS = 8
"""Peaks, on different tokens, from which is asked how far the neuron looks back."""

T = TypeVar("T")


class EvidenceSource:
    """Gathers evidence, and keeps it until `forget`.

    Texts come from train alone. What needs the model in this process, single tokens and output tokens, is missing for a
    subject of another kind; what fails is missing, too, with a warning. Threads may share it.

    Args:
        subject: the model; None measures nothing on it.
        store: the neuron's texts.
        config: `vocabulary` says whether single tokens are read, `seed` draws the random texts.
    """

    def __init__(self, subject: Subject | None, store: ExemplarSource, config: ExplainConfig) -> None:
        self._subject = subject
        self._store = store
        self._config = config
        self._known: dict[Neuron, Evidence] = {}
        self._vocabularies: dict[HookPoint, Vocabulary | None] = {}
        self._revision: object = None
        self._one_at_a_time = Lock()

    async def of(self, neuron: Neuron, ids: ExemplarIds) -> Evidence:
        """A neuron's evidence.

        Args:
            neuron: the neuron.
            ids: its sequences: excerpts are train ones of these; and its largest activation.

        Raises:
            NeuronScopeError: the store cannot give its texts.
        """
        return self._known[neuron] if neuron in self._known else await asyncio.to_thread(self.gather, neuron, ids)

    def gather(self, neuron: Neuron, ids: ExemplarIds) -> Evidence:
        """`of` where no event loop waits."""
        with self._one_at_a_time:
            if neuron not in self._known:
                self._known[neuron] = self._gather(neuron, ids)
            return self._known[neuron]

    def forget(self, neuron: Neuron) -> None:
        """Drop what is known of a neuron; what is known of its layer stays."""
        self._known.pop(neuron, None)

    def _gather(self, neuron: Neuron, ids: ExemplarIds) -> Evidence:
        store, seed = self._store, self._config.seed
        top = store.exemplars(neuron, "train", TOP_TEXTS)
        found = evidence_of(
            top,
            ids.maximum,
            random=store.random_sequences(neuron, "train", RANDOM_TEXTS, seed),
            shown=store.by_id(neuron, ids.train) if ids.train else (),
            others=store.by_id(neuron, ids.train_others) if ids.train_others else (),
        )
        subject = self._subject
        if subject is None or ids.maximum <= 0:
            return found
        places = peaks(top, found.tokens[:PEAKS])
        seen = self._try("how far it looks back", neuron, lambda: look_back(subject, neuron, places, ids.maximum))
        found = replace(found, look_back=seen or ())
        if not is_model(subject):
            return found
        model = cast(ModelSubject, subject)
        vocabulary = self._vocabulary(model, neuron.hook_point) if self._config.vocabulary else None
        return replace(
            found,
            vocabulary=vocabulary.of(neuron, ids.maximum) if vocabulary is not None else None,
            output_tokens=self._try("its output tokens", neuron, lambda: output_tokens(model, neuron)),
        )

    def _vocabulary(self, subject: ModelSubject, point: HookPoint) -> Vocabulary | None:
        if (revision := _revision(subject)) != self._revision:  # the model was changed in place
            self._vocabularies.clear()
            self._revision = revision
        if point not in self._vocabularies:
            self._vocabularies[point] = self._try("single tokens", point, lambda: Vocabulary(subject, point))
        return self._vocabularies[point]

    def _try(self, what: str, of: Neuron | HookPoint, measure: Callable[[], T]) -> T | None:
        """A measurement, or None with a warning: an explanation does without."""
        try:
            return measure()
        except NeuronScopeError as error:
            logger.warning("%s: %s cannot be shown. %s", of, what, error)
            return None


def _revision(subject: Subject) -> object:
    """What tells at once that a subject may have changed, if it says so."""
    revision = getattr(subject, "revision", None)
    return revision() if callable(revision) else None
