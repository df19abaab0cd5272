"""What may be spent on language models, in dollars or in tokens, and what a request costs.

Prices are those of the package genai-prices, or a list of the user's own.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuronscope.errors import BudgetExceededError, ConfigurationError
from neuronscope.llm.addresses import address_of
from neuronscope.llm.backends import AsksInBatches
from neuronscope.llm.failures import model_name
from neuronscope.locks import Lock

if TYPE_CHECKING:
    from langchain_core.messages import AIMessage
    from langchain_core.messages.ai import UsageMetadata

PRICES_VARIABLE = "NEURONSCOPE_PRICES"
"""Names a JSON file of prices that go before all others: `{"my-model": {"input": 0.5, "output": 1.5}}`, in dollars per
million tokens."""

BATCH_SHARE = 0.5
"""Of the price of a request what it costs in a batch, where no list has a price for that: OpenAI's and Anthropic's."""

_DOLLARS = re.compile(r"(?:\$\s*(?P<before>[\d.,_]+)|(?P<after>[\d.,_]+)\s*(?:\$|usd|dollars?))", re.IGNORECASE)
_TOKENS = re.compile(r"(?P<number>[\d.,_]+)\s*(?P<unit>[km]?)\s*(?:tokens?|tok)", re.IGNORECASE)
_UNITS = {"": 1, "k": 1_000, "m": 1_000_000}


class Budget:
    """What may be spent, in dollars or in tokens; neurons, agents and threads may share one.

    A copy, such as one that is sent to another process, has what is left and counts for itself from then on.

    A request that would come after the budget is spent is refused with `BudgetExceededError`; requests under way are
    not cut off, so the spending may end a little above. Answers from the cache are free, so a run that is repeated with
    a larger budget goes on where it stopped.

    Args:
        dollars: at most so many US dollars; needs a model whose price is known.
        tokens: at most so many tokens, of prompts and answers together.

    Raises:
        ConfigurationError: neither is given, or both, or nothing can be bought with it.
    """

    def __init__(self, *, dollars: float | None = None, tokens: int | None = None) -> None:
        given = [limit for limit in (dollars, tokens) if limit is not None]
        if len(given) != 1 or not 0 < given[0] < float("inf"):
            raise ConfigurationError("A budget is a number above 0, of dollars or of tokens: Budget(dollars=5).")
        self.dollars = dollars
        self.tokens = tokens
        self._spent_dollars = 0.0
        self._spent_tokens = 0
        self._uncounted = False
        self._carried_over: set[str] = set()
        self._whole: Budget | None = None
        self._lock = Lock()

    @classmethod
    def parse(cls, text: str | Budget) -> Budget:
        """`"5$"`, `"$2.50"` or `"200k tokens"`; a budget is taken as it is.

        Raises:
            ConfigurationError: it is neither.
        """
        if isinstance(text, Budget):
            return text
        if not isinstance(text, str):
            raise ConfigurationError(f'The budget is {text!r}: expected text such as "5$" or "200k tokens".')
        dollars, tokens = _DOLLARS.fullmatch(text.strip()), _TOKENS.fullmatch(text.strip())
        try:
            if dollars:
                return cls(dollars=_number(dollars["before"] or dollars["after"]))
            if tokens:
                return cls(tokens=round(_number(tokens["number"]) * _UNITS[tokens["unit"].lower()]))
        except (ValueError, OverflowError):
            pass
        raise ConfigurationError(f'The budget {text!r} is neither dollars, such as "5$", nor tokens: "200k tokens".')

    def share(self, count: int) -> Budget:
        """One of `count` equal parts; what is spent of it is spent of the whole, too."""
        if self.dollars is not None:
            part = Budget(dollars=self.dollars / count)
        else:
            part = Budget(tokens=max(1, (self.tokens or 0) // count))
        part._whole = self
        return part

    @property
    def spent(self) -> str:
        """What has been spent, in the budget's own unit."""
        with self._lock:
            return f"{self._spent_tokens:,} tokens" if self.dollars is None else f"${self._spent_dollars:.4f}"

    @property
    def is_spent(self) -> bool:
        """Whether nothing more may be asked."""
        with self._lock:
            if self.dollars is not None:
                return self._spent_dollars >= self.dollars
            return self.tokens is not None and self._spent_tokens >= self.tokens

    @property
    def left(self) -> tuple[float | None, int | None]:
        """What may still be spent: `(dollars, tokens)`, of which one is None."""
        with self._lock:
            dollars = None if self.dollars is None else max(0.0, self.dollars - self._spent_dollars)
            return dollars, None if self.tokens is None else max(0, self.tokens - self._spent_tokens)

    def spend(self, tokens: int | None, dollars: float | None) -> None:
        """Count a request; None is what is not known."""
        with self._lock:
            self._spent_tokens += tokens or 0
            self._spent_dollars += dollars or 0.0
            self._uncounted |= (tokens if self.dollars is None else dollars) is None
        if self._whole is not None:
            self._whole.spend(tokens, dollars)

    def carries_over(self, run: str) -> bool:
        """Whether what a run has cost before is yet to be counted: once for each run, by its name."""
        with self._lock:
            is_new = run not in self._carried_over
            self._carried_over.add(run)
            return is_new

    def check(self, agent: str, model: str, *, cost_is_known: bool = True) -> None:
        """Refuse a request once the budget is spent, or where it cannot be kept.

        Args:
            agent: who wants to ask.
            model: the model's name.
            cost_is_known: whether a budget in dollars can be kept with this model.

        Raises:
            BudgetExceededError: so it is.
        """
        if self._uncounted or not cost_is_known:
            raise BudgetExceededError(
                f"{agent}: the budget of {self} cannot be kept: {model} has no known price, or reports no tokens. "
                'Give a budget in tokens, such as "200k tokens", or the price in a file that the variable '
                "NEURONSCOPE_PRICES names."
            )
        if self.is_spent:
            raise BudgetExceededError(
                f"{agent}: the budget of {self} is spent ({self.spent}). Run the same again with a larger budget: "
                "answers that were paid for are kept, and it goes on from here."
            )

    def __str__(self) -> str:
        if self.dollars is None:
            return f"{self.tokens:,} tokens"
        return "$" + f"{self.dollars:,.4f}".rstrip("0").rstrip(".")


def _number(text: str) -> float:
    return float(text.replace(",", "").replace("_", ""))


def price(llm: Any, message: AIMessage) -> float | None:
    """What a request cost; None where that is not known, which is not the same as nothing.

    A model that runs in this process costs nothing. A server of one's own has a price only if the user's list, or the
    package's, names it. What is asked in batches costs what the list has for that, or else half.
    """
    usage = message.usage_metadata
    if llm is None or usage is None:
        return None
    if getattr(llm, "_llm_type", None) == "llamacpp":
        return 0.0
    asked, answered = model_name(llm), message.response_metadata.get("model_name")
    own = _own_prices(os.environ.get(PRICES_VARIABLE))
    listed = own.get(asked) or own.get(str(answered))
    in_batch = isinstance(llm, AsksInBatches)
    if listed is not None:
        cost = (usage["input_tokens"] * listed["input"] + usage["output_tokens"] * listed["output"]) / 1e6
        return cost * BATCH_SHARE if in_batch else cost
    name, tier = str(answered or asked), message.response_metadata.get("service_tier")
    return _published_in_batch(name, llm, usage) if in_batch else _published(name, llm, usage, _tier(tier))


def is_priced(llm: Any) -> bool:
    """Whether the price of a model is known before it is asked."""
    from langchain_core.messages import AIMessage

    usage = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
    return price(llm, AIMessage("", usage_metadata=usage)) is not None


def cache_read(usage: UsageMetadata | None) -> int:
    """How many of a prompt's tokens the provider had in its cache; LangChain has them apart for each service tier."""
    details: Mapping[str, Any] = {} if usage is None else usage.get("input_token_details") or {}
    return sum(count or 0 for name, count in details.items() if name.endswith("cache_read"))


def _tier(name: str | None) -> dict[str, str] | None:
    return {"service_tier": name} if name else None  # "flex" is half the price, for example


def _published_in_batch(name: str, llm: Any, usage: UsageMetadata) -> float | None:
    """In a batch; that a provider had a prompt in its cache lowers only some models' price there."""
    context = {"processing": "batch"}
    uncached: UsageMetadata = {"input_tokens": 1_000_000, "output_tokens": 0, "total_tokens": 1_000_000}
    full, listed = _published(name, llm, uncached, None), _published(name, llm, uncached, context)
    if full is None or listed is None or listed < full:
        return _published(name, llm, usage, context)
    cost = _published(name, llm, usage, None)
    return None if cost is None else cost * BATCH_SHARE


def _published(name: str, llm: Any, usage: UsageMetadata, context: dict[str, str] | None) -> float | None:
    from genai_prices import Usage, calc_price

    details: Mapping[str, Any] = usage.get("input_token_details") or {}
    written = sum(count or 0 for name, count in details.items() if name.endswith("cache_creation"))
    counted = Usage(
        input_tokens=usage["input_tokens"],
        output_tokens=usage["output_tokens"],
        cache_read_tokens=cache_read(usage) or None,
        cache_write_tokens=written or None,
    )
    try:
        where = address_of(llm) or None
        return float(calc_price(counted, name, provider_api_url=where, price_context=context).total_price)
    except (LookupError, ValueError):
        return None


@cache
def _own_prices(file: str | None) -> dict[str, dict[str, float]]:
    if not file:
        return {}
    try:
        prices = json.loads(Path(file).expanduser().read_text("utf-8"))
        return {model: {side: float(listed[side]) for side in ("input", "output")} for model, listed in prices.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ConfigurationError(
            f"The prices in {file} ({PRICES_VARIABLE}) cannot be read ({type(error).__name__}: {error}). Expected "
            '{"<model>": {"input": <dollars per million tokens>, "output": <dollars per million tokens>}}.'
        ) from error
