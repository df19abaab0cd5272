"""Sentence embeddings: from a name or an object to a LangChain `Embeddings`, and what they return, checked."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from langchain_core.embeddings import Embeddings
from numpy.typing import NDArray

from neuronscope.arguments import did_you_mean
from neuronscope.errors import ConfigurationError, LLMError, NeuronScopeError, described
from neuronscope.llm.backends import request_loop
from neuronscope.llm.minilm import shared_minilm
from neuronscope.locks import lock_of

OPENAI_EMBEDDINGS = "openai:text-embedding-3-small"
"""The paper's embeddings (appendix B)."""

_NAMES = ("auto", "minilm")


def resolve_embeddings(spec: str | Embeddings, llm: Any = None) -> Embeddings:
    """Turn what a user writes into an embedding model.

    Args:
        spec: `"auto"` (OpenAI's text-embedding-3-small beside a model that OpenAI serves, else MiniLM); `"minilm"`; any
            string that LangChain's `init_embeddings` knows; `"openai:<model>@http://127.0.0.1:8080/v1"`, a server that
            speaks OpenAI's protocol, at this address or at that in `OPENAI_BASE_URL`; or an `Embeddings` object, used
            as it is.
        llm: the chat model, or mapping of models, that `"auto"` goes by.

    Raises:
        ConfigurationError: not an embedding model at all.
        LLMError: the provider's package or key is missing, or the provider is unknown.
    """
    if isinstance(spec, Embeddings):
        return spec
    if not isinstance(spec, str) or not spec:
        raise ConfigurationError(
            f'embeddings is {described(spec)}: expected "auto", "minilm", a name such as {OPENAI_EMBEDDINGS!r}, '
            "or a LangChain Embeddings object."
        )
    if spec == "auto":
        spec = OPENAI_EMBEDDINGS if _is_served_by_openai(llm) else "minilm"
    return shared_minilm() if spec == "minilm" else _initialise(spec)


def embed(embeddings: Embeddings, texts: Sequence[str], agent: str) -> NDArray[np.float64]:
    """Embed texts, and believe nothing of what comes back that has not been checked.

    Args:
        embeddings: the embedding model.
        texts: what to embed; each is asked for once, however often it occurs.
        agent: who asks, for errors.

    Returns:
        Shape `(texts, dimensions)`, every row of unit length. Only a text without a letter or digit may have a row of
        zeros, which is like nothing else.

    Raises:
        LLMError: the model cannot be reached, or its answer is not one vector of finite numbers for each text.
        NeuronScopeError: what the model itself raises of ours.
    """
    wanted = list(dict.fromkeys(texts))
    try:
        with lock_of(embeddings):  # another thread may have the same model
            answer = embeddings.embed_documents(wanted) if wanted else []
    except Exception as error:
        raise _as_ours(error, embeddings, agent) from error
    return _in_order(texts, wanted, answer, embeddings, agent)


async def aembed(embeddings: Embeddings, texts: Sequence[str], agent: str) -> NDArray[np.float64]:
    """`embed` for event loops: the same arguments, result and errors."""
    wanted = list(dict.fromkeys(texts))
    try:
        answer = await request_loop.run(partial(embeddings.aembed_documents, wanted)) if wanted else []
    except Exception as error:
        raise _as_ours(error, embeddings, agent) from error
    return _in_order(texts, wanted, answer, embeddings, agent)


def checked_vectors(answer: Any, texts: Sequence[str], name: str) -> NDArray[np.float64]:
    """What should be one embedding for each text, as an array of shape `(texts, dimensions)`, rows of unit length.

    Args:
        answer: what was returned.
        texts: what it was returned for.
        name: what to call it in errors.

    Raises:
        LLMError: these are not as many vectors, of one length and with finite numbers that are not all zero.
    """
    if not texts:
        return np.zeros((0, 0))
    try:
        vectors = np.asarray(answer, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        vectors = None
    wrong = "vectors of different lengths, or no numbers" if vectors is None else _fault(vectors, texts)
    if vectors is None or wrong:
        raise LLMError(
            f"{name} cannot be used: {wrong}. Expected is one vector for each text, all of the same length, with "
            'finite numbers that are not all zero. Check the model, or use another: embeddings="minilm".'
        )
    return unit_length(vectors)


def unit_length(vectors: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Rows divided by their lengths, even where a squared length would overflow; a row of zeros stays."""
    vectors = np.asarray(vectors, dtype=np.float64)
    largest = np.abs(vectors).max(axis=1, keepdims=True, initial=0.0)
    scaled = vectors / np.where(largest > 0, largest, 1.0)
    lengths = np.linalg.norm(scaled, axis=1, keepdims=True)
    return np.asarray(scaled / np.where(lengths > 0, lengths, 1.0))


def _as_ours(error: Exception, embeddings: Embeddings, agent: str) -> NeuronScopeError:
    from neuronscope.llm.failures import request_failure

    return error if isinstance(error, NeuronScopeError) else request_failure(error, embeddings, agent)


def _in_order(
    texts: Sequence[str], wanted: Sequence[str], answer: Any, embeddings: Embeddings, agent: str
) -> NDArray[np.float64]:
    """The checked vectors of the wanted texts, for each of the texts."""
    from neuronscope.llm.failures import model_name

    vectors = checked_vectors(answer, wanted, f"{agent}: what the embeddings {model_name(embeddings)} returned")
    row_of = {text: row for row, text in enumerate(wanted)}
    return vectors[[row_of[text] for text in texts]]


def _fault(vectors: NDArray[np.float64], texts: Sequence[str]) -> str:
    """What is wrong with vectors that should be one for each text; nothing if they can be used."""
    if vectors.ndim != 2 or vectors.shape[1] == 0:
        return f"an array of shape {vectors.shape} for {len(texts)} texts"
    if len(vectors) != len(texts):
        return f"{len(vectors)} vectors for {len(texts)} texts"
    finite = np.asarray(np.isfinite(vectors).all(axis=1))
    if not finite.all():
        return f"numbers that are infinite, missing or not a number for {_shown(texts, ~finite)}"
    speaks = np.array([any(character.isalnum() for character in text) for text in texts])
    empty = np.asarray(~vectors.any(axis=1))
    if empty.all() or (empty & speaks).any():
        return f"nothing but zeros for {_shown(texts, empty)}"
    return ""


def _shown(texts: Sequence[str], chosen: NDArray[np.bool_]) -> str:
    """The first of the chosen texts, shortened, and how many there are."""
    first, n = texts[int(np.argmax(chosen))], int(chosen.sum())
    quoted = repr(first if len(first) <= 60 else f"{first[:60]}…")
    return quoted if n == 1 else f"{n} texts, the first of them {quoted}"


def _initialise(name: str) -> Embeddings:
    from langchain.embeddings import init_embeddings

    from neuronscope.llm.addresses import at_address, own_server
    from neuronscope.llm.failures import redacted

    model, address = at_address(name)
    address = address or (own_server() if model.startswith("openai:") else "")
    try:
        if address:
            return _at_server(model.removeprefix("openai:"), address)
        # no text here is longer than a model reads, so it need not be cut by a tokenizer that has to be fetched
        settings: dict[str, Any] = {"check_embedding_ctx_length": False} if model.startswith("openai:") else {}
        embeddings = init_embeddings(model, **settings)
    except ImportError as error:
        raise LLMError(f"Embeddings {redacted(name)} need a package that is not installed. {error}") from error
    except Exception as error:
        raise LLMError(
            f"Embeddings {redacted(name)} cannot be used: {type(error).__name__}.{did_you_mean(name, _NAMES)} Names "
            f"look like {OPENAI_EMBEDDINGS!r}; a provider's key is in a variable such as OPENAI_API_KEY; "
            '"minilm" needs neither.'
        ) from error
    if not isinstance(embeddings, Embeddings):
        raise ConfigurationError(f"Embeddings {name!r} are a {type(embeddings).__name__}, which cannot embed text.")
    return embeddings


def _at_server(model: str, address: str) -> Embeddings:
    from neuronscope.llm.addresses import KEYLESS, connection_to
    from neuronscope.llm.servers import ServerEmbeddings

    key = {} if os.environ.get("OPENAI_API_KEY") else {"api_key": KEYLESS}
    return ServerEmbeddings(model=model, **key, **connection_to(address))


def _is_served_by_openai(llm: Any) -> bool:
    """Whether a chat model talks to OpenAI itself; a server of one's own rarely has embeddings as well."""
    if isinstance(llm, Mapping):
        return any(_is_served_by_openai(one) for one in llm.values())
    if os.environ.get("OPENAI_BASE_URL") or os.environ.get("OPENAI_API_BASE"):
        return False
    return getattr(llm, "_llm_type", None) == "openai-chat" and getattr(llm, "openai_api_base", None) is None
