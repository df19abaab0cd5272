"""The second front door: measure explanations by many metrics, all on the same held-out sequences."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from neuronscope.config import ExplainConfig
from neuronscope.engine import local
from neuronscope.errors import ConfigurationError
from neuronscope.explain import as_subject, check_neuron, collect_for
from neuronscope.protocols import ExemplarSource, Simulator, Subject
from neuronscope.result import Mode, NeuronExplanation
from neuronscope.scoring.evaluation.items import FIRING_SHARE
from neuronscope.scoring.evaluation.resampling import Resampling
from neuronscope.scoring.evaluation.table import Evaluation, Measurement
from neuronscope.units import Neuron

if TYPE_CHECKING:
    import numpy as np
    from langchain_core.embeddings import Embeddings
    from langchain_core.language_models import BaseChatModel
    from numpy.typing import NDArray

    from neuronscope.agents.judging import LLMJudge
    from neuronscope.llm import Meter
    from neuronscope.scoring.evaluation.material import Material

METRICS = ("correlation", "r2", "detection", "fuzzing", "retrieval", "intruder", "concept")
"""The families of metrics, in the order of the table; `docs/metrics.md` says what each means."""

_WITH_NEAR_MISSES = {"detection", "retrieval"}
_NEEDS_LLM = (
    'the metric "concept" needs a language model that writes texts from an explanation, and llm="offline" has none. '
    'Pass llm="openai:gpt-4o" or another chat model'
)
_NEEDS_SUBJECT = 'the metric "concept" runs texts through the subject, and none was given. Pass subject=...'

Explanations = str | Mode | NeuronExplanation | Sequence[str | Mode]


def evaluate(
    explanations: Explanations,
    neuron: Neuron | None = None,
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
        neuron: the neuron; None is the result's own.
        metrics: families among `METRICS`, or "all": those that cannot be had here are then listed in the table's
            `unavailable`, with the reason.
        subject: the model: anything `load_subject` takes, or a subject. It may be left out if the store has one bound,
            or knows all activations itself.
        store: exemplars collected before; None collects them, from `config.n_tokens` tokens.
        corpus: the text to look at, if no store is given.
        simulator: what predicts activations: as in `explain_neuron`.
        llm: who judges detection, fuzzing and intruders beside the simulator and the embeddings, and writes the texts
            of "concept"; "offline" is nobody.
        embeddings: what compares texts: a name, LangChain embeddings, or "auto".
        config: sizes and seed of the held-out sets; None is `ExplainConfig()`.
        firing_share: a token fires above this share of the neuron's largest activation, 0 to 1.
        n_bootstrap: draws behind each interval.
        seed: seeds the draws, the near misses, the marks of "fuzzing" and the rounds of "intruder".
        cache_dir: where collected exemplars are kept; None is the user's cache folder.

    Raises:
        ConfigurationError: an argument is missing or makes no sense, or a metric that was named cannot be had.
        NeuronScopeError: something cannot be found, loaded or reached.
    """
    return local.run(
        partial(
            aevaluate,
            explanations,
            neuron,
            metrics,
            subject=subject,
            store=store,
            corpus=corpus,
            simulator=simulator,
            llm=llm,
            embeddings=embeddings,
            config=config,
            firing_share=firing_share,
            n_bootstrap=n_bootstrap,
            seed=seed,
            cache_dir=cache_dir,
        )
    )


async def aevaluate(
    explanations: Explanations,
    neuron: Neuron | None = None,
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
    """`evaluate`, to be awaited."""
    from neuronscope.agents.judging import LLMJudge
    from neuronscope.embeddings import resolve_embeddings
    from neuronscope.llm import Meter, resolve_llm
    from neuronscope.simulators import resolve_simulator

    config = config or ExplainConfig()
    texts, unit = _sentences(explanations), _neuron(explanations, neuron)
    _check_numbers(firing_share, n_bootstrap)
    model = resolve_llm(llm, temperature=0.0)
    available, unavailable = _available(metrics, has_llm=model != "offline", has_subject=_has_subject(subject, store))
    vectors, simulates, meter = resolve_embeddings(embeddings, model), resolve_simulator(simulator), Meter()
    loaded, source = await asyncio.to_thread(_prepare, subject, store, corpus, unit, config, cache_dir)
    bench = _Bench(
        neuron=unit,
        subject=loaded,
        store=source,
        simulator=simulates,
        embeddings=vectors,
        judge=None if isinstance(model, str) else LLMJudge(model, meter),
        config=config,
        firing_share=firing_share,
        resampling=Resampling(n_bootstrap, seed),
    )
    material = await bench.gather(texts, near_misses=not _WITH_NEAR_MISSES.isdisjoint(available))
    measurements = [row for family in available for row in await bench.measure(family, material)]
    return Evaluation(unit, texts, measurements, unavailable, bench.provenance(material, meter))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bench:
    """What the metrics are measured with."""

    neuron: Neuron
    subject: Subject | None
    store: ExemplarSource
    simulator: Simulator
    embeddings: Embeddings
    judge: LLMJudge | None
    config: ExplainConfig
    firing_share: float
    resampling: Resampling

    async def gather(self, texts: Sequence[str], *, near_misses: bool) -> Material:
        """Draw the sequences that `explain_neuron` draws, and predict all of them."""
        from neuronscope.graphs.observation import draw_exemplars
        from neuronscope.scoring import Scorer
        from neuronscope.scoring.evaluation.material import gather

        ids = await asyncio.to_thread(draw_exemplars, self.store, self.neuron, self.config)
        return await gather(
            Scorer(self.simulator, self.store),
            self.store,
            self.neuron,
            ids,
            texts,
            self._embed if near_misses else None,
            simulator=_name(self.simulator),
            firing_share=self.firing_share,
            resampling=self.resampling,
        )

    async def measure(self, family: str, material: Material) -> list[Measurement]:
        """The rows of one family of metrics: those without a language model, then those with one."""
        from neuronscope.scoring.evaluation import judged, measures

        seed, judge, name = self.resampling.seed, self.judge, _name(self.embeddings)
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
        from neuronscope.scoring.evaluation.concept import mean_activations
        from neuronscope.scoring.evaluation.judged import concepts

        if self.judge is None or self.subject is None:
            raise ConfigurationError(f"Cannot evaluate: {_NEEDS_LLM if self.judge is None else _NEEDS_SUBJECT}.")
        measure = partial(mean_activations, self.subject, self.neuron, n_tokens=self.config.seq_len)

        async def measured(texts: Sequence[str]) -> NDArray[np.float64]:
            return await asyncio.to_thread(measure, texts)

        return await concepts(material, self.judge, measured)

    def provenance(self, material: Material, meter: Meter) -> dict[str, Any]:
        """What the numbers come from, in plain data."""
        from importlib.metadata import version

        info, fingerprint = getattr(self.store, "info", None), getattr(self.subject, "fingerprint", None)
        return {
            "neuronscope": version("neuronscope"),
            "subject": {"name": getattr(self.subject, "name", "unknown")}
            | ({"fingerprint": fingerprint} if isinstance(fingerprint, str) else {}),
            "store": {"kind": type(self.store).__name__} | ({"info": info} if isinstance(info, dict) else {}),
            "simulator": material.simulator,
            "embeddings": _name(self.embeddings),
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
            "usage": dict(meter.usage()),
        }

    async def _embed(self, texts: Sequence[str]) -> NDArray[np.floating[Any]]:
        import numpy as np

        return np.asarray(await asyncio.to_thread(self.embeddings.embed_documents, list(texts)), dtype=np.float64)


def _sentences(explanations: Explanations) -> list[str]:
    """The explanations as sentences, each once."""
    if isinstance(explanations, NeuronExplanation):
        return list(dict.fromkeys(mode.explanation for mode in explanations.modes))
    given = [explanations] if isinstance(explanations, (str, Mode)) else list(explanations)
    texts = [one.explanation if isinstance(one, Mode) else one for one in given]
    if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
        raise ConfigurationError(
            "There is an empty explanation, or none: give a sentence, a list of sentences, a mode, or the result of "
            "explain_neuron."
        )
    return list(dict.fromkeys(texts))


def _neuron(explanations: Explanations, neuron: Neuron | None) -> Neuron:
    own = explanations.neuron if isinstance(explanations, NeuronExplanation) else None
    chosen = neuron or own
    if chosen is None:
        raise ConfigurationError("Say which neuron the explanations are of: evaluate(explanations, ns.Neuron(...)).")
    if own is not None and chosen != own:
        raise ConfigurationError(f"This result explains {own}, not {chosen}. Leave the neuron out, or pass sentences.")
    return chosen


def _check_numbers(firing_share: float, n_bootstrap: int) -> None:
    if not 0 <= firing_share < 1:
        raise ConfigurationError(f"firing_share is {firing_share}: expected a share from 0 up to, not including, 1.")
    if n_bootstrap < 1:
        raise ConfigurationError(f"n_bootstrap is {n_bootstrap}: expected at least 1 draw; 1000 is usual.")


def _available(metrics: Sequence[str] | str, *, has_llm: bool, has_subject: bool) -> tuple[list[str], dict[str, str]]:
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
        raise ConfigurationError(f"There is no metric {(unknown or [''])[0]!r}. Known: {', '.join(METRICS)}; or 'all'.")
    for family in named:
        if family in missing:
            raise ConfigurationError(f"Cannot evaluate: {missing[family]}.")
    return [family for family in METRICS if family in named], {}


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
            raise ConfigurationError("There is nothing to evaluate on: pass subject=..., or store=..., or both.")
        return loaded, collect_for(loaded, neuron.layer, corpus, config, cache_dir, None)
    if loaded is not None and hasattr(store, "bind"):
        store.bind(loaded)
    return loaded, store


def _name(instrument: Any) -> str:
    """What to call a simulator or an embedding model: its own name, or its class, and the model it says it uses."""
    given = getattr(instrument, "name", None)
    if isinstance(given, str) and given:
        return given
    model = vars(instrument).get("model") if hasattr(instrument, "__dict__") else None  # a property might load it
    kind = type(instrument).__name__
    return f"{kind}: {model}" if isinstance(model, str) else kind
