"""Where steps are kept: SQLite files and a real Postgres, with nothing in them that could run code."""

from __future__ import annotations

import os
import shutil
import socket
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.event_hooks import register_serde_event_listener
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from ormsgpack import MsgpackEncodeError

import neuronscope as ns
from neuronscope.graphs import build_neuron_graph, refinement_graph_builder
from neuronscope.graphs.checkpoints import knowing_our_types, open_checkpoints, serializer
from neuronscope.results import Attempt, Cluster, Mode, NeuronExplanation, PredictionError
from neuronscope.types import ExemplarIds, Stratum
from planted import AGENTS, BETTER_ANIMALS, BETTER_COLOURS, BOTH, instruments

POSTGRES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))


@dataclass
class Stranger:
    """A type that no state of ours holds."""

    text: str = "rm -rf"


def test_our_states_come_back_as_they_were() -> None:
    error = PredictionError("the ", "cat", 1.0, 9.0)
    mode = Mode("It fires.", history=[Attempt(0, "It fires.", 0.5, (error,))], atoms=["a"], interval=(0.1, 0.6))
    state = {
        "neuron": BOTH,
        "exemplars": ExemplarIds(train=[1, 2], test_strata=[Stratum([3], 9)], maximum=3.5),
        "clusters": [Cluster(["a"], "a", [(0.1, 0.2)])],
        "modes": [mode],
        "explanation": NeuronExplanation(BOTH, "explained", [mode], interval=(0.1, 0.6), corpus_interval=(0.2, 0.2)),
    }
    kept = serializer()
    assert kept.loads_typed(kept.dumps_typed(state)) == state


def test_what_is_none_of_our_types_is_neither_pickled_nor_made_again() -> None:
    kept = serializer()
    with pytest.raises((TypeError, MsgpackEncodeError)):
        kept.dumps_typed(lambda: None)
    assert not isinstance(kept.loads_typed(kept.dumps_typed(Stranger())), Stranger)


@pytest.mark.parametrize("position", [0.0, 0.3, 0.5, 0.7, 0.999])
def test_a_state_with_a_flipped_bit_is_an_error(position: float) -> None:
    kept = serializer()
    kind, data = kept.dumps_typed({"modes": [Mode("It fires.", atoms=["a", "b"])], "iteration": 3})
    place = int(position * len(data))
    flipped = data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :]
    with pytest.raises(ns.ConfigurationError, match="checkpoint is damaged"):
        kept.loads_typed((kind, flipped))


def test_states_of_an_earlier_version_are_read_without_a_checksum() -> None:
    old = JsonPlusSerializer().dumps_typed(["It fires."])
    assert serializer().loads_typed(old) == ["It fires."]


@pytest.fixture
def unknown() -> Iterator[list[Any]]:
    """The types that LangGraph's serializer warns of, or blocks."""
    events: list[Any] = []
    stop = register_serde_event_listener(events.append)
    yield events
    stop()


async def test_langgraphs_own_checkpointer_knows_our_types(unknown: list[Any]) -> None:
    saver, thread = InMemorySaver(), {"configurable": {"thread_id": "1"}}
    for stop in ("clustering", "conclude"):
        graph = build_neuron_graph(**AGENTS, checkpointer=saver)
        given = {"neuron": BOTH} if stop == "clustering" else None
        await graph.ainvoke(given, thread, context=instruments(), interrupt_before=[stop])
    state = await graph.ainvoke(None, thread, context=instruments())
    assert state["explanation"].number == 2
    assert unknown == []


async def test_a_loop_goes_on_with_langgraphs_own_checkpointer(unknown: list[Any]) -> None:
    saver, thread = InMemorySaver(), {"configurable": {"thread_id": "1"}}
    loop = refinement_graph_builder(refinement=AGENTS["refinement"]).compile(interrupt_before=["reconcile"])
    graph = build_neuron_graph(**(AGENTS | {"refinement": loop}), checkpointer=saver)
    state = await graph.ainvoke({"neuron": BOTH}, thread, context=instruments())
    while "explanation" not in state or state["explanation"] is None:
        state = await graph.ainvoke(None, thread, context=instruments())
    assert {mode.explanation for mode in state["explanation"].modes} == {BETTER_COLOURS, BETTER_ANIMALS}
    assert unknown == []


def test_a_checkpointer_with_types_of_its_own_keeps_them(unknown: list[Any]) -> None:
    mine = [(Stranger.__module__, Stranger.__name__)]
    saver = knowing_our_types(InMemorySaver(serde=JsonPlusSerializer(allowed_msgpack_modules=mine)))
    for kept in (saver.serde, serializer(Stranger)):  # type: ignore[union-attr]  # it is one
        assert kept.loads_typed(kept.dumps_typed([BOTH, Stranger()])) == [BOTH, Stranger()]
    assert unknown == []


async def _steps_in(file: Path) -> Any:
    """The thread of an unfinished neuron in a file."""
    async with open_checkpoints(file) as saver:
        graph = build_neuron_graph(**AGENTS, checkpointer=saver)
        thread: Any = {"configurable": {"thread_id": "one"}}
        if not (await graph.aget_state(thread)).values:
            await graph.ainvoke({"neuron": BOTH}, thread, context=instruments(), interrupt_before=["conclude"])
        return (await graph.ainvoke(None, thread, context=instruments()))["explanation"]


def _cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _overwritten(data: bytes) -> bytes:
    return data[:4096] + b"\x17" * (len(data) - 4096)


def _headless(data: bytes) -> bytes:
    return b"\x00" * 100 + data[100:]


@pytest.mark.parametrize("damage", [_cut, _overwritten, _headless, lambda _: b"steps: []\n" * 500])
async def test_a_damaged_file_is_an_error_that_names_it_and_a_deleted_one_begins_again(
    damage: Any, tmp_path: Path
) -> None:
    file = tmp_path / "steps.sqlite"
    first = await _steps_in(file)
    async with open_checkpoints(file) as saver:
        await saver.conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # type: ignore[attr-defined]  # SQLite's
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(ns.ConfigurationError, match=r"checkpoints in .*steps\.sqlite are damaged.*Delete the file"):
        await _steps_in(file)
    file.unlink()
    assert (await _steps_in(file)).modes == first.modes


async def test_the_log_of_a_deleted_file_is_not_played_back(tmp_path: Path) -> None:
    file, log = tmp_path / "steps.sqlite", tmp_path / "steps.sqlite-wal"
    async with open_checkpoints(file) as saver:
        await build_neuron_graph(**AGENTS, checkpointer=saver).ainvoke(
            {"neuron": BOTH}, {"configurable": {"thread_id": "one"}}, context=instruments()
        )
        left = log.read_bytes()
    file.unlink()
    log.write_bytes(left)
    async with open_checkpoints(file) as saver:
        assert [step async for step in saver.alist(None)] == []


async def test_a_state_that_is_damaged_in_the_file_is_an_error(tmp_path: Path) -> None:
    file, thread = tmp_path / "steps.sqlite", {"configurable": {"thread_id": "one"}}
    async with open_checkpoints(file) as saver:
        graph = build_neuron_graph(**AGENTS, checkpointer=saver)
        await graph.ainvoke({"neuron": BOTH}, thread, context=instruments(), interrupt_before=["conclude"])
    connection = sqlite3.connect(file)
    changed = "UPDATE checkpoints SET checkpoint = CAST(REPLACE(CAST(checkpoint AS TEXT), 'red', 'rod') AS BLOB)"
    connection.execute(changed)
    connection.commit()
    connection.close()
    async with open_checkpoints(file) as saver:
        graph = build_neuron_graph(**AGENTS, checkpointer=saver)
        with pytest.raises(ns.ConfigurationError, match="checkpoint is damaged"):
            await graph.ainvoke(None, thread, context=instruments())


async def test_errors_of_other_databases_are_left_alone(tmp_path: Path) -> None:
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        async with open_checkpoints(tmp_path / "steps.sqlite"):
            sqlite3.connect(":memory:").execute("SELECT * FROM elsewhere")


class Killed(BaseException):
    """Ends a run as a kill would, as far as one process can."""


async def _continued(place: str | Path) -> tuple[Any, list[str]]:
    """Run until a refinement dies, then go on; the explanation, and which agents were asked the second time."""
    asked: list[str] = []

    def counted(name: str, dies: bool) -> Any:
        async def agent(state: Any, runtime: Any) -> Any:
            if dies and name == "refinement" and len(state["history"]) > 1:
                raise Killed
            asked.append(name)
            return await AGENTS[name](state, runtime)

        return agent

    config: Any = {"configurable": {"thread_id": "one"}}
    settings = instruments(config=ns.ExplainConfig(max_iterations=3, patience=None))
    async with open_checkpoints(place) as saver:
        graph = build_neuron_graph(**{name: counted(name, True) for name in AGENTS}, checkpointer=saver)
        with pytest.raises(Killed):
            await graph.ainvoke({"neuron": BOTH}, config, context=settings, durability="sync")
    asked.clear()
    async with open_checkpoints(place) as saver:
        graph = build_neuron_graph(**{name: counted(name, False) for name in AGENTS}, checkpointer=saver)
        state = await graph.ainvoke(None, config, context=settings, durability="sync")
        await saver.adelete_thread("one")
        assert (await graph.aget_state(config)).values == {}
    return state["explanation"], asked


async def test_a_graph_goes_on_from_a_file(tmp_path: Path) -> None:
    explanation, asked = await _continued(tmp_path / "steps.sqlite")
    assert explanation.number == 2
    assert set(asked) == {"refinement"}
    assert len(asked) <= 2 * 2, "two of three rounds for each of two modes"


async def test_a_file_that_cannot_be_made_and_an_address_of_something_else_are_told(tmp_path: Path) -> None:
    with pytest.raises(ns.ConfigurationError, match="cannot be kept"):
        async with open_checkpoints(tmp_path / "missing" / "steps.sqlite"):
            pass
    with pytest.raises(ns.ConfigurationError, match=r"mysql://…: give a file, or postgresql://"):
        async with open_checkpoints("mysql://user:hunter2@host/db"):
            pass


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """The URL of a Postgres server of the test's own."""
    if not POSTGRES or shutil.which("runuser") is None or os.geteuid() != 0:
        pytest.skip("needs Debian's postgresql, and root to start it as another user")
    programs = POSTGRES[-1]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        Path(folder).chmod(0o777)
        data = f"{folder}/data"

        def do(*command: str) -> None:
            subprocess.run(
                ["runuser", "-u", "nobody", "--", *command], check=True, capture_output=True, cwd="/", timeout=60
            )

        do(str(programs / "initdb"), "-D", data, "-U", "tester", "--auth=trust", "--no-sync")
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
        do(str(programs / "pg_ctl"), "-D", data, "-o", options, "-l", f"{folder}/log", "-w", "start")
        try:
            yield f"postgresql://tester@127.0.0.1:{port}/postgres"
        finally:
            do(str(programs / "pg_ctl"), "-D", data, "-m", "immediate", "stop")


async def test_a_graph_goes_on_from_postgres(postgres: str) -> None:
    explanation, asked = await _continued(postgres)
    assert explanation.number == 2
    assert set(asked) == {"refinement"}


async def test_a_postgres_that_is_not_there_is_told_without_its_password() -> None:
    with pytest.raises(ns.ConfigurationError, match="Postgres database cannot be used") as raised:
        async with open_checkpoints("postgresql://tester:hunter2secret@127.0.0.1:9/postgres?connect_timeout=1"):
            pass
    assert "hunter2secret" not in str(raised.value)
