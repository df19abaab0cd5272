"""Traces: LangSmith's variables are all it takes, runs are named for people, and no key is in what is sent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from fake_openai import Reply, fake_openai
from planted import ANIMAL_MODE, BETTER_ANIMALS, BETTER_COLOURS, COLOUR_MODE

pytestmark = pytest.mark.slow

MODEL_KEY = "sk-sentinel-1234567890abcdef"
TRACE_KEY = "lsv2_pt_sentinel_1234567890abcdef"
BATCHES = {
    "use_multipart_endpoint": False,
    "size_limit": 100,
    "size_limit_bytes": 20_000_000,
    "scale_up_nthreads_limit": 2,
    "scale_up_qsize_trigger": 1000,
    "scale_down_nempty_trigger": 4,
}
INFO = {"version": "0.9", "batch_ingest_config": BATCHES}
"""What a LangSmith server says of itself; without multipart, runs come as plain JSON."""


@dataclass
class FakeLangSmith:
    """The server's side: what was posted, and with which keys."""

    address: str
    bodies: list[bytes] = field(default_factory=list)
    keys: set[str | None] = field(default_factory=set)

    @property
    def runs(self) -> dict[str, dict[str, Any]]:
        """Every run by its id, with what was posted later laid over what was posted first."""
        runs: dict[str, dict[str, Any]] = {}
        for body in self.bodies:
            batch = json.loads(body)
            for run in [*batch.get("post", []), *batch.get("patch", [])]:
                runs.setdefault(run["id"], {}).update(run)
        return runs


@contextmanager
def fake_langsmith() -> Iterator[FakeLangSmith]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer(200, INFO)

        def do_POST(self) -> None:
            fake.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            fake.keys.add(self.headers["x-api-key"])
            self.answer(202, {})

        def answer(self, status: int, content: dict[str, Any]) -> None:
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    fake = FakeLangSmith(f"http://127.0.0.1:{server.server_port}")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield fake
    server.shutdown()
    server.server_close()


def good(request: dict[str, Any], number: int) -> Reply:
    sentences = {"decomposition": [COLOUR_MODE, ANIMAL_MODE], "refinement": [BETTER_COLOURS, BETTER_ANIMALS]}
    if request["model"] == "hypothesis":
        return Reply("It activates on colours and on animals.")
    return Reply(json.dumps({"sentences": sentences[request["model"]]}))


@pytest.fixture(scope="module")
def traced() -> FakeLangSmith:
    """A user's script in a process of its own, with nothing about traces in it; its end waits for the last runs."""
    with fake_langsmith() as langsmith, fake_openai(good) as openai:
        variables = {
            "LANGSMITH_TRACING": "true",
            "LANGSMITH_ENDPOINT": langsmith.address,
            "LANGSMITH_API_KEY": TRACE_KEY,
            "LANGSMITH_PROJECT": "neurons",
            "OPENAI_API_KEY": MODEL_KEY,
        }
        ran = subprocess.run(
            [sys.executable, str(Path(__file__).with_name("traced_run.py")), openai.address],
            env=os.environ | variables,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert ran.stdout == "explained 2\n", ran.stderr
        assert {*openai.keys} == {f"Bearer {MODEL_KEY}"}
    return langsmith


def children(traced: FakeLangSmith, parent: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The runs below a run, in the order in which they began."""
    wanted = None if parent is None else parent["id"]
    below = [run for run in traced.runs.values() if run.get("parent_run_id") == wanted]
    return sorted(below, key=lambda run: run["dotted_order"])


def test_the_run_is_named_after_the_neuron_and_says_whose_it_is(traced: FakeLangSmith) -> None:
    (root,) = children(traced, None)
    assert root["name"] == "neuron 0/0"
    assert root["session_name"] == "neurons"
    assert "neuronscope" in root["tags"]
    about = {name: root["extra"]["metadata"][name] for name in ("subject", "layer", "neuron", "sign")}
    assert about == {"subject": "planted", "layer": 0, "neuron": 0, "sign": 1}
    assert all(run["end_time"] and not run.get("error") for run in traced.runs.values())  # nothing is lost at the end


def test_nodes_stand_below_it_and_requests_below_nodes_by_their_agents_name(traced: FakeLangSmith) -> None:
    (root,) = children(traced, None)
    nodes = children(traced, root)
    assert [node["name"] for node in nodes] == [
        *("observe", "hypothesis", "decomposition", "clustering"),
        "refine",
        "conclude",
    ]
    for node, requests in (("hypothesis", 2), ("decomposition", 1)):
        (parent,) = [run for run in nodes if run["name"] == node]
        asked = [run["name"] for run in children(traced, parent) if run["run_type"] == "llm"]
        assert asked == [node] * requests
    kinds = Counter((run["run_type"], run["name"]) for run in traced.runs.values() if run["run_type"] != "chain")
    assert set(kinds) == {
        ("llm", "hypothesis"),
        ("llm", "decomposition"),
        ("llm", "refinement"),
        ("tool", "score_explanations"),
    }


def test_rounds_stand_below_refinement_with_one_call_of_the_tools_for_all_modes(traced: FakeLangSmith) -> None:
    (root,) = children(traced, None)
    (node,) = [node for node in children(traced, root) if node["name"] == "refine"]
    (loop,) = [run for run in children(traced, node) if run["name"] != "after_refine"]
    steps = [step["name"] for step in children(traced, loop)]
    assert steps[:3] == ["begin", "tools", "reconcile"]
    assert steps[-1] == "edit"
    rounds = (len(steps) - 4) // 4
    assert sorted(steps[3:7]) == ["propose", "propose", "reconcile", "tools"]
    assert len(steps) == 4 + 4 * rounds


def test_no_key_and_none_of_the_instruments_is_in_what_is_sent(traced: FakeLangSmith) -> None:
    assert traced.keys == {TRACE_KEY}  # it travels as a header, as it must
    sent = b"".join(traced.bodies)
    assert b"hypothesis" in sent
    for never in (MODEL_KEY, TRACE_KEY, "sentinel", "Instruments("):
        assert never.encode() not in sent
