"""A real HTTP server that speaks OpenAI's protocol as badly as it is told to, and keeps what it was asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from langchain_openai import ChatOpenAI
from openai import DefaultAsyncHttpxClient


@dataclass
class Reply:
    """One HTTP answer: of text, for as many choices as are asked for, or anything else in its place."""

    text: str | None = "It likes water."
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: str | None = None
    finish_reason: str = "stop"
    tool_calls: list[tuple[str, str]] = field(default_factory=list)
    """Names and arguments, as the model has spelt them."""
    message: dict[str, Any] = field(default_factory=dict)
    """What servers add to a message, such as thoughts in a field of their own."""
    ignores_n: bool = False
    hangs: bool = False
    usage: dict[str, int] | None = field(
        default_factory=lambda: {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
    )


@dataclass
class FakeOpenAI:
    """The server's side of the conversation."""

    address: str
    answer: Callable[[dict[str, Any], int], Reply]
    requests: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    under_way: int = 0
    most_under_way: int = 0
    asked: threading.Event = field(default_factory=threading.Event)
    closing: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def model(self, **settings: Any) -> ChatOpenAI:
        """A chat model that talks to the server; it has an HTTP client of its own, as every test has its own loop."""
        defaults = {"model": "fake", "api_key": "none", "max_retries": 0, "temperature": 0.7, "base_url": self.address}
        return ChatOpenAI(**(defaults | settings), http_async_client=DefaultAsyncHttpxClient())


class JsonHandler(BaseHTTPRequestHandler):
    """Answers with JSON and says nothing; its clients may be killed."""

    protocol_version = "HTTP/1.1"

    def send_json(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def handle(self) -> None:
        with suppress(ConnectionError):
            super().handle()

    def log_message(self, *arguments: Any) -> None:
        pass


@contextmanager
def fake_openai(answer: Callable[[dict[str, Any], int], Reply] | list[Reply] | Reply) -> Iterator[FakeOpenAI]:
    """Serve one reply always, one after the other, or what a function makes of a request and its number."""
    if isinstance(answer, Reply):
        always = answer
        answer = lambda request, number: always  # noqa: E731 - shorter than a function with a name
    elif isinstance(answer, list):
        script = answer
        answer = lambda request, number: script[number]  # noqa: E731

    class Handler(JsonHandler, BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if not body:  # the client died in the middle of its request
                return
            request = json.loads(body)
            with fake.lock:
                number = len(fake.requests)
                fake.requests.append(request)
                fake.keys.append(self.headers.get("Authorization"))
                fake.under_way += 1
                fake.most_under_way = max(fake.most_under_way, fake.under_way)
            fake.asked.set()
            try:
                self.reply(fake.answer(request, number), request)
            finally:
                with fake.lock:
                    fake.under_way -= 1

        def reply(self, reply: Reply, request: dict[str, Any]) -> None:
            if reply.hangs:
                fake.closing.wait(30)
                return
            body = (reply.body if reply.body is not None else json.dumps(completion(reply, request))).encode()
            self.send_json(reply.status, body, reply.headers)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    fake = FakeOpenAI(f"http://127.0.0.1:{server.server_address[1]}/v1", answer)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        fake.closing.set()
        server.shutdown()
        server.server_close()


def completion(reply: Reply, request: dict[str, Any]) -> dict[str, Any]:
    """OpenAI's form of an answer."""
    n = 1 if reply.ignores_n else request.get("n") or 1
    functions = [{"name": name, "arguments": arguments} for name, arguments in reply.tool_calls]
    listed = [{"id": f"call-{place}", "type": "function", "function": each} for place, each in enumerate(functions)]
    calls = {"tool_calls": listed} if listed else {}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": request["model"],
        "choices": [
            {
                "index": index,
                "finish_reason": reply.finish_reason,
                "message": {
                    "role": "assistant",
                    "content": None if reply.text is None else reply.text.replace("#", str(index)),
                }
                | reply.message
                | calls,
            }
            for index in range(n)
        ],
        "usage": reply.usage,
    }


def refusal(status: int, message: str, **headers: str) -> Reply:
    """An error as OpenAI words it."""
    body = json.dumps({"error": {"message": message, "type": "error", "code": None}})
    return Reply(status=status, body=body, headers={name.replace("_", "-"): value for name, value in headers.items()})
