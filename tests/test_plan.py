"""What a plan says beforehand is what a run then takes."""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import neuronscope as ns
from fake_openai import FakeOpenAI, Reply, fake_openai
from many import AGENTS, DEAD, ManySubject, arguments
from planted import ANIMALS, COLOURS, FILLER, MemorySource, StratifiedMemory, documents

NEURONS = [ns.Neuron(0, index) for index in range(21) if index != DEAD.index][:20]
CONFIG = ns.ExplainConfig(max_concurrency=16)
PRICES = {agent: {"input": 2.5, "output": 10.0} for agent in AGENTS}
WITHIN = 1.5


def answer(request: dict[str, Any], number: int) -> Reply:
    """What a model says: answers of several lengths, two to five conditions, eight candidates; and what it counts."""
    prompt = "\n".join(str(message["content"]) for message in request["messages"])
    draw = random.Random(hashlib.sha256(prompt.encode()).hexdigest())
    agent, words = request["model"], [*COLOURS, *ANIMALS, *FILLER[:3]]
    if agent == "hypothesis":
        text = " ".join(f"It activates on {' and '.join(draw.sample(words, 2))}." for _ in range(draw.randint(6, 12)))
    else:
        n = draw.randint(2, 5) if agent == "decomposition" else 8
        quoted = [f'"{first}" or "{second}"' for first, second in (draw.sample(words, 2) for _ in range(n))]
        sentences = [f"This neuron activates on {each}." for each in quoted]
        text = json.dumps({"sentences": sentences} if "response_format" in request else sentences)
    asked, said = len(prompt) // 4, len(text) // 4
    return Reply(text, usage={"prompt_tokens": asked, "completion_tokens": said, "total_tokens": asked + said})


@pytest.fixture(autouse=True)
def prices(own_cache: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "prices.json").write_text(json.dumps(PRICES))
    monkeypatch.setenv("NEURONSCOPE_PRICES", str(tmp_path / "prices.json"))


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    with fake_openai(answer) as running:
        yield running


def later(seconds: float) -> Callable[[dict[str, Any], int], Reply]:
    """The same after some time."""

    def wait(request: dict[str, Any], number: int) -> Reply:
        time.sleep(seconds)
        return answer(request, number)

    return wait


def opened(server: FakeOpenAI, **changes: Any) -> ns.Session:
    given = arguments(server.address, **{"config": CONFIG, **changes})
    given.pop("progress")
    if "store" not in changes:
        given["store"] = MemorySource(ManySubject(), documents(400))
        given["subject"] = given["store"].subject
    return ns.Setup(**given).open(layers=[0])


def taken(results: list[ns.NeuronExplanation]) -> dict[str, float]:
    """What a run has taken."""
    usages = [x.usage for x in results]
    return {
        "requests": sum(sum(usage.requests.values()) for usage in usages),
        "input_tokens": sum(sum(usage.input_tokens.values()) for usage in usages),
        "output_tokens": sum(sum(usage.output_tokens.values()) for usage in usages),
        "dollars": sum(usage.total_dollars or 0.0 for usage in usages),
        "simulated_tokens": sum(usage.simulated_tokens for usage in usages),
    }


def near(plan: ns.Plan, run: dict[str, float]) -> dict[str, float]:
    """How many times what a run has taken the plan has said, where that is more than a factor of 1.5."""
    found = {name: getattr(plan, name) / amount for name, amount in run.items()}
    return {name: ratio for name, ratio in found.items() if not 1 / WITHIN < ratio < WITHIN}


@pytest.mark.usefixtures("every_gain_counts")
def test_planned_by_a_sample_of_one_it_is_near_what_twenty_neurons_take(server: FakeOpenAI, tmp_path: Path) -> None:
    lab, out = opened(server), tmp_path / "run"
    stated = lab.plan(NEURONS, out=out)
    assert (len(server.requests), out.exists(), stated.measured) == (0, False, 0)
    plan = lab.plan(NEURONS, out=out, sample=1)
    assert (plan.measured, plan.finished, plan.left) == (1, 1, 19)
    assert plan.seconds, "benchmarks/plan.py compares it with what a run takes"
    asked = len(server.requests)
    run = taken(list(lab.explain_many(NEURONS, out=out, progress=False)))
    rest = {name: amount - getattr(plan.spent, name) for name, amount in run.items()}
    assert not near(plan, rest)
    assert not near(stated, {name: run[name] for name in ("requests", "input_tokens")})
    simulated = stated.simulated_tokens / run["simulated_tokens"]
    assert 1 < simulated < 1.6, "these agents say fewer conditions than the eight of a hypothesis that are expected"
    assert all(getattr(stated.at_most, name) >= amount for name, amount in run.items())
    assert plan.spent.requests == asked
    assert len(server.requests) - asked == rest["requests"], "the sample is not paid for twice"


def test_without_a_folder_the_answers_of_the_sample_are_kept(server: FakeOpenAI) -> None:
    lab = opened(server)
    plan = lab.plan(NEURONS[:3], sample=1)
    asked = len(server.requests)
    assert plan.left == 3
    run = taken(list(lab.explain_many(NEURONS[:3], progress=False)))
    assert len(server.requests) - asked == run["requests"]
    assert 2 * CONFIG.n_hypotheses <= plan.agents["hypothesis"].requests <= 4 * CONFIG.n_hypotheses, "for two neurons"
    again = lab.plan(NEURONS[:3], sample=1)
    assert "answers of the sample came from the cache" in str(again)


def test_what_is_finished_is_not_left_and_tells_what_the_others_take(server: FakeOpenAI, tmp_path: Path) -> None:
    lab = opened(server)
    done = taken(list(lab.explain_many(NEURONS[:4], out=tmp_path / "run", progress=False)))
    asked = len(server.requests)
    plan = lab.plan(NEURONS[:8], out=tmp_path / "run")
    assert (plan.neurons, plan.finished, plan.left, plan.measured) == (8, 4, 4, 4)
    assert not near(plan, done)
    assert plan.seconds, "as they took"
    assert "4 of 8 are finished" in str(plan)
    whole = lab.plan(NEURONS[:4], out=tmp_path / "run", sample=2)
    assert (whole.left, whole.requests, whole.dollars, whole.simulated_tokens, whole.seconds) == (0, 0, 0, 0, 0)
    assert len(server.requests) == asked
    with pytest.raises(ns.ConfigurationError, match=r"another config\.seed"):
        opened(server, config=CONFIG.model_copy(update={"seed": 1})).plan(NEURONS[:4], out=tmp_path / "run")


def test_what_cannot_be_known_is_unknown_and_not_nothing(server: FakeOpenAI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NEURONSCOPE_PRICES")
    unlimited = CONFIG.model_copy(update={"max_modes": None})
    plan = opened(server, config=unlimited).plan(NEURONS)
    assert (plan.dollars, plan.seconds, plan.hours) == (None, None, None), "nobody knows how fast a local server is"
    assert plan.requests
    assert plan.tokens == plan.agents["hypothesis"].tokens + plan.agents["decomposition"].tokens + (
        plan.agents["refinement"].tokens
    )
    assert (plan.at_most.requests, plan.at_most.dollars, plan.at_most.simulated_tokens) == (None, None, None)
    printed = str(plan)
    assert "Dollars" in printed
    assert "$" not in printed
    assert "No price is known" in printed
    sampled = opened(server, config=unlimited).plan(NEURONS, sample=1)
    assert sampled.seconds
    assert sampled.dollars is None


def test_without_a_language_model_nothing_is_asked_and_that_is_known(server: FakeOpenAI) -> None:
    lab = opened(server, llm="offline", base_url=None)
    plan = lab.plan(NEURONS)
    assert (plan.requests, plan.tokens, plan.dollars) == (0, 0, 0.0)
    assert (plan.at_most.requests, plan.at_most.dollars) == (0, 0.0)
    assert plan.simulated_tokens
    assert plan.seconds


def test_the_sequences_of_the_corpus_score_are_counted_where_there_are_any(server: FakeOpenAI) -> None:
    stores = {kind: kind(ManySubject(), documents(390)) for kind in (MemorySource, StratifiedMemory)}
    labs = {kind: opened(server, store=store, subject=store.subject) for kind, store in stores.items()}
    plans = {kind: lab.plan(NEURONS[:1]) for kind, lab in labs.items()}
    run = taken(list(labs[StratifiedMemory].explain_many(NEURONS[:1], progress=False)))
    assert plans[StratifiedMemory].simulated_tokens > 1.05 * plans[MemorySource].simulated_tokens
    assert plans[StratifiedMemory].at_most.simulated_tokens >= run["simulated_tokens"]
    assert 1 / 2 < plans[StratifiedMemory].simulated_tokens / run["simulated_tokens"] < 2


def test_a_budget_is_compared_with_what_the_neurons_need(server: FakeOpenAI) -> None:
    plan = opened(server, budget="0.2$").plan(NEURONS)
    assert plan.dollars
    assert plan.affordable == int(20 * 0.2 / plan.dollars)
    assert f"about {plan.affordable} of 20" in str(plan)
    assert opened(server, budget="9M tokens").plan(NEURONS).affordable == 20
    assert not server.requests


def test_more_neurons_at_once_wait_together_and_limits_hold(tmp_path: Path) -> None:
    with fake_openai(later(0.1)) as slow:
        lab = opened(slow)
        list(lab.explain_many(NEURONS[:1], out=tmp_path, progress=False))
        one, eight = (lab.plan(NEURONS, out=tmp_path, parallel=parallel) for parallel in (1, 8))
        limited = opened(slow, config=CONFIG.model_copy(update={"requests_per_second": 0.5})).plan(
            NEURONS, out=tmp_path
        )
    assert one.requests == eight.requests == limited.requests
    assert one.seconds > eight.seconds
    assert limited.seconds == pytest.approx(2 * limited.requests, rel=0.01)


def test_the_papers_candidates_come_as_answers_to_one_request(server: FakeOpenAI) -> None:
    plan = opened(server, config=ns.ExplainConfig.paper()).plan(NEURONS)
    rounds = 20 * 3.2 * 5
    assert plan.agents["refinement"].requests == pytest.approx(rounds)
    assert plan.agents["refinement"].output_tokens == pytest.approx(rounds * 8 * 35)


def test_a_simulator_that_asks_is_an_agent_among_the_others(server: FakeOpenAI) -> None:
    lab = opened(server, simulator="chat", llm="openai:refinement")
    plan = lab.plan(NEURONS)
    assert set(plan.agents) == {*AGENTS, "simulator"}
    assert plan.agents["simulator"].requests > plan.agents["refinement"].requests
    assert plan.agents["simulator"].dollars > 0
    assert not server.requests


def test_dead_neurons_take_nothing(server: FakeOpenAI) -> None:
    class Knowing(MemorySource):
        def max_activation(self, layer: int, sign: int = 1) -> Any:
            return [0.0 if index == DEAD.index else 1.0 for index in range(40)]

    store = Knowing(ManySubject(), documents(400))
    lab = opened(server, store=store, subject=store.subject)
    assert lab.plan([*NEURONS[:2], DEAD]).requests == lab.plan(NEURONS[:2]).requests
    assert lab.plan([DEAD], sample=1).requests == 0


def test_a_neuron_that_turns_out_dead_is_no_sample(server: FakeOpenAI) -> None:
    plan = opened(server).plan([DEAD, *NEURONS[:3]], sample=1)
    assert plan.measured == 1
    assert plan.requests > 0


def test_it_is_shown_in_notebooks_and_as_data(server: FakeOpenAI) -> None:
    plan = opened(server).plan(NEURONS)
    page = plan._repr_html_()
    assert "<table>" in page
    assert "At most" in page
    assert json.loads(json.dumps(plan.to_dict()))["expected"]["requests"] == plan.requests
