"""What asking costs: requests, answers, tokens and dollars per agent, and the budget that ends it.

A run writes it down request by request, so that one that is killed and started again goes on counting.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

from neuronscope.llm.backends import AsksInBatches, backend_of
from neuronscope.llm.budget import cache_read, is_priced, price
from neuronscope.llm.failures import model_name
from neuronscope.llm.usage_log import UsageRecord
from neuronscope.locks import Lock, in_forked_child

if TYPE_CHECKING:
    from langchain_core.caches import BaseCache
    from langchain_core.messages import AIMessage
    from langchain_core.rate_limiters import BaseRateLimiter

    from neuronscope.llm.budget import Budget
    from neuronscope.llm.usage_log import NeuronLog


class LLMUsage(TypedDict):
    """The parts of `results.Usage` that a tracker knows."""

    requests: dict[str, int]
    answers: dict[str, int]
    cached: dict[str, int]
    input_tokens: dict[str, int]
    output_tokens: dict[str, int]
    dollars: dict[str, float | None]
    cached_input_tokens: dict[str, int]


class UsageTracker:
    """Counts what one neuron's agents ask, on the terms that a run's neurons share; safe to share between threads.

    Args:
        budget: what may be spent; several trackers may share one.
        cache: where answers are kept, and looked up first: an `AnswerCache`, or any cache of LangChain's.
        concurrency: how many requests to one backend may be under way, in the whole process.
        requests_per_second: how many requests to one backend may start per second, in the whole process.
        log: where it is written down, and goes on from; the budget is not charged for what stands there.

    Raises:
        ResultError: the log cannot be read.
    """

    def __init__(
        self,
        *,
        budget: Budget | None = None,
        cache: BaseCache | None = None,
        concurrency: int | None = None,
        requests_per_second: float | None = None,
        log: NeuronLog | None = None,
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
        self._cached_input_tokens: Counter[str] = Counter()
        self._dollars: dict[str, float | None] = {}
        for record in [] if log is None else log.read():
            self._count(record)
        self._log = log

    def record(self, agent: str, message: AIMessage, *, llm: Any = None, answers: int = 1) -> None:
        """Count one request.

        Args:
            agent: who asked.
            message: an answer; its usage is the request's. Tokens are counted only where the provider reports them.
            llm: the model, for the price; None has no price.
            answers: how many answers the one request brought.
        """
        usage = message.usage_metadata
        if usage is not None and usage.get("total_cost") == 0:  # LangChain's mark on what its own cache gave
            self.record_cached(agent)
            return
        cost = price(llm, message)
        if usage is None:
            record = UsageRecord(agent, 1, answers, dollars=cost, counted=False)
        else:
            tokens = usage["input_tokens"], usage["output_tokens"]
            record = UsageRecord(agent, 1, answers, 0, *tokens, cost, cached_input_tokens=cache_read(usage))
        self._write(record)
        if self.budget is not None:
            self.budget.spend(None if usage is None else usage["total_tokens"], cost)

    def record_cached(self, agent: str) -> None:
        """Count an answer that came from the cache, for nothing."""
        self._write(UsageRecord(agent, cached=1))

    def _write(self, record: UsageRecord) -> None:
        self._count(record)
        if self._log is not None:
            self._log.add(record)

    def _count(self, record: UsageRecord) -> None:
        agent = record.agent
        with self._lock:
            for counter, amount in (
                (self._requests, record.requests),
                (self._answers, record.answers),
                (self._cached, record.cached),
                (self._input_tokens, record.input_tokens),
                (self._output_tokens, record.output_tokens),
                (self._cached_input_tokens, record.cached_input_tokens),
            ):
                if amount:
                    counter[agent] += amount
            if record.requests:
                so_far = self._dollars.get(agent, 0.0)
                self._dollars[agent] = None if so_far is None or record.dollars is None else so_far + record.dollars

    def check_budget(self, agent: str, llm: Any) -> None:
        """Refuse a request that the budget does not allow.

        Raises:
            BudgetExceededError: the budget is spent, or it is in dollars and the model's price is not known.
        """
        if self.budget is not None:
            known = self.budget.dollars is None or is_priced(llm)
            self.budget.check(agent, model_name(llm), cost_is_known=known)

    @asynccontextmanager
    async def turn(self, llm: Any) -> AsyncIterator[None]:
        """Wait until a request to a model's backend may be made, and make room for the next one at the end.

        Those that are asked in batches wait for nothing: the more there are, the larger is the batch.
        """
        if isinstance(llm, AsksInBatches):
            yield
            return
        limits = _limits_of(backend_of(llm), *self._limits)
        async with limits.semaphore or nullcontext():
            if limits.rate is not None:
                await limits.rate.aacquire()
            yield

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
                cached_input_tokens=dict(self._cached_input_tokens),
            )


class _Limits(NamedTuple):
    """How much is asked of a backend at once; LangChain has no limit of what is under way, only of the rate."""

    semaphore: asyncio.Semaphore | None
    rate: BaseRateLimiter | None


@cache
def _limits_of(backend: str, concurrency: int | None, requests_per_second: float | None) -> _Limits:
    """The limits of a backend in this process, whichever neuron, agent or thread asks."""
    semaphore = None if concurrency is None else asyncio.Semaphore(concurrency)
    return _Limits(semaphore, None if requests_per_second is None else _rate_limiter(requests_per_second))


def _rate_limiter(requests_per_second: float) -> BaseRateLimiter:
    from langchain_core.rate_limiters import InMemoryRateLimiter

    pause = min(0.1, 0.5 / requests_per_second)
    return InMemoryRateLimiter(requests_per_second=requests_per_second, check_every_n_seconds=pause)


in_forked_child(_limits_of.cache_clear)  # the parent's requests under way never end here
