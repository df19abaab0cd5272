"""A GGUF file run in this process: llama.cpp behind a private address, one server per file."""

from __future__ import annotations

import atexit
import secrets
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Field, SecretStr

from neuronscope.errors import LLMError
from neuronscope.llm.servers import ChatServer
from neuronscope.locks import Lock, in_forked_child

SLOTS = 4
"""Requests that are answered at the same time; further ones wait."""

CONTEXT = 32_768
"""Tokens of context, which the requests under way share."""

LONGEST_ANSWER = 2048
"""Tokens after which an answer is cut off: small models sometimes never end by themselves."""

PATIENCE = 1800.0
"""Seconds that a request may take: they wait for one another, and a processor is slow."""


class _Served(NamedTuple):
    """A running server."""

    server: Any
    address: str
    key: str


_servers: dict[Path, _Served] = {}
_starting = Lock()
_of_parents: list[dict[Path, _Served]] = []
"""Servers whose threads are in the process that this one was forked from: to be neither used nor stopped here."""


class ChatLlamaCpp(ChatServer):
    """A chat model whose weights are a file on this computer, identified by that file and not by its address."""

    weights: str = Field(default="")
    """The file's path, size and time of change: with the settings, all that answers depend on."""

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {**super()._identifying_params, "weights": self.weights}

    @property
    def _llm_type(self) -> str:
        return "llamacpp"


def chat_llamacpp(path: str, **settings: Any) -> ChatLlamaCpp:
    """A chat model from a GGUF file; the server behind it starts on first use of the file and ends with the process.

    The server listens on a free port of the loopback interface, and answers only to a random key of its own.

    Args:
        path: the file.
        settings: of `ChatOpenAI`; `timeout` is raised to `PATIENCE`.

    Raises:
        LLMError: the package is missing, or there is no such file, or it cannot be run.
    """
    file = Path(path).expanduser().resolve()
    if not file.is_file():
        raise LLMError(f"llamacpp:{path}: there is no such file. Give the path of a GGUF file with a chat model.")
    with _starting:
        if file not in _servers:
            _servers[file] = _serve(file)
        served = _servers[file]
    settings["timeout"] = max(PATIENCE, settings.get("timeout") or 0.0)
    state = file.stat()
    return ChatLlamaCpp.at(
        served.address,
        model=file.stem,
        api_key=SecretStr(served.key),
        weights=f"{file}, {state.st_size} bytes, {state.st_mtime_ns}",
        **settings,
    )


def _serve(file: Path) -> _Served:
    try:
        import xllamacpp
    except ImportError as error:
        raise LLMError(
            f"llamacpp:{file} needs the package xllamacpp, which is not installed: pip install 'neuronscope[local]'."
        ) from error
    key = secrets.token_urlsafe(24)
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(file)
    parameters.port = 0
    parameters.api_keys = [key]
    parameters.n_parallel = SLOTS
    parameters.n_ctx = CONTEXT
    parameters.n_predict = LONGEST_ANSWER
    parameters.kv_unified = True
    parameters.ui = False
    parameters.verbosity = 0
    try:
        server = xllamacpp.Server(parameters)
    except Exception as error:  # the bindings name no kinds of their own
        raise LLMError(
            f"llamacpp:{file} cannot be run ({type(error).__name__}: {error}). Check that it is a GGUF file of a chat "
            "model, and that there is enough memory for it."
        ) from error
    return _Served(server, f"{server.listening_address}/v1", key)


def _leave_servers_to_parent() -> None:
    _of_parents.append(dict(_servers))
    _servers.clear()


in_forked_child(_leave_servers_to_parent)


@atexit.register
def stop_servers() -> None:
    """Stop all that run; the next use of a file starts another."""
    _servers.clear()
