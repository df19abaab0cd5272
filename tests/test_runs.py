"""Many neurons: side by side, saved one by one, and gone on with after anything."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

import neuronscope as ns
from fake_openai import FakeOpenAI, Reply, fake_openai
from many import AGENTS, CONFIG, DEAD, arguments, found, results_in, slow, useful
from neuronscope.llm import forget_refusals
from planted import BETTER_ANIMALS, BETTER_COLOURS, WordSimulator

pytestmark = pytest.mark.usefixtures("own_cache")

NEURONS = [ns.Neuron(0, index) for index in range(6)]


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    with fake_openai(useful) as running:
        yield running


def explain(server: FakeOpenAI, neurons: Any = NEURONS, **changes: Any) -> list[ns.NeuronExplanation]:
    return list(ns.explain_neurons(neurons, **arguments(server.address, **changes)))


@pytest.mark.usefixtures("every_gain_counts")
def test_every_neuron_is_explained_once_in_whatever_form_it_is_named(server: FakeOpenAI) -> None:
    results = explain(server, [(0, 0), "0/1", ns.Neuron(0, 2), (0, 3, 1), "0/0"])
    assert sorted(x.neuron.index for x in results) == [0, 1, 2, 3]
    statuses = {x.neuron: x.status for x in results}
    assert statuses.pop(DEAD) == "dead"
    assert set(statuses.values()) == {"explained"}
    assert all({mode.explanation for mode in x.modes} == {BETTER_COLOURS, BETTER_ANIMALS} for x in results if x.modes)


def test_the_results_are_those_of_one_neuron_at_a_time(server: FakeOpenAI) -> None:
    together = found(explain(server))
    alone = arguments(server.address)
    singles = [ns.explain_neuron(alone["subject"], layer=0, neuron=each.index, **_rest(alone)) for each in NEURONS]
    assert together == found(singles)


def _rest(given: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if name != "subject"}


@pytest.mark.usefixtures("every_gain_counts")
def test_each_neuron_is_charged_for_what_it_asked(server: FakeOpenAI) -> None:
    results = explain(server)
    asked = sum((Counter(x.usage.requests) for x in results), Counter())
    assert asked == Counter(request["model"] for request in server.requests)
    assert all(x.usage.requests["hypothesis"] == CONFIG.n_hypotheses for x in results if x.status == "explained")


@pytest.mark.slow
def test_neurons_overlap(server: FakeOpenAI) -> None:
    with fake_openai(slow(0.05)) as waiting:
        explain(waiting, parallel=6)
        assert waiting.most_under_way >= CONFIG.max_concurrency
    with fake_openai(slow(0.05)) as waiting:
        explain(waiting, parallel=1, config=CONFIG.model_copy(update={"seed": 1}))
        assert waiting.most_under_way <= 2, "two drafts, or two modes"


def test_their_simulator_is_asked_in_one_queue(server: FakeOpenAI) -> None:
    class Counting(WordSimulator):
        def __init__(self) -> None:
            super().__init__()
            self.most, self.now, self.lock = 0, 0, threading.Lock()

        def simulate(self, explanations: Any, exemplars: Any) -> Any:
            with self.lock:
                self.now += 1
                self.most = max(self.most, self.now)
            try:
                return super().simulate(explanations, exemplars)
            finally:
                with self.lock:
                    self.now -= 1

    simulator = Counting()
    explain(server, simulator=simulator)
    assert simulator.calls
    assert simulator.most == 1


def test_a_run_is_saved_neuron_by_neuron_and_the_same_again_asks_nothing(server: FakeOpenAI, tmp_path: Path) -> None:
    stream = ns.explain_neurons(NEURONS, **arguments(server.address, out=tmp_path / "run", parallel=2))
    first = next(stream)
    assert first.neuron in {x.neuron for x in results_in(tmp_path / "run")}
    rest = list(stream)
    asked = len(server.requests)
    again = explain(server, out=tmp_path / "run")
    assert len(server.requests) == asked
    assert {x.neuron: x.to_json() for x in again} == {x.neuron: x.to_json() for x in [first, *rest]}
    more = explain(server, [*NEURONS, ns.Neuron(0, 7)], out=tmp_path / "run")
    assert len(more) == len(NEURONS) + 1
    assert len(server.requests) > asked


@pytest.mark.parametrize("simulator", ["hybrid", WordSimulator()])
def test_steps_are_kept_where_a_neuron_may_take_long(simulator: Any, tmp_path: Path) -> None:
    settings = arguments("", llm="offline", simulator=simulator, base_url=None)
    assert list(ns.explain_neurons([ns.Neuron(0, 1)], **settings, out=tmp_path))
    assert Path(tmp_path, "checkpoints.sqlite").exists() == (simulator != "hybrid")


def test_leaving_the_loop_ends_what_is_under_way_and_the_next_call_goes_on(tmp_path: Path) -> None:
    with fake_openai(slow(0.03)) as server:
        for _ in ns.explain_neurons(NEURONS, **arguments(server.address, out=tmp_path / "run", parallel=2)):
            break
        asked = len(server.requests)
        results = explain(server, out=tmp_path / "run")
        assert len(results) == len(NEURONS)
        interrupted = len(server.requests)
    with fake_openai(useful) as fresh:
        explain(fresh)
        assert asked < interrupted <= len(fresh.requests) + CONFIG.max_concurrency


def test_other_settings_are_refused_and_named(server: FakeOpenAI, tmp_path: Path) -> None:
    explain(server, NEURONS[:1], out=tmp_path / "run")
    with pytest.raises(ns.ConfigurationError, match=r"config\.max_iterations \(2 then, 3 now\)"):
        explain(server, out=tmp_path / "run", config=CONFIG.model_copy(update={"max_iterations": 3}))
    with pytest.raises(ns.ConfigurationError, match=r"llm\.refinement"):
        explain(server, out=tmp_path / "run", llm=dict.fromkeys(AGENTS, "openai:hypothesis"))
    faster = CONFIG.model_copy(update={"max_concurrency": 8, "request_timeout": 10.0})
    assert explain(server, NEURONS[:1], out=tmp_path / "run", config=faster)


def test_a_folder_of_another_version_is_refused_before_anything_is_asked(server: FakeOpenAI, tmp_path: Path) -> None:
    explain(server, NEURONS[:1], out=tmp_path)
    asked = len(server.requests)
    described = json.loads((tmp_path / "run.json").read_text())
    del described["schema_version"]  # as 0.1 wrote it
    (tmp_path / "run.json").write_text(json.dumps(described))
    with pytest.raises(ns.ConfigurationError, match=r"another version.*Name another folder"):
        explain(server, NEURONS[:1], out=tmp_path)
    (tmp_path / "run.json").write_text("[" * 50_000)
    with pytest.raises(ns.ResultError, match=r"run\.json is damaged"):
        explain(server, NEURONS[:1], out=tmp_path)
    assert len(server.requests) == asked


def test_a_damaged_result_is_named_once_with_what_to_do(server: FakeOpenAI, tmp_path: Path) -> None:
    explain(server, NEURONS[:1], out=tmp_path)
    file = tmp_path / "results" / f"{NEURONS[0].file_name}.json"
    document = json.loads(file.read_text())
    del document["score"]
    file.write_text(json.dumps(document))
    with pytest.raises(ns.ResultError, match=r"damaged at score.*Delete the file") as caught:
        explain(server, NEURONS[:1], out=tmp_path)
    assert str(caught.value).count(str(file)) == 1


def test_one_process_at_a_time_works_in_a_folder(server: FakeOpenAI, tmp_path: Path) -> None:
    stream = ns.explain_neurons(NEURONS, **arguments(server.address, out=tmp_path / "run"))
    next(stream)
    with pytest.raises(ns.ConfigurationError, match="Another process is at work"):
        explain(server, out=tmp_path / "run")
    stream.close()
    assert len(explain(server, out=tmp_path / "run")) == len(NEURONS)


def test_a_budget_holds_over_all_calls_and_a_larger_one_goes_on(server: FakeOpenAI, tmp_path: Path) -> None:
    careful = CONFIG.model_copy(update={"max_concurrency": 1})
    short = explain(server, out=tmp_path / "run", budget="1500 tokens", config=careful, parallel=2)
    paid = len(server.requests)
    assert paid == 14, "110 tokens each"
    assert len(short) < len(NEURONS)
    assert "partial" in {x.status for x in short}
    explain(server, out=tmp_path / "run", budget="1500 tokens", config=careful, parallel=2)
    assert len(server.requests) == paid
    whole = explain(server, out=tmp_path / "run", budget="1M tokens", config=careful)
    assert {x.status for x in whole} == {"explained", "dead"}
    requests = sum((Counter(x.usage.requests) for x in whole), Counter())
    assert requests == Counter(request["model"] for request in server.requests)


def test_what_goes_wrong_with_one_neuron_leaves_the_others(server: FakeOpenAI, tmp_path: Path, caplog: Any) -> None:
    class Flawed(WordSimulator):
        def simulate(self, explanations: Any, exemplars: Any) -> Any:
            raise AssertionError("a bug")

    given = arguments(server.address, out=tmp_path / "run")
    broken = given["store"]
    given["store"] = type("Source", (type(broken),), {"exemplars": _fails_for(ns.Neuron(0, 2), type(broken))})(
        broken.subject, broken.documents
    )
    results = {x.neuron: x for x in ns.explain_neurons(NEURONS, **given)}
    bad = results.pop(ns.Neuron(0, 2))
    assert bad.status == "partial"
    assert bad.failures[0].message == "ZeroDivisionError: a bug"
    assert "could not be explained" in caplog.text
    assert "partial" not in {x.status for x in results.values()}


def _fails_for(neuron: ns.Neuron, kind: Any) -> Any:
    def exemplars(self: Any, wanted: ns.Neuron, *others: Any) -> Any:
        if wanted == neuron:
            raise ZeroDivisionError("a bug")
        return kind.exemplars(self, wanted, *others)

    return exemplars


def test_events_of_all_neurons_reach_a_listener(server: FakeOpenAI) -> None:
    events: list[ns.ProgressEvent] = []
    explain(server, NEURONS[:3], progress=events.append)
    assert {event.neuron for event in events} == set(NEURONS[:3])
    assert {"observe", "propose", "conclude"} <= {event.node for event in events}
    json.dumps([asdict(event) for event in events])


def test_a_server_that_dies_on_the_way_leaves_partial_results_that_the_next_call_completes(tmp_path: Path) -> None:
    dead_from = 9

    def dying(request: dict[str, Any], number: int) -> Reply:
        return useful(request, number) if number < dead_from else Reply(status=400, body="{}")

    with fake_openai(dying) as server:
        first = explain(server, out=tmp_path / "run", parallel=2)
        assert {x.status for x in first} == {"explained", "partial", "dead"} or "partial" in {x.status for x in first}
    forget_refusals()
    with fake_openai(useful) as server:
        # Another port is another backend, whose answers are its own.
        assert {x.status for x in explain(server, out=tmp_path / "run")} == {"explained", "dead"}


@pytest.mark.parametrize("neuron", ["nine", "9", (1,), ("a", "b"), 7])
def test_what_is_no_neuron_is_refused_in_words(server: FakeOpenAI, neuron: Any) -> None:
    with pytest.raises(ns.ConfigurationError, match="no neuron"):
        explain(server, [neuron])


@pytest.mark.slow
def test_killed_at_random_times_a_run_repeats_only_what_was_in_flight(tmp_path: Path) -> None:
    neurons, kills = 6, 4
    with fake_openai(slow(0.02)) as server:
        script = Path(__file__).with_name("killed_runs.py")
        command = [sys.executable, str(script), server.address, str(tmp_path / "killed"), str(neurons), str(kills)]
        finished = subprocess.run(command, capture_output=True, text=True, timeout=300, env=os.environ)
        assert finished.returncode == 0, finished.stderr[-3000:]
        report = json.loads(finished.stdout)
        asked, in_flight = len(server.requests), server.most_under_way
    assert report["code"] == 0
    assert report["kills"] > 0
    assert report["resumed"] > 0, "no kill hit a neuron under way"
    with fake_openai(useful) as server:  # at another address: nothing is known from before
        whole = explain(server, [ns.Neuron(0, index) for index in range(neurons)])
        needed = len(server.requests)
    assert needed <= asked <= needed + report["kills"] * in_flight
    assert found(results_in(tmp_path / "killed")) == found(whole)
