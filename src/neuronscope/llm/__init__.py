"""Language models for the agents: from a name or an object to a LangChain chat model, and one way to ask it."""

from typing import TYPE_CHECKING, Any

from neuronscope.llm.ask import ask, ask_blocking, ask_many
from neuronscope.llm.backends import MAX_RETRIES
from neuronscope.llm.budget import Budget
from neuronscope.llm.failures import model_name, request_failure
from neuronscope.llm.models import DEFAULT_MODEL, ROLES, check_reachable, resolve_llm
from neuronscope.llm.refusals import forget_refusals
from neuronscope.llm.usage import LLMUsage, UsageTracker

if TYPE_CHECKING:
    from neuronscope.llm.cache import AnswerCache, shared_cache

__all__ = [
    "DEFAULT_MODEL",
    "MAX_RETRIES",
    "ROLES",
    "AnswerCache",
    "Budget",
    "LLMUsage",
    "UsageTracker",
    "ask",
    "ask_blocking",
    "ask_many",
    "check_reachable",
    "forget_refusals",
    "model_name",
    "request_failure",
    "resolve_llm",
    "shared_cache",
]


def __getattr__(name: str) -> Any:
    if name in ("AnswerCache", "shared_cache"):  # LangChain's interface takes half a second to import
        from neuronscope.llm import cache

        return getattr(cache, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
