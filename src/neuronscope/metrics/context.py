"""What metrics are computed with: models, settings, and whoever judges."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from neuronscope.config import ExplainConfig
from neuronscope.interfaces import ExemplarSource, Simulator, Subject
from neuronscope.llm.embeddings import embed
from neuronscope.metrics.bootstrap import Resampling
from neuronscope.metrics.data import EvaluationData, gather
from neuronscope.metrics.judge import Judge
from neuronscope.metrics.scorer import Scorer
from neuronscope.types import ExemplarIds, Neuron

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricContext:
    """What the metrics are computed with."""

    neuron: Neuron
    subject: Subject | None
    store: ExemplarSource
    simulator: Simulator
    embeddings: Embeddings
    judge: Judge | None
    config: ExplainConfig
    activation_threshold: float
    resampling: Resampling

    @property
    def seed(self) -> int:
        """Seeds whatever a metric draws."""
        return self.resampling.seed

    async def gather(self, ids: ExemplarIds, explanations: Sequence[str], hard_negatives: bool) -> EvaluationData:
        """Have the held-out sequences predicted, and hard negatives chosen if a metric uses them."""
        return await gather(
            Scorer(self.simulator, self.store),
            self.store,
            self.neuron,
            ids,
            explanations,
            self.embed if hard_negatives else None,
            simulator=name_of(self.simulator),
            activation_threshold=self.activation_threshold,
            resampling=self.resampling,
        )

    async def embed(self, texts: Sequence[str]) -> NDArray[np.floating[Any]]:
        """Texts as vectors, shape `(texts, dimensions)`."""
        return await asyncio.to_thread(embed, self.embeddings, texts, "evaluate")

    def provenance(self, data: EvaluationData) -> dict[str, Any]:
        """What the numbers come from, in plain data."""
        from importlib.metadata import version

        info = getattr(self.store, "info", None)
        return {
            "neuronscope": version("neuronscope"),
            "subject": self._measured(info),
            "store": {"kind": type(self.store).__name__} | ({"info": info} if isinstance(info, dict) else {}),
            "simulator": data.simulator,
            "embeddings": name_of(self.embeddings),
            "llm": "offline" if self.judge is None else self.judge.name,
            "config": self.config.model_dump(mode="json"),
            "activation_threshold": self.activation_threshold,
            "n_bootstrap": self.resampling.n,
            "seed": self.resampling.seed,
            "sequences": {
                "validation": [exemplar.sequence_id for exemplar in data.validation.exemplars],
                "test": [exemplar.sequence_id for exemplar in data.test.exemplars],
                "hard_negatives": [exemplar.sequence_id for exemplar in data.hard_negatives.exemplars],
                "active": int(data.test.active.sum()),
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


def name_of(instrument: Any) -> str:
    """What to call a simulator or an embedding model: its own name, or its class, and the model it says it uses."""
    given = getattr(instrument, "name", None)
    if isinstance(given, str) and given:
        return given
    model = vars(instrument).get("model") if hasattr(instrument, "__dict__") else None  # a property might load it
    kind = type(instrument).__name__
    return f"{kind}: {model}" if isinstance(model, str) else kind
