"""Ctrl-C, SIGTERM and cancellation: at once, in one line, with nothing half-written, and the same again goes on."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from langchain_core.embeddings import DeterministicFakeEmbedding

import neuronscope as ns
from fake_openai import FakeOpenAI, fake_openai
from many import arguments, results_in, slow, useful
from neuronscope import blocking as local
from neuronscope.stopping import check_stopped, stoppable_context, stopping_threads
from neuronscope.subject import LoadedSubject
from planted import WordSimulator, documents

NEURONS = [ns.Neuron(0, index) for index in range(5)]


@pytest.fixture(autouse=True)
def interruptible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As in a terminal: in the background of a shell SIGINT would be ignored."""
    monkeypatch.setenv("NEURONSCOPE_CACHE", str(tmp_path / "cache"))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    with fake_openai(useful) as running:
        yield running


def press_ctrl_c() -> None:
    """From any thread: as a terminal does, it wakes the main thread, whatever that waits for."""
    ident = threading.main_thread().ident
    assert ident is not None
    signal.pthread_kill(ident, signal.SIGINT)


class InterruptedSimulator(WordSimulator):
    """Somebody presses Ctrl-C during one of its calls."""

    def __init__(self, call: int) -> None:
        super().__init__()
        self.interrupted_call = call

    def simulate(self, explanations: Any, exemplars: Any) -> Any:
        found = super().simulate(explanations, exemplars)
        if len(self.calls) == self.interrupted_call:
            press_ctrl_c()
        return found


class Passes:
    """Counts the forward passes of a subject, and may have something happen during one."""

    def __init__(self) -> None:
        self.n = 0
        self.during: Callable[[int], object] = lambda number: None


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> Passes:
    """Of all subjects of the test."""
    counted, visit = Passes(), LoadedSubject.visit

    def visiting(*arguments: Any) -> None:
        counted.n += 1
        counted.during(counted.n)
        visit(*arguments)

    monkeypatch.setattr(LoadedSubject, "visit", visiting)
    return counted


@pytest.fixture
def collecting(tmp_path: Path, tiny_llama: Any, tiny_tokenizer: Any) -> dict[str, Any]:
    """What a call needs that collects its exemplars first."""
    return {
        "subject": ns.load_subject((tiny_llama, tiny_tokenizer)),
        "llm": "offline",
        "simulator": WordSimulator(),
        "corpus": documents(600),
        "config": ns.ExplainConfig(n_tokens=8000, seq_len=16, max_iterations=0),
        "embeddings": DeterministicFakeEmbedding(size=8),
        "cache_dir": tmp_path,
    }


# --- from Python ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", [1, 4])
def test_a_run_is_interrupted_and_the_same_again_goes_on(server: FakeOpenAI, tmp_path: Path, call: int) -> None:
    given = arguments(server.address, out=tmp_path / "run", parallel=2, simulator=InterruptedSimulator(call))
    with pytest.raises(KeyboardInterrupt):
        list(ns.explain_neurons(NEURONS, **given))
    assert not list((tmp_path / "run").rglob(".layer*")), "half-written results"
    assert all(x.status != "partial" for x in results_in(tmp_path / "run"))
    assert len(list(ns.explain_neurons(NEURONS, **given))) == len(NEURONS)


def test_one_neuron_is_interrupted_while_it_waits_for_a_language_model() -> None:
    with fake_openai(slow(30)) as waiting:
        threading.Thread(target=press_ctrl_c_once_asked, args=[waiting]).start()
        with pytest.raises(KeyboardInterrupt):
            ns.explain_neuron(layer=0, neuron=0, **arguments(waiting.address))


def press_ctrl_c_once_asked(server: FakeOpenAI) -> None:
    while not server.most_under_way:
        time.sleep(0.01)
    press_ctrl_c()


ENTRIES: dict[str, Callable[..., Any]] = {
    "explain_neuron": lambda given: ns.explain_neuron(layer=0, neuron=1, progress=False, **given),
    "explain_neurons": lambda given: list(ns.explain_neurons([(0, 1)], progress=False, **given)),
    "evaluate": lambda given: ns.evaluate("Red things.", ns.Neuron(0, 1), ["correlation"], **given),
}


@pytest.mark.parametrize("entry", ENTRIES)
def test_ctrl_c_ends_a_collection_and_the_same_again_works(
    collecting: dict[str, Any], passes: Passes, entry: str
) -> None:
    passes.during = lambda number: press_ctrl_c() if number == 2 else None
    with pytest.raises(KeyboardInterrupt):
        ENTRIES[entry](collecting)
    assert passes.n <= 3, "it goes on in the background"
    assert ENTRIES[entry](collecting)


def test_ctrl_c_inside_a_running_loop_whose_owner_would_cancel_it_later() -> None:
    with fake_openai(slow(30)) as waiting:
        threading.Thread(target=press_ctrl_c_once_asked, args=[waiting]).start()

        async def cell() -> None:
            ns.explain_neuron(layer=0, neuron=0, **arguments(waiting.address))

        with pytest.raises(KeyboardInterrupt):
            asyncio.run(cell())


async def test_a_cancelled_collection_stops_in_its_thread(collecting: dict[str, Any], passes: Passes) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def wait(number: int) -> None:
        begun.set()
        go_on.wait(10)

    passes.during = wait
    task = asyncio.create_task(ns.aexplain_neuron(layer=0, neuron=1, progress=False, **collecting))
    await asyncio.to_thread(begun.wait, 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    go_on.set()
    await asyncio.get_running_loop().shutdown_default_executor()  # waits for the thread
    assert passes.n == 1


def test_leaving_a_call_waits_for_what_must_be_closed() -> None:
    closed = []

    async def work() -> None:
        try:
            threading.Thread(target=press_ctrl_c).start()
            await asyncio.sleep(60)
        finally:
            for _ in range(3):
                await asyncio.sleep(0.01)  # a cancellation that is repeated would cut this short
            closed.append(True)

    with pytest.raises(KeyboardInterrupt):
        local.run(work)
    assert closed


def test_what_is_interrupted_before_it_begins_never_begins() -> None:
    begun, busy, free = [], threading.Event(), threading.Event()

    async def block() -> None:
        busy.set()
        free.wait(10)

    async def work() -> None:
        begun.append(True)

    blocking = threading.Thread(target=local.run, args=[block])
    blocking.start()
    busy.wait(10)
    threading.Timer(0.1, press_ctrl_c).start()
    with pytest.raises(KeyboardInterrupt):
        local.run(work)  # waits for the loop
    free.set()
    blocking.join()
    local.run(lambda: asyncio.sleep(0))
    assert not begun


def test_long_work_is_done_by_the_thread_that_waits_and_by_a_worker_where_none_does() -> None:
    async def where() -> str:
        return await local.in_callers_thread(lambda: threading.current_thread().name)

    assert local.run(where) == threading.current_thread().name
    assert asyncio.run(where()) != threading.current_thread().name


def test_errors_of_long_work_reach_the_caller() -> None:
    async def fail() -> None:
        await local.in_callers_thread(int, "no number")

    with pytest.raises(ValueError, match="no number"):
        local.run(fail)


def test_threads_stop_only_if_their_own_call_was_left() -> None:
    with stopping_threads():
        check_stopped()
        with suppress(ZeroDivisionError), stopping_threads():
            raise ZeroDivisionError
        check_stopped()
    context, stopped = stoppable_context()
    stopped.set()
    check_stopped()
    with pytest.raises(asyncio.CancelledError):
        context.run(check_stopped)


# --- on the command line ----------------------------------------------------------------------------------------------

COMMAND = """
import asyncio, signal, sys, threading, time
signal.signal(signal.SIGINT, signal.default_int_handler)
import neuronscope as ns
from neuronscope.cli.main import main
from neuronscope import blocking as local

def deaf():
    while True:
        try:
            print("at work", flush=True)
            time.sleep(60)
        except BaseException:
            pass

def broken():
    try:
        print("at work", flush=True)
        time.sleep(60)
    except BaseException as error:
        raise ImportError("half-imported") from error

def in_a_thread():
    def work():
        print("at work", flush=True)
        time.sleep(60)
    local.run(lambda: asyncio.to_thread(work))

chosen = {CHOSEN}
vars(ns)["explain_neuron"] = lambda *arguments, **others: chosen()
sys.argv = ["neuronscope", "explain", "subject", "--layer", "0", "--neuron", "0"]
main()
"""


@pytest.mark.parametrize("work", ["in_a_thread", "deaf", "broken"])
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_command_ends_in_one_line_whatever_it_is_busy_with(work: str, sent: signal.Signals) -> None:
    code = COMMAND.replace("{CHOSEN}", work)
    with subprocess.Popen([sys.executable, "-c", code], stdout=-1, stderr=-1, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "at work\n"
        process.send_signal(sent)
        assert process.wait(timeout=20) == 128 + sent
        assert process.stderr.read() == "Interrupted. Run the same again to go on.\n"


def test_a_second_ctrl_c_does_not_wait() -> None:
    patient = "import neuronscope.cli.signals\nneuronscope.cli.signals._PATIENCE = 50\nmain()\n"
    code = COMMAND.replace("{CHOSEN}", "deaf").replace("main()\n", patient)
    with subprocess.Popen([sys.executable, "-c", code], stdout=-1, stderr=-1, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for _ in range(2):
            assert process.stdout.readline() == "at work\n"
            process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 130
        assert process.stderr.read().startswith("Interrupted.")


def test_ctrl_c_after_a_command_is_done_changes_nothing() -> None:
    code = """
import atexit, os, signal, sys
atexit.register(lambda: (os.kill(os.getpid(), signal.SIGINT), print("still here")))  # runs last
from neuronscope.cli.main import main
sys.argv = ["neuronscope", "--version"]
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("still here\n")
