"""What one neuron of a run takes, and from that what many take: the arithmetic of a `Plan`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from neuronscope.interfaces import CountedSimulator, StratifiedSource
from neuronscope.llm.addresses import address_of, is_here
from neuronscope.llm.backends import AsksInBatches
from neuronscope.llm.budget import price
from neuronscope.llm.models import ROLES
from neuronscope.planning import expectation
from neuronscope.planning.expectation import Shape, Tokens
from neuronscope.planning.plan import Amounts
from neuronscope.planning.speeds import Speeds, Timed
from neuronscope.resources import Resources
from neuronscope.results import NeuronExplanation
from neuronscope.runs.prefetch import group_sizes

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

SIMULATOR = "simulator"
"""Under which name the requests of a simulator that asks a language model are counted."""
PER_REQUEST, AT_ONCE = 5, 8
"""Sequences that such a simulator shows in one request, and its requests under way at once."""
LATENCY, TOKENS_PER_SECOND = 0.6, 60.0
"""Seconds before a hosted model begins to answer, and tokens a second from then on."""
OVERHEAD = 0.35
"""Seconds of processor time that a neuron takes beside subject and simulator (docs/runs.md)."""
OVERHEAD_OFFLINE = 0.6
"""The same where hypotheses are made without a language model (`benchmarks/explain.py`)."""


def asking(resources: Resources) -> dict[str, BaseChatModel | None]:
    """The agents that ask a language model, the simulator among them, with their models; None is not known which."""
    llm = resources.llm
    models = {role: llm[role] if isinstance(llm, Mapping) else llm for role in ROLES}
    found: dict[str, BaseChatModel | None] = {role: one for role, one in models.items() if not isinstance(one, str)}
    if isinstance(resources.simulator, CountedSimulator):
        own = llm.get(SIMULATOR, models["refinement"]) if isinstance(llm, Mapping) else llm
        is_own = resources.setup.simulator == "chat" and not isinstance(own, str)
        found[SIMULATOR] = own if is_own and not isinstance(own, str) else None
    return found


class Estimate:
    """What a neuron takes, by the mean of those that are known and by stated constants.

    Args:
        resources: of the run.
        known: results that tell what a neuron takes.
        timed: those of them that were explained just now, alone.
        speeds: of this machine.
        is_provisional: whether the store is smaller than that of the run.
    """

    def __init__(
        self,
        resources: Resources,
        known: Sequence[NeuronExplanation],
        timed: Sequence[Timed],
        speeds: Speeds,
        is_provisional: bool = False,
    ) -> None:
        self.resources, self.known, self.timed, self.speeds = resources, list(known), list(timed), speeds
        self.config, self.is_provisional = resources.config, is_provisional
        if not isinstance(resources.store, StratifiedSource):
            self.config = self.config.model_copy(update={"corpus_ranked": 0, "corpus_random": 0})
        self.asking = asking(resources)
        self.offline = "hypothesis" not in self.asking
        self.shapes = [expectation.shape_of(result, self.config) for result in self.known]
        self.shape = expectation.expected_shape(self.config, offline=self.offline, known=self.shapes)
        self.sequences = expectation.sequences(self.config, offline=self.offline)

    @cached_property
    def seq_len(self) -> float:
        """Tokens of a sequence, in the mean."""
        info = getattr(self.resources.store, "info", {})
        try:
            return float(sum(info["n_tokens"].values()) / sum(info["n_sequences"].values()))
        except (KeyError, TypeError, ZeroDivisionError):  # a source of the user's own
            return self.speeds.seq_len or float(self.config.seq_len)

    def expected(self, n: int, n_asking: int, parallel: int) -> Amounts:
        """What neurons take together.

        Args:
            n: how many.
            n_asking: how many of them ask a language model; the others' answers are cached.
            parallel: how many are under way at once.
        """
        return self._together(self._requests, self._simulated, n, n_asking, self._seconds(n, n_asking, parallel))

    def at_most(self, n: int, n_asking: int) -> Amounts:
        """What they take where everything goes as far as the settings allow."""
        knows_n = all("n" in type(llm).model_fields for llm in self.asking.values() if llm is not None)
        requests, simulated = expectation.most_requests(self.config, knows_n=knows_n), self._most_simulated
        if requests is not None and simulated is not None:
            if SIMULATOR in self.asking:
                requests[SIMULATOR] = simulated / self.seq_len
            most = {agent: max(requests[agent], self._requests[agent]) for agent in self.asking}
            return self._together(most, max(simulated, self._simulated), n, n_asking, None)
        free = dict[str, float]() if not self.asking else None
        return self._together(free, None, n, n_asking, None)

    def agents(self, n_asking: int) -> dict[str, Amounts]:
        """What each agent asks of its language model, for so many neurons."""
        return {
            agent: self._together({agent: self._requests[agent]}, 0.0, n_asking, n_asking, None)
            for agent in self.asking
        }

    def _together(
        self,
        requests: Mapping[str, float] | None,
        simulated: float | None,
        n: int,
        n_asking: int,
        seconds: float | None,
    ) -> Amounts:
        of_simulator = None if simulated is None else round(n * simulated)
        if requests is None:
            return Amounts(
                requests=None,
                input_tokens=None,
                output_tokens=None,
                dollars=None,
                simulated_tokens=of_simulator,
                seconds=seconds,
            )
        dollars = [self._dollars(agent) for agent in requests]
        counts = [n_asking * count for count in requests.values()]
        tokens = [self._tokens[agent] for agent in requests]
        return Amounts(
            requests=round(sum(counts)),
            input_tokens=round(sum(count * each.input for count, each in zip(counts, tokens, strict=True))),
            output_tokens=round(sum(count * each.output for count, each in zip(counts, tokens, strict=True))),
            dollars=None
            if None in dollars
            else sum(count * (each or 0.0) for count, each in zip(counts, dollars, strict=True)),
            simulated_tokens=of_simulator,
            seconds=seconds,
        )

    @cached_property
    def _requests(self) -> dict[str, float]:
        """Of one neuron, by agent, at the rate at which the known ones have asked."""
        expected = expectation.requests(self.shape, self.config)
        if SIMULATOR in self.asking:
            expected[SIMULATOR] = self._simulated / self.seq_len / PER_REQUEST
        return {agent: expected[agent] * self._rate(agent) for agent in self.asking}

    def _rate(self, agent: str) -> float:
        """Requests that were made for one that the settings let expect; 1 where answers came from the cache."""
        usages = [result.usage.by_agent.get(agent) for result in self.known]
        if not usages or any(usage is None or usage.cached or not usage.requests for usage in usages):
            return 1.0
        if agent == SIMULATOR:
            expected = sum(result.usage.simulated_tokens for result in self.known) / self.seq_len / PER_REQUEST
        else:
            expected = sum(expectation.requests(shape, self.config)[agent] for shape in self.shapes)
        return sum(usage.requests for usage in usages if usage) / expected if expected else 1.0

    @cached_property
    def _tokens(self) -> dict[str, Tokens]:
        """Of one request, by agent: those of the known neurons, or else as the prompts have them."""
        found = expectation.tokens_per_request(self.config, self.seq_len)
        found[SIMULATOR] = Tokens(1000 + 6 * PER_REQUEST * self.seq_len, 150)
        for agent in self.asking:
            usages = [usage for result in self.known if (usage := result.usage.by_agent.get(agent))]
            if requests := sum(usage.requests for usage in usages):
                asked = sum(usage.input_tokens for usage in usages) / requests
                found[agent] = Tokens(asked, sum(usage.output_tokens for usage in usages) / requests)
        return found

    def _dollars(self, agent: str) -> float | None:
        """Of one request; None if its price is not known."""
        from langchain_core.messages import AIMessage

        usages = [usage for result in self.known if (usage := result.usage.by_agent.get(agent)) and usage.requests]
        if usages:
            costs = [usage.dollars for usage in usages]
            if None in costs:
                return None
            return sum(cost or 0.0 for cost in costs) / sum(usage.requests for usage in usages)
        asked, answered = (round(1000 * count) for count in self._tokens[agent])  # of a thousand, which are whole
        counted: Any = {"input_tokens": asked, "output_tokens": answered, "total_tokens": asked + answered}
        cost = price(self.asking[agent], AIMessage("", usage_metadata=counted))
        return None if cost is None else cost / 1000

    @cached_property
    def _simulated(self) -> float:
        """Tokens that the simulator predicts for one neuron."""
        expected = expectation.simulated(self.shape, self.config) * self.seq_len
        of_known = sum(expectation.simulated(shape, self.config) * self.seq_len for shape in self.shapes)
        return (
            expected * sum(result.usage.simulated_tokens for result in self.known) / of_known if of_known else expected
        )

    @property
    def _most_simulated(self) -> float | None:
        most = expectation.most_simulated(self.config)
        return None if most is None else most * self.config.seq_len

    # Time

    def _seconds(self, n: int, n_asking: int, parallel: int) -> float | None:
        """Seconds for so many neurons: what is computed comes one after another, what is waited for side by side."""
        if not n:
            return 0.0
        computed, side_by_side = self._computed(n), min(parallel, n)
        waves = (n + (side_by_side - 1) / 2) / side_by_side  # the last ones do not end at once
        requests, config = n_asking * sum(self._requests.values()), self.config
        bounds = [requests / config.requests_per_second] if config.requests_per_second is not None else []
        if self._took is not None:
            return max(*bounds, n * computed, waves * self._took * n_asking / n)
        if self.waited is None:
            return None
        waited = self.waited * n_asking / n
        bounds += [n * computed + waited / 2, waves * (computed + waited)]
        return max(*bounds, requests * self._latency(waited) / config.max_concurrency)

    def _computed(self, n: int) -> float:
        """Seconds of this machine's own work for one of so many neurons, which share sequences.

        Their activations are computed in groups; in a group a sequence runs once, whoever wants it (`runs.prefetch`).
        """
        if not self.speeds.subject:
            return self.computed
        alone = self.sequences * self.seq_len / self.speeds.subject
        in_group = min(n, group_sizes(self.resources.store, 1)[1])
        info = getattr(self.resources.store, "info", {})
        total = sum(info["n_sequences"].values()) if "n_sequences" in info and not self.is_provisional else None
        distinct = in_group * self.sequences
        if total:
            distinct = total * (1 - math.exp(-distinct / total))
        shared = distinct * self.seq_len / self.speeds.subject / in_group
        return max(self.computed - alone, self.computed / 2 if self.timed else 0.0) + min(alone, shared)

    @cached_property
    def _took(self) -> float | None:
        """Seconds of a neuron among others, as finished ones took that were not timed; None where there are none."""
        if self.timed or not self.known or not self.asking:
            return None
        return sum(result.usage.seconds for result in self.known) / len(self.known)

    def _latency(self, waited: float) -> float:
        """Seconds of one request."""
        steps = self._steps(self.shape)
        return waited / steps if steps else 0.0

    def _steps(self, shape: Shape) -> float:
        """Requests of a neuron that wait for each other."""
        rounds = shape.rounds / shape.modes if shape.modes else 0.0
        steps = (1 + shape.second) * sum(agent in self.asking for agent in ("hypothesis", "decomposition"))
        if "refinement" in self.asking:
            steps += rounds * (
                1.0 if expectation.is_papers(self.config) else expectation.answers_per_round(self.config)
            )
        if SIMULATOR in self.asking:
            steps += expectation.simulated(shape, self.config) / PER_REQUEST / AT_ONCE
        return steps

    @cached_property
    def computed(self) -> float:
        """Seconds of this machine's own work for one neuron."""
        if self.timed:
            simulated = sum(each.result.usage.simulated_tokens for each in self.timed)
            return sum(each.computed for each in self.timed) * self._simulated / simulated
        found = OVERHEAD_OFFLINE if self.offline else OVERHEAD
        if self.speeds.subject:
            found += self.sequences * self.seq_len / self.speeds.subject
        if self.speeds.simulator:
            found += self._simulated / self.speeds.simulator
        return found

    @cached_property
    def waited(self) -> float | None:
        """Seconds that one neuron waits for language models, one request after another; None if that is not known."""
        if not self.asking:
            return 0.0
        asked = [each for each in self.timed if sum(each.result.usage.requests.values())]
        if asked:
            steps = sum(self._steps(expectation.shape_of(each.result, self.config)) for each in asked)
            return sum(each.waited for each in asked) * self._steps(self.shape) / steps
        if any(llm is None or is_local(llm) or isinstance(llm, AsksInBatches) for llm in self.asking.values()):
            return None
        answers = [self._tokens[agent].output for agent in self.asking]
        return self._steps(self.shape) * (LATENCY + sum(answers) / len(answers) / TOKENS_PER_SECOND)

    def assumptions(self, n: int, parallel: int) -> list[str]:
        """What the amounts rest on, in words."""
        if not n:
            return []
        config, shape = self.config, self.shape
        rounds = shape.rounds / shape.modes if shape.modes else 0.0
        basis = (
            "stated constants" if not self.known else f"a constant and {_counted(len(self.known), 'finished neuron')}"
        )
        limit = "no limit" if config.max_modes is None else f"at most {config.max_modes}"
        second = f", {shape.second:.0%} of neurons with a second hypothesis" if shape.second else ""
        said = [
            f"Of a neuron: {shape.modes:.1f} modes ({limit}), each refined for {rounds:.1f} rounds (at most "
            f"{config.max_iterations}) of {config.n_candidates} candidates{second}; from {basis}."
        ]
        if self.asking and not any(sum(result.usage.requests.values()) for result in self.known):
            cached = "All answers of the sample came from the cache, so these are stated: t" if self.known else "T"
            said.append(f"{cached}okens of a request are as the prompts have them, with answers of usual length.")
        unpriced = [agent for agent in self.asking if self._dollars(agent) is None]
        if unpriced:
            said.append(f"No price is known for the model of {', '.join(unpriced)}: name it in NEURONSCOPE_PRICES.")
        if self._took is not None:
            said.append(f"A neuron takes {self._took:.2g} s among others, as those took that are finished.")
        elif self.resources.asks_in_batches:
            said.append(
                f"Answers come in batches, at half of the price and each within 24 hours: a neuron waits for about "
                f"{self._steps(self.shape):.0f} of them one after another, {min(parallel, n):,} neurons at once."
            )
        elif self.waited is None:
            said.append("How fast a server of your own answers is not known before it is asked: take a sample.")
        elif self.asking:
            basis = (
                f"as in the sample, also with {parallel} neurons at once" if self.timed else "as with a hosted model"
            )
            said.append(f"A request takes {self._latency(self.waited):.2g} s, {basis}.")
        basis = "as in the sample" if self.timed else "by the speed of subject and simulator, measured now"
        said.append(f"This machine computes {self._computed(n):.2g} s for a neuron, {basis}.")
        return said


def is_local(llm: Any) -> bool:
    """Whether a model answers on this machine: nobody knows how fast."""
    return getattr(llm, "weights", None) is not None or is_here(address_of(llm))


def _counted(n: int, noun: str) -> str:
    return f"1 {noun}" if n == 1 else f"{n} {noun}s"
