"""What running many neurons costs beside waiting for the language model.

    python benchmarks/orchestrate.py
    python benchmarks/orchestrate.py --neurons 10 --delay 0.3

A local HTTP server answers as an OpenAI-compatible one would, after a fixed time, so that the waiting is known exactly.
Neurons, text and simulator are planted: nothing is computed but what the graph itself does.

**The critical path** is the least time that any program could need: the longest chain of requests of one neuron, each
of which needs the answer before it, or all requests to a backend divided by how many may be under way, whichever is
longer.

**The graph's own cost** is processor time per neuron with answers that come at once: from a chat model in this process,
then from the server (a process of its own, whose time is not counted) through OpenAI's client, then with checkpoints in
SQLite, written before each step is left.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from langchain_core.embeddings import Embeddings
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult

import neuronscope as ns

KINDS = ("colours", "animals", "fruits", "metals")
"""What every neuron responds to: four modes."""
WORDS = {
    "colours": ["red", "green", "blue"],
    "animals": ["cat", "dog", "horse"],
    "fruits": ["apple", "pear", "plum"],
    "metals": ["iron", "gold", "tin"],
}
FILLER = ["the", "house", "stood", "near", "a", "long", "road", "and", "it", "was", "quiet"]
SPLITS = ("train", "validation", "test")


class Answers(BaseHTTPRequestHandler):
    """Answers after `delay` seconds, and counts."""

    protocol_version = "HTTP/1.1"
    delay = 0.0
    counted: ClassVar[Counter[str]] = Counter()
    lock = threading.Lock()

    def do_GET(self) -> None:
        """What was asked since the last time."""
        with self.lock:
            body = json.dumps(dict(self.counted)).encode()
            self.counted.clear()
        self._send(body)

    def do_POST(self) -> None:
        """Answer a request."""
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        agent, n = request["model"], request.get("n") or 1
        with self.lock:
            self.counted[agent] += 1
            number = self.counted.total()
        time.sleep(self.delay)
        text = answer(agent, json.dumps(request["messages"]), number)
        message = {"role": "assistant", "content": text}
        choices = [{"index": i, "finish_reason": "stop", "message": message} for i in range(n)]
        usage = {"prompt_tokens": 500, "completion_tokens": 50, "total_tokens": 550}
        document = {"id": "1", "object": "chat.completion", "created": 1, "model": agent, "choices": choices}
        self._send(json.dumps({**document, "usage": usage}).encode())

    def _send(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        """Say nothing."""


def answer(agent: str, prompt: str, number: int) -> str:
    """What a good model would say: four modes, and in every round eight candidates that nobody has said before."""
    if agent == "hypothesis":
        return f"It responds to {', '.join(KINDS)} (draft {number})."
    if agent == "decomposition":
        sentences = [f'This neuron activates on "{WORDS[kind][0]}" and other {kind}.' for kind in KINDS]
    else:
        kind = max(KINDS, key=lambda each: prompt.count(each))
        words = " and ".join(f'"{word}"' for word in WORDS[kind])
        sentences = [f"This neuron activates on {words}, {kind} number {number}-{i}." for i in range(8)]
    return json.dumps({"sentences": sentences})


def serve(delay: float, ready: Any) -> None:
    """The server, in a process of its own."""
    Answers.delay = delay
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    server.daemon_threads = True
    ready.send(server.server_address[1])
    server.serve_forever(poll_interval=0.05)


class Instant(BaseChatModel):
    """The same answers without a server."""

    agent: str
    asked: int = 0

    def _generate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        self.asked += 1
        prompt = json.dumps([message.content for message in messages])
        message = AIMessage(answer(self.agent, prompt, self.asked))
        return ChatResult(generations=[ChatGeneration(message=message)])

    async def _agenerate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        return self._generate(messages)

    @property
    def _llm_type(self) -> str:
        return "instant"


class Tokenizer:
    """A token per word."""

    bos_token_id = None

    def __call__(self, text: str, **_: Any) -> dict[str, list[int]]:
        """Ids of the words."""
        return {"input_ids": [0 for _ in text.split()]}


class Planted:
    """A subject that is never run: the source knows its activations."""

    name = "planted"
    tokenizer = Tokenizer()
    n_layers = 1

    def width(self, layer: int) -> int:
        """Enough for any benchmark."""
        return 100_000

    def activations(self, token_ids: Sequence[Sequence[int]], layers: Sequence[int]) -> dict[int, list[Any]]:
        """Nobody asks."""
        raise NotImplementedError


class Source:
    """Sentences with a word of one kind, or of none, for every neuron with a strength of its own."""

    def __init__(self, n: int = 180) -> None:
        rng = np.random.default_rng(0)
        self._texts: list[tuple[list[str], int]] = []
        for number in range(n):
            words = [str(word) for word in rng.choice(FILLER, 24)]
            place = int(rng.integers(24))
            kind = number // 3 % 8
            if kind < 4:
                words[place] = str(rng.choice(WORDS[KINDS[kind]]))
            self._texts.append(([f" {word}" for word in words], place if kind < 4 else -1))

    def by_id(self, neuron: ns.Neuron, sequence_ids: Sequence[int]) -> list[ns.Exemplar]:
        """Exemplars of these sequences."""
        return [self._exemplar(neuron, number) for number in sequence_ids]

    def exemplars(self, neuron: ns.Neuron, split: str = "train", n: int = 20) -> list[ns.Exemplar]:
        """The strongest of a split."""
        return [self._exemplar(neuron, i) for i in self._of(split) if self._texts[i][1] >= 0][:n]

    def random_sequences(self, neuron: ns.Neuron, split: str = "test", n: int = 20, seed: int = 0) -> list[ns.Exemplar]:
        """Silent ones of a split."""
        return [self._exemplar(neuron, i) for i in self._of(split) if self._texts[i][1] < 0][:n]

    def _of(self, split: str) -> list[int]:
        return [number for number in range(len(self._texts)) if SPLITS[number % 3] == split]

    def _exemplar(self, neuron: ns.Neuron, number: int) -> ns.Exemplar:
        tokens, place = self._texts[number]
        activations = np.zeros(len(tokens), np.float32)
        if place >= 0:
            activations[place] = 5.0 + (neuron.index * (number + 1)) % 41 / 10
        return ns.Exemplar(tokens, list(range(len(tokens))), activations, number, "planted")


class Quoting:
    """Predicts 10 on what an explanation quotes."""

    name = "quoting"

    def simulate(self, explanations: Sequence[str], exemplars: Sequence[ns.Exemplar]) -> list[Any]:
        """One array per exemplar."""
        quoted = [set(re.findall(r'"(.+?)"', text)) for text in explanations]
        return [
            np.array([[10.0 * (token.strip() in words) for token in exemplar.tokens] for words in quoted], np.float32)
            for exemplar in exemplars
        ]


class ByKind(Embeddings):
    """A direction for each kind."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Of atoms."""
        return [[float(kind in text) + 1e-3 * i for i, kind in enumerate(KINDS)] for text in texts]

    def embed_query(self, text: str) -> list[float]:
        """Of one."""
        return self.embed_documents([text])[0]


def run(
    n: int, port: int | None, config: ns.ExplainConfig, parallel: int, out: Path | None
) -> tuple[float, float, int]:
    """Explain neurons, with a server or without; wall and processor seconds, and how many modes they have together."""
    agents = ("hypothesis", "decomposition", "refinement")
    wall, busy = time.perf_counter(), time.process_time()
    results = list(
        ns.explain_neurons(
            [ns.Neuron(0, index) for index in range(n)],
            Planted(),
            store=Source(),
            simulator=Quoting(),
            embeddings=ByKind(),
            llm={agent: f"openai:{agent}" if port else Instant(agent=agent) for agent in agents},
            base_url=f"http://127.0.0.1:{port}/v1" if port else None,
            config=config,
            parallel=parallel,
            out=out,
            progress=False,
        )
    )
    wall, busy = time.perf_counter() - wall, time.process_time() - busy
    failed = [failure.message for result in results for failure in result.failures]
    if failed:
        raise RuntimeError(failed[0])
    return wall, busy, sum(result.number for result in results)


def counted(port: int) -> dict[str, int]:
    """What the server was asked since the last time."""
    from urllib.request import urlopen

    with urlopen(f"http://127.0.0.1:{port}/") as response:
        answered: dict[str, int] = json.load(response)
    return answered


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="What running many neurons costs beside waiting.")
    parser.add_argument("--neurons", type=int, default=40)
    parser.add_argument("--iterations", type=int, default=5)
    parser.add_argument("--delay", type=float, default=0.3, help="seconds that an answer takes")
    parser.add_argument("--concurrency", type=int, default=8, help="requests to one backend (agent) under way at once")
    parser.add_argument("--parallel", type=int, default=16, help="neurons under way at once")
    arguments = parser.parse_args()
    os.environ["OPENAI_API_KEY"] = "none"
    config = ns.ExplainConfig(
        max_iterations=arguments.iterations,
        patience=None,
        max_concurrency=arguments.concurrency,
        cache_answers=False,
    )
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        for delay in (arguments.delay, 0.0):
            here, there = context.Pipe()
            server = context.Process(target=serve, args=(delay, there), daemon=True)
            server.start()
            port = here.recv()
            run(2, port, config, 2, None)  # imports, connections
            counted(port)
            if delay:
                wall, _, modes = run(arguments.neurons, port, config, arguments.parallel, None)
                asked = counted(port)
                chain = 2 + arguments.iterations
                bound = max(chain * delay, max(asked.values()) / arguments.concurrency * delay)
                print(
                    f"{arguments.neurons} neurons, {modes} modes, {arguments.iterations} iterations, answers after "
                    f"{delay * 1e3:.0f} ms, {arguments.concurrency} requests per backend and {arguments.parallel} "
                    f"neurons at once: {sum(asked.values())} requests ({asked})"
                )
                print(f"critical path {bound:6.2f} s   run {wall:6.2f} s   ratio {wall / bound:.3f}", flush=True)
            else:
                n = arguments.neurons
                run(2, None, config, 2, None)
                _, alone, _ = run(n, None, config, arguments.parallel, None)
                _, asking, _ = run(n, port, config, arguments.parallel, None)
                _, kept, _ = run(n, port, config, arguments.parallel, Path(folder) / "run")
                print(f"the graph alone             {1e3 * alone / n:5.0f} ms of processor time a neuron")
                print(f"through OpenAI's client     {1e3 * asking / n:5.0f} ms")
                print(
                    f"with checkpoints in SQLite  {1e3 * kept / n:5.0f} ms: they add {1e3 * (kept - asking) / n:.0f} ms"
                )
            server.terminate()


if __name__ == "__main__":
    main()
