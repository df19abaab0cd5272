"""The second front door: measure explanations by many metrics, all on the same held-out sequences."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from neuronscope import blocking
from neuronscope.arguments import integer, real
from neuronscope.config import ExplainConfig
from neuronscope.errors import ConfigurationError
from neuronscope.interfaces import ExemplarSource, Simulator, Subject
from neuronscope.metrics.bootstrap import Resampling
from neuronscope.metrics.stimuli import FIRING_SHARE
from neuronscope.metrics.table import Evaluation
from neuronscope.results import Mode, NeuronExplanation
from neuronscope.runs.run import AnyNeuron, as_neuron
from neuronscope.session import (
    as_subject,
    check_before_loading,
    checked_config,
    collect_for,
    neuron_place,
)
from neuronscope.stopping import stopping_threads
from neuronscope.subject.sites import check_neuron
from neuronscope.types import Neuron

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings
    from langchain_core.language_models import BaseChatModel

_NOTHING = "There is nothing to evaluate on: pass subject=..., or store=..., or both."
Explanations = str | Mode | NeuronExplanation | Sequence[str | Mode]


async def aevaluate(
    explanations: Explanations,
    neuron: AnyNeuron | None = None,
    metrics: Sequence[str] | Literal["all"] = "all",
    *,
    subject: str | os.PathLike[str] | tuple[Any, Any] | Subject | None = None,
    store: ExemplarSource | None = None,
    corpus: Any = "builtin",
    simulator: str | Simulator = "auto",
    llm: str | BaseChatModel = "offline",
    embeddings: str | Embeddings = "auto",
    config: ExplainConfig | None = None,
    firing_share: float = FIRING_SHARE,
    n_bootstrap: int = 1000,
    seed: int = 0,
    cache_dir: str | Path | None = None,
) -> Evaluation:
    """Measure explanations of one neuron by many metrics, each with a bootstrap interval.

    The sequences are those on which `explain_neuron` with the same settings reports its test scores; thresholds and
    calibrations are fitted on its validation sequences.

    Args:
        explanations: a sentence, several, a mode, or a whole result with its modes.
        neuron: the neuron, or `(layer, index)`, or text such as `"9/740"`; None is the result's own.
        metrics: families among correlation, r2, detection, fuzzing, retrieval, intruder and concept (`docs/metrics.md`
            says what each means), or "all": those that cannot be had here are then listed in the table's
            `unavailable`, with the reason.
        subject: the model: anything `load_subject` takes, or a subject. It may be left out if the store has one bound,
            or knows all activations itself.
        store: exemplars collected before; None collects them, from `config.n_tokens` tokens.
        corpus: the text to look at, if no store is given.
        simulator: what predicts activations: as in `explain_neuron`.
        llm: who judges detection, fuzzing and intruders beside the simulator and the embeddings, and writes the texts
            of "concept"; "offline" is nobody.
        embeddings: what compares texts: a name, LangChain embeddings, or "auto".
        config: sizes and seed of the held-out sets; None is the result's own, or `ExplainConfig()`.
        firing_share: a token fires above this share of the neuron's largest activation, 0 to 1.
        n_bootstrap: draws behind each interval.
        seed: seeds the draws, the near misses, the marks of "fuzzing" and the rounds of "intruder".
        cache_dir: where collected exemplars are kept; None is the user's cache folder.

    Raises:
        ConfigurationError: an argument is missing or makes no sense, or a metric that was named cannot be had.
        NeuronScopeError: something cannot be found, loaded or reached.
    """
    from neuronscope.agents.judge import LLMJudge
    from neuronscope.corpus.sources import open_corpus
    from neuronscope.graphs.observe import draw_exemplars
    from neuronscope.llm import UsageTracker, resolve_llm
    from neuronscope.llm.embeddings import resolve_embeddings
    from neuronscope.metrics.evaluator import Bench, available
    from neuronscope.simulators import resolve_simulator
    from neuronscope.simulators.registry import check_simulator

    config = _own_config(explanations) if config is None else checked_config(config)
    texts, unit = _sentences(explanations), _neuron(explanations, neuron)
    firing_share = _checked_share(firing_share)
    n_bootstrap, seed = integer(n_bootstrap, "n_bootstrap", least=1), integer(seed, "seed")
    model = resolve_llm(llm, temperature=0.0)
    families, unavailable = available(metrics, has_llm=model != "offline", has_subject=_has_subject(subject, store))
    vectors, usage = resolve_embeddings(embeddings, model), UsageTracker()
    check_simulator(simulator)
    if store is None:
        if subject is None:
            raise ConfigurationError(_NOTHING)
        corpus = open_corpus(corpus)
    with stopping_threads():
        await blocking.in_callers_thread(check_before_loading, subject, [neuron_place(unit)])
        simulates = await blocking.in_callers_thread(resolve_simulator, simulator, llm=model)
        loaded, source = await blocking.in_callers_thread(_prepare, subject, store, corpus, unit, config, cache_dir)
        bench = Bench(
            neuron=unit,
            subject=loaded,
            store=source,
            simulator=simulates,
            embeddings=vectors,
            judge=None if isinstance(model, str) else LLMJudge(model, usage),
            config=config,
            firing_share=firing_share,
            resampling=Resampling(n_bootstrap, seed),
        )
        ids = await asyncio.to_thread(draw_exemplars, source, unit, config)
        material = await bench.gather(ids, texts, families)
        measurements = [row for family in families for row in await bench.measure(family, material)]
    provenance = bench.provenance(material) | {"usage": dict(usage.counts())}
    provenance |= _explained_elsewhere(explanations, provenance["subject"])
    return Evaluation(unit, texts, measurements, unavailable, provenance)


evaluate = blocking.blocking(aevaluate)
"""`aevaluate` for scripts and notebooks: it waits."""


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


def _own_config(explanations: Explanations) -> ExplainConfig:
    """The settings with which a result was made, so that its modes are measured on its own test set."""
    from pydantic import ValidationError

    saved = explanations.provenance.get("config") if isinstance(explanations, NeuronExplanation) else None
    try:
        return ExplainConfig.model_validate(saved or {})
    except ValidationError:
        return ExplainConfig()


def _checked_share(firing_share: float) -> float:
    if not 0 <= (share := real(firing_share, "firing_share")) < 1:
        raise ConfigurationError(f"firing_share is {share}: expected a share from 0 up to, not including, 1.")
    return share


def _has_subject(subject: Any, store: Any) -> bool:
    return subject is not None or getattr(store, "subject", None) is not None


def _prepare(
    subject: str | os.PathLike[str] | tuple[Any, Any] | Subject | None,
    store: ExemplarSource | None,
    corpus: Any,
    neuron: Neuron,
    config: ExplainConfig,
    cache_dir: str | Path | None,
) -> tuple[Subject | None, ExemplarSource]:
    """The subject, if there is one, and the exemplars, bound to it."""
    loaded = getattr(store, "subject", None) if subject is None else as_subject(subject)
    if loaded is not None:
        check_neuron(loaded, neuron)
    if store is None:
        if loaded is None:
            raise ConfigurationError(_NOTHING)
        return loaded, collect_for(loaded, [neuron.layer], corpus, config, cache_dir, None, neuron.site)
    if loaded is not None and hasattr(store, "bind"):
        store.bind(loaded)
    return loaded, store
