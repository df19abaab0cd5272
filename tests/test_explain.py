"""The front door: one call from a subject to a result, wherever it is called from."""

import asyncio
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import neuronscope as ns
from neuronscope.blocking import run
from neuronscope.runs.runner import run_graph
from neuronscope.simulators import resolve_simulator
from planted import BETTER_COLOURS, DEAD, MemorySource, WordSimulator, documents, instruments


@pytest.fixture
def world():
    """What `explain_neuron` needs to explain a planted neuron without a store on disk, an LLM or embeddings."""
    context = instruments()
    return {
        "subject": context.subject,
        "store": context.store,
        "simulator": context.simulator,
        "embeddings": context.embeddings,
        "llm": "offline",
    }


def test_a_dead_neuron_is_answered_not_refused(world):
    x = ns.explain_neuron(**world, layer=DEAD.layer, neuron=DEAD.index)
    assert (x.status, x.number, x.score, x.neuron) == ("dead", 0, None, DEAD)


def test_it_works_twice_in_a_row_on_one_event_loop(world):
    seen = []

    class Watched(MemorySource):
        def exemplars(self, neuron, split="train", n=20):
            seen.append(threading.current_thread().name)
            return super().exemplars(neuron, split, n)

    world["store"] = Watched(world["subject"], documents())
    results = [ns.explain_neuron(**world, layer=0, neuron=1) for _ in range(2)]
    assert [x.status for x in results] == ["dead", "dead"]
    assert run(running_loop) is run(running_loop)


async def running_loop():
    return asyncio.get_running_loop()


async def test_it_works_inside_a_running_event_loop(world):
    assert ns.explain_neuron(**world, layer=0, neuron=1).status == "dead"


async def test_the_awaitable_form_does_the_same(world):
    assert (await ns.aexplain_neuron(**world, layer=0, neuron=1)).status == "dead"


def test_an_error_inside_the_loop_reaches_the_caller():
    async def fail():
        raise ns.LLMError("no answer")

    with pytest.raises(ns.LLMError, match="no answer"):
        run(fail)


@pytest.mark.parametrize(
    ("layer", "neuron", "complaint"),
    [(7, 0, "planted has layers 0 to 0; there is no layer 7"), (0, 99, "has neurons 0 to 2; there is no neuron 99")],
)
def test_a_neuron_that_does_not_exist_is_refused_in_words(world, layer, neuron, complaint):
    with pytest.raises(ns.SubjectError, match=complaint):
        ns.explain_neuron(**world, layer=layer, neuron=neuron)


@pytest.mark.parametrize("change", [{"sign": 0}, {"layer": -1}, {"neuron": -3}])
def test_a_neuron_that_cannot_exist_is_refused_in_words(world, change):
    with pytest.raises(ns.NeuronScopeError):
        ns.explain_neuron(**(world | {"layer": 0, "neuron": 1} | change))


def test_what_is_no_subject_is_refused_in_words(world):
    with pytest.raises(ns.SubjectError, match="int is no subject"):
        ns.explain_neuron(**(world | {"subject": 42}), layer=0, neuron=1)


def test_a_store_is_bound_to_the_subject(world):
    class Bindable(MemorySource):
        bound = None

        def bind(self, subject):
            self.bound = subject

    world["store"] = Bindable(world["subject"], documents())
    ns.explain_neuron(**world, layer=0, neuron=1)
    assert world["store"].bound is world["subject"]


@pytest.mark.parametrize("spec", ["nonsense", 3])
def test_an_unknown_simulator_is_refused_before_anything_is_loaded(spec):
    with pytest.raises(ns.ConfigurationError, match="simulator"):
        ns.explain_neuron("no such model", layer=0, neuron=0, llm="offline", simulator=spec)


def test_a_simulator_of_ones_own_is_taken_as_it_is():
    simulator = WordSimulator()
    assert resolve_simulator(simulator) is simulator


async def test_progress_is_shown_when_asked_for_and_silent_otherwise(capsys, monkeypatch):
    import neuronscope.runs.runner
    from planted import AGENTS

    build = neuronscope.runs.runner.build_neuron_graph
    monkeypatch.setattr(neuronscope.runs.runner, "build_neuron_graph", lambda **_: build(**AGENTS))
    x = await run_graph(ns.Neuron(0, 0), instruments(), progress=False)
    assert x.number == 2
    assert capsys.readouterr() == ("", "")
    monkeypatch.setenv("FORCE_COLOR", "1")  # a terminal, as far as rich can tell
    monkeypatch.setenv("COLUMNS", "120")
    await run_graph(ns.Neuron(0, 0), instruments(), progress=True)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "0/0: 2 modes, test score 0.68" in shown.err
    assert BETTER_COLOURS in shown.err


texts = st.text(st.characters(codec="utf-8"), max_size=12)
scores = st.floats(-1, 1)
attempts = st.builds(ns.Attempt, st.integers(0, 5), texts, scores)
modes = st.builds(
    ns.Mode, texts, scores, scores, history=st.lists(attempts, max_size=3), atoms=st.lists(texts, max_size=3)
)
explanations = st.builds(
    ns.NeuronExplanation,
    st.builds(ns.Neuron, st.integers(0, 40), st.integers(0, 9999), st.sampled_from([1, -1])),
    st.sampled_from(["explained", "dead", "partial"]),
    st.lists(modes, max_size=3),
    scores,
    provenance=st.dictionaries(texts, st.one_of(st.none(), scores, texts), max_size=3),
)


@settings(max_examples=30)
@given(explanations)
def test_a_result_read_back_is_the_result(x):
    assert ns.NeuronExplanation.from_json(x.to_json()) == x


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"schema_version": 99}', '{"schema_version": 1, "status": "dead"}']
)
def test_a_file_that_is_no_result_is_refused_in_words(tmp_path, content):
    path = tmp_path / "x.json"
    path.write_text(content)
    with pytest.raises(ns.ResultError):
        ns.NeuronExplanation.load(path)
