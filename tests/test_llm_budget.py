"""What asking costs, and where it ends."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage
from langchain_openai import ChatOpenAI

import neuronscope as ns
from agent_helpers import scripted
from fake_openai import Reply, fake_openai
from neuronscope.llm import AnswerCache, UsageTracker, ask
from neuronscope.llm.budget import PRICES_VARIABLE, price
from neuronscope.llm.usage_log import UsageLog
from neuronscope.results import Usage

QUESTION = [HumanMessage("What does it like?")]


def answer(n_input: int = 1_000_000, n_output: int = 1_000_000, **details: Any) -> AIMessage:
    usage: Any = {"input_tokens": n_input, "output_tokens": n_output, "total_tokens": n_input + n_output, **details}
    return AIMessage("It likes water.", usage_metadata=usage)


@pytest.fixture
def prices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fake server's model costs 1 dollar per thousand tokens of either kind."""
    file = tmp_path / "prices.json"
    file.write_text(json.dumps({"fake": {"input": 1000, "output": 1000}}))
    monkeypatch.setenv(PRICES_VARIABLE, str(file))


# Prices


def test_a_published_price_is_known() -> None:
    gpt_4o = ChatOpenAI(model="gpt-4o", api_key="none")
    assert price(gpt_4o, answer()) == pytest.approx(12.5)


def test_what_the_provider_had_in_its_cache_is_cheaper() -> None:
    gpt_4o = ChatOpenAI(model="gpt-4o", api_key="none")
    full, part = answer(), answer(input_token_details={"cache_read": 500_000})
    assert (price(gpt_4o, part) or 0) < (price(gpt_4o, full) or 0)


def test_the_same_name_on_another_server_has_no_known_price() -> None:
    own = ChatOpenAI(model="gpt-4o", api_key="none", base_url="http://127.0.0.1:1/v1")
    assert price(own, answer()) is None


def test_a_model_that_nobody_lists_has_no_known_price() -> None:
    assert price(scripted(), answer()) is None


@pytest.mark.usefixtures("prices")
def test_a_price_of_ones_own_goes_before_all() -> None:
    own = ChatOpenAI(model="fake", api_key="none", base_url="http://127.0.0.1:1/v1")
    assert price(own, answer(1000, 500)) == pytest.approx(1.5)


@pytest.mark.parametrize("content", ["{", '{"fake": 3}', '{"fake": {"input": 3}}', "[]"])
def test_prices_that_cannot_be_read_are_an_error(content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "prices.json"
    file.write_text(content)
    monkeypatch.setenv(PRICES_VARIABLE, str(file))
    with pytest.raises(ns.ConfigurationError, match="dollars per million tokens"):
        price(scripted(), answer())


# Accounting


def test_costs_add_up_per_agent_and_what_is_unknown_stays_unknown() -> None:
    gpt_4o, usage = ChatOpenAI(model="gpt-4o", api_key="none"), UsageTracker()
    for _ in range(2):
        usage.record("hypothesis", answer(), llm=gpt_4o)
    assert Usage(**usage.counts()).total_dollars == pytest.approx(25.0)
    usage.record("refinement", answer(), llm=gpt_4o)
    usage.record("refinement", answer(), llm=scripted())
    usage = Usage(**usage.counts())
    assert usage.dollars["hypothesis"] == pytest.approx(25.0)
    assert usage.dollars["refinement"] is None
    assert usage.total_dollars is None


def test_a_row_of_the_usage_is_what_one_agent_cost() -> None:
    usage = UsageTracker()
    usage.record("refinement", answer(10, 5), llm=ChatOpenAI(model="gpt-4o", api_key="none"), answers=8)
    usage.record_cached("hypothesis")
    by_agent = Usage(**usage.counts()).by_agent
    row = by_agent["refinement"]
    assert (row.requests, row.answers, row.cached, row.input_tokens, row.output_tokens) == (1, 8, 0, 10, 5)
    assert row.dollars == pytest.approx(75e-6)
    assert (by_agent["hypothesis"].cached, by_agent["hypothesis"].dollars) == (1, 0.0)


def test_a_result_saved_before_costs_were_counted_has_unknown_costs() -> None:
    old = Usage({"hypothesis": 3}, {"hypothesis": 30}, {"hypothesis": 9})
    assert old.by_agent["hypothesis"].answers == 3
    assert old.total_dollars is None


def test_no_request_costs_nothing() -> None:
    assert Usage(**UsageTracker().counts()).total_dollars == 0.0


# Budgets in words


@pytest.mark.parametrize("text", ["5$", "$5", "5 $", "5 USD", "5 dollars", "5.0$"])
def test_dollars(text: str) -> None:
    budget = ns.Budget.parse(text)
    assert (budget.dollars, budget.tokens, str(budget)) == (5.0, None, "$5")


@pytest.mark.parametrize("text", ["200k tokens", "200K tokens", "200,000 tokens", "200_000 tokens", "0.2M tokens"])
def test_tokens(text: str) -> None:
    budget = ns.Budget.parse(text)
    assert (budget.dollars, budget.tokens, str(budget)) == (None, 200_000, "200,000 tokens")


@given(st.one_of(st.integers(1, 10**9), st.floats(0.01, 10**6)))
def test_a_budget_is_read_back_from_its_words(amount: float) -> None:
    budget = ns.Budget(tokens=amount) if isinstance(amount, int) else ns.Budget(dollars=amount)
    again = ns.Budget.parse(str(budget))
    assert again.tokens == budget.tokens
    assert again.dollars == (budget.dollars and pytest.approx(budget.dollars, abs=0.000_051))  # four decimals


@pytest.mark.parametrize("text", ["", "5", "five dollars", "-5$", "0$", "0 tokens", "1.2.3$", "5€", "5k$", "tokens"])
def test_what_is_no_budget_is_an_error(text: str) -> None:
    with pytest.raises(ns.ConfigurationError):
        ns.Budget.parse(text)


def test_a_budget_is_of_one_kind() -> None:
    with pytest.raises(ns.ConfigurationError):
        ns.Budget(dollars=1, tokens=1)
    with pytest.raises(ns.ConfigurationError):
        ns.Budget()


# Budgets that end


async def test_tokens_that_are_spent_end_it_and_nothing_more_is_asked() -> None:
    budget = ns.Budget(tokens=200)
    with fake_openai(Reply()) as server:
        model = server.model()
        for agent in ("hypothesis", "decomposition"):  # 110 tokens each
            await ask(model, QUESTION, agent, usage=UsageTracker(budget=budget))
        with pytest.raises(
            ns.BudgetExceededError, match=r"refinement: the budget of 200 tokens is spent \(220 tokens\)"
        ):
            await ask(model, QUESTION, "refinement", usage=UsageTracker(budget=budget))
        assert len(server.requests) == 2


@pytest.mark.usefixtures("prices")
async def test_dollars_that_are_spent_end_it() -> None:
    budget = ns.Budget.parse("0.1$")
    with fake_openai(Reply()) as server:
        usage, model = UsageTracker(budget=budget), server.model()
        await ask(model, QUESTION, "hypothesis", usage=usage)  # 110 tokens: 11 cents
        with pytest.raises(ns.BudgetExceededError, match=r"\$0\.1 is spent \(\$0\.1100\)"):
            await ask(model, QUESTION, "hypothesis", usage=usage)
    assert usage.counts()["dollars"] == {"hypothesis": pytest.approx(0.11)}


async def test_dollars_without_a_price_are_refused_before_anything_is_spent() -> None:
    with fake_openai(Reply()) as server:
        with pytest.raises(ns.BudgetExceededError, match=r"no known price.*NEURONSCOPE_PRICES"):
            await ask(server.model(), QUESTION, "hypothesis", usage=UsageTracker(budget=ns.Budget(dollars=1)))
        assert server.requests == []


async def test_a_server_that_reports_no_tokens_cannot_run_away() -> None:
    with fake_openai(Reply(usage=None)) as server:
        usage, model = UsageTracker(budget=ns.Budget(tokens=1_000_000)), server.model()
        await ask(model, QUESTION, "hypothesis", usage=usage)
        with pytest.raises(ns.BudgetExceededError, match="reports no tokens"):
            await ask(model, QUESTION, "hypothesis", usage=usage)


async def test_with_a_larger_budget_it_goes_on_where_it_stopped(tmp_path: Path) -> None:
    questions = [[HumanMessage(f"Question {number}")] for number in range(4)]
    with fake_openai(Reply()) as server:
        model, file = server.model(), tmp_path / "answers.sqlite"
        for tokens, asked in ((200, 2), (440, 4)):
            usage = UsageTracker(budget=ns.Budget(tokens=tokens), cache=AnswerCache(file))
            try:
                for question in questions:
                    await ask(model, question, "hypothesis", usage=usage)
            except ns.BudgetExceededError:
                assert tokens == 200
            assert len(server.requests) == asked
    assert usage.counts()["cached"] == {"hypothesis": 2}


# What the provider had in its cache, and what it takes its time for


async def test_tokens_that_the_provider_had_in_its_cache_are_counted(tmp_path: Path) -> None:
    reported = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
    log = UsageLog(tmp_path / "costs.sqlite")
    with fake_openai(Reply(usage=reported | {"prompt_tokens_details": {"cached_tokens": 64}})) as server:
        usage = UsageTracker(log=log.of("9/740"))
        for _ in range(2):
            await ask(server.model(), QUESTION, "simulator", usage=usage)
    assert usage.counts()["cached_input_tokens"] == {"simulator": 128}
    assert UsageTracker(log=log.of("9/740")).counts() == usage.counts(), "a run that goes on counts on"
    assert Usage(**usage.counts()).by_agent["simulator"].cached_input_tokens == 128


@pytest.mark.parametrize("reported", ["cache_read", "flex_cache_read"])
def test_a_slower_tier_costs_what_it_costs(reported: str) -> None:
    gpt_5 = ChatOpenAI(model="gpt-5", api_key="none")
    message = answer(input_token_details={reported: 500_000})
    standard = price(gpt_5, message)
    message.response_metadata["service_tier"] = "flex"
    assert price(gpt_5, message) == pytest.approx((standard or 0) / 2)
    assert (standard or 0) < (price(gpt_5, answer()) or 0), "what was cached is cheaper"


def test_a_log_that_an_earlier_version_began_goes_on(tmp_path: Path) -> None:
    file = tmp_path / "costs.sqlite"
    with sqlite3.connect(file) as database:
        database.execute(
            "CREATE TABLE requests (neuron TEXT, agent TEXT, requests INT, answers INT, cached INT, input_tokens INT, "
            "output_tokens INT, dollars REAL, counted INT)"
        )
        database.execute("INSERT INTO requests VALUES ('9/740', 'hypothesis', 1, 1, 0, 10, 5, 0.5, 1)")
    usage = UsageTracker(log=UsageLog(file).of("9/740"))
    usage.record_cached("hypothesis")
    counts = UsageTracker(log=UsageLog(file).of("9/740")).counts()
    assert (counts["requests"], counts["cached"], counts["dollars"]) == (
        {"hypothesis": 1},
        {"hypothesis": 1},
        {"hypothesis": 0.5},
    )
