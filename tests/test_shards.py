"""A run in parts: whoever explains which, together they are what one process finds, and pay what it pays."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from langchain_core.embeddings import DeterministicFakeEmbedding
from typer.testing import CliRunner

import neuronscope as ns
from fake_openai import FakeOpenAI, fake_openai
from many import CONFIG, arguments, found, results_in, slow, useful
from neuronscope.cli.main import app
from planted import WordSimulator
from table_subject import TableSubject

pytestmark = pytest.mark.usefixtures("own_cache")

NEURONS = [ns.Neuron(0, index) for index in range(5)]
UNCACHED = CONFIG.model_copy(update={"cache_answers": False})


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    with fake_openai(useful) as running:
        yield running


def explain(server: FakeOpenAI, neurons: Any = NEURONS, **changes: Any) -> list[ns.NeuronExplanation]:
    return list(ns.explain_neurons(neurons, **arguments(server.address, **({"config": UNCACHED} | changes))))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What one process finds, and how often it asks."""
    with pytest.MonkeyPatch.context() as patch, fake_openai(useful) as running:
        patch.setenv("NEURONSCOPE_CACHE", str(tmp_path_factory.mktemp("whole")))
        return {"found": found(explain(running)), "requests": len(running.requests)}


def n_requests(results: list[ns.NeuronExplanation]) -> int:
    return sum(sum(x.usage.requests.values()) for x in results)


@pytest.mark.parametrize("count", [2, 6])
def test_all_shards_together_are_the_run_of_one_process(
    server: FakeOpenAI, tmp_path: Path, whole: dict[str, Any], count: int
) -> None:
    parts = [explain(server, out=tmp_path / "run", shard=(index, count)) for index in reversed(range(count))]
    asked = len(server.requests)
    merged = ns.merge_shards(tmp_path / "run")
    assert [x.neuron for x in merged] == NEURONS
    assert found(merged) == whole["found"] == found(results_in(tmp_path / "run"))
    assert sorted(x.neuron for part in parts for x in part) == NEURONS
    assert asked == n_requests(merged) == whole["requests"]
    again = explain(server, out=tmp_path / "run")
    assert len(server.requests) == asked
    assert {x.neuron: x.to_json() for x in again} == {x.neuron: x.to_json() for x in merged}


def test_machines_that_share_no_disk_are_merged_from_their_folders(
    server: FakeOpenAI, tmp_path: Path, whole: dict[str, Any]
) -> None:
    for index in range(3):
        explain(server, out=tmp_path / f"machine-{index}", shard=f"{index}/3")
    places = [tmp_path / "machine-0", tmp_path / "machine-1" / "shards" / "1-of-3", tmp_path / "machine-2"]
    merged = ns.merge_shards(tmp_path / "all", *places)
    assert found(merged) == whole["found"]
    assert {x.neuron: x.to_json() for x in ns.merge_shards(tmp_path / "all", *places, places[0])} == {
        x.neuron: x.to_json() for x in merged
    }


def test_shards_that_are_missing_or_unfinished_are_named(
    server: FakeOpenAI, tmp_path: Path, whole: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    run = tmp_path / "run"
    with pytest.raises(ns.ConfigurationError, match=r"run has no shards.*--shard 0/8"):
        ns.merge_shards(run)
    for index in (0, 2):
        explain(server, out=run, shard=(index, 4))
    (run / "shards" / "2-of-4" / "results" / "0-2.json").unlink()
    with pytest.raises(
        ns.ConfigurationError, match=r"no shard 1/4, 3/4; shard 2/4 is not finished: no result of 0/2\."
    ):
        ns.merge_shards(run)
    assert not (run / "run.json").exists()
    some = ns.merge_shards(run, allow_missing=True)
    assert [x.neuron.index for x in some] == [0, 4]
    assert "1/4, 3/4" in caplog.text
    for index in range(4):
        explain(server, out=run, shard=(index, 4))
    assert found(ns.merge_shards(run)) == whole["found"]


def test_costs_are_counted_once_however_often_shards_are_merged(server: FakeOpenAI, tmp_path: Path) -> None:
    run = tmp_path / "run"
    small = {"config": UNCACHED.model_copy(update={"max_concurrency": 1}), "parallel": 1}
    explain(server, NEURONS[:4], out=run, shard=(0, 2), budget="1200 tokens", **small)
    explain(server, NEURONS[:4], out=run, shard=(1, 2), **small)
    paid = len(server.requests)
    partial = ns.merge_shards(run, allow_missing=True)
    assert "partial" in {x.status for x in partial}
    ns.merge_shards(run, allow_missing=True)
    rest = explain(server, NEURONS[:4], out=run, **small)
    assert {x.status for x in rest} == {"explained", "dead"}
    assert len(server.requests) > paid
    assert n_requests(rest) == len(server.requests)
    assert found(ns.merge_shards(run, allow_missing=True)) == found(rest), "what went on in the run's folder stays"


def test_a_shard_may_spend_its_part_of_the_budget(server: FakeOpenAI, tmp_path: Path) -> None:
    small = {"config": UNCACHED.model_copy(update={"max_concurrency": 1}), "parallel": 1, "budget": "3300 tokens"}
    explain(server, out=tmp_path / "run", shard=(0, 3), **small)
    assert len(server.requests) == 10, "110 tokens each"
    setup = {name: value for name, value in arguments(server.address, **small).items() if name in ns.Setup.model_fields}
    with ns.Setup(**setup).open(layers=[0]) as lab:
        list(lab.explain_many(NEURONS, shard=(1, 3), parallel=1, progress=False))
        assert lab.budget is not None
        assert lab.budget.spent == "1,100 tokens"


def test_results_of_another_run_are_refused_with_what_differs(server: FakeOpenAI, tmp_path: Path) -> None:
    run = tmp_path / "run"
    explain(server, out=run, shard=(0, 2))
    with pytest.raises(ns.ConfigurationError, match=r"shard 0/2 of a run of other neurons"):
        explain(server, NEURONS[:3], out=run, shard=(0, 2))
    with pytest.raises(ns.ConfigurationError, match=r"divided into shards.*neuronscope merge"):
        explain(server, out=run)
    explain(server, out=run, shard=(1, 2), config=UNCACHED.model_copy(update={"max_iterations": 1}))
    with pytest.raises(
        ns.ConfigurationError, match=r"differ in config\.max_iterations \(2 in the first, 1 in the second\)"
    ):
        ns.merge_shards(run)
    shutil.rmtree(run / "shards" / "1-of-2")
    explain(server, list(reversed(NEURONS)), out=run, shard=(1, 2))
    with pytest.raises(ns.ConfigurationError, match="lists of neurons that differ, if only in their order"):
        ns.merge_shards(run)
    shutil.rmtree(run / "shards" / "1-of-2")
    explain(server, out=run, shard=(1, 4))
    with pytest.raises(ns.ConfigurationError, match="shards 0/2 and 1/4: a run is divided once"):
        ns.merge_shards(run)


def test_two_results_of_a_neuron_that_differ_are_refused_and_both_named(server: FakeOpenAI, tmp_path: Path) -> None:
    explain(server, out=tmp_path / "a", shard=(0, 1))
    ns.merge_shards(tmp_path / "a")
    shutil.copytree(tmp_path / "a" / "shards", tmp_path / "b" / "shards")
    file = tmp_path / "b" / "shards" / "0-of-1" / "results" / "0-0.json"
    document = json.loads(file.read_text())
    file.write_text(json.dumps(document | {"hypotheses": ["another"]}))
    with pytest.raises(ns.ResultError, match="Shard 0/1 is in two places"):
        ns.merge_shards(tmp_path / "a", tmp_path / "b")
    shutil.rmtree(tmp_path / "a" / "shards")
    with pytest.raises(ns.ResultError, match=r"a/results/0-0\.json and shard 0/1 in .*b/shards/0-of-1 have different"):
        ns.merge_shards(tmp_path / "a", tmp_path / "b")
    file.write_text(file.read_text()[:-20])
    with pytest.raises(ns.ResultError, match=r"0-0\.json.*Delete the file"):
        ns.merge_shards(tmp_path / "a", tmp_path / "b")


def test_a_shard_at_work_is_not_merged(server: FakeOpenAI, tmp_path: Path) -> None:
    stream = ns.explain_neurons(NEURONS, **arguments(server.address, out=tmp_path, shard=(0, 1)))
    next(stream)
    with pytest.raises(ns.ConfigurationError, match=r"Another process is at work in .*0-of-1"):
        ns.merge_shards(tmp_path)
    stream.close()


@pytest.mark.parametrize(
    ("shard", "message"),
    [
        ((8, 8), "no shard 8/8: they count from 0, and the last of 8 is 7/8"),
        ((-1, 8), "no shard -1/8"),
        ((0, 0), "count of shards must be at least 1"),
        ("2", "shard is '2': expected a number and a count, such as 0/8"),
        ((1, 2, 3), r"expected a number and a count"),
    ],
)
def test_a_shard_that_is_none_is_refused_before_anything_is_loaded(shard: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ns.ConfigurationError, match=message):
        list(ns.explain_neurons(["0/1"], "no such model", shard=shard, out=tmp_path))
    with pytest.raises(ns.ConfigurationError, match="Leave out either engine='ray'"):
        list(ns.explain_neurons(["0/1"], "no such model", shard=(0, 1), engine="ray"))


def test_of_sessions_that_open_at_once_one_collects_and_the_others_find_its_store(tmp_path: Path) -> None:
    letters = "?abcdefgh"
    generator = np.random.default_rng(0)
    table = generator.normal(size=(len(letters), 5)).astype(np.float32)
    texts = ["".join(generator.choice(list(letters), 40)) for _ in range(100)]
    subjects = [TableSubject(letters, [table]) for _ in range(3)]
    together = threading.Barrier(3)

    def open_session(subject: TableSubject) -> Path:
        setup = ns.Setup(
            subject=subject,
            corpus=texts,
            llm="offline",
            embeddings=DeterministicFakeEmbedding(size=8),
            simulator=WordSimulator(),
            cache_dir=tmp_path / "stores",
        )
        together.wait()
        with setup.open(layers=[0], progress=False) as session:
            assert isinstance(session.store, ns.ExemplarStore)
            return session.store.path

    with ThreadPoolExecutor(3) as pool:
        paths = set(pool.map(open_session, subjects))
    assert len(paths) == 1
    assert sorted(subject.calls > 0 for subject in subjects) == [False, False, True]
    assert list((tmp_path / "stores").iterdir()) == list(paths)


@pytest.mark.slow
def test_the_command_line_explains_shards_and_merges_them(tmp_path: Path, tiny_llama: Any, tiny_tokenizer: Any) -> None:
    tiny_llama.save_pretrained(tmp_path / "model")
    tiny_tokenizer.save_pretrained(tmp_path / "model")
    words = ["red", "green", "cat", "dog", "house", "road", "quiet", "near"]
    lines = [f"{n} " + " ".join(words[(n * step) % len(words)] for step in range(1, 6)) for n in range(120)]
    (tmp_path / "texts.txt").write_text("\n\n".join(lines))
    (tmp_path / "run.yaml").write_text(
        f"""
subject: {tmp_path / "model"}
corpus: {tmp_path / "texts.txt"}
neurons: [1/3, 1/3/-, {{layers: [0, 2], n: 2, by: random, seed: 4}}]
llm: offline
embeddings: minilm
simulator: hybrid
config: {{seq_len: 16, max_iterations: 1, n_tokens: 20000}}
out: {tmp_path / "run"}
"""
    )

    def command(*given: str | Path) -> Any:
        done = CliRunner().invoke(app, [*map(str, given), "--json"])
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    for index in range(2):
        shown = command("run", tmp_path / "run.yaml", "--shard", f"{index}/2")
        assert len(shown["neurons"]) == 3
        assert shown["out"] == str(tmp_path / "run" / "shards" / f"{index}-of-2")
    merged = command("merge", tmp_path / "run")
    whole = command("run", tmp_path / "run.yaml", "--out", tmp_path / "whole")
    assert merged["neurons"] == whole["neurons"]
    assert found(results_in(tmp_path / "run")) == found(results_in(tmp_path / "whole"))


@pytest.mark.slow
def test_a_shard_that_is_killed_at_random_times_repeats_only_what_was_in_flight(tmp_path: Path) -> None:
    with fake_openai(slow(0.02)) as server:
        script = Path(__file__).with_name("killed_runs.py")
        command = [sys.executable, str(script), server.address, str(tmp_path / "killed"), "6", "3", "0/2"]
        finished = subprocess.run(command, capture_output=True, text=True, timeout=300, env=os.environ)
        assert finished.returncode == 0, finished.stderr[-3000:]
        report = json.loads(finished.stdout)
        assert report["kills"] > 0
        assert report["resumed"] > 0, "no kill hit a neuron under way"
        neurons = [ns.Neuron(0, index) for index in range(6)]
        settings = arguments(server.address, out=tmp_path / "killed")
        list(ns.explain_neurons(neurons, **settings, shard=(1, 2)))
        merged = ns.merge_shards(tmp_path / "killed")
        asked, in_flight = len(server.requests), server.most_under_way
    with fake_openai(useful) as server:
        assert found(merged) == found(list(ns.explain_neurons(neurons, **arguments(server.address))))
        assert len(server.requests) <= asked <= len(server.requests) + report["kills"] * in_flight
