"""What may be spent on language models, in dollars or in tokens."""

from __future__ import annotations

import re

from neuronscope.errors import BudgetExceededError, ConfigurationError
from neuronscope.locks import Lock

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
