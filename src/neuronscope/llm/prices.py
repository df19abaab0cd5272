"""What a request costs, in US dollars: from the package genai-prices, or from a list of the user's own."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuronscope.errors import ConfigurationError
from neuronscope.llm.addresses import address_of
from neuronscope.llm.failures import model_name

if TYPE_CHECKING:
    from langchain_core.messages import AIMessage
    from langchain_core.messages.ai import UsageMetadata

PRICES_VARIABLE = "NEURONSCOPE_PRICES"
"""Names a JSON file of prices that go before all others: `{"my-model": {"input": 0.5, "output": 1.5}}`, in dollars per
million tokens."""


def price(llm: Any, message: AIMessage) -> float | None:
    """What a request cost; None where that is not known, which is not the same as nothing.

    A model that runs in this process costs nothing. A server of one's own has a price only if the user's list, or the
    package's, names it.
    """
    usage = message.usage_metadata
    if llm is None or usage is None:
        return None
    if getattr(llm, "_llm_type", None) == "llamacpp":
        return 0.0
    asked, answered = model_name(llm), message.response_metadata.get("model_name")
    own = _own_prices(os.environ.get(PRICES_VARIABLE))
    listed = own.get(asked) or own.get(str(answered))
    if listed is not None:
        return (usage["input_tokens"] * listed["input"] + usage["output_tokens"] * listed["output"]) / 1e6
    tier = message.response_metadata.get("service_tier")
    return _published(str(answered or asked), llm, usage, tier)


def is_priced(llm: Any) -> bool:
    """Whether the price of a model is known before it is asked."""
    from langchain_core.messages import AIMessage

    usage = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
    return price(llm, AIMessage("", usage_metadata=usage)) is not None


def cache_read(usage: UsageMetadata | None) -> int:
    """How many of a prompt's tokens the provider had in its cache; LangChain has them apart for each service tier."""
    details: Mapping[str, Any] = {} if usage is None else usage.get("input_token_details") or {}
    return sum(count or 0 for name, count in details.items() if name.endswith("cache_read"))


def _published(name: str, llm: Any, usage: UsageMetadata, tier: str | None) -> float | None:
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
        context = {"service_tier": tier} if tier else None  # "flex" is half the price, for example
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
