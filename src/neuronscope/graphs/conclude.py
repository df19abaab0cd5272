"""The last node: test scores, excerpts, costs and origins, gathered into the result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from langgraph.runtime import Runtime

from neuronscope.graphs.examine import examine
from neuronscope.llm import model_name
from neuronscope.metrics import Scorer
from neuronscope.metrics.correlation import varies
from neuronscope.metrics.nulls import best_of
from neuronscope.results import Failure, NeuronExplanation, Status, Usage, mean_of, sortable
from neuronscope.state import Instruments, NeuronState
from neuronscope.types import ExemplarIds, Neuron

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


async def conclude(state: NeuronState, runtime: Runtime[Instruments]) -> NeuronState:
    """Score the modes on the test set and put the result together.

    A score that cannot be measured is None, and the failures say why.
    """
    instruments, neuron, ids = runtime.context, state["neuron"], state["exemplars"]
    scorer = instruments.scorer
    examined = await examine(instruments, neuron, ids, state.get("modes", []))
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
        number_interval=examined.number_interval,
        separation=examined.separation.value,
        separation_interval=examined.separation.interval,
        null_score=mean_of(examined.nulls),
        null_best=best_of(examined.nulls, _tried(state, instruments.config.n_candidates)),
        unrefined_score=mean_of(mode.unrefined_score for mode in modes),
        hypotheses=list(state.get("hypotheses", [])),
        atoms=list(state.get("atoms", [])),
        clusters=list(state.get("clusters", [])),
        failures=failures,
        usage=usage_of(neuron, instruments),
        provenance=provenance(instruments),
    )
    instruments.forget(neuron)
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


def _tried(state: NeuronState, n_candidates: int) -> int:
    """Among how many explanations a mode's was chosen, at most: the representative and every round's candidates."""
    rounds = max((len(mode.history) - 1 for mode in state.get("modes", []) if mode.history), default=0)
    return 1 + rounds * n_candidates


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
        | _plain("fingerprint", _fingerprint(subject, store)),
        "store": {"kind": type(store).__name__} | _plain("info", getattr(store, "info", None)),
        "simulator": getattr(instruments.simulator, "name", type(instruments.simulator).__name__),
        "embeddings": _embeddings_name(instruments.embeddings),
        "llm": names if isinstance(llm, Mapping) else names["all"],
        "config": instruments.config.model_dump(mode="json"),
    }


def _fingerprint(subject: Any, store: Any) -> Any:
    """The subject's; that of the store's, which it has compared with whenever it was asked, if this is its subject."""
    made_with = getattr(store, "info", {}).get("subject", {}) if getattr(store, "subject", None) is subject else {}
    return made_with.get("fingerprint") or getattr(subject, "fingerprint", None)


def _plain(key: str, value: Any) -> dict[str, Any]:
    """An attribute that some subjects and stores have, if it is plain data."""
    return {key: value} if isinstance(value, (str, int, float, dict)) else {}


def _embeddings_name(embeddings: Any) -> str:
    """The class, and the model's name if it is a plain setting (a property might load the model)."""
    name = getattr(embeddings, "__dict__", {}).get("model")
    kind = type(embeddings).__name__
    return f"{kind}: {name}" if isinstance(name, str) else kind
