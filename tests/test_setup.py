"""What a run is made of, declared once; and the session that it opens."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer.main

import neuronscope as ns
from neuronscope.cli.main import app
from neuronscope.server import ServedSetup
from small_world import SmallWorld, write_small_world

QUICK = ns.ExplainConfig(seq_len=16, n_tokens=4000, max_iterations=1, n_candidates=2, cache_answers=False)
OWN = {"subject", "layer", "neuron", "sign", "progress"}
"""Arguments of `explain_neuron` that are no fields of a setup, and the subject."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: Any) -> SmallWorld:
    return write_small_world(tmp_path_factory.mktemp("world"), tiny_tokenizer)


@pytest.fixture(scope="module")
def setup(world: SmallWorld, tmp_path_factory: pytest.TempPathFactory) -> ns.Setup:
    """Two layers of 12 neurons, and a text."""
    folder = tmp_path_factory.mktemp("stores")
    return ns.Setup(
        subject=world.model,
        corpus=world.texts,
        llm="offline",
        simulator="hybrid",
        cache_dir=folder,
        config=QUICK,
    )


@pytest.fixture(scope="module")
def lab(setup: ns.Setup) -> ns.Session:
    return setup.open(layers=[1], progress=False)


def same(x: ns.NeuronExplanation) -> Any:
    """What must not differ between two runs."""
    return x.neuron, x.status, x.modes, x.score, x.joint_score


# One list of arguments


def test_explain_neuron_has_the_fields_of_a_setup() -> None:
    arguments = inspect.signature(ns.explain_neuron).parameters
    assert set(arguments) - OWN == set(ns.Setup.model_fields) - {"subject"}
    for name, field in ns.Setup.model_fields.items():
        if name != "subject":
            assert arguments[name].default == field.default, name


@pytest.mark.parametrize("call", [ns.explain_neurons, ns.aexplain_neurons, ns.evaluate, ns.aevaluate])
def test_the_other_calls_show_the_same_arguments(call: Any) -> None:
    arguments = inspect.signature(call).parameters
    assert set(ns.Setup.model_fields) <= set(arguments)
    assert not any(each.kind is each.VAR_KEYWORD for each in arguments.values())


def test_the_awaited_form_has_the_arguments_of_the_waiting_one() -> None:
    assert inspect.signature(ns.aexplain_neuron) == inspect.signature(ns.explain_neuron)


def test_a_run_a_server_and_the_command_line_have_every_field() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]  # it is a group
    for model in (ns.RunSpec, ServedSetup):
        assert set(ns.Setup.model_fields) <= set(model.model_fields)
    for command in ("explain", "evaluate"):
        options = {parameter.name for parameter in commands[command].params}
        assert set(ns.Setup.model_fields) - {"config"} <= options
        assert set(ns.ExplainConfig.model_fields) <= options


# Setup


def test_what_is_no_field_is_named_with_the_nearest() -> None:
    with pytest.raises(ns.ConfigurationError, match=r"'simulater'\. Did you mean 'simulator'"):
        ns.Setup(subject="smollm2-135m", simulater="hybrid")  # type: ignore[call-arg]


def test_a_setup_of_names_is_json_and_comes_back() -> None:
    setup = ns.Setup(subject="smollm2-135m", llm={"default": "offline"}, budget="5$", config=ns.ExplainConfig(seed=3))
    assert ns.Setup.model_validate_json(setup.model_dump_json()) == setup


def test_the_papers_setup_is_appendix_b() -> None:
    setup = ns.Setup.paper(subject="meta-llama/Llama-3.1-8B")
    assert (setup.corpus, setup.llm, setup.simulator) == ("paper", "openai:gpt-4o", "transluce")
    assert setup.embeddings == "openai:text-embedding-3-small"
    assert setup.config == ns.ExplainConfig.paper()
    assert setup.config.objective == "neuron"
    assert ns.Setup.paper("google/gemma-2-2b", llm="offline").llm == "offline"


def test_a_setup_without_layers_or_a_store_is_refused(setup: ns.Setup) -> None:
    with pytest.raises(ns.ConfigurationError, match="Name the layers"):
        setup.open()


# Session


@pytest.mark.parametrize(
    "neuron",
    [
        (1, 3),
        (np.int64(1), np.uint8(3)),
        (ns.Neuron(1, 3),),
        ("1/3",),
        ((1, 3),),
        (None, ns.Neuron(1, 3)),
    ],
)
def test_a_neuron_is_an_index_or_a_neuron(lab: ns.Session, neuron: Any) -> None:
    assert lab.neuron(*neuron) == ns.Neuron(1, 3)


@pytest.mark.parametrize(
    ("neuron", "message"),
    [((0, 3), "has layer 1, not layer 0"), ((1, 12), "neurons 0 to 11"), ((1, "x"), "x"), ((None, 3), "layer")],
)
def test_a_neuron_that_a_session_does_not_have(lab: ns.Session, neuron: Any, message: str) -> None:
    for call in (lab.explain, lab.instruments):
        with pytest.raises(ns.NeuronScopeError, match=message):
            call(*neuron)


def test_a_session_explains_as_explain_neuron_does(setup: ns.Setup, lab: ns.Session) -> None:
    x = lab.explain(1, 3, progress=False)
    assert x.status == "explained"
    given = {name: getattr(setup, name) for name in ns.Setup.model_fields}
    for layer, neuron in ((1, 3), (None, ns.Neuron(1, 3)), (None, "1/3"), (np.int64(1), np.int32(3))):
        assert same(ns.explain_neuron(**given, layer=layer, neuron=neuron, progress=False)) == same(x)
    assert same(lab.explain(ns.Neuron(1, 3), progress=False)) == same(x)


async def test_a_session_works_where_a_loop_runs(setup: ns.Setup, lab: ns.Session) -> None:
    async with await setup.aopen(layers=[1], progress=False) as session:
        x = await session.aexplain(1, 3, progress=False)
        assert same(lab.explain(1, 3, progress=False)) == same(x)
    given = {name: getattr(setup, name) for name in ns.Setup.model_fields}
    assert same(await ns.aexplain_neuron(**given, layer=1, neuron=3, progress=False)) == same(x)


def test_many_neurons_are_those_one_by_one(lab: ns.Session, tmp_path: Path) -> None:
    neurons = [(1, 3), "1/4", ns.Neuron(1, 3, -1)]
    many = {x.neuron: x for x in lab.explain_many(neurons, out=tmp_path / "run", parallel=2, progress=False)}
    assert set(many) == {ns.Neuron(1, 3), ns.Neuron(1, 4), ns.Neuron(1, 3, -1)}
    for neuron, x in many.items():
        assert same(lab.explain(neuron, progress=False)) == same(x)
    assert {x.neuron for x in lab.explain_many(neurons, out=tmp_path / "run", progress=False)} == set(many)


def test_a_result_is_measured_where_it_was_made(lab: ns.Session) -> None:
    x = lab.explain(1, 3, progress=False)
    table = lab.evaluate(x, metrics=["correlation"], n_bootstrap=10)
    assert table.neuron == x.neuron
    measured = [row.value for row in table.measurements if row.metric == "correlation"]
    assert measured == pytest.approx([mode.score for mode in x.modes])


def test_instruments_are_complete_and_count_one_neuron(lab: ns.Session) -> None:
    first, second = lab.instruments(1, 3), lab.instruments(ns.Neuron(1, 4))
    assert first.usage is not second.usage
    assert first.scorer is second.scorer
    assert (first.subject, first.store) == (lab.subject, lab.store)
    with pytest.raises(AttributeError, match="cannot assign"):
        first.scorer = second.scorer  # type: ignore[misc]


def test_a_closed_session_says_so(setup: ns.Setup) -> None:
    with setup.open(layers=[1], progress=False) as session:
        assert repr(session).endswith("layers [1])")
    session.close()
    for use in (lambda: session.explain(1, 3), lambda: session.subject, lambda: session.instruments(1, 3)):
        with pytest.raises(ns.ConfigurationError, match="closed"):
            use()


def test_a_store_brings_its_subject_and_its_layers(lab: ns.Session) -> None:
    session = ns.Setup(subject=None, store=lab.store, llm="offline", simulator="hybrid", config=QUICK).open()
    assert session.subject is lab.subject
    assert session.layers == (1,)
    assert same(session.explain(1, 3, progress=False)) == same(lab.explain(1, 3, progress=False))
