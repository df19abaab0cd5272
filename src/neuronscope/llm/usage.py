"""What asking costs: requests, answers, tokens and dollars per agent, and the budget that ends it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, TypedDict

from neuronscope.llm.failures import model_name
from neuronscope.llm.limits import Gate, gate_of
from neuronscope.llm.models import backend_of
from neuronscope.llm.prices import is_priced, price
from neuronscope.llm.usage_log import Entry
from neuronscope.locks import Lock

if TYPE_CHECKING:
    from langchain_core.messages import AIMessage

    from neuronscope.llm.budget import Budget
    from neuronscope.llm.cache import AnswerCache
    from neuronscope.llm.usage_log import Page


class LLMUsage(TypedDict):
    """The parts of `results.Usage` that a tracker knows."""

    requests: dict[str, int]
    answers: dict[str, int]
    cached: dict[str, int]
    input_tokens: dict[str, int]
    output_tokens: dict[str, int]
    dollars: dict[str, float | None]


class UsageTracker:
    """Counts what one neuron's agents ask, on the terms that a run's neurons share; safe to share between threads.

    Args:
        budget: what may be spent; several trackers may share one.
        cache: where answers are kept, and looked up first.
        concurrency: how many requests to one backend may be under way, in the whole process.
        requests_per_second: how many requests to one backend may start per second, in the whole process.
        page: where it is written down, and goes on from; the budget is not charged for what stands there.

    Raises:
        ResultError: the page cannot be read.
    """

    def __init__(
        self,
        *,
        budget: Budget | None = None,
        cache: AnswerCache | None = None,
        concurrency: int | None = None,
        requests_per_second: float | None = None,
        page: Page | None = None,
    ) -> None:
        self.budget = budget
        self.cache = cache
        self._limits = (concurrency, requests_per_second)
        self._lock = Lock()
        self._requests: Counter[str] = Counter()
        self._answers: Counter[str] = Counter()
        self._cached: Counter[str] = Counter()
        self._input_tokens: Counter[str] = Counter()
        self._output_tokens: Counter[str] = Counter()
        self._dollars: dict[str, float | None] = {}
        for entry in [] if page is None else page.read():
            self._count(entry)
        self._page = page

    def record(self, agent: str, message: AIMessage, *, llm: Any = None, answers: int = 1) -> None:
        """Count one request.

        Args:
            agent: who asked.
            message: an answer; its usage is the request's. Tokens are counted only where the provider reports them.
            llm: the model, for the price; None has no price.
            answers: how many answers the one request brought.
        """
        usage = message.usage_metadata
        cost = price(llm, message)
        asked, answered = (0, 0) if usage is None else (usage["input_tokens"], usage["output_tokens"])
        self._write(Entry(agent, 1, answers, 0, asked, answered, cost, counted=usage is not None))
        if self.budget is not None:
            self.budget.spend(None if usage is None else usage["total_tokens"], cost)

    def record_cached(self, agent: str) -> None:
        """Count an answer that came from the cache, for nothing."""
        self._write(Entry(agent, cached=1))

    def _write(self, entry: Entry) -> None:
        self._count(entry)
        if self._page is not None:
            self._page.add(entry)

    def _count(self, entry: Entry) -> None:
        agent = entry.agent
        with self._lock:
            for counter, amount in (
                (self._requests, entry.requests),
                (self._answers, entry.answers),
                (self._cached, entry.cached),
                (self._input_tokens, entry.input_tokens),
                (self._output_tokens, entry.output_tokens),
            ):
                if amount:
                    counter[agent] += amount
            if entry.requests:
                so_far = self._dollars.get(agent, 0.0)
                self._dollars[agent] = None if so_far is None or entry.dollars is None else so_far + entry.dollars

    def check_budget(self, agent: str, llm: Any) -> None:
        """Refuse a request that the budget does not allow.

        Raises:
            BudgetExceededError: the budget is spent, or it is in dollars and the model's price is not known.
        """
        if self.budget is not None:
            known = self.budget.dollars is None or is_priced(llm)
            self.budget.check(agent, model_name(llm), cost_is_known=known)

    def gate(self, llm: Any) -> Gate:
        """Where requests to a model's backend wait for their turn."""
        return gate_of(backend_of(llm), *self._limits)

    def counts(self) -> LLMUsage:
        """What has been counted so far: `Usage(**usage.counts(), simulated_tokens=..., seconds=...)`."""
        with self._lock:
            return LLMUsage(
                requests=dict(self._requests),
                answers=dict(self._answers),
                cached=dict(self._cached),
                input_tokens=dict(self._input_tokens),
                output_tokens=dict(self._output_tokens),
                dollars=dict(self._dollars),
            )
