"""Explanations measured by many metrics, all on the same held-out sequences."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from neuronscope.arguments import integer, real
from neuronscope.config import ACTIVATION_THRESHOLD, ExplainConfig, Setup
from neuronscope.errors import ConfigurationError
from neuronscope.metrics.bootstrap import Resampling
from neuronscope.metrics.table import Evaluation
from neuronscope.neurons import AnyNeuron, as_neuron
from neuronscope.resources import Resources, subject_of
from neuronscope.results import Mode, NeuronExplanation
from neuronscope.types import Neuron

if TYPE_CHECKING:
    from neuronscope.interfaces import Metric
    from neuronscope.llm.types import AnyLLM
    from neuronscope.metrics.registry import AnyMetrics

Explanations = str | Mode | NeuronExplanation | Sequence[str | Mode]

_NOTHING = "There is nothing to evaluate on: pass subject=..., or store=..., or both."


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is to be measured, and how."""

    explanations: Explanations
    texts: list[str]
    """The explanations as sentences, each once."""
    neuron: Neuron
    metrics: AnyMetrics
    config: ExplainConfig | None
    """Sizes and seed of the held-out sets, if they are not those of whom it is asked."""
    activation_threshold: float
    resampling: Resampling

    @classmethod
    def of(
        cls,
        explanations: Explanations,
        neuron: AnyNeuron | None = None,
        metrics: AnyMetrics = "all",
        *,
        config: ExplainConfig | None = None,
        activation_threshold: float = ACTIVATION_THRESHOLD,
        n_bootstrap: int = 1000,
        seed: int = 0,
    ) -> Request:
        """Read the arguments of `ns.evaluate`.

        Raises:
            ConfigurationError: an argument is missing or makes no sense.
        """
        return cls(
            explanations=explanations,
            texts=_sentences(explanations),
            neuron=_neuron(explanations, neuron),
            metrics=metrics,
            config=_own_config(explanations) if config is None else config,
            activation_threshold=_checked_threshold(activation_threshold),
            resampling=Resampling(integer(n_bootstrap, "n_bootstrap", least=1), integer(seed, "seed")),
        )

    def chosen(self, judge: AnyLLM, has_subject: bool) -> tuple[list[Metric], dict[str, str]]:
        """The metrics that can be had, and why others cannot.

        Raises:
            ConfigurationError: a metric that was named cannot be had, or there is none of that name.
        """
        from neuronscope.metrics.named import choose

        return choose(self.metrics, has_llm=judge != "offline", has_subject=has_subject)


def check_request(request: Request, setup: Setup) -> None:
    """See whether a setup has what a request needs, before anything is loaded.

    Raises:
        ConfigurationError: it has not.
    """
    has_subject = setup.subject is not None or subject_of(setup.store) is not None
    request.chosen(judge_of(setup), has_subject)
    if setup.subject is None and setup.store is None:
        raise ConfigurationError(_NOTHING)


def judge_of(setup: Setup) -> AnyLLM:
    """Who judges beside the simulator and the embeddings: the setup's language model, or of several the one for it.

    Raises:
        NeuronScopeError: there is no such model.
    """
    from neuronscope.llm import resolve_llm

    llm, timeout = setup.llm, setup.config.request_timeout
    if not isinstance(llm, Mapping):
        return resolve_llm(llm, temperature=0.0, base_url=setup.base_url, timeout=timeout)
    named = {**llm, "judge": llm.get("judge", llm.get("default", "offline"))}
    return resolve_llm(named, temperature=0.0, base_url=setup.base_url, timeout=timeout)["judge"]


async def measure(request: Request, resources: Resources) -> Evaluation:
    """Measure with what a session has.

    Raises:
        ConfigurationError: a metric that was named cannot be had.
        NeuronScopeError: something failed on the way.
    """
    from neuronscope.agents.judge import LLMJudge
    from neuronscope.graphs.observe import draw_exemplars
    from neuronscope.metrics.context import MetricContext

    model = judge_of(resources.setup)
    metrics, unavailable = request.chosen(model, resources.subject is not None)
    usage = resources.usage_tracker()
    context = MetricContext(
        neuron=request.neuron,
        subject=resources.subject,
        store=resources.store,
        simulator=resources.simulator,
        embeddings=resources.embeddings,
        judge=None if isinstance(model, str) else LLMJudge(model, usage),
        config=request.config or resources.config,
        activation_threshold=request.activation_threshold,
        resampling=request.resampling,
    )
    ids = await asyncio.to_thread(draw_exemplars, context.store, context.neuron, context.config)
    data = await context.gather(ids, request.texts, any(metric.hard_negatives for metric in metrics))
    measurements = [row for metric in metrics for row in await metric.measure(data, context)]
    provenance = context.provenance(data) | {"usage": dict(usage.counts())}
    provenance |= _explained_elsewhere(request.explanations, provenance["subject"])
    return Evaluation(context.neuron, request.texts, measurements, unavailable, provenance)


def _sentences(explanations: Explanations) -> list[str]:
    """The explanations as sentences, each once."""
    if isinstance(explanations, NeuronExplanation):
        return list(dict.fromkeys(mode.explanation for mode in explanations.modes))
    several = isinstance(explanations, Iterable) and not isinstance(explanations, str)
    given: list[Any] = list(explanations) if several else [explanations]  # type: ignore[arg-type]  # just looked
    texts = [one.explanation if isinstance(one, Mode) else one for one in given]
    if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
        raise ConfigurationError(
            "There is an empty explanation, or none: give a sentence, a list of sentences, a mode, or the result of "
            "explain_neuron."
        )
    return list(dict.fromkeys(texts))


def _explained_elsewhere(explanations: Explanations, measured: dict[str, Any]) -> dict[str, Any]:
    """The model that a result explains, if it is not the one that it is measured on."""
    own = explanations.provenance.get("subject") if isinstance(explanations, NeuronExplanation) else None
    if not isinstance(own, dict) or measured.get("name") == "unknown":
        return {}
    same = all(own[key] == measured[key] for key in own.keys() & measured.keys())
    return {} if same else {"explained_subject": own}


def _neuron(explanations: Explanations, neuron: AnyNeuron | None) -> Neuron:
    own = explanations.neuron if isinstance(explanations, NeuronExplanation) else None
    chosen = own if neuron is None else as_neuron(neuron)
    if chosen is None:
        raise ConfigurationError("Say which neuron the explanations are of: evaluate(explanations, ns.Neuron(...)).")
    if own is not None and chosen != own:
        raise ConfigurationError(f"This result explains {own}, not {chosen}. Leave the neuron out, or pass sentences.")
    return chosen


def _own_config(explanations: Explanations) -> ExplainConfig | None:
    """The settings with which a result was made, so that its modes are measured on its own test set.

    Settings that this version does not have are left out: none of them says what the test set is.
    """
    from pydantic import ValidationError

    saved = explanations.provenance.get("config") if isinstance(explanations, NeuronExplanation) else None
    if not isinstance(saved, dict):
        return None
    try:
        return ExplainConfig.model_validate({key: saved[key] for key in saved.keys() & ExplainConfig.model_fields})
    except ValidationError:
        return None


def _checked_threshold(activation_threshold: float) -> float:
    if not 0 <= (share := real(activation_threshold, "activation_threshold")) < 1:
        raise ConfigurationError(f"activation_threshold is {share}: expected a share from 0 up to, not including, 1.")
    return share
