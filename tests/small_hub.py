"""A hub on this computer, small enough to refuse on command: the real clients talk to it over HTTP."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"
_API = re.compile(
    r"/api/datasets/(?P<id>[^/]+/[^/]+)(/(?P<call>revision|tree|paths-info)/(?P<revision>[^/]+)(/(?P<path>.*))?)?"
)
_FILE = re.compile(r"/datasets/(?P<id>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)")


class SmallHub:
    """Serves folders as datasets, all at one commit, until it is told to refuse."""

    def __init__(self, folders: Mapping[str, Path]) -> None:
        self.folders = folders
        self.asked: list[str] = []
        """The paths of all requests so far."""
        self.refusal: tuple[int, str] | None = None
        hub = self

        class Handler(_Handler):
            def answer(self) -> None:
                hub.answer(self)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> SmallHub:
        Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        self._running = True
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Go away: connections are refused from now on."""
        if self._running:
            self._running = False
            self._server.shutdown()
            self._server.server_close()

    def attach(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Make the hub's clients in this process ask here."""
        import datasets
        import huggingface_hub
        from huggingface_hub import HfFileSystem, constants

        template = self.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "ENDPOINT", self.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(datasets.config, "HF_ENDPOINT", self.url)
        monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub.hf_api.api, "endpoint", self.url)
        monkeypatch.setattr(time, "sleep", lambda _: None)  # between two attempts
        HfFileSystem.clear_instance_cache()

    def refuse(self, status: int, code: str) -> None:
        """Answer everything with an error from now on, as the hub does: `code` is its name for the reason."""
        self.refusal = status, code

    @property
    def resolved(self) -> list[str]:
        """The files that were asked for."""
        return [path for path in self.asked if _FILE.fullmatch(path)]

    def answer(self, request: _Handler) -> None:
        """Answer one request."""
        path = unquote(urlsplit(request.path).path)
        self.asked.append(path)
        if self.refusal is not None:
            return request.reply(self.refusal[0], headers={"X-Error-Code": self.refusal[1]})
        if (found := _API.fullmatch(path)) and found["id"] in self.folders:
            return self._call(request, self.folders[found["id"]], found)
        if (found := _FILE.fullmatch(path)) and found["id"] in self.folders:
            return self._file(request, self.folders[found["id"]] / found["path"])
        return request.reply(404, headers={"X-Error-Code": "RepoNotFound"})

    def _call(self, request: _Handler, folder: Path, found: re.Match[str]) -> None:
        if found["call"] == "paths-info":
            asked = parse_qs(request.body) or json.loads(request.body)
            paths = asked["paths"] if isinstance(asked["paths"], list) else [asked["paths"]]
            entries = [_entry(folder, folder / path) for path in paths if (folder / path).exists()]
            return request.reply(200, entries)
        if found["call"] == "tree":
            inside = folder / (found["path"] or "")
            if not inside.is_dir():
                return request.reply(404, headers={"X-Error-Code": "EntryNotFound"})
            paths = inside.rglob("*") if "recursive=true" in request.path.lower() else inside.iterdir()
            return request.reply(200, [_entry(folder, path) for path in sorted(paths)])
        siblings = [{"rfilename": str(path.relative_to(folder))} for path in folder.rglob("*") if path.is_file()]
        return request.reply(200, {"id": found["id"], "sha": COMMIT, "siblings": siblings})

    def _file(self, request: _Handler, path: Path) -> None:
        if not path.is_file():
            return request.reply(404, headers={"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        content = path.read_bytes()
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{path.name}-{len(content)}"', "Accept-Ranges": "bytes"}
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range", ""))
        if asked:
            start, end = int(asked[1]), min(int(asked[2] or len(content) - 1), len(content) - 1)
            headers["Content-Range"] = f"bytes {start}-{end}/{len(content)}"
            return request.reply(206, content[start : end + 1], headers)
        return request.reply(200, content, headers)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        raise NotImplementedError

    def do_GET(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        self.answer()

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        self.do_GET()

    def reply(self, status: int, content: Any = b"", headers: Mapping[str, str] | None = None) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


def _entry(folder: Path, path: Path) -> dict[str, Any]:
    name = str(path.relative_to(folder))
    if path.is_dir():
        return {"type": "directory", "path": name, "oid": COMMIT}
    return {"type": "file", "path": name, "size": path.stat().st_size, "oid": COMMIT}
