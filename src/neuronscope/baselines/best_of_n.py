"""Refinement without feedback: as many candidates for the same modes, and the same choice among them.

What refinement scores above this is what its agent learns from scores and mistakes; the rest is choosing.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from neuronscope.agents import RefinementAgent
from neuronscope.baselines.registry import Explanations, baseline
from neuronscope.errors import NeuronScopeError
from neuronscope.interfaces import Explained
from neuronscope.results import Attempt, Mode, NeuronExplanation
from neuronscope.text import distinct

if TYPE_CHECKING:
    from neuronscope.state import HasContext, Instruments, NeuronState, ProposalState, RefinementState
    from neuronscope.types import ExemplarIds, Neuron

POOL = 48
"""Offline, how many conditions that train supports are drawn from."""


@baseline("best_of_n", of_explanations=True)
class BestOfN:
    """The graph with an agent that sees neither scores nor mistakes nor earlier candidates.

    Modes begin as those of the neuron's explanation, if it is known, and there are as many rounds as their refinement
    had; else the graph makes both, with `max_iterations` rounds. Each round has `n_candidates` for each mode, without
    an early end, and validation selects as in refinement.

    Args:
        explanations: what was found of each neuron.
    """

    name = "best_of_n"

    def __init__(self, explanations: Explanations | None = None) -> None:
        self._explanations: Explanations = explanations or {}

    async def explain(self, neuron: Neuron, exemplars: ExemplarIds, instruments: Instruments) -> Explained:
        """Find the modes.

        Raises:
            NeuronScopeError: there is none, because an agent failed.
        """
        from neuronscope.graphs import build_neuron_graph

        known = self._explanations.get(neuron)
        nodes: dict[str, Any] = {"observe": _returning({"exemplars": exemplars}), "conclude": _returning({})}
        earlier = None
        if known is not None and known.clusters:
            earlier = known.usage.of_agents("hypothesis", "decomposition")
            for node, key in (("hypothesis", "hypotheses"), ("decomposition", "atoms"), ("clustering", "clusters")):
                nodes[node] = _returning({key: getattr(known, key)})
        graph = build_neuron_graph(refinement=WithoutFeedback(), **nodes)
        config = instruments.config
        changes = {
            "max_iterations": _rounds(known) or config.max_iterations,
            "patience": None,
            "second_hypothesis": False,
            "probe_texts": False,
        }
        without = replace(instruments, config=config.model_copy(update=changes))
        state = await graph.ainvoke({"neuron": neuron}, context=without)
        failures = state.get("failures", [])
        if not state.get("modes"):
            why = str(failures[0]) if failures else f"No mode was found for {neuron}, so there is nothing to choose."
            raise NeuronScopeError(why)
        sentences = [mode.explanation for mode in state["modes"]]
        return Explained(sentences=sentences, earlier_usage=earlier, failures=failures)


class WithoutFeedback:
    """The Refinement Agent, for which each round is the first: it sees the representative, unmeasured."""

    async def __call__(self, state: ProposalState, runtime: HasContext) -> RefinementState:
        """Propose candidates.

        Raises:
            LLMError: the model cannot be reached, or none of its answers can be read.
        """
        representative = state["mode"].representative
        first = [Attempt(0, representative, None)]
        mode = Mode(representative, history=first, atoms=state["mode"].atoms)
        siblings = [Mode(each.representative, atoms=each.atoms) for each in state["siblings"]]
        blank: ProposalState = {**state, "mode": mode, "siblings": siblings, "history": first}
        if runtime.context.llm_for("refinement") == "offline":
            return await self._offline(blank, runtime)
        return await RefinementAgent()(blank, runtime)

    async def _offline(self, state: ProposalState, runtime: HasContext) -> RefinementState:
        """The representative, each time with other words: some of its own, and some that train supports, at random."""
        from neuronscope.offline.agents import collect_features
        from neuronscope.offline.sentences import QUOTES, conditions_in, name_in, sentence

        config, mode = runtime.context.config, state["mode"]
        own, name = conditions_in(mode.representative), name_in(mode.representative)
        given = [own, *(conditions_in(each.representative) for each in state["siblings"])]
        features = await collect_features(state["neuron"], state["exemplars"].maximum, runtime)
        pool = [each.condition for each in features.matching_pursuit(POOL, None, given)]
        draw = random.Random(f"{config.seed}/{state['neuron']}/{mode.representative}/{state['iteration']}")
        candidates = []
        for _ in range(config.n_candidates if pool else 0):
            retained = own[: draw.randint(0, len(own))]
            new = draw.sample(pool, min(QUOTES, len(pool)))
            candidates.append(sentence([*retained, *new], name if retained else None))
        return {"proposals": {mode.representative: distinct(candidates)}}


def _rounds(known: NeuronExplanation | None) -> int:
    """How many rounds refinement had: the latest iteration that a mode has an attempt of."""
    modes = [] if known is None else known.modes
    return max((attempt.iteration for mode in modes for attempt in mode.history), default=0)


def _returning(update: Mapping[str, Any]) -> Any:
    """A node that returns this whatever it is given."""

    async def node(state: NeuronState, runtime: HasContext) -> dict[str, Any]:
        return dict(update)

    return node
