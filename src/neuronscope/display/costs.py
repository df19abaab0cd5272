"""What a run has cost, in words that fit a progress bar."""

from __future__ import annotations

from typing import NamedTuple

from neuronscope.results import Usage


class Cost(NamedTuple):
    """What was asked of language models."""

    requests: int = 0
    tokens: int = 0
    """Of prompts and answers together, as the backends report them."""
    dollars: float | None = 0.0
    """None if a price is not known."""

    @classmethod
    def of(cls, usage: Usage) -> Cost:
        """The cost of one neuron."""
        tokens = sum(usage.input_tokens.values()) + sum(usage.output_tokens.values())
        return cls(sum(usage.requests.values()), tokens, usage.total_dollars)

    def plus(self, other: Cost) -> Cost:
        """Both together."""
        known = self.dollars is not None and other.dollars is not None
        dollars = (self.dollars or 0.0) + (other.dollars or 0.0) if known else None
        return Cost(self.requests + other.requests, self.tokens + other.tokens, dollars)

    def __str__(self) -> str:
        if not self.requests:
            return "–"
        if self.dollars:
            return f"${self.dollars:,.2f}" if self.dollars >= 0.01 else f"${self.dollars:.4f}"
        return f"{self.tokens:,} tokens" if self.tokens < 10_000 else f"{self.tokens / 1000:,.0f}k tokens"
