"""Methods by name, on the same neurons: what each is made of, and how rows are compared."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from langchain_core.messages import BaseMessage

import neuronscope as ns
from agent_helpers import ScriptedModel, answering, scripted, text_of
from neuronscope.baselines import (
    BestOfN,
    Clustered,
    Experimenter,
    FirstMode,
    LookupTable,
    RandomDescription,
    baseline,
    named_baselines,
    resolve_baselines,
)
from neuronscope.graphs import score_explainer
from neuronscope.interfaces import Explained
from neuronscope.results import Usage
from planted import (
    ANIMAL_MODE,
    ANIMALS,
    BETTER_ANIMALS,
    BETTER_COLOURS,
    BOTH,
    COLOUR_MODE,
    COLOURS,
    DEAD,
    NEGATIVE,
    instruments,
)
from test_baselines import EVERYTHING, Alike, lab

HOUSE = 'This neuron activates on "house".'
ROAD = 'This neuron activates on "road".'


def explained(neuron: ns.Neuron, *modes: ns.Mode, **changes: Any) -> ns.NeuronExplanation:
    """What `explain` might have found."""
    clusters = [ns.Cluster([mode.representative], mode.representative) for mode in modes]
    return ns.NeuronExplanation(neuron, "explained", list(modes), clusters=clusters, **changes)


def refined(before: str, after: str, val_score: float = 0.5, score: float = 0.5) -> ns.Mode:
    history = [ns.Attempt(0, before, 0.1), ns.Attempt(1, after, val_score, gain=0.1)]
    return ns.Mode(after, score=score, val_score=val_score, history=history)


FOUND = {
    BOTH: explained(
        BOTH,
        refined(ANIMAL_MODE, BETTER_ANIMALS, val_score=0.4, score=0.9),
        refined(COLOUR_MODE, BETTER_COLOURS, val_score=0.6, score=0.8),
        usage=Usage(requests={"hypothesis": 3, "decomposition": 1, "refinement": 9}, input_tokens={"refinement": 50}),
    ),
    NEGATIVE: explained(NEGATIVE, ns.Mode(HOUSE), ns.Mode(ROAD)),
}


async def sentences_of(explainer: Any, neuron: ns.Neuron = BOTH, **changes: Any) -> set[str]:
    scored = await score_explainer(explainer, neuron, instruments(embeddings=Alike(), **changes))
    return set() if scored.explanation is None else {mode.explanation for mode in scored.explanation.modes}


def one(name: str) -> Any:
    (found,) = resolve_baselines(name, FOUND)
    return found


# Names


def test_every_baseline_is_found_by_its_name_and_by_one_with_a_number() -> None:
    found = resolve_baselines("single_pass, best_of_k:3,clustered:2,token_lookup:10", FOUND)
    assert [each.name for each in found] == ["single_pass", "best_of_k:3", "clustered:2", "token_lookup:10"]
    assert [one(name).name.partition(":")[0] for name in named_baselines()] == list(named_baselines())


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("single_pas", "There is no baseline 'single_pas'. Did you mean 'single_pass'"),
        ("best_of_k:many", "a number behind the colon"),
        ("single_pass:3", "'single_pass' takes no number"),
        ("single_pass,single_pass", "'single_pass' is named twice"),
        ("", "no baseline"),
        ([3], "3 is not a baseline"),
    ],
)
def test_what_is_no_baseline_is_refused_by_name(names: Any, message: str) -> None:
    with pytest.raises(ns.ConfigurationError, match=message):
        resolve_baselines(names)


async def test_a_class_with_a_name_put_on_it_is_a_baseline() -> None:
    @baseline("constant_road")
    class Constant:
        name = "constant_road"

        async def explain(self, neuron: Any, exemplars: Any, instruments: Any) -> Explained:
            return Explained(sentences=[ROAD])

    assert await sentences_of(one("constant_road")) == {ROAD}


# Parts of what was found


async def test_the_first_mode_is_chosen_by_validation_and_costs_what_all_of_them_did() -> None:
    scored = await score_explainer(FirstMode(FOUND), BOTH, instruments())
    assert scored.explanation is not None
    assert [mode.explanation for mode in scored.explanation.modes] == [BETTER_COLOURS]
    assert scored.usage == FOUND[BOTH].usage


async def test_unrefined_modes_are_as_many_and_cost_no_refinement() -> None:
    before = await score_explainer(one("unrefined"), BOTH, instruments())
    after = await score_explainer(one("neuronscope"), BOTH, instruments())
    assert before.number == after.number == 2
    assert before.joint_score is not None
    assert after.joint_score is not None
    assert before.joint_score < after.joint_score
    assert before.usage.requests == {"hypothesis": 3, "decomposition": 1}
    assert before.usage.simulated_tokens > 0


async def test_a_table_of_the_explanations_size_has_an_entry_for_each_word_that_they_quote() -> None:
    own = await score_explainer(one("token_lookup_own_size"), BOTH, instruments())
    six = await score_explainer(one("token_lookup:6"), BOTH, instruments())
    assert len(COLOURS + ANIMALS) == 6
    five = await score_explainer(one("token_lookup:5"), BOTH, instruments())
    assert own.val_joint_score == six.val_joint_score != five.val_joint_score


async def test_what_is_made_from_an_explanation_says_that_there_is_none() -> None:
    for name in ("neuronscope", "first_mode", "unrefined", "token_lookup_own_size"):
        (explainer,) = resolve_baselines(name, {})
        with pytest.raises(ns.ConfigurationError, match=f"'{name}' is made from the explanation of 0/0"):
            await score_explainer(explainer, BOTH, instruments())


# Nulls


async def test_nulls_speak_of_another_neuron() -> None:
    assert await sentences_of(one("another_neuron")) == {HOUSE, ROAD}
    (single,) = await sentences_of(one("random_description"))
    assert single in {HOUSE, ROAD}
    assert await sentences_of(one("another_neuron"), NEGATIVE) == {BETTER_COLOURS, BETTER_ANIMALS}


async def test_of_several_random_descriptions_validation_takes_the_best() -> None:
    others = {ns.Neuron(0, 5): explained(ns.Neuron(0, 5), ns.Mode(HOUSE), ns.Mode(ANIMAL_MODE), ns.Mode(ROAD))}
    assert await sentences_of(RandomDescription(others, 3)) == {ANIMAL_MODE}


async def test_a_null_is_not_the_other_sign_of_the_same_neuron() -> None:
    other = ns.Neuron(0, 0, -1)
    with pytest.raises(ns.ConfigurationError, match="another neuron than 0/0"):
        await sentences_of(RandomDescription({other: explained(other, ns.Mode(HOUSE))}))


# Clustered exemplars


def by_kind(messages: list[BaseMessage]) -> str:
    """Describes what is marked, and nothing else."""
    marked = re.findall(r"(?:<<|\[\[)\s*(\w+)", text_of(messages[1:]))
    return f"This neuron activates on {' or '.join(sorted({json.dumps(word) for word in marked}))}."


async def test_each_cluster_of_exemplars_is_described_from_its_own_texts() -> None:
    model = answering(by_kind)
    scored = await score_explainer(Clustered(2), BOTH, instruments(llm=model, embeddings=Alike()))
    assert scored.explanation is not None
    quoted = [set(re.findall(r'"(\w+)"', mode.explanation)) for mode in scored.explanation.modes]
    assert sorted(map(sorted, quoted)) == [sorted(COLOURS), sorted(ANIMALS)]
    assert scored.usage.requests == {"clustered": 2}
    assert scored.joint_score == pytest.approx(1)


async def test_a_description_that_fails_is_recorded_and_loses_no_other() -> None:
    scored = await score_explainer(Clustered(2), BOTH, instruments(llm=scripted("", COLOUR_MODE), embeddings=Alike()))
    assert [failure.agent for failure in scored.failures] == ["clustered"]
    assert scored.number == 1


async def test_fewer_texts_than_clusters_make_fewer_clusters() -> None:
    assert len(await sentences_of(Clustered(50), llm="offline")) <= 2


# An agent that experiments


def experimenting(
    hypotheses: Sequence[str], texts: dict[str, tuple[list[str], list[str]]], refine: str = ROAD
) -> ScriptedModel:
    """Tests each hypothesis by the texts of the first word that it quotes."""

    def answer(messages: list[BaseMessage]) -> str:
        prompt = text_of(messages)
        if "hypotheses about what" in prompt:
            return json.dumps(list(hypotheses))
        if "hard_negatives" in prompt:
            tested = re.search(r"^Explanation: .*?\"(\w+)\"", prompt, re.MULTILINE)
            assert tested
            positive, negative = texts[tested[1]]
            return json.dumps({"texts": positive, "hard_negatives": negative})
        return refine

    return answering(answer)


async def test_a_hypothesis_whose_texts_come_out_as_expected_is_confirmed_and_one_that_fails_is_rejected() -> None:
    model = experimenting(
        [BETTER_COLOURS, HOUSE],
        {"red": (["the red road", "a blue house"], ["the road"]), "house": (["the house"], ["the road"])},
        refine=HOUSE,
    )
    scored = await score_explainer(Experimenter(2), BOTH, instruments(llm=model))
    assert scored.explanation is not None
    assert [mode.explanation for mode in scored.explanation.modes] == [BETTER_COLOURS]
    assert set(scored.usage.requests) == {"experimenter"}


async def test_a_hypothesis_is_refined_by_the_outcome_of_its_test_and_its_best_version_is_kept() -> None:
    narrow = 'This neuron activates on "house" or "red".'
    model = experimenting(
        [narrow],
        {"house": (["the red road", "the house"], ["it was"]), "red": (["a red road", "the blue one"], ["it was"])},
        refine=BETTER_COLOURS,
    )
    scored = await score_explainer(Experimenter(), BOTH, instruments(llm=model))
    assert scored.explanation is not None
    assert [mode.explanation for mode in scored.explanation.modes] == [BETTER_COLOURS]
    (asked_to_refine,) = (prompt for prompt in model.prompts if "improve explanations" in prompt)
    assert "should activate, but does not" in asked_to_refine
    assert "the house" in asked_to_refine


async def test_where_every_hypothesis_is_rejected_the_best_supported_one_is_what_there_is() -> None:
    model = experimenting([HOUSE], {"house": (["the house"], ["the road"])}, refine=HOUSE)
    assert await sentences_of(Experimenter(), llm=model) == {HOUSE}


async def test_a_hypothesis_for_which_no_texts_can_be_written_is_a_failure() -> None:
    model = experimenting(
        [COLOUR_MODE, HOUSE], {"red": (["the red road"], ["the road"]), "house": ([], [])}, refine=HOUSE
    )
    scored = await score_explainer(Experimenter(), BOTH, instruments(llm=model))
    assert scored.explanation is not None
    assert [mode.explanation for mode in scored.explanation.modes] == [COLOUR_MODE]
    assert [failure.agent for failure in scored.failures] == ["experimenter"]


async def test_no_held_out_text_is_shown_to_a_writer() -> None:
    model = experimenting([BETTER_COLOURS], {"red": (["the red road"], ["the road"])})
    await sentences_of(Experimenter(), llm=model)
    await sentences_of(Clustered(2), llm=(other := answering(by_kind)))
    for prompt in [*model.prompts, *other.prompts]:
        shown = [int(number) for number in re.findall(r"(\d+)$", prompt, re.MULTILINE)]
        assert all(number % 3 == 0 for number in shown)  # in the planted source, train


async def test_offline_experiments_drop_what_does_not_activate_the_neuron() -> None:
    from agent_helpers import runtime
    from neuronscope.baselines.experimenter import as_expected
    from neuronscope.baselines.offline_tests import OfflineWriter
    from neuronscope.graphs.observe import observe
    from neuronscope.graphs.tool_calls import call_tools
    from neuronscope.results import Probe

    made = instruments()
    ids = (await observe({"neuron": BOTH}, runtime(store=made.store)))["exemplars"]
    writer = OfflineWriter(BOTH, ids, made)
    call = await writer.texts('This neuron activates on "red" and "road".', [])
    (answer,) = await call_tools(call, BOTH, ids, made)
    probe = Probe(1, "", answer.artifact)
    assert as_expected(probe) == (0.5, 1.0)
    kept = await writer.refined('This neuron activates on "red" and "road".', [probe])
    assert re.findall(r'"(\w+)"', kept) == ["red"]


# Refinement without feedback


@pytest.mark.usefixtures("every_gain_counts")
async def test_without_feedback_the_agent_sees_no_score_and_nothing_of_earlier_rounds() -> None:
    drafts = iter(range(100))
    model = answering(
        lambda _: json.dumps([BETTER_COLOURS, BETTER_ANIMALS, f'This neuron activates on "{next(drafts)}".'])
    )
    config = ns.ExplainConfig(n_candidates=3, max_iterations=4)
    nodes = {BOTH: explained(BOTH, refined(COLOUR_MODE, ROAD), refined(ANIMAL_MODE, HOUSE))}
    scored = await score_explainer(BestOfN(nodes), BOTH, instruments(llm=model, config=config))
    assert scored.explanation is not None
    assert BETTER_COLOURS in {mode.explanation for mode in scored.explanation.modes}
    assert len(model.prompts) == 2, "one round for each mode, as many as their refinement had"
    for prompt in model.prompts:
        assert "(not measured)" in prompt
        assert not re.search(r"^-?\d\.\d{3}  ", prompt, re.MULTILINE)
        assert "Mistakes" not in prompt


async def test_its_budget_is_candidates_times_rounds_for_each_mode_even_where_nothing_gets_better() -> None:
    model = answering(lambda _: json.dumps([ROAD, HOUSE]))
    known = explained(BOTH, refined(COLOUR_MODE, ROAD))
    long = ns.Mode(ROAD, history=[*known.modes[0].history, ns.Attempt(3, HOUSE, 0.0, gain=-0.1)])
    config = ns.ExplainConfig(n_candidates=2, patience=1)
    nodes = {BOTH: explained(BOTH, long)}
    scored = await score_explainer(BestOfN(nodes), BOTH, instruments(llm=model, config=config))
    assert len(model.prompts) == 3
    assert scored.usage.requests == {"refinement": 3}


# Comparison


def test_every_neuron_has_its_rows_and_an_equal_call_goes_on_from_its_folder(tmp_path: Path) -> None:
    methods = ["neuronscope", "single_pass", "token_lookup", "another_neuron"]
    with lab() as session:
        first = list(session.compare([BOTH, NEGATIVE], methods, out=tmp_path, progress=False))
    for neuron in (BOTH, NEGATIVE):
        assert [row.method for row in first if row.neuron == neuron] == methods
    assert all(row.joint_score is not None and not row.failures for row in first)
    (tmp_path / "scores" / BOTH.file_name / "single_pass.json").unlink()
    seen: list[str] = []

    class Watched(type(resolve_baselines("single_pass")[0])):  # type: ignore[misc]
        async def explain(self, neuron: Any, exemplars: Any, instruments: Any) -> Explained:
            seen.append(str(neuron))
            found: Explained = await super().explain(neuron, exemplars, instruments)
            return found

    with lab() as session:
        again = list(
            session.compare([BOTH, NEGATIVE], ["neuronscope", Watched(), *methods[2:]], out=tmp_path, progress=False)
        )
    assert seen == ["0/0"]
    scores = [{(row.neuron, row.method): row.joint_score for row in rows} for rows in (first, again)]
    assert scores[0] == scores[1]
    with (
        ns.Setup(**{**vars_of(lab()), "config": ns.ExplainConfig(seed=1, cache_answers=False)}).open(
            layers=[0]
        ) as session,
        pytest.raises(ns.ConfigurationError, match="belongs to a run with another"),
    ):
        list(session.compare([BOTH], ["single_pass"], out=tmp_path, progress=False))


def vars_of(session: ns.Session) -> dict[str, Any]:
    setup = session.setup
    return {name: getattr(setup, name) for name in ("subject", "store", "llm", "simulator", "embeddings")}


def test_known_explanations_are_not_made_again_and_serve_other_neurons_as_nulls() -> None:
    model = answering(lambda _: "nobody should be asked")
    with lab(model) as session:
        rows = list(session.compare([BOTH], "neuronscope,another_neuron", explanations=FOUND.values(), progress=False))
    assert {row.method: set(row.sentences) for row in rows} == {
        "neuronscope": {BETTER_COLOURS, BETTER_ANIMALS},
        "another_neuron": {HOUSE, ROAD},
    }
    assert model.prompts == []


def test_a_budget_that_is_spent_ends_the_comparison_and_keeps_what_is_done(tmp_path: Path) -> None:
    known = vars_of(lab(answering(lambda _: EVERYTHING)))
    with ns.Setup(**known, budget="10 tokens", config=ns.ExplainConfig(cache_answers=False)).open(
        layers=[0]
    ) as session:
        rows = session.compare([BOTH], "single_pass,best_of_k:2", out=tmp_path, progress=False)
        assert next(rows).method == "single_pass"
        with pytest.raises(ns.BudgetExceededError):
            next(rows)


def test_what_an_earlier_call_has_spent_is_spent(tmp_path: Path) -> None:
    known = vars_of(lab(answering(lambda _: EVERYTHING)))
    config = ns.ExplainConfig(cache_answers=False)
    with ns.Setup(**known, config=config).open(layers=[0]) as session:
        list(session.compare([BOTH], "single_pass", out=tmp_path, progress=False))
    with ns.Setup(**known, budget="10 tokens", config=config).open(layers=[0]) as session:
        rows = session.compare([BOTH], "single_pass,best_of_k:2", out=tmp_path, progress=False)
        assert next(rows).usage.requests == {"single_pass": 1}
        with pytest.raises(ns.BudgetExceededError):
            next(rows)


def test_a_method_that_fails_for_a_neuron_is_a_row_that_says_why_and_is_tried_again(tmp_path: Path) -> None:
    with lab(answering(lambda _: "")) as session:
        rows = list(session.compare([BOTH], "single_pass,token_lookup", out=tmp_path, progress=False))
    assert [row.joint_score is None for row in rows] == [True, False]
    assert rows[0].failures
    assert rows[0].usage.requests == {"single_pass": 1}
    assert not (tmp_path / "scores" / BOTH.file_name / "single_pass.json").exists()


def test_a_dead_neuron_has_rows_without_scores_or_failures() -> None:
    with lab() as session:
        (row,) = session.compare([DEAD], "token_lookup", progress=False)
    assert (row.joint_score, row.corpus_score, row.failures) == (None, None, [])


def row(neuron: int, method: str, joint: float | None, val: float | None = None, tokens: int = 0) -> ns.MethodScore:
    return ns.MethodScore(
        neuron=ns.Neuron(0, neuron),
        method=method,
        joint_score=joint,
        val_joint_score=val,
        usage=Usage(input_tokens={"a": tokens}),
    )


def two_methods(before: Sequence[float | None], after: Sequence[float | None]) -> ns.Comparison:
    pairs = list(enumerate(zip(before, after, strict=True)))
    return ns.Comparison(
        [
            row(number, method, score, None if score is None else 2 * score, tokens)
            for number, pair in pairs
            for method, score, tokens in zip(("unrefined", "neuronscope"), pair, (10, 2000), strict=True)
        ]
    )


def test_a_paired_difference_is_of_neurons_that_both_have_and_its_sign_test_leaves_out_equals() -> None:
    comparison = two_methods([0.1, 0.2, 0.3, 0.4, None, 0.5], [0.3, 0.3, 0.2, 0.4, 0.9, 0.7])
    found = comparison.paired("neuronscope", "unrefined")
    assert (found.n, found.wins, found.losses) == (5, 3, 1)
    assert found.mean == pytest.approx(0.08)
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.mean < found.high  # type: ignore[operator]
    assert found.p_value == pytest.approx(0.625)  # 2 * (1 + 4) / 16


def test_pairing_finds_a_small_difference_between_neurons_that_differ_much() -> None:
    scores = np.linspace(0, 0.9, 20)
    found = two_methods(scores.tolist(), (scores + 0.02 + 0.001 * (np.arange(20) % 3)).tolist()).paired(
        "neuronscope", "unrefined"
    )
    assert found.low is not None
    assert found.low > 0.019
    assert found.p_value is not None
    assert found.p_value < 1e-5


def test_equal_or_few_or_no_differences_have_what_can_be_said_and_no_nan() -> None:
    same = two_methods([0.1, 0.2, 0.3], [0.1, 0.2, 0.3]).paired("neuronscope", "unrefined")
    assert (same.mean, same.low, same.high, same.p_value) == (0, 0, 0, None)
    single = two_methods([0.1], [0.2]).paired("neuronscope", "unrefined")
    assert (single.low, single.n) == (None, 1)
    none = two_methods([None], [0.2]).paired("neuronscope", "unrefined")
    assert (none.mean, none.n) == (None, 0)


def test_the_gain_that_survives_is_a_share_of_that_on_validation() -> None:
    found = two_methods([0.1, 0.2, 0.3, 0.1], [0.2, 0.25, 0.4, 0.3]).surviving_gain()
    assert found.value == pytest.approx(0.5)
    assert found.interval is not None
    assert found.interval[0] == pytest.approx(0.5)
    assert two_methods([0.2, 0.2, 0.2], [0.1, 0.1, 0.1]).surviving_gain().value is None


def test_a_method_that_was_not_compared_is_named() -> None:
    with pytest.raises(ns.ConfigurationError, match="no rows of the method 'clustered'"):
        two_methods([0.1], [0.2]).paired("clustered", "unrefined")


def test_the_plot_has_a_point_for_each_method_at_what_it_cost() -> None:
    figure = two_methods([0.1, 0.2, 0.3], [0.2, 0.3, 0.5]).plot_cost()
    (axes,) = figure.axes
    points = {container.get_label(): container.lines[0].get_xydata()[0] for container in axes.containers}
    assert points["unrefined"].tolist() == pytest.approx([10, 0.2])
    assert points["neuronscope"].tolist() == pytest.approx([2000, 1 / 3])


def test_records_are_plain_with_what_each_row_cost() -> None:
    (record, *_) = two_methods([0.1], [0.2]).records()
    assert record["neuron"] == "0/0"
    assert (record["llm_tokens"], record["requests"], record["simulated_tokens"]) == (10, 0, 0)


def test_an_explanation_that_the_table_imitates_is_no_better_than_it() -> None:
    table = LookupTable([ns.Exemplar([" a", " b"], [0, 1], np.array([0, 2], np.float32), 0, "")], limit=1)
    (predicted,) = table.predict([ns.Exemplar([" b", " a"], [1, 0], np.zeros(2, np.float32), 0, "")])
    assert predicted.tolist() == [2, 0]


@pytest.mark.slow
def test_every_method_has_a_score_on_a_real_neuron_without_a_language_model() -> None:
    subject = ns.load_subject("smollm2-135m")
    setup = ns.Setup(
        subject=subject,
        llm="offline",
        embeddings="minilm",
        simulator="hybrid",
        config=ns.ExplainConfig(n_tokens=20_000, max_iterations=2),
    )
    with setup.open(layers=[2]) as session:
        comparison = ns.Comparison(session.compare([(2, 11), (2, 500)], progress=False))
    assert len(comparison.rows) == 2 * len(comparison.methods)
    measured = [each for each in comparison.rows if each.joint_score is not None]
    assert len(measured) == len(comparison.rows)
    means = {method: comparison.mean(method).value or 0.0 for method in comparison.methods}
    assert means["another_neuron"] < means["neuronscope"]
    assert all(not each.usage.requests for each in comparison.rows)


def test_the_table_says_what_each_method_found_or_why_it_has_no_score() -> None:
    from rich.console import Console

    from neuronscope.display.comparison import MethodTable
    from neuronscope.results import Failure

    failed = ns.MethodScore(neuron=BOTH, method="another_neuron", failures=[Failure("another_neuron", "none is known")])
    found = ns.MethodScore(neuron=BOTH, method="clustered", joint_score=0.25, score=0.2, number=1, sentences=[HOUSE])
    console = Console(width=140, file=(written := StringIO()))
    console.print(MethodTable([found, failed]))
    text = written.getvalue()
    assert re.search(r"clustered +1 +0\.20 +0\.25 +– .*activates on \"house\"", text)
    assert "none is known" in text


@pytest.mark.slow
def test_the_command_line_shows_baselines_beside_an_explanation() -> None:
    from typer.testing import CliRunner

    from neuronscope.cli.main import app

    options = "--layer 2 --neuron 11 --llm offline --n-tokens 20000 --max-iterations 1 --json"
    chosen = "--baselines single_pass,token_lookup"
    found = CliRunner().invoke(app, ["explain", "smollm2-135m", *options.split(), *chosen.split()])
    assert found.exit_code == 0, found.stderr
    rows = json.loads(found.stdout)["comparison"]
    assert [each["method"] for each in rows] == ["neuronscope", "single_pass", "token_lookup"]
    unknown = CliRunner().invoke(app, ["explain", "smollm2-135m", *options.split(), "--baselines", "single_pas"])
    assert unknown.exit_code == 1
    assert "Did you mean 'single_pass'" in unknown.stderr
