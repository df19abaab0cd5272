"""What is asked, where, and on which loop: models by their backend, and those that are asked in batches."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable
from urllib.request import getproxies

from neuronscope.blocking import BackgroundLoop
from neuronscope.llm.addresses import address_of
from neuronscope.llm.failures import model_name

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from openai import DefaultAsyncHttpxClient

MAX_RETRIES = 6
"""How often a provider's client repeats a request that failed for a passing reason: some 25 seconds in all, or what the
provider asks for in `Retry-After`."""

request_loop = BackgroundLoop("neuronscope-requests")
"""Where every request to a model is made."""


@runtime_checkable
class AsksInBatches(Protocol):
    """A model whose requests wait for each other, as those of `BatchedChat` do."""

    @property
    def single(self) -> type[BaseChatModel]:
        """What asks the same one by one."""

    def for_answer(self, key: str) -> BaseChatModel:
        """The model, asking for one answer, which another process may ask for again."""

    def settle(self) -> None:
        """Say that the answer is kept elsewhere now."""


def backend_of(llm: Any) -> str:
    """Which model where: what limits, and what a server can do, belong to; the same in every process."""
    place = getattr(llm, "weights", None) or address_of(llm)
    kind = llm.single if isinstance(llm, AsksInBatches) else type(llm)
    return f"{kind.__module__}.{kind.__qualname__} {place} {model_name(llm)}"


def on_this_loop(llm: BaseChatModel) -> BaseChatModel:
    """A model of OpenAI's protocol with an HTTP client of the loop of requests.

    By default LangChain gives all of them one client, whose connections belong to any loop that a model is awaited on.
    """
    client = getattr(llm, "root_async_client", None)
    if getattr(llm, "http_async_client", None) is not None or client is None:
        return llm
    own = client.with_options(http_client=_http_client(tuple(sorted(getproxies().items()))))
    return llm.model_copy(update={"root_async_client": own, "async_client": own.chat.completions})


@cache
def _http_client(proxies: tuple[tuple[str, str], ...]) -> DefaultAsyncHttpxClient:
    """The loop's client under the environment's proxies, which it reads when it is made."""
    from openai import DefaultAsyncHttpxClient

    return DefaultAsyncHttpxClient()
