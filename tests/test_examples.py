"""The examples: the graphs that they assemble do what they say, within their length, and the scripts run."""

from __future__ import annotations

import asyncio
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import approval
import critic
import neuronscope as ns
import no_decomposition
import own_key
import two_refiners
from agent_helpers import answering
from neuronscope.errors import LLMError
from neuronscope.graphs import build_neuron_graph
from planted import (
    AGENTS,
    ANIMAL_MODE,
    BETTER_ANIMALS,
    BETTER_COLOURS,
    BOTH,
    COLOUR_MODE,
    DEAD,
    clustering,
    instruments,
    proposed,
)
from test_sharing import LetterEmbeddings

EXAMPLES = Path(__file__).parent.parent / "examples"
VAGUE = "This neuron activates on words that matter in their context."


async def both_kinds(state: Any, runtime: Any) -> Any:
    """Proposes the better sentence behind a vague one."""
    better = BETTER_COLOURS if "red" in state["mode"].explanation else BETTER_ANIMALS
    return proposed(state, [VAGUE, better])


def simulated(context: Any) -> set[str]:
    return {text for explanations, _ in context.simulator.calls for text in explanations}


async def explain(graph: Any, context: Any, neuron: ns.Neuron = BOTH) -> ns.NeuronExplanation:
    explanation: ns.NeuronExplanation = (await graph.ainvoke({"neuron": neuron}, context=context))["explanation"]
    return explanation


async def test_a_vetoed_candidate_is_never_measured() -> None:
    context, agents = instruments(config=ns.ExplainConfig(null_explanations=0)), AGENTS | {"refinement": both_kinds}
    x = await explain(critic.graph_with_critic(**agents), context)
    assert simulated(context) == {COLOUR_MODE, ANIMAL_MODE, BETTER_COLOURS, BETTER_ANIMALS}
    assert {mode.explanation for mode in x.modes} == {BETTER_COLOURS, BETTER_ANIMALS}
    await explain(build_neuron_graph(**agents), without := instruments())
    assert VAGUE in simulated(without)


@pytest.mark.usefixtures("every_gain_counts")
async def test_a_critic_with_a_chat_model_asks_it() -> None:
    llm = answering(lambda messages: "Vague." if "blue" in str(messages[-1].content) else "Specific.")
    context = instruments(llm=llm, config=ns.ExplainConfig(halving=False))
    x = await explain(critic.graph_with_critic(**(AGENTS | {"refinement": both_kinds})), context)
    assert BETTER_COLOURS not in simulated(context)
    assert {mode.explanation for mode in x.modes} == {COLOUR_MODE, BETTER_ANIMALS}
    assert x.usage.requests["critic"] == len(llm.prompts)


async def drafts(state: Any, runtime: Any) -> dict[str, Any]:
    return {"hypotheses": [COLOUR_MODE, ANIMAL_MODE]}


async def test_a_graph_without_decomposition_clusters_its_hypotheses() -> None:
    agents = {"hypothesis": drafts, "clustering": clustering, "refinement": AGENTS["refinement"]}
    graph = no_decomposition.graph_without_decomposition(**agents)
    steps = []
    async for update in graph.astream({"neuron": BOTH}, context=instruments(), stream_mode="updates"):
        steps += update
    assert steps == ["observe", "hypothesis", "clustering", "refine", "conclude"]
    x = await explain(graph, instruments())
    assert {mode.explanation for mode in x.modes} == {BETTER_COLOURS, BETTER_ANIMALS}
    assert x.atoms == []
    assert [cluster.atoms for cluster in x.clusters] == [[COLOUR_MODE], [ANIMAL_MODE]]


async def test_a_graph_without_decomposition_ends_early_as_the_whole_graph_does() -> None:
    async def fails(state: Any, runtime: Any) -> None:
        raise LLMError("no answer")

    graph = no_decomposition.graph_without_decomposition(hypothesis=fails, clustering=clustering)
    assert (await explain(graph, instruments(), DEAD)).status == "dead"
    assert (await explain(graph, instruments())).status == "partial"


async def test_of_two_refiners_the_better_candidate_wins() -> None:
    too_long = 'This neuron activates on "red", "green" or "road".'

    async def clusters(state: Any, runtime: Any) -> dict[str, Any]:
        return await clustering({"atoms": [too_long]}, runtime)

    async def stubborn(state: Any, runtime: Any) -> Any:
        return proposed(state, [VAGUE])

    refinement = two_refiners.Competing(stubborn, two_refiners.shorten)
    x = await explain(
        build_neuron_graph(**(AGENTS | {"clustering": clusters, "refinement": refinement})), instruments()
    )
    assert x.modes[0].explanation == 'This neuron activates on "red", "green" or.'


@pytest.mark.parametrize(
    ("answer", "expected"), [("y", {BETTER_COLOURS, BETTER_ANIMALS}), ("n", {COLOUR_MODE, ANIMAL_MODE})]
)
async def test_only_what_a_human_lets_through_is_measured(
    answer: str, expected: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    context, real = instruments(), approval.graph_with_approval
    monkeypatch.setattr(approval, "graph_with_approval", lambda: real(**AGENTS))
    asked: list[str] = []

    def ask(question: str) -> str:
        asked.append(question)
        return answer

    x = await approval.explain(BOTH, SimpleNamespace(instruments=lambda neuron: context), ask)
    assert {mode.explanation for mode in x.modes} == expected
    assert any(BETTER_COLOURS in question for question in asked)


async def test_a_key_of_ones_own_goes_through_the_whole_graph() -> None:
    graph = own_key.graph_with_remarks(**AGENTS)
    state = await graph.ainvoke({"neuron": BOTH}, context=instruments())
    assert [remark.split(":")[0] for remark in state["remarks"]] == ["hypotheses", "explanation"]
    assert state["explanation"].number == 2


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_an_example_is_short_and_its_script_runs(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(path.read_text("utf-8").splitlines()) <= (40 if path.stem == "critic" else 60)

    class Lab:
        """What `Setup.open` gives, over the small world of the tests."""

        def __init__(self, **_: Any) -> None: ...

        def open(self, layers: list[int]) -> Lab:
            return self

        def __enter__(self) -> Lab:
            return self

        def __exit__(self, *_: object) -> None: ...

        def instruments(self, neuron: ns.Neuron) -> Any:
            return instruments(embeddings=LetterEmbeddings())

    monkeypatch.setattr(ns, "Setup", Lab, raising=False)
    monkeypatch.setattr(ns, "Neuron", lambda *_: BOTH)
    monkeypatch.setattr(sys, "argv", [path.name])
    monkeypatch.setattr("builtins.input", lambda _: "y")
    runpy.run_path(str(path), run_name="__main__")
    assert "neuron activates" in capsys.readouterr().out
    asyncio.set_event_loop(None)
