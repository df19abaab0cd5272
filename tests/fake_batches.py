"""A real HTTP server that implements OpenAI's files and batches, and keeps what it was asked."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from fake_openai import JsonHandler, Reply, completion

Answer = Callable[[dict[str, Any], int], Reply]


@dataclass
class FakeBatches:
    """The server's side: files and batches by their ids, and what becomes of each batch."""

    address: str
    answer: Answer
    ends: Callable[[int], str]
    """The status that a batch ends with, by its number."""
    answered: Callable[[int], int | None]
    """How many of its requests a batch answers, if it does not end well; None is all."""
    looks: int
    """How often a batch is looked at before it has ended."""
    limit: int | None = None
    """Requests that may be queued at once."""
    files: dict[str, str] = field(default_factory=dict)
    batches: dict[str, dict[str, Any]] = field(default_factory=dict)
    keys: set[str | None] = field(default_factory=set)
    direct: list[dict[str, Any]] = field(default_factory=list)
    """Requests that were not made in a batch."""
    trouble: list[int] = field(default_factory=list)
    """Statuses that the next looks at a batch are answered with."""
    held: threading.Event = field(default_factory=threading.Event)
    """While this is not set no batch ends."""
    lock: threading.Lock = field(default_factory=threading.Lock)
    asked: int = 0

    @property
    def requests(self) -> list[list[dict[str, Any]]]:
        """The bodies of each batch."""
        return [
            [line["body"] for line in map(json.loads, self.files[batch["input_file_id"]].splitlines())]
            for batch in self.batches.values()
        ]

    def create(self, body: dict[str, Any]) -> dict[str, Any]:
        """Begin a batch."""
        assert (body["endpoint"], body["completion_window"]) == ("/v1/chat/completions", "24h")
        name = f"batch_{len(self.batches)}"
        lines = self.files[body["input_file_id"]].splitlines()
        assert len({json.loads(line)["custom_id"] for line in lines}) == len(lines)
        assert len({json.loads(line)["body"]["model"] for line in lines}) == 1
        self.batches[name] = {
            "id": name,
            "object": "batch",
            "created_at": 1,
            "status": "validating",
            "looks": 0,
            "number": len(self.batches),
            "request_counts": {"total": 0, "completed": 0, "failed": 0},
            "size": len(lines),
            **body,
        }
        return self.batches[name]

    def look(self, name: str) -> dict[str, Any] | None:
        """A batch as it is now; each look brings it nearer to its end."""
        batch = self.batches.get(name)
        if batch is None or batch["status"] in ("completed", "expired", "failed", "cancelled"):
            return batch
        queued = sum(each["size"] for each in self.batches.values() if each["status"] in ("in_progress", "validating"))
        if batch["status"] == "validating" and self.limit is not None and queued > self.limit:
            error = {"code": "token_limit_exceeded", "message": "Enqueued token limit reached."}
            return self._end(batch, "failed", errors={"object": "list", "data": [error]})
        batch["looks"] += 1
        batch["status"] = "in_progress"
        if batch["looks"] > self.looks and self.held.is_set():
            self._finish(batch)
        return batch

    def _finish(self, batch: dict[str, Any]) -> None:
        status = self.ends(batch["number"])
        if status == "failed":
            error = {"code": "model_not_found", "message": "There is no such model for sk-sentinel-1234567890."}
            self._end(batch, "failed", errors={"object": "list", "data": [error]})
            return
        lines = [json.loads(line) for line in self.files[batch["input_file_id"]].splitlines()]
        n = None if status == "completed" else self.answered(batch["number"])
        output, errors = [], []
        for number, line in enumerate(reversed(lines)):  # in no particular order
            if n is not None and number >= n:
                error = {"code": f"batch_{status}", "message": f"This request was not executed: {status}."}
                errors.append({"custom_id": line["custom_id"], "response": None, "error": error})
                continue
            reply = self.answer(line["body"], self.asked)
            self.asked += 1
            body = json.loads(reply.body) if reply.body else completion(reply, line["body"])
            response = {"status_code": reply.status, "request_id": "r", "body": body}
            found = output if reply.status == 200 else errors
            found.append({"id": "l", "custom_id": line["custom_id"], "response": response, "error": None})
        for name, found in (("output", output), ("error", errors)):
            if found:
                self.files[f"file-{name}-{batch['id']}"] = "\n".join(
                    json.dumps(line, ensure_ascii=False) for line in found
                )
                batch[f"{name}_file_id"] = f"file-{name}-{batch['id']}"
        self._end(batch, status)

    def _end(self, batch: dict[str, Any], status: str, **more: Any) -> dict[str, Any]:
        batch |= {"status": status, **more}
        return batch


@contextmanager
def fake_batches(
    answer: Answer | Reply | None = None,
    *,
    ends: Callable[[int], str] = lambda number: "completed",
    answered: Callable[[int], int | None] = lambda number: None,
    looks: int = 1,
    limit: int | None = None,
) -> Iterator[FakeBatches]:
    """Serve batches whose requests are answered with one reply, or with what a function makes of each."""
    reply = answer if isinstance(answer, Reply) else Reply()
    always: Answer = lambda request, number: reply  # noqa: E731 - shorter than a function with a name

    class Handler(JsonHandler, BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            with fake.lock:
                if found := re.fullmatch(r"/v1/files/(.+)/content", path):
                    self.send_json(200, fake.files[found[1]].encode())
                elif found := re.fullmatch(r"/v1/batches/(.+)", path):
                    status = fake.trouble.pop(0) if fake.trouble else 200
                    batch = fake.look(found[1]) if status == 200 else {"error": {"message": "not now"}}
                    none = {"error": {"message": "No such batch."}}
                    self.send_json(404 if batch is None else status, json.dumps(batch or none).encode())
                else:
                    page = {"object": "list", "data": list(fake.batches.values()), "has_more": False}
                    self.send_json(200, json.dumps(page).encode())

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            with fake.lock:
                fake.keys.add(self.headers.get("Authorization"))
                if self.path == "/v1/files":
                    name = f"file-{len(fake.files)}"
                    fake.files[name] = uploaded(body, self.headers["Content-Type"])
                    file = {"id": name, "object": "file", "bytes": 1, "created_at": 1, "filename": "f.jsonl"}
                    self.send_json(200, json.dumps(file | {"purpose": "batch", "status": "processed"}).encode())
                elif self.path == "/v1/batches":
                    self.send_json(200, json.dumps(fake.create(json.loads(body))).encode())
                else:
                    request = json.loads(body)
                    fake.direct.append(request)
                    answered = fake.answer(request, len(fake.direct))
                    self.send_json(200, (answered.body or json.dumps(completion(answered, request))).encode())

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    address = f"http://127.0.0.1:{server.server_address[1]}/v1"
    fake = FakeBatches(address, answer if callable(answer) else always, ends, answered, looks, limit)
    fake.held.set()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()


def uploaded(body: bytes, content_type: str) -> str:
    """The file in a form."""
    boundary = content_type.partition("boundary=")[2].strip('"').encode()
    parts = {
        re.search(rb'name="(\w+)"', head)[1].decode(): content.removesuffix(b"\r\n")  # type: ignore[index]  # every part has one
        for head, _, content in (part.partition(b"\r\n\r\n") for part in body.split(b"--" + boundary)[1:-1])
    }
    assert parts["purpose"] == b"batch"
    return parts["file"].decode()
