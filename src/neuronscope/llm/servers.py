"""Chat models at servers that speak OpenAI's protocol and are not OpenAI's."""

from __future__ import annotations

from typing import Any, Self

from langchain_core.outputs import ChatResult
from langchain_openai import ChatOpenAI

from neuronscope.llm.addresses import connection_to
from neuronscope.llm.failures import cleaned

_THOUGHTS = ("reasoning_content", "reasoning")


class ChatServer(ChatOpenAI):
    """`ChatOpenAI` that keeps what such servers say beyond OpenAI's protocol, and forgets the keys that they repeat.

    Thoughts come in a field of their own, which `ChatOpenAI` drops; here they are in `additional_kwargs`. What a server
    answers with an error is cleaned before LangChain writes it to traces.
    """

    @classmethod
    def at(cls, address: str, **settings: Any) -> Self:
        """The model that is asked at this address."""
        made = connection_to(address)
        if "http_client" in made:  # else LangChain warns that its settings of sockets stand in the way of proxies
            made["http_socket_options"] = ()
        return cls(**settings, **made)

    def _create_chat_result(self, response: Any, generation_info: dict[str, Any] | None = None) -> ChatResult:
        result = super()._create_chat_result(response, generation_info)
        choices = response.get("choices") if isinstance(response, dict) else getattr(response, "choices", None)
        for generation, choice in zip(result.generations, choices or [], strict=False):
            message = choice.get("message") if isinstance(choice, dict) else getattr(choice, "message", None)
            for name in _THOUGHTS:
                thought = message.get(name) if isinstance(message, dict) else getattr(message, name, None)
                if isinstance(thought, str) and thought:
                    generation.message.additional_kwargs[name] = thought
        return result

    def _generate(self, *arguments: Any, **options: Any) -> ChatResult:
        failure: Exception
        try:
            return super()._generate(*arguments, **options)
        except Exception as error:  # noqa: BLE001 - the client has many kinds
            failure = cleaned(error, self)
        raise failure

    async def _agenerate(self, *arguments: Any, **options: Any) -> ChatResult:
        failure: Exception
        try:
            return await super()._agenerate(*arguments, **options)
        except Exception as error:  # noqa: BLE001 - the client has many kinds
            failure = cleaned(error, self)
        raise failure
