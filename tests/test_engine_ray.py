"""Collecting on a Ray cluster: the same store, bit for bit, whoever did which part of it, and however often."""

from __future__ import annotations

import hashlib
import os
import pickle
import random
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from typer.testing import CliRunner

import neuronscope as ns
from fake_openai import fake_openai
from many import CONFIG, arguments, found, results_in, useful
from neuronscope.cli.main import app
from neuronscope.cluster import QUEUE, RayEngine, spread
from neuronscope.exemplars import checkpoints, sharding
from neuronscope.exemplars import statistics_pass as collection
from neuronscope.exemplars.portable import portable
from neuronscope.exemplars.statistics_pass import FinishedChunks
from planted import WordSimulator
from ray_shards import count_openings, die, die_always, die_once, echo, echo_slowly, name_device, refuse
from table_subject import TableSubject

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.slow

LETTERS = "?abcdefgh"
GPU_SHARE = 0.5


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """A real Ray with two processors, and a GPU that is only a number."""
    folders = [Path(ns.__file__).parents[1], Path(__file__).parent]
    path = os.pathsep.join(map(str, folders))
    environment = {"PYTHONPATH": path, "TOKENIZERS_PARALLELISM": "false"}
    ray.init(
        address="local",
        num_cpus=2,
        num_gpus=1,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        runtime_env={"env_vars": environment},
    )
    yield
    ray.shutdown()


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collection, "CHUNK_SEQUENCES", 16)


class Recording(TableSubject):
    """Writes down each forward pass and what its process had claimed."""

    def __init__(self, folder: Path) -> None:
        generator = np.random.default_rng(0)
        tables = [generator.normal(size=(len(LETTERS), 5)).astype(np.float32) for _ in range(2)]
        super().__init__(LETTERS, tables)
        self.folder = folder
        self.home = os.getpid()

    def activations(self, token_ids: Any, layers: Any) -> Any:
        claimed = {} if os.getpid() == self.home else ray.get_runtime_context().get_assigned_resources()
        with (self.folder / f"{os.getpid()}.log").open("a") as log:
            log.write(f"{len(token_ids)} {claimed.get('CPU', 0)} {claimed.get('GPU', 0)}\n")
        return super().activations(token_ids, layers)

    def passes(self) -> list[tuple[int, float, float]]:
        """Sequences, CPUs and GPUs of each pass, in all processes but this one."""
        logs = [log for log in self.folder.glob("*.log") if log.stem != str(self.home)]
        lines = [line.split() for log in logs for line in log.read_text().splitlines()]
        return [(int(n), float(cpus), float(gpus)) for n, cpus, gpus in lines]


class Mortal(Recording):
    """Kills its process in the second forward pass of all."""

    def activations(self, token_ids: Any, layers: Any) -> Any:
        if self.passes() and not (self.folder / "died").exists():
            (self.folder / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().activations(token_ids, layers)


class Locked(Recording):
    """Cannot travel."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.lock = threading.Lock()


def texts(n: int = 200) -> list[str]:
    generator = random.Random(0)
    return ["".join(generator.choices(LETTERS, k=generator.randint(4, 60))) for _ in range(n)]


def engine(**settings: Any) -> RayEngine:
    return RayEngine(**({"num_gpus": 0, "shard_size": 2} | settings))


def collect(subject: Any, cache: Path, engine: Any, corpus: Any = None, **settings: Any) -> ns.ExemplarStore:
    settings = {"seq_len": 20, "top_k": 3, "batch_size": 4} | settings
    return ns.collect_exemplars(subject, corpus or texts(), cache_dir=cache, engine=engine, **settings)


def digests(store: ns.ExemplarStore) -> dict[str, str]:
    """The store's name, and what is in its files."""
    files = sorted(file for file in store.path.rglob("*") if file.is_file())
    return {str(store.path.name): ""} | {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Of the store that this process makes on its own."""
    folder = tmp_path_factory.mktemp("here")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(collection, "CHUNK_SEQUENCES", 16)
        yield digests(collect(Recording(folder), folder / "stores", "local"))


class Run(NamedTuple):
    """A collection on Ray, looked at from several sides."""

    subject: Recording
    store: ns.ExemplarStore
    told: list[int]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """With two workers."""
    folder = tmp_path_factory.mktemp("run")
    subject, told = Recording(folder), list[int]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(collection, "CHUNK_SEQUENCES", 16)
        patch.setattr("tqdm.auto.tqdm.update", lambda self, tokens: told.append(tokens))
        store = collect(subject, folder / "stores", engine())
    return Run(subject, store, told)


def test_the_store_is_that_of_a_single_process_bit_for_bit(run: Run, here: dict[str, str]) -> None:
    assert digests(run.store) == here
    assert [path.name for path in run.store.path.parent.iterdir()] == [run.store.path.name]


def test_every_sequence_is_run_once(run: Run) -> None:
    assert sum(n for n, _, _ in run.subject.passes()) == sum(run.store.info["n_sequences"].values())


def test_each_worker_claims_the_share_it_is_given(run: Run, tmp_path: Path, here: dict[str, str]) -> None:
    assert {(cpus, gpus) for _, cpus, gpus in run.subject.passes()} == {(1.0, 0.0)}
    subject = Recording(tmp_path)
    assert digests(collect(subject, tmp_path / "stores", engine(num_gpus=GPU_SHARE, shard_size=8))) == here
    assert {(cpus, gpus) for _, cpus, gpus in subject.passes()} == {(1.0, GPU_SHARE)}


def test_progress_counts_all_tokens_as_shards_finish(run: Run) -> None:
    assert sum(run.told) == sum(run.store.info["n_tokens"].values())
    assert len(run.told) > 10


def test_by_default_a_worker_claims_a_gpu_where_there_is_one(tmp_path: Path, here: dict[str, str]) -> None:
    subject = Recording(tmp_path)
    assert digests(collect(subject, tmp_path / "stores", "ray")) == here
    assert {(cpus, gpus) for _, cpus, gpus in subject.passes()} == {(1.0, 1.0)}


def test_workers_load_a_model_by_its_path_in_the_dtype_it_has_here(
    tmp_path: Path, tiny_llama: Any, tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_llama.save_pretrained(tmp_path / "model")
    tiny_tokenizer.save_pretrained(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    subject = ns.load_subject("model", device="cpu", dtype="bfloat16")
    assert subject.source == str(tmp_path / "model")
    store = collect(subject, tmp_path / "stores", engine(n_workers=1))
    assert digests(store) == digests(collect(subject, tmp_path / "here", "local"))


def test_a_model_in_hand_is_sent(tmp_path: Path, tiny_llama: Any, tiny_tokenizer: Any) -> None:
    subject = ns.load_subject((tiny_llama, tiny_tokenizer), device="cpu")
    store = collect(subject, tmp_path / "stores", engine(n_workers=1))
    assert digests(store) == digests(collect(subject, tmp_path / "here", "local"))


def test_the_shards_of_a_worker_that_is_killed_are_done_by_others(tmp_path: Path, here: dict[str, str]) -> None:
    store = collect(Mortal(tmp_path), tmp_path / "stores", engine())
    assert (tmp_path / "died").exists()
    assert digests(store) == here


@pytest.mark.parametrize("second", ["ray", "local"])
def test_an_interrupt_ends_the_workers_and_any_engine_goes_on_from_the_finished_shards(
    tmp_path: Path, here: dict[str, str], monkeypatch: pytest.MonkeyPatch, second: str
) -> None:
    monkeypatch.setattr(checkpoints, "INTERVAL", 0.0)
    monkeypatch.setattr(checkpoints, "MAX_SHARE", float("inf"))
    saved: list[dict[str, Any]] = []
    save = checkpoints.Checkpoints.save

    def interrupting(self: Any, arrays: Any, counts: Any) -> None:
        save(self, arrays, counts)
        saved.append(counts)
        if len(saved) == 8:
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints.Checkpoints, "save", interrupting)
    with pytest.raises(KeyboardInterrupt):
        collect(Recording(tmp_path), tmp_path / "stores", engine(shard_size=1))
    assert all_free()
    n_done = sum(saved[7]["n_sequences"].values())
    (tmp_path / "second").mkdir()
    rest = Recording(tmp_path / "second")
    store = collect(rest, tmp_path / "stores", engine(n_workers=1) if second == "ray" else "local")
    assert digests(store) == here
    n_all = sum(store.info["n_sequences"].values())
    assert n_done == 8 * 16 < n_all
    if second == "ray":
        assert sum(n for n, _, _ in rest.passes()) == n_all - n_done


def test_what_a_single_process_began_ray_finishes(
    tmp_path: Path, here: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "INTERVAL", 0.0)
    monkeypatch.setattr(checkpoints, "MAX_SHARE", float("inf"))

    class Failing(Recording):
        def activations(self, token_ids: Any, layers: Any) -> Any:
            if self.calls == 30:
                raise KeyboardInterrupt
            return super().activations(token_ids, layers)

    with pytest.raises(KeyboardInterrupt):
        collect(Failing(tmp_path), tmp_path / "stores", "local")
    (tmp_path / "second").mkdir()
    rest = Recording(tmp_path / "second")
    store = collect(rest, tmp_path / "stores", engine())
    assert digests(store) == here
    assert sum(n for n, _, _ in rest.passes()) < sum(store.info["n_sequences"].values())


def all_free() -> bool:
    for _ in range(600):
        if ray.available_resources().get("CPU") == 2.0:
            return True
        time.sleep(0.1)
    return False


def test_shards_are_drawn_only_as_workers_take_them() -> None:
    drawn: list[int] = []

    def source() -> Iterator[int]:
        for number in range(50):
            drawn.append(number)
            yield number

    results = spread(engine(n_workers=1), name_device, echo, source())
    assert next(results) == ("on cpu", 0)
    assert len(drawn) <= 2 * QUEUE
    assert sorted(shard for _, shard in results) == list(range(1, 50))


def test_what_a_process_has_opened_serves_its_next_tasks(tmp_path: Path) -> None:
    found = list(spread(engine(n_workers=1), partial(count_openings, tmp_path), echo, range(6)))
    assert len(found) == 6
    assert 1 <= len(list(tmp_path.iterdir())) <= 2, "one in each process"


def test_a_task_with_a_gpu_has_a_process_of_its_own(tmp_path: Path) -> None:
    found = list(spread(engine(num_gpus=1), partial(count_openings, tmp_path), echo, range(2)))
    assert {device for device, _ in found} == {"on auto"}
    assert len(list(tmp_path.iterdir())) == 2


def test_shards_are_redone_until_the_patience_ends(tmp_path: Path) -> None:
    assert sorted(spread(engine(), name_device, partial(die_once, tmp_path), range(6))) == list(range(6))
    with pytest.raises(ns.ConfigurationError, match=r"2 Ray workers were lost over the same shard.*num_cpus"):
        list(spread(engine(n_workers=1, max_retries=1), name_device, die_always, [1]))
    assert all_free()


def test_workers_that_die_before_they_are_ready_are_an_error() -> None:
    with pytest.raises(ns.ConfigurationError, match="1 Ray workers were lost"):
        list(spread(engine(n_workers=1, max_retries=0), die, echo, [1]))


def test_what_a_worker_raises_is_raised_here() -> None:
    with pytest.raises(ns.SubjectError, match=r"^There is no such model\.$"):
        list(spread(engine(n_workers=1), refuse, echo, [1]))


def test_leaving_early_ends_the_tasks() -> None:
    results = spread(engine(), name_device, echo_slowly, range(100))
    next(results)
    results.close()
    assert all_free()


def test_a_worker_refuses_a_model_that_is_not_the_same_there(
    tmp_path: Path, tiny_llama: Any, tiny_tokenizer: Any
) -> None:
    tiny_llama.save_pretrained(tmp_path / "model")
    tiny_tokenizer.save_pretrained(tmp_path / "model")
    subject = ns.load_subject(tmp_path / "model", device="cpu", dtype="float32")
    portable(subject)("cpu")
    subject.model.model.layers[0].mlp.up_proj.weight.data += 1
    with pytest.raises(ns.SubjectError, match=r"another subject: model \(.*They differ in the weights \("):
        portable(subject)("cpu")


class Changing(TableSubject):
    """Another one at the other end."""

    def __reduce__(self) -> Any:
        return TableSubject, (LETTERS, [], "another")


def test_a_worker_refuses_a_subject_of_another_kind_by_its_fingerprint() -> None:
    sent = pickle.dumps(portable(Changing(LETTERS, [])))
    with pytest.raises(ns.SubjectError, match=r"fingerprint planted.*fingerprint another"):
        pickle.loads(sent)("cpu")


def test_a_path_that_workers_do_not_have_is_named(tmp_path: Path, tiny_llama: Any, tiny_tokenizer: Any) -> None:
    tiny_llama.save_pretrained(tmp_path / "model")
    tiny_tokenizer.save_pretrained(tmp_path / "model")
    subject = ns.load_subject(tmp_path / "model", device="cpu")
    (tmp_path / "model").rename(tmp_path / "moved")
    with pytest.raises(ns.SubjectError, match=r"worker cannot load the subject.*Every machine"):
        portable(subject)("cpu")


def test_a_subject_that_cannot_be_sent_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ns.ConfigurationError, match=r"cannot send the subject to its workers.*serializable"):
        collect(Locked(tmp_path), tmp_path / "stores", engine())


def test_claims_that_no_machine_can_meet_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ns.ConfigurationError, match=r"room for a worker with 2 GPU\(s\) and 1 CPU\(s\)"):
        collect(Recording(tmp_path), tmp_path / "stores", engine(num_gpus=2))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_gpus": -1}, "num_gpus of a RayEngine must be at least 0, not -1"),
        ({"shard_size": 0}, "shard_size of a RayEngine must be at least 1, not 0"),
        ({"num_cpus": 0, "num_gpus": 0}, "must claim something"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ns.ConfigurationError, match=message):
        RayEngine(**settings)


def test_an_unknown_engine_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ns.ConfigurationError, match=r"no engine 'spark'.*'local', 'ray'"):
        collect(Recording(tmp_path), tmp_path / "stores", "spark")


def test_a_missing_ray_is_named_with_its_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ns.ConfigurationError, match=r"pip install 'neuronscope\[ray\]'"):
        list(spread(RayEngine(), name_device, echo, [1]))


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_an_address_where_nobody_listens_is_refused_at_once(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(ns.ConfigurationError, match=rf"Cannot connect to Ray at {scheme}127.0.0.1:{port}: .*refused"):
        list(spread(RayEngine(address=f"{scheme}127.0.0.1:{port}"), name_device, echo, [1]))


def test_a_finished_store_is_opened_without_ray(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert collect(run.subject, run.store.path.parent, "ray").path == run.store.path


def test_the_command_line_takes_an_engine(tmp_path: Path) -> None:
    arguments = ["collect", "smollm2-135m", "--layers", "0", "--cache-dir", str(tmp_path), "--engine", "spark"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1
    assert "There is no engine 'spark'" in result.stderr


def test_chunks_that_finish_in_any_order_leave_the_rest() -> None:
    finished = FinishedChunks()
    finished.add([3, 4])
    finished.add([0])
    again = FinishedChunks.of({"n_chunks": 3} | finished.counts())
    assert [number for number, _ in again.rest(iter([[]] * 7))] == [1, 2, 5, 6]
    again.add([1, 2])
    assert again.counts() == {"ahead": []}


def test_shards_are_as_long_as_they_should_take() -> None:
    sizes = sharding.ShardSizes(None)
    shards = sizes.divide((number, []) for number in range(10_000))
    assert len(next(shards)) == 1
    sizes.measure(seconds_per_chunk=2.0, opening_seconds=0.0, merging_seconds=0.8)
    assert len(next(shards)) == 15
    sizes.measure(seconds_per_chunk=2.0, opening_seconds=0.0, merging_seconds=80.0)
    assert len(next(shards)) == 80
    sizes.measure(seconds_per_chunk=2.0, opening_seconds=20.0, merging_seconds=0.8)
    assert len(next(shards)) == 100
    sizes.measure(seconds_per_chunk=100.0, opening_seconds=0.0, merging_seconds=0.0)
    assert len(next(shards)) == 1


def test_neurons_explained_on_workers_are_those_explained_here(tmp_path: Path) -> None:
    neurons = [ns.Neuron(0, index) for index in range(5)]
    with fake_openai(useful) as server:
        settings = arguments(server.address, config=CONFIG.model_copy(update={"cache_answers": False}))
        here = found(list(ns.explain_neurons(neurons, **settings)))
        engine = RayEngine(num_gpus=0, n_workers=2, shard_size=2)
        spread = list(ns.explain_neurons(neurons, **settings, engine=engine, out=tmp_path / "run"))
    assert found(spread) == here
    assert found(results_in(tmp_path / "run")) == here


def test_a_budget_is_kept_by_giving_no_more_out(tmp_path: Path) -> None:
    neurons = [ns.Neuron(0, index) for index in range(6)]
    with fake_openai(useful) as server:
        engine = RayEngine(num_gpus=0, n_workers=1, shard_size=1)
        uncached = CONFIG.model_copy(update={"cache_answers": False})
        settings = arguments(server.address, config=uncached, engine=engine, out=tmp_path / "run", parallel=1)
        short = list(ns.explain_neurons(neurons, **settings, budget="1500 tokens"))
        assert 0 < len(short) < len(neurons)
        asked = len(server.requests)
        whole = list(ns.explain_neurons(neurons, **settings, budget="1M tokens"))
        assert {x.status for x in whole} == {"explained", "dead"}
        assert len(server.requests) > asked
        with pytest.raises(ns.ConfigurationError, match="cannot share checkpoints in a file"):
            list(ns.explain_neurons([ns.Neuron(0, 9)], **settings, checkpoints=tmp_path / "steps.sqlite"))


class Mortals(WordSimulator):
    """Kills its process in the second request of all."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def simulate(self, explanations: Any, exemplars: Any) -> Any:
        if (self.folder / "asked").exists() and not (self.folder / "died").exists():
            (self.folder / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        (self.folder / "asked").touch()
        return super().simulate(explanations, exemplars)


def test_the_neurons_of_a_worker_that_is_killed_are_explained_by_others(tmp_path: Path) -> None:
    neurons = [ns.Neuron(0, index) for index in range(4)]
    with fake_openai(useful) as server:
        uncached = CONFIG.model_copy(update={"cache_answers": False})
        settings = arguments(server.address, simulator=Mortals(tmp_path), out=tmp_path / "run", config=uncached)
        (tmp_path / "died").touch()
        here = found(list(ns.explain_neurons(neurons, **settings | {"out": None})))
        (tmp_path / "died").unlink()
        spread_out = list(ns.explain_neurons(neurons, **settings, engine=RayEngine(num_gpus=0, shard_size=2)))
    assert (tmp_path / "died").exists()
    assert found(spread_out) == here == found(results_in(tmp_path / "run"))
