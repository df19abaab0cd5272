"""Chat models and embeddings at servers that speak OpenAI's protocol and are not OpenAI's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

from langchain_core.outputs import ChatResult
from langchain_openai import ChatOpenAI, OpenAIEmbeddings

from neuronscope.errors import LLMError
from neuronscope.llm.addresses import address_of, connection_to
from neuronscope.llm.failures import cleaned, redacted

BATCH = 32
"""Texts of one request; many servers refuse more."""

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


class ServerEmbeddings(OpenAIEmbeddings):
    """`OpenAIEmbeddings` for any model: it sends text, where those send the numbers that GPT's tokenizer gives it.

    Vectors that come with an index are put into the order of the texts.
    """

    def embed_documents(self, texts: Sequence[str], chunk_size: int | None = None, **options: Any) -> list[list[float]]:
        """Embed texts: one list of numbers each, in the order given.

        Raises:
            LLMError: the answer does not have one vector for each text.
        """
        vectors: list[list[float]] = []
        for batch in _batches(texts, chunk_size):
            answer = self.client.create(input=batch, **self._request(options))
            vectors += self._vectors(answer, len(batch))
        return vectors

    async def aembed_documents(
        self, texts: Sequence[str], chunk_size: int | None = None, **options: Any
    ) -> list[list[float]]:
        """The same, awaiting the answers."""
        vectors: list[list[float]] = []
        for batch in _batches(texts, chunk_size):
            answer = await self.async_client.create(input=batch, **self._request(options))
            vectors += self._vectors(answer, len(batch))
        return vectors

    def _request(self, options: dict[str, Any]) -> dict[str, Any]:
        return {**self._invocation_params, "encoding_format": "float", **options}

    def _vectors(self, answer: Any, n_texts: int) -> list[list[float]]:
        data = getattr(answer, "data", None) or []
        vectors: list[Any] = [getattr(item, "embedding", None) for item in data]
        indices = [getattr(item, "index", None) for item in data]
        if len(vectors) != n_texts or not all(isinstance(vector, list) for vector in vectors):
            raise LLMError(
                f"The server at {redacted(address_of(self))} gave {len(vectors)} embeddings with {self.model} for "
                f"{n_texts} texts. Check that it serves a model for embeddings under this name, or use another: "
                'embeddings="minilm".'
            )
        if set(indices) != set(range(n_texts)):
            return vectors
        return [vectors[indices.index(place)] for place in range(n_texts)]


def _batches(texts: Sequence[str], size: int | None) -> list[list[str]]:
    step = size or BATCH
    return [list(texts[start : start + step]) for start in range(0, len(texts), step)]
