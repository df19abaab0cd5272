"""A chat model that is asked in batches: LangChain's own code builds its requests and reads its answers."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from langchain_core.outputs import ChatResult
from langchain_openai import ChatOpenAI
from openai.types.chat import ChatCompletion
from pydantic import Field

from neuronscope.llm.addresses import OPENAI_HOST, address_of
from neuronscope.llm.backends import backend_of, on_this_loop, request_loop
from neuronscope.llm.batches import BatchQueue, queue_of
from neuronscope.llm.failures import cleaned
from neuronscope.llm.servers import ChatServer

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage


class BatchedChat(ChatServer):
    """A chat model of OpenAI's protocol that is asked in batches: at half the price, within 24 hours.

    It is `resolve_llm("batch:openai:gpt-4o")`. Requests of all neurons and agents of a process share batches.
    """

    disable_streaming: bool = True
    use_responses_api: bool | None = False
    answer_key: str = Field("", exclude=True)
    """Which answer is asked for: a digest, by which a later process knows it again. "" is not to be known again."""

    @property
    def single(self) -> type[ChatOpenAI]:
        """What asks the same one by one: answers in the cache are the same."""
        return ChatOpenAI if urlsplit(address_of(self)).hostname == OPENAI_HOST else ChatServer

    def for_answer(self, key: str) -> BatchedChat:
        """The model, asking for one answer."""
        return self.model_copy(update={"answer_key": key})

    def settle(self) -> None:
        """Say that the answer is kept elsewhere now."""
        self._queue().settle(self.answer_key)

    def _generate(self, *arguments: Any, **options: Any) -> ChatResult:
        return request_loop.run_blocking(partial(self._agenerate, *arguments, **options))

    async def _agenerate(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **options: Any
    ) -> ChatResult:
        payload = self._get_request_payload(messages, stop=stop, **options)
        further = payload.pop("extra_body", None) or {}
        body = {name: value for name, value in payload.items() if name != "stream"} | further
        failure: Exception
        try:
            answer = await request_loop.run(partial(self._answer, body))
            return self._create_chat_result(ChatCompletion.construct(**answer))
        except Exception as error:  # noqa: BLE001 - the client has many kinds
            failure = cleaned(error, self)
        raise failure

    async def _answer(self, body: dict[str, Any]) -> dict[str, Any]:
        return await self._queue().answer(self.answer_key, body)

    def _queue(self) -> BatchQueue:
        key = self.openai_api_key
        reveal = getattr(key, "get_secret_value", None)
        backend, secret = backend_of(self), str(reveal() if reveal is not None else key)
        client: Any = on_this_loop(self)
        return queue_of(
            (backend, secret), lambda log: BatchQueue(self.model_name, backend, client.root_async_client, log)
        )
