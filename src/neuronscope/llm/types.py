"""What may stand for a language model once its name has been resolved."""

from typing import Literal

from langchain_core.language_models import BaseChatModel

AnyLLM = BaseChatModel | Literal["offline"]
"""A LangChain chat model, or the built-in roles that need none."""
