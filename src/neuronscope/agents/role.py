"""What the agents with a language model have in common: where the model comes from."""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, ClassVar, TypeVar

from neuronscope.errors import LLMError
from neuronscope.llm import resolve_llm
from neuronscope.results import Failure

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

    from neuronscope.llm.types import AnyLLM
    from neuronscope.state import HasContext

T = TypeVar("T")

logger = logging.getLogger(__name__)

_TOO_LONG = re.compile(
    r"context.{0,20}(?:length|size|window)|(?:length|size|window).{0,20}context|(?:prompt|input) (?:is )?too long",
    re.IGNORECASE,
)
"""How servers say that a prompt does not fit."""


class LLMRole:
    """An agent that asks a language model.

    Args:
        llm: a chat model, used as it is; a string for `neuronscope.llm.resolve_llm`, resolved on first use with the
            run's settings; or None for the model that the run's context names for this role.
    """

    role: ClassVar[str]
    """The agent's name in mappings of models, in trackers and in errors."""

    def __init__(self, llm: BaseChatModel | str | None = None) -> None:
        self._llm = llm
        self._resolved: AnyLLM | None = None
        self._short_for: set[int] = set()

    async def _asking(self, llm: BaseChatModel, request: Callable[[bool], Awaitable[T]]) -> T:
        """Make a request, and once more with a short prompt where the model's context has no room for the whole one.

        Args:
            llm: the model; of one that needed short prompts no others are asked.
            request: makes it; whether short.

        Raises:
            LLMError: the request failed, the short one too.
        """
        if id(llm) in self._short_for:
            return await request(True)
        try:
            return await request(False)
        except LLMError as error:
            if not _TOO_LONG.search(str(error)):
                raise
            logger.warning(
                "The %s prompt is longer than the model's context: a short one is sent. %s", self.role, error
            )
        self._short_for.add(id(llm))
        return await request(True)

    def _model(self, runtime: HasContext) -> AnyLLM:
        """The chat model, or "offline"."""
        if self._llm is None:
            return runtime.context.llm_for(self.role)
        if self._resolved is None:
            config = runtime.context.config
            self._resolved = resolve_llm(self._llm, temperature=config.temperature, timeout=config.request_timeout)
        return self._resolved


def succeeded(outcomes: Sequence[T | BaseException], role: str) -> tuple[list[T], list[Failure]]:
    """Part the outcomes of concurrent requests into results and failures.

    Raises:
        LLMError: none succeeded; the first failure.
        BaseException: any other exception, which is no matter of the model's.
    """
    errors = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    results = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
    fatal = [error for error in errors if not isinstance(error, LLMError) or not results]
    if fatal:
        raise fatal[0]
    return results, [Failure(agent=role, message=str(error)) for error in errors]
