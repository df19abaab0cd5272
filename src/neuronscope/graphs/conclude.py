"""The last node: test scores, excerpts, costs and origins, gathered into the result."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from langgraph.runtime import Runtime
from numpy.typing import NDArray

from neuronscope.config import ACTIVATION_THRESHOLD
from neuronscope.errors import NeuronScopeError
from neuronscope.graphs.objective import LEAST_SEEN, own_sequences, strengths_of
from neuronscope.llm import model_name
from neuronscope.metrics import Estimate, Resampling, Scorer, assign_exemplars, pearson
from neuronscope.metrics.bootstrap import not_measured
from neuronscope.metrics.correlation import corpus_correlation, correlation, varies
from neuronscope.metrics.joint import joint_prediction
from neuronscope.results import Excerpt, Failure, Mode, NeuronExplanation, Status, Usage, mean_of, sortable
from neuronscope.state import Instruments, NeuronState
from neuronscope.types import Exemplar, ExemplarIds, Neuron, normalise

EXCERPTS = 5
"""Test exemplars that a mode shows."""
SUPPORTING = 5
"""Active test sequences of its own that a mode needs as evidence."""

NO_TEXT = (
    "{what}: the corpus has no {split} document (every document belongs to train, feedback, validation or test, "
    "by a hash of its text). Collect exemplars from more documents."
)
NO_VARIATION = (
    "{what}: the neuron does the same on all {n} {split} sequences, so nothing can be correlated with it. Collect "
    "exemplars from more text."
)
NO_MODE = (
    "No mode was found: no condition of the hypotheses is in a cluster, or a node has dropped them. Try more "
    "hypotheses, or another LLM."
)

Rows = list[NDArray[np.float32]]


async def conclude(state: NeuronState, runtime: Runtime[Instruments]) -> NeuronState:
    """Score the modes on the test set and put the result together.

    A score that cannot be measured is None, and the failures say why.
    """
    instruments, neuron, ids = runtime.context, state["neuron"], state["exemplars"]
    scorer = instruments.scorer
    examined = await _examine(instruments, neuron, ids, state.get("modes", []))
    modes = sorted(examined.modes, key=lambda mode: -sortable(mode.score))
    new = [*examined.failures, *await _explain_missing(scorer, neuron, ids, state)]
    failures = [*state.get("failures", []), *new]
    explanation = NeuronExplanation(
        neuron=neuron,
        status=_status(ids, failures),
        modes=modes,
        score=mean_of(mode.score for mode in modes),
        joint_score=examined.joint.value,
        interval=examined.joint.interval,
        corpus_score=examined.corpus.value,
        corpus_interval=examined.corpus.interval,
        unrefined_score=mean_of(mode.unrefined_score for mode in modes),
        hypotheses=list(state.get("hypotheses", [])),
        atoms=list(state.get("atoms", [])),
        clusters=list(state.get("clusters", [])),
        failures=failures,
        usage=usage_of(neuron, instruments),
        provenance=provenance(instruments),
    )
    scorer.forget(neuron)
    update: NeuronState = {"explanation": explanation}
    return {**update, "failures": new} if new else update


def _status(ids: ExemplarIds, failures: Sequence[Failure]) -> Status:
    if ids.maximum <= 0:
        return "dead"
    return "partial" if failures else "explained"


async def _explain_missing(scorer: Scorer, neuron: Neuron, ids: ExemplarIds, state: NeuronState) -> list[Failure]:
    """Why scores are missing although no step failed: there is no held-out text, or no activation in it."""
    if ids.maximum <= 0:
        return []
    if not state.get("modes"):
        return [] if state.get("failures") else [Failure("clustering", NO_MODE)]
    gaps = []
    for agent, split, what, sequences in (
        ("refinement", "validation", "Nothing was refined", ids.of("validation")),
        ("conclude", "test", "There are no test scores", ids.of("test")),
    ):
        if not sequences:
            gaps.append(Failure(agent, NO_TEXT.format(what=what, split=split)))
        elif not varies(await scorer.ground_truth(neuron, sequences)):
            gaps.append(Failure(agent, NO_VARIATION.format(what=what, split=split, n=len(sequences))))
    return gaps


@dataclass(frozen=True, slots=True)
class _Examined:
    """The modes with their test scores, and what all of them get together."""

    modes: list[Mode]
    joint: Estimate
    corpus: Estimate
    failures: list[Failure]


async def _examine(instruments: Instruments, neuron: Neuron, ids: ExemplarIds, modes: Sequence[Mode]) -> _Examined:
    """Predict every mode, and its representative, on the test set, and score what could be predicted.

    Modes alone are predicted on the sequences that stand for the whole test split, in the same calls.
    """
    scorer, sequences, in_strata = instruments.scorer, ids.of("test"), ids.in_strata()
    nothing = _Examined(list(modes), not_measured(""), not_measured(""), [])
    if not modes or not sequences:
        return nothing
    answers = await asyncio.gather(
        *(scorer.predict(neuron, [mode.explanation, mode.representative], sequences) for mode in modes),
        *(scorer.predict(neuron, [mode.explanation], in_strata) for mode in modes),
        return_exceptions=True,
    )
    predicted, failures = _answered(modes, answers[: len(modes)], "has no test score")
    if not predicted:
        return replace(nothing, failures=failures)
    texts = [modes[number].explanation for number in predicted]
    strengths = dict(zip(predicted, await strengths_of(texts, neuron, ids, instruments), strict=True))
    resampling = Resampling(seed=instruments.config.seed)
    test = _Test(await scorer.exemplars(neuron, sequences), ids, strengths, resampling)
    scored, joint = _score(modes, predicted, test)
    everywhere, missing = _answered(modes, answers[len(modes) :], "is missing in the corpus score, so there is none")
    corpus, more = not_measured(""), _Test([], ids, strengths, resampling)
    if in_strata and everywhere.keys() >= predicted.keys():
        more = replace(more, exemplars=await scorer.exemplars(neuron, in_strata))
        whole = [joint_prediction(rows, test.factors) for rows in _finals(everywhere, more)]
        corpus = corpus_correlation(whole, more.actual, ids.test_strata, resampling)
    scored = _with_support(scored, predicted, test, everywhere, more)
    failures += [] if failures else missing
    return _Examined([scored.get(number, mode) for number, mode in enumerate(modes)], joint, corpus, failures)


def _answered(
    modes: Sequence[Mode], answers: Sequence[Rows | BaseException], what: str
) -> tuple[dict[int, Rows], list[Failure]]:
    """The predictions by the mode's number, and which modes the simulator failed on; a bug surfaces."""
    failures: list[Failure] = []
    predicted: dict[int, Rows] = {}
    for number, answer in enumerate(answers):
        if not isinstance(answer, BaseException):
            predicted[number] = answer
        elif isinstance(answer, NeuronScopeError):
            failures.append(Failure("conclude", f'{answer} (mode "{modes[number].explanation}" {what})'))
        else:
            raise answer
    return predicted, failures


@dataclass(frozen=True, slots=True)
class _Test:
    """Test sequences, and what they are scored with."""

    exemplars: list[Exemplar]
    ids: ExemplarIds
    strengths: dict[int, float]
    """By the mode's number, of those that could be predicted."""
    resampling: Resampling

    @property
    def actual(self) -> list[NDArray[np.float32]]:
        """Per sequence the activations, shape `(tokens,)`."""
        return [exemplar.activations for exemplar in self.exemplars]

    @property
    def factors(self) -> list[float]:
        """The strengths, in the order of the modes."""
        return list(self.strengths.values())


def _finals(predicted: dict[int, Rows], test: _Test) -> list[NDArray[np.float32]]:
    """Per sequence what the modes' explanations predict: shape `(modes, tokens)`, of those that have a strength."""
    return [
        np.stack([predicted[number][index][0] for number in test.strengths]) for index in range(len(test.exemplars))
    ]


def _score(modes: Sequence[Mode], predicted: dict[int, Rows], test: _Test) -> tuple[dict[int, Mode], Estimate]:
    """Score modes from predictions of shape `(2, tokens)` per exemplar: the explanation, then the representative."""
    exemplars, ids, actual = test.exemplars, test.ids, test.actual
    finals = _finals(predicted, test)
    belongs = assign_exemplars(finals, actual)
    contested = belongs.sum(axis=0) > 1
    truth = np.concatenate(actual)
    is_top = np.arange(len(exemplars)) < len(ids.test)
    index_of = {exemplar.sequence_id: index for index, exemplar in enumerate(exemplars)}
    scored: dict[int, Mode] = {}
    for order, (number, rows) in enumerate(predicted.items()):
        pooled = np.concatenate(rows, axis=1)
        whole = correlation([row[0] for row in rows], actual, is_top, test.resampling)
        subset = [index_of[sequence] for sequence in own_sequences(ids.test, ids.test_random, belongs[order])]
        own = [index for index in range(len(ids.test)) if belongs[order, index] and not contested[index]]
        scored[number] = replace(
            modes[number],
            strength=round(test.strengths[number], 2),
            score=whole.value,
            interval=whole.interval,
            constant=whole.value is not None and pearson(pooled[0], truth).constant,
            unrefined_score=pearson(pooled[1], truth).value,
            subset_score=pearson(
                np.concatenate([rows[index][0] for index in subset]),
                np.concatenate([actual[index] for index in subset]),
            ).value,
            excerpts=[_excerpt(exemplars[index], rows[index][0], ids.maximum) for index in own[:EXCERPTS]],
        )
    joint = [joint_prediction(rows, test.factors) for rows in finals]
    return scored, correlation(joint, actual, is_top, test.resampling)


def _with_support(
    scored: dict[int, Mode], predicted: dict[int, Rows], test: _Test, everywhere: dict[int, Rows], more: _Test
) -> dict[int, Mode]:
    """Say which modes have evidence: on all test sequences that were predicted, those of the corpus score too."""
    known = {exemplar.sequence_id for exemplar in test.exemplars}
    new = [index for index, exemplar in enumerate(more.exemplars) if exemplar.sequence_id not in known]
    others = _finals(everywhere, more)
    rows = [*_finals(predicted, test), *(others[index] for index in new)]
    actual = [*test.actual, *(more.exemplars[index].activations for index in new)]
    belongs = assign_exemplars(rows, actual)
    active = np.array([part.max(initial=0.0) for part in actual]) > ACTIVATION_THRESHOLD * test.ids.maximum
    applies = np.stack([part.max(axis=1) for part in rows], axis=1) >= LEAST_SEEN
    own = (belongs & applies & active & (belongs.sum(axis=0) == 1)).sum(axis=1)
    return {
        number: mode
        if mode.interval is None
        else replace(mode, supported=bool(mode.interval[0] > 0 and n >= SUPPORTING))
        for (number, mode), n in zip(scored.items(), own, strict=True)
    }


def _excerpt(exemplar: Exemplar, predicted: NDArray[np.float32], maximum: float) -> Excerpt:
    return Excerpt(
        tokens=list(exemplar.tokens),
        activations=normalise(exemplar.activations, maximum).round(2).tolist(),
        predicted=predicted.astype(float).round(2).tolist(),
        sequence_id=exemplar.sequence_id,
        source=exemplar.source,
    )


def usage_of(neuron: Neuron, instruments: Instruments) -> Usage:
    """What a neuron has cost so far."""
    scorer = instruments.scorer
    counted = instruments.usage.counts()
    return Usage(**counted, simulated_tokens=scorer.simulated_tokens(neuron), seconds=round(scorer.seconds(neuron), 3))


def provenance(instruments: Instruments) -> dict[str, Any]:
    """Name what made a result: settings, model, text, backends and version; never a key."""
    from importlib.metadata import version

    subject, store, llm = instruments.subject, instruments.store, instruments.llm
    llms = llm if isinstance(llm, Mapping) else {"all": llm}
    names = {agent: model if isinstance(model, str) else model_name(model) for agent, model in llms.items()}
    return {
        "neuronscope": version("neuronscope"),
        "subject": {"name": getattr(subject, "name", type(subject).__name__)}
        | _plain("fingerprint", getattr(subject, "fingerprint", None)),
        "store": {"kind": type(store).__name__} | _plain("info", getattr(store, "info", None)),
        "simulator": getattr(instruments.simulator, "name", type(instruments.simulator).__name__),
        "embeddings": _embeddings_name(instruments.embeddings),
        "llm": names if isinstance(llm, Mapping) else names["all"],
        "config": instruments.config.model_dump(mode="json"),
    }


def _plain(key: str, value: Any) -> dict[str, Any]:
    """An attribute that some subjects and stores have, if it is plain data."""
    return {key: value} if isinstance(value, (str, int, float, dict)) else {}


def _embeddings_name(embeddings: Any) -> str:
    """The class, and the model's name if it is a plain setting (a property might load the model)."""
    name = getattr(embeddings, "__dict__", {}).get("model")
    kind = type(embeddings).__name__
    return f"{kind}: {name}" if isinstance(name, str) else kind
