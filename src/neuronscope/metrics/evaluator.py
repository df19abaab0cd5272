"""The metrics at work: which can be had with what is at hand, and one call for each family of them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from neuronscope.arguments import did_you_mean
from neuronscope.config import ExplainConfig
from neuronscope.errors import ConfigurationError
from neuronscope.exemplars.written import exemplars_of
from neuronscope.interfaces import ExemplarSource, Simulator, Subject
from neuronscope.llm.embeddings import embed
from neuronscope.metrics import judged, measures
from neuronscope.metrics.bootstrap import Resampling
from neuronscope.metrics.data import Material, gather
from neuronscope.metrics.generation import CONTROL_TEXTS, Rows, SamplesSequences
from neuronscope.metrics.judged import Judge
from neuronscope.metrics.scorer import Scorer
from neuronscope.metrics.table import Measurement
from neuronscope.types import ExemplarIds, Neuron

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings

METRICS = ("correlation", "r2", "detection", "fuzzing", "retrieval", "intruder", "concept")
"""The families of metrics, in the order of the table; `docs/metrics.md` says what each means."""

_WITH_NEAR_MISSES = {"detection", "retrieval"}
_NEEDS_LLM = (
    'the metric "concept" needs a language model that writes texts from an explanation, and llm="offline" has none. '
    'Pass llm="openai:gpt-4o" or another chat model'
)
_NEEDS_SUBJECT = 'the metric "concept" runs texts through the subject, and none was given. Pass subject=...'


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What the metrics are measured with."""

    neuron: Neuron
    subject: Subject | None
    store: ExemplarSource
    simulator: Simulator
    embeddings: Embeddings
    judge: Judge | None
    config: ExplainConfig
    firing_share: float
    resampling: Resampling

    async def gather(self, ids: ExemplarIds, explanations: Sequence[str], families: Sequence[str]) -> Material:
        """Have the held-out sequences predicted, and near misses found if a family needs them."""
        return await gather(
            Scorer(self.simulator, self.store),
            self.store,
            self.neuron,
            ids,
            explanations,
            None if _WITH_NEAR_MISSES.isdisjoint(families) else self._embed,
            simulator=name_of(self.simulator),
            firing_share=self.firing_share,
            resampling=self.resampling,
        )

    async def measure(self, family: str, material: Material) -> list[Measurement]:
        """The rows of one family of metrics: those without a language model, then those with one."""
        seed, judge, name = self.resampling.seed, self.judge, name_of(self.embeddings)
        match family:
            case "correlation":
                return list(measures.correlations(material))
            case "r2":
                return list(measures.variances(material))
            case "detection":
                rows = list(measures.detections(material))
                return rows + (await judged.judged_detections(material, judge, seed) if judge else [])
            case "fuzzing":
                rows = list(measures.fuzzings(material, seed))
                return rows + (await judged.judged_fuzzings(material, judge, seed) if judge else [])
            case "retrieval":
                return await measures.retrievals(material, self._embed, name)
            case "intruder":
                rows = await measures.intruders(material, self._embed, name, seed)
                return rows + (await judged.judged_intruders(material, judge, seed) if judge else [])
            case _:
                return await self._concepts(material)

    async def _concepts(self, material: Material) -> list[Measurement]:
        if self.judge is None or self.subject is None:
            raise ConfigurationError(f"Cannot evaluate: {_NEEDS_LLM if self.judge is None else _NEEDS_SUBJECT}.")
        measure = partial(exemplars_of, subject=self.subject, neuron=self.neuron, n_tokens=self.config.seq_len)

        async def measured(texts: Sequence[str]) -> Rows:
            return [read.activations for read in await asyncio.to_thread(measure, texts) if read.tokens]

        control = await asyncio.to_thread(self._control)
        return await judged.concepts(material, self.judge, measured, control)

    def _control(self) -> Rows | None:
        """The neuron's activations on sequences of the test split, drawn from all of it; None if they cannot be had."""
        if not isinstance(self.store, SamplesSequences):
            return None
        ids = self.store.sample_ids("test", CONTROL_TEXTS, self.resampling.seed)
        return [exemplar.activations for exemplar in self.store.by_id(self.neuron, ids)]

    def provenance(self, material: Material) -> dict[str, Any]:
        """What the numbers come from, in plain data."""
        from importlib.metadata import version

        info = getattr(self.store, "info", None)
        return {
            "neuronscope": version("neuronscope"),
            "subject": self._measured(info),
            "store": {"kind": type(self.store).__name__} | ({"info": info} if isinstance(info, dict) else {}),
            "simulator": material.simulator,
            "embeddings": name_of(self.embeddings),
            "llm": "offline" if self.judge is None else self.judge.name,
            "config": self.config.model_dump(mode="json"),
            "firing_share": self.firing_share,
            "n_bootstrap": self.resampling.n,
            "seed": self.resampling.seed,
            "sequences": {
                "validation": [exemplar.sequence_id for exemplar in material.validation.exemplars],
                "test": [exemplar.sequence_id for exemplar in material.test.exemplars],
                "near_misses": [exemplar.sequence_id for exemplar in material.near_misses.exemplars],
                "firing": int(material.test.fires.sum()),
            },
        }

    def _measured(self, info: Any) -> dict[str, Any]:
        """Name and fingerprint of the model that is measured: of the subject, or of the one that the store is of."""
        made_with = info.get("subject") if isinstance(info, dict) and self.subject is None else None
        if isinstance(made_with, dict):
            return {key: made_with[key] for key in ("name", "fingerprint") if key in made_with}
        fingerprint = getattr(self.subject, "fingerprint", None)
        return {"name": getattr(self.subject, "name", "unknown")} | (
            {"fingerprint": fingerprint} if isinstance(fingerprint, str) else {}
        )

    async def _embed(self, texts: Sequence[str]) -> NDArray[np.floating[Any]]:
        return await asyncio.to_thread(embed, self.embeddings, texts, "evaluate")


def available(metrics: Sequence[str] | str, *, has_llm: bool, has_subject: bool) -> tuple[list[str], dict[str, str]]:
    """The families that can be measured, in the table's order, and with "all" the others with the reason.

    Raises:
        ConfigurationError: a family that was named does not exist, or cannot be measured.
    """
    missing = {} if has_llm and has_subject else {"concept": _NEEDS_LLM if not has_llm else _NEEDS_SUBJECT}
    if metrics == "all":
        return [family for family in METRICS if family not in missing], missing
    named = [metrics] if isinstance(metrics, str) else list(metrics)
    unknown = [family for family in named if family not in METRICS]
    if unknown or not named:
        first = (unknown or [""])[0]
        hint = did_you_mean(first, [*METRICS, "all"])
        raise ConfigurationError(f"There is no metric {first!r}.{hint} Known: {', '.join(METRICS)}; or 'all'.")
    for family in named:
        if family in missing:
            raise ConfigurationError(f"Cannot evaluate: {missing[family]}.")
    return [family for family in METRICS if family in named], {}


def name_of(instrument: Any) -> str:
    """What to call a simulator or an embedding model: its own name, or its class, and the model it says it uses."""
    given = getattr(instrument, "name", None)
    if isinstance(given, str) and given:
        return given
    model = vars(instrument).get("model") if hasattr(instrument, "__dict__") else None  # a property might load it
    kind = type(instrument).__name__
    return f"{kind}: {model}" if isinstance(model, str) else kind
