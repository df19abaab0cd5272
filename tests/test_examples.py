"""The examples: the graphs that they assemble do what they say, and the scripts run."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage

import critic
import no_decomposition
from agent_helpers import answering
from neuronscope.config import ExplainConfig
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
)
from small_world import write_small_world

EXAMPLES = Path(__file__).parent.parent / "examples"
HEDGED = 'This neuron activates on "red", "green", "blue" and various other words.'
LISTED = "This neuron activates on " + ", ".join(f'"word{number}"' for number in range(17)) + "."


async def both_kinds(state: Any, runtime: Any) -> dict[str, Any]:
    """Proposes the better sentence between two vague ones, of which one scores as high."""
    better = BETTER_COLOURS if "red" in state["mode"].explanation else BETTER_ANIMALS
    return {"candidates": [HEDGED, better, LISTED]}


async def explain_with_critic(context: Any, agent: Any = both_kinds) -> tuple[Any, dict[str, str]]:
    """The whole graph with the example's loop: the explanation, and the vetoes that the stream shows."""
    graph = build_neuron_graph(**(AGENTS | {"refinement": critic.refinement_with_critic(agent)}))
    vetoes: dict[str, str] = {}
    async for _, update in graph.astream({"neuron": BOTH}, context=context, stream_mode="updates", subgraphs=True):
        vetoes |= (update.get("critic") or {}).get("vetoes", {})
        if "conclude" in update:
            explanation = update["conclude"]["explanation"]
    return explanation, vetoes


def simulated(context: Any) -> set[str]:
    return {text for explanations, _ in context.simulator.calls for text in explanations}


async def test_a_vetoed_candidate_is_never_measured() -> None:
    context = instruments()
    x, vetoes = await explain_with_critic(context)

    assert vetoes == {HEDGED: 'says "various"', LISTED: "lists 17 conditions"}
    assert simulated(context) == {COLOUR_MODE, ANIMAL_MODE, BETTER_COLOURS, BETTER_ANIMALS}
    assert {mode.explanation for mode in x.modes} == {BETTER_COLOURS, BETTER_ANIMALS}
    assert x.score > x.unrefined_score
    assert x.status == "explained"


async def test_without_the_critic_the_same_candidates_are_measured() -> None:
    context = instruments()
    graph = build_neuron_graph(**(AGENTS | {"refinement": both_kinds}))
    await graph.ainvoke({"neuron": BOTH}, context=context)
    assert {HEDGED, LISTED} <= simulated(context)


async def test_a_round_without_a_candidate_left_changes_nothing() -> None:
    async def only_vague(state: Any, runtime: Any) -> dict[str, Any]:
        return {"candidates": [HEDGED]}

    x, vetoes = await explain_with_critic(instruments(), only_vague)

    assert list(vetoes) == [HEDGED]
    assert {mode.explanation for mode in x.modes} == {COLOUR_MODE, ANIMAL_MODE}
    assert [len(mode.history) for mode in x.modes] == [1, 1]
    assert x.failures == []


async def test_a_chat_model_is_asked_about_what_the_rule_lets_pass() -> None:
    llm = answering(lambda messages: "Vague: what is a colour?" if "blue" in str(messages[-1].content) else "Specific")
    context = instruments(llm=llm)
    _, vetoes = await explain_with_critic(context)

    assert vetoes[BETTER_COLOURS] == "Vague: what is a colour?"
    assert BETTER_COLOURS not in simulated(context)
    assert BETTER_ANIMALS in simulated(context)
    assert not any(text in prompt for prompt in llm.prompts for text in (HEDGED, LISTED))


async def test_a_critic_that_cannot_be_asked_is_reported_and_the_loop_goes_on() -> None:
    context = instruments(llm=answering(lambda messages: LLMError("critic: no answer")))
    x, vetoes = await explain_with_critic(context)

    assert vetoes == {}
    assert {HEDGED, LISTED} <= simulated(context)
    assert {failure.agent for failure in x.failures} == {"critic"}
    assert x.status == "partial"


async def test_calls_of_an_agents_own_pass_the_critic() -> None:
    async def curious(state: Any, runtime: Any) -> dict[str, Any]:
        if len(state["messages"]) > 2:
            return {"candidates": [BETTER_COLOURS]}
        call = {"name": "capture_activations", "args": {"texts": ["a red house"]}, "id": "1"}
        return {"candidates": [HEDGED], "messages": [AIMessage(content="", tool_calls=[call])]}

    _, vetoes = await explain_with_critic(instruments(), curious)
    assert vetoes == {}


async def test_experiments_pass_the_critic() -> None:
    class Experimenter:
        async def __call__(self, state: Any, runtime: Any) -> dict[str, Any]:
            return await both_kinds(state, runtime)

        async def experiment(self, state: Any, runtime: Any) -> dict[str, Any]:
            call = {"name": "capture_activations", "args": {"texts": ["a red house"], "near_misses": []}, "id": "1"}
            return {"messages": [AIMessage(content="", tool_calls=[call])]}

    context = instruments(config=ExplainConfig(experiments=True))
    x, vetoes = await explain_with_critic(context, Experimenter())
    assert list(vetoes) == [HEDGED, LISTED]
    assert x.status == "explained"
    assert all(mode.experiments for mode in x.modes)


async def drafts(state: Any, runtime: Any) -> dict[str, Any]:
    return {"hypotheses": [COLOUR_MODE, ANIMAL_MODE]}


async def test_a_graph_without_decomposition_clusters_its_drafts() -> None:
    agents = {"hypothesis": drafts, "clustering": clustering, "refinement": AGENTS["refinement"]}
    graph = no_decomposition.graph_without_decomposition(**agents)
    steps, x = [], None
    async for update in graph.astream({"neuron": BOTH}, context=instruments(), stream_mode="updates"):
        steps += update
        x = update.get("conclude", {}).get("explanation", x)

    assert steps == ["observe", "hypothesis", "clustering", "refine", "refine", "conclude"]
    assert {mode.explanation for mode in x.modes} == {BETTER_COLOURS, BETTER_ANIMALS}
    assert x.atoms == []
    assert [cluster.atoms for cluster in x.clusters] == [[COLOUR_MODE], [ANIMAL_MODE]]
    assert x.score > x.unrefined_score


async def test_without_decomposition_a_broad_draft_stays_one_mode() -> None:
    broad = 'This neuron activates on "red", "green", "blue", "cat", "dog" or "horse".'

    async def one_draft(state: Any, runtime: Any) -> dict[str, Any]:
        return {"hypotheses": [broad]}

    async def nothing_new(state: Any, runtime: Any) -> dict[str, Any]:
        return {"candidates": []}

    graph = no_decomposition.graph_without_decomposition(one_draft, clustering, nothing_new)
    x = await no_decomposition.explain(graph, BOTH, instruments())
    assert (x.number, x.modes[0].explanation) == (1, broad)
    assert x.score == x.joint_score > 0.9


async def test_a_graph_without_decomposition_ends_early_as_the_whole_graph_does() -> None:
    async def fails(state: Any, runtime: Any) -> None:
        raise LLMError("no answer")

    dead = no_decomposition.graph_without_decomposition(fails, clustering)
    assert (await no_decomposition.explain(dead, DEAD, instruments())).status == "dead"
    assert (await no_decomposition.explain(dead, BOTH, instruments())).status == "partial"


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: Any) -> list[str]:
    """What the scripts are called with: a tiny model, a text on disk, and a neuron."""
    world = write_small_world(tmp_path_factory.mktemp("world"), tiny_tokenizer)
    place = ["--subject", world.model, "--corpus", world.texts]
    return [*place, "--layer", "1", "--neuron", "7", "--n-tokens", "20000"]


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("critic", ["candidates were vetoed:", "conditions: This neuron activates"]),
        ("no_decomposition", ["The graph without decomposition: 0 atoms, 1 modes", "The graph whole: "]),
    ],
)
def test_the_scripts_run(
    name: str,
    lines: list[str],
    options: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("NEURONSCOPE_CACHE", str(tmp_path))
    monkeypatch.setattr(sys, "argv", [name, *options])
    with pytest.raises(SystemExit, match="0"):
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    printed = capsys.readouterr().out
    assert all(line in printed for line in [*lines, "Layer 1, neuron 7, large positive values"])
