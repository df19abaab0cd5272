"""Embeddings at servers that speak OpenAI's protocol and are not OpenAI's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_openai import OpenAIEmbeddings

from neuronscope.errors import LLMError
from neuronscope.llm.addresses import address_of
from neuronscope.llm.failures import redacted

BATCH = 32
"""Texts of one request; many servers refuse more."""


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
        vectors: list[Any] = [getattr(entry, "embedding", None) for entry in data]
        places = [getattr(entry, "index", None) for entry in data]
        if len(vectors) != n_texts or not all(isinstance(vector, list) for vector in vectors):
            raise LLMError(
                f"The server at {redacted(address_of(self))} gave {len(vectors)} embeddings with {self.model} for "
                f"{n_texts} texts. Check that it serves a model for embeddings under this name, or use another: "
                'embeddings="minilm".'
            )
        if set(places) != set(range(n_texts)):
            return vectors
        return [vectors[places.index(place)] for place in range(n_texts)]


def _batches(texts: Sequence[str], size: int | None) -> list[list[str]]:
    step = size or BATCH
    return [list(texts[start : start + step]) for start in range(0, len(texts), step)]
