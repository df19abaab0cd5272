"""Language models for the agents: from a name or an object to a LangChain chat model, and one way to ask it."""

from neuronscope.llm.ask import ask, ask_blocking, ask_many
from neuronscope.llm.budget import Budget
from neuronscope.llm.cache import AnswerCache, shared_cache
from neuronscope.llm.failures import model_name, request_failure
from neuronscope.llm.models import DEFAULT_MODEL, MAX_RETRIES, ROLES, check_reachable, resolve_llm
from neuronscope.llm.usage import LLMUsage, UsageTracker

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
    "model_name",
    "request_failure",
    "resolve_llm",
    "shared_cache",
]
