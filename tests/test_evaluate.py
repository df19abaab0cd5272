"""One table of metrics: on a planted neuron whose truth is known, and on a real model."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from langchain_core.embeddings import Embeddings
from rich.console import Console
from typer.testing import CliRunner

import neuronscope as ns
from agent_helpers import answering
from neuronscope import metrics
from neuronscope.cli.main import app
from neuronscope.graphs import build_neuron_graph
from neuronscope.metrics import named
from neuronscope.metrics.bootstrap import Estimate
from neuronscope.metrics.table import measurement
from neuronscope.results import Mode, NeuronExplanation
from planted import (
    AGENTS,
    ANIMALS,
    BETTER_ANIMALS,
    BETTER_COLOURS,
    BOTH,
    COLOURS,
    DEAD,
    MemorySource,
    PlantedSubject,
    WordSimulator,
    WordTokenizer,
    documents,
    instruments,
)
from public_api import metrics_table

RIGHT = 'It fires on "red", "green", "blue", "cat", "dog" or "horse".'
WRONG = 'It fires on "road", "house" or "quiet".'
CONSTANT = "It fires on nothing that is quoted."


class ActiveWords(Embeddings):
    """Texts are alike if both, or neither, have a word that activates the planted neuron."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [[float(any(word in text for word in COLOURS + ANIMALS)), 0.3] for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text])[0]


def store(n: int = 90) -> MemorySource:
    return MemorySource(PlantedSubject(), documents(n))


def evaluated(explanations: Any, neuron: Any = BOTH, metrics: Any = "all", **others: Any) -> ns.Evaluation:
    settings = {"store": store(), "simulator": WordSimulator(), "embeddings": ActiveWords(), "n_bootstrap": 50}
    return ns.evaluate(explanations, neuron, metrics, **(settings | others))


def only(table: ns.Evaluation, metric: str, explanation: str | None = RIGHT, negatives: str = "") -> ns.Measurement:
    (row,) = [
        row
        for row in table.measurements
        if (row.metric, row.explanation, row.negatives) == (metric, explanation, negatives)
    ]
    return row


@pytest.fixture(scope="module")
def table() -> ns.Evaluation:
    return evaluated([RIGHT, WRONG, CONSTANT])


def marked_words(text: str, opening: str, closing: str) -> list[str]:
    return " ".join(re.findall(f"{re.escape(opening)}(.*?){re.escape(closing)}", text)).split()


def knows_the_answer(messages: Any) -> str:
    """A judge that looks for the words that an explanation quotes, and writes texts with them."""
    system, human = (str(message.content) for message in messages)
    explanation, *_ = re.findall(r"^Explanation: (.*)$", human, re.MULTILINE) or [""]
    quoted = re.findall(r'"(\w+)"', explanation) or COLOURS + ANIMALS
    texts = re.findall(r"^\d+\. (.*)$", human, re.MULTILINE)
    marks = re.search(r"stand between (\S+) and (\S+)\. ", system)
    if "intruder" in system:
        rights = [bool(set(quoted) & set(marked_words(text, *marks.groups()))) for text in texts]
        return json.dumps({"intruder": rights.index(False) + 1})
    if "You write texts" in system:
        return json.dumps([f"{word} and {word} again" for word in quoted])
    if marks:
        return json.dumps([int(bool(set(quoted) & set(marked_words(text, *marks.groups())))) for text in texts])
    return json.dumps([int(any(word in text.split() for word in quoted)) for text in texts])


# What a right, a wrong and an empty explanation get


def test_a_right_explanation_is_told_from_a_wrong_one_by_every_metric(table: ns.Evaluation) -> None:
    for metric in ("correlation", "r2", "fuzzing_balanced_accuracy", "fuzzing_f1"):
        assert only(table, metric).value > 0.9
        assert only(table, metric, WRONG).value < 0.5
    for negatives in ("random", "hard negatives"):
        for metric in ("detection_balanced_accuracy", "detection_f1", "retrieval_auc"):
            right, wrong = (only(table, metric, text, negatives) for text in (RIGHT, WRONG))
            assert right.value == 1
            assert wrong.value <= wrong.baseline


def test_every_number_is_finite_within_its_interval_and_rests_on_sequences(table: ns.Evaluation) -> None:
    measured = [row for row in table.measurements if row.value is not None]
    assert len(measured) > 40
    for row in measured:
        assert np.isfinite([row.value, row.low, row.high, row.baseline]).all()
        assert row.low <= row.value <= row.high
        assert row.n > 0
    assert all(row.note and row.low is row.high is None for row in table.measurements if row.value is None)


def test_an_explanation_that_predicts_nothing_gets_the_baseline_and_a_note(table: ns.Evaluation) -> None:
    for metric in ("correlation", "correlation_top", "correlation_quantile_4"):
        row = only(table, metric, CONSTANT)
        assert (row.value, row.low, row.high) == (0, 0, 0)
        assert "the same everywhere" in row.note
    assert only(table, "r2", CONSTANT).value == pytest.approx(0, abs=0.05)
    row = only(table, "detection_balanced_accuracy", CONSTANT, "random")
    assert row.value == 0.5
    assert "validation cannot tell" in row.note


def test_all_metrics_are_measured_on_the_same_sequences(table: ns.Evaluation) -> None:
    used = table.provenance["sequences"]
    assert {only(table, metric).n for metric in ("correlation", "r2")} == {len(used["test"])}
    assert only(table, "detection_f1", negatives="random").n == len(used["test"])
    assert only(table, "retrieval_auc", negatives="random").n == len(used["test"])
    n_hard = used["active"] + len(used["hard_negatives"])
    assert only(table, "retrieval_auc", negatives="hard negatives").n == n_hard
    assert only(table, "correlation_top").n + only(table, "correlation_random").n == len(used["test"])
    assert not set(used["hard_negatives"]) & set(used["test"])
    assert not set(used["validation"]) & set(used["test"])


async def test_the_correlation_is_the_test_score_that_the_result_has() -> None:
    state = await build_neuron_graph(**AGENTS).ainvoke({"neuron": BOTH}, context=instruments())
    table = evaluated(state["explanation"], None, ["correlation"])
    assert table.explanations == [mode.explanation for mode in state["explanation"].modes]
    for mode in state["explanation"].modes:
        assert only(table, "correlation", mode.explanation).value == pytest.approx(mode.score)


def test_an_activation_threshold_says_what_counts_as_active() -> None:
    half = evaluated(RIGHT, metrics=["detection"], activation_threshold=0.5).provenance["sequences"]["active"]
    most = evaluated(RIGHT, metrics=["detection"], activation_threshold=0.9).provenance["sequences"]["active"]
    assert 0 < most < half  # animals reach 4 of 6, colours 6


def test_the_same_seed_gives_the_same_table() -> None:
    first, again = (evaluated([RIGHT, WRONG]) for _ in range(2))
    assert first == again


@pytest.mark.parametrize("neuron", [DEAD, ns.Neuron(0, 0, sign=-1)])
def test_of_a_dead_neuron_nothing_is_measured_and_the_notes_say_why(neuron: ns.Neuron) -> None:
    table = evaluated([RIGHT, WRONG], neuron)
    assert table.provenance["sequences"]["active"] == 0
    assert {(row.value, row.low, row.high) for row in table.measurements} == {(None, None, None)}
    assert all(row.note for row in table.measurements)
    assert ns.Evaluation.from_json(table.to_json()) == table
    assert "not measured" in table._repr_html_()


# Intruders


def test_intruders_are_of_the_neuron_and_of_each_of_several_explanations() -> None:
    table = evaluated([BETTER_COLOURS, BETTER_ANIMALS], metrics=["intruder"])
    assert [row.explanation for row in table.measurements] == [None, BETTER_COLOURS, BETTER_ANIMALS]
    assert {row.judge for row in table.measurements} == {"ActiveWords"}
    assert {row.baseline for row in table.measurements} == {0.2}
    assert [row.value for row in table.measurements] == [1, 1, 1]
    assert [row.explanation for row in evaluated(RIGHT, metrics=["intruder"]).measurements] == [None]


# With a language model


def test_a_language_model_judges_beside_the_simulator_and_is_named() -> None:
    table = evaluated([RIGHT], metrics=["detection", "fuzzing", "intruder"], llm=answering(knows_the_answer))
    judged = [row for row in table.measurements if row.judge == "scripted"]
    assert {row.metric for row in judged} == {
        "detection_balanced_accuracy",
        "detection_f1",
        "fuzzing_balanced_accuracy",
        "fuzzing_f1",
        "intruder_accuracy",
    }
    assert all(row.value == 1 and row.abstentions == 0 for row in judged)
    assert {row.judge for row in table.measurements} == {"scripted", "WordSimulator", "ActiveWords"}
    assert table.provenance["usage"]["requests"]["judge"] > 0


def test_a_judge_that_believes_a_wrong_explanation_is_wrong() -> None:
    table = evaluated([WRONG], metrics=["detection"], llm=answering(knows_the_answer))
    (row,) = [
        row
        for row in table.select("detection_balanced_accuracy")
        if row.judge == "scripted" and row.negatives == "random"
    ]
    assert row.value < 0.7


def test_answers_that_cannot_be_read_are_counted_and_left_out() -> None:
    table = evaluated([RIGHT], metrics=["detection", "fuzzing", "intruder"], llm=answering(lambda messages: "Hm."))
    for row in table.measurements:
        if row.judge == "scripted":
            assert (row.n, row.value) == (0, None)
            assert row.abstentions > 0
            assert row.note


# Concepts need a language model and the subject


class BatchTokenizer(WordTokenizer):
    """It takes lists, as transformers' do."""

    def __call__(self, text: Any, add_special_tokens: bool = False, **_: Any) -> dict[str, Any]:
        encode = super().__call__
        if isinstance(text, str):
            return encode(text)
        return {"input_ids": [encode(one)["input_ids"] for one in text]}


class TrulyRandom(MemorySource):
    """Random sequences are drawn without regard to activation, as a real store does."""

    def random_sequences(self, neuron: Any, split: str = "test", n: int = 20, seed: int = 0) -> list[ns.Exemplar]:
        chosen = random.Random(seed).sample(self.of_split(split), min(n, len(self.of_split(split))))
        return [self._exemplar(neuron, number) for number in chosen]


def test_texts_written_from_a_right_explanation_activate_the_neuron() -> None:
    subject = PlantedSubject()
    subject.tokenizer = BatchTokenizer()
    table = evaluated(
        [RIGHT, WRONG],
        metrics=["concept"],
        store=TrulyRandom(subject, documents()),
        llm=answering(knows_the_answer),
        config=ns.ExplainConfig(heldout_top=4),
    )
    assert only(table, "concept_auc", negatives="random").value > 0.9
    assert only(table, "concept_mad", negatives="random").value > 2
    assert only(table, "concept_auc", WRONG, "random").value <= 0.5
    assert only(table, "concept_mad", WRONG, "random").value <= 0
    assert only(table, "concept_auc", negatives="random").abstentions == 4  # six words, ten texts asked for


class RarelyActive(PlantedSubject):
    """A neuron that is active on one word in thirty, and on each of them by another amount."""

    def __init__(self) -> None:
        super().__init__()
        self.tokenizer = BatchTokenizer()
        drawn = random.Random(0)
        self.strengths = [drawn.paretovariate(1.5) if number % 30 == 0 else 0.0 for number in range(300)]

    def _row(self, token_id: int) -> list[float]:
        return [self.strengths[int(self.tokenizer.words[token_id].strip()[1:])], 0.0, 0.0]


class SamplesAll(TrulyRandom):
    """A source that draws its random sequences from the weaker half, but any sequence when asked for no neuron's."""

    def random_sequences(self, neuron: Any, split: str = "test", n: int = 20, seed: int = 0) -> list[ns.Exemplar]:
        return self.exemplars(neuron, split, len(self.documents))[-n:]

    def sample_ids(self, split: str, n: int, seed: int) -> list[int]:
        return random.Random(seed).sample(self.of_split(split), min(n, len(self.of_split(split))))


def words(drawn: random.Random, n: int) -> str:
    return " ".join(f"w{drawn.randrange(300)}" for _ in range(n))


@pytest.mark.parametrize(("source", "shortest", "longest"), [(TrulyRandom, 12, 12), (SamplesAll, 3, 40)])
def test_texts_that_have_nothing_to_do_with_the_neuron_come_out_at_the_baseline(
    source: Any, shortest: int, longest: int
) -> None:
    found = []
    for seed in range(40):
        drawn = random.Random(seed)
        texts = [words(drawn, drawn.randint(shortest, longest)) for _ in range(10)]
        corpus = [words(drawn, drawn.choice([9, 64, 64, 64])) for _ in range(60)]
        table = evaluated(
            RIGHT,
            metrics="concept",
            store=source(RarelyActive(), corpus),
            llm=answering(lambda _, written=texts: json.dumps(written)),
            config=ns.ExplainConfig(heldout_top=1),
            seed=seed,
            n_bootstrap=1,
        )
        found.append(only(table, "concept_auc", negatives="random").value)
    assert np.mean(found) == pytest.approx(0.5, abs=0.03)


def test_without_a_language_model_concepts_are_refused_if_named_and_listed_if_not(table: ns.Evaluation) -> None:
    with pytest.raises(ns.ConfigurationError, match=r'needs a language model.*Pass llm="openai:gpt-4o"'):
        evaluated(RIGHT, metrics=["correlation", "concept"])
    assert list(table.unavailable) == ["concept"]
    assert "language model" in table.unavailable["concept"]


def test_without_a_subject_concepts_are_refused_if_named_and_listed_if_not() -> None:
    source, llm = store(), answering(knows_the_answer)
    own = SimpleNamespace(
        by_id=source.by_id, exemplars=source.exemplars, random_sequences=source.random_sequences
    )  # people's own activations, with no model behind them
    with pytest.raises(ns.ConfigurationError, match="Pass subject="):
        evaluated(RIGHT, metrics=["concept"], llm=llm, store=own)
    assert "subject" in evaluated(RIGHT, llm=llm, store=own).unavailable["concept"]


# Names, and metrics of one's own

NEW_METRIC = """
from neuronscope.metrics import metric
from neuronscope.metrics.bootstrap import Estimate
from neuronscope.metrics.table import measurement


@metric("length", results=["length_words"], question="how long is it?", baseline="none")
async def length(data, context):
    return [
        measurement("length_words", text, Estimate(n, n, n), n=1, baseline=None, judge=f"seed {context.seed}")
        for text in data.explanations
        for n in [len(text.split())]
    ]
"""


def test_a_new_metric_with_a_name_is_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "length.py").write_text(NEW_METRIC)
    monkeypatch.setattr(named, "__path__", [*named.__path__, str(tmp_path)])
    everything = evaluated([WRONG])
    assert everything.measurements[-1].metric == "length_words"
    (row,) = evaluated([WRONG], metrics=["length"], seed=3).measurements
    assert (row.value, row.judge) == (len(WRONG.split()), "seed 3")
    with pytest.raises(ns.ConfigurationError, match=r"Did you mean 'length'\?.*retrieval.*length; or 'all'"):
        evaluated([WRONG], metrics=["lenght"])
    help_text = CliRunner().invoke(app, ["evaluate", "--help"], env={"COLUMNS": "200"}).stdout
    assert ", ".join(named.named_metrics()) in " ".join(help_text.replace("│", " ").split())


def test_a_metric_of_ones_own_stands_after_those_that_have_a_name() -> None:
    @metrics.metric("mine", results=["mine"], question="?", baseline="?", hard_negatives=True)
    async def mine(data: Any, context: Any) -> list[ns.Measurement]:
        n = len(data.hard_negatives.exemplars)
        return [measurement("mine", None, Estimate(1.0, 1.0, 1.0), n=n, baseline=0.0, judge=context.embeddings.name)]

    embeddings = ActiveWords()
    embeddings.name = "active words"
    table = evaluated(RIGHT, metrics=[mine, "r2"], embeddings=embeddings)
    assert [row.metric for row in table.measurements] == ["r2", "mine"]
    assert table.measurements[-1].n == len(table.provenance["sequences"]["hard_negatives"]) > 0
    with pytest.raises(ns.ConfigurationError, match="no metric: put `@metric"):
        evaluated(RIGHT, metrics=[print])


def test_the_documents_own_metric_works() -> None:
    page = (Path(__file__).parents[1] / "docs" / "metrics.md").read_text(encoding="utf-8")
    (code,) = (block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "@metric(" in block)
    names: dict[str, Any] = {}
    exec(code, names)
    table = evaluated([RIGHT, WRONG], metrics=["correlation", names["peak_match"]])
    assert [only(table, "peak_match", text).value for text in (RIGHT, WRONG)] == [1, 0]
    assert evaluated(RIGHT, DEAD, metrics=[names["peak_match"]]).measurements[0].note == "nothing is active"


def test_the_documents_table_is_that_of_the_metrics_and_they_give_those_rows() -> None:
    page = (Path(__file__).parents[1] / "docs" / "metrics.md").read_text(encoding="utf-8")
    assert metrics_table() in page, "`make promises` writes it anew"
    known = named.named_metrics().values()
    everything = evaluated([RIGHT], llm=answering(knows_the_answer))
    given = dict.fromkeys(row.metric for row in everything.measurements)
    assert list(given) == [row for each in known for row in each.results]


# What may be evaluated


def test_a_result_is_evaluated_by_its_modes_with_its_own_neuron_and_settings() -> None:
    config = ns.ExplainConfig(heldout_top=5, heldout_random=3)
    modes = [Mode(BETTER_COLOURS), Mode(BETTER_ANIMALS)]
    result = NeuronExplanation(BOTH, "explained", modes, provenance={"config": config.model_dump() | {"gone": 1}})
    table = evaluated(result, None, ["correlation"])
    assert (table.neuron, table.explanations) == (BOTH, [BETTER_COLOURS, BETTER_ANIMALS])
    assert len(table.provenance["sequences"]["test"]) == 8
    assert evaluated(modes, BOTH, ["correlation"]).explanations == table.explanations
    assert evaluated(modes[0], BOTH, ["correlation"]).explanations == [BETTER_COLOURS]


def test_a_dead_result_has_a_table_without_explanations() -> None:
    table = evaluated(NeuronExplanation(DEAD, "dead"), None)
    assert [row.metric for row in table.measurements] == ["intruder_accuracy"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"explanations": ""}, "empty explanation"),
        ({"explanations": []}, "empty explanation"),
        ({"explanations": [RIGHT, 3]}, "empty explanation"),
        ({"neuron": None}, "which neuron"),
        ({"explanations": NeuronExplanation(DEAD, "dead")}, "explains 0/1"),
        ({"metrics": ["correlation", "charm"]}, "no metric 'charm'.*Known: correlation, r2"),
        ({"metrics": []}, "no metric"),
        ({"activation_threshold": 1.0}, "activation_threshold is 1.0"),
        ({"n_bootstrap": 0}, "n_bootstrap must be at least 1"),
        ({"store": None}, "nothing to evaluate on"),
        ({"simulator": "oracle"}, "no simulator 'oracle'"),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(arguments: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ns.ConfigurationError, match=complaint):
        evaluated(**({"explanations": RIGHT} | arguments))


# The table


def test_a_table_read_back_is_the_table(table: ns.Evaluation, tmp_path: Path) -> None:
    assert ns.Evaluation.load(table.save(tmp_path / "e.json")) == table
    assert ns.Evaluation.from_json(table.to_json()) == table


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"schema_version": 99}', '{"schema_version": 1, "neuron": 3}'])
def test_a_file_that_is_no_table_is_refused_in_words(content: str, tmp_path: Path) -> None:
    (tmp_path / "e.json").write_text(content)
    with pytest.raises(ns.ResultError):
        ns.Evaluation.load(tmp_path / "e.json")


def test_records_are_one_dictionary_per_measurement(table: ns.Evaluation) -> None:
    records = table.records()
    assert len(records) == len(table.measurements)
    assert {"metric", "explanation", "value", "low", "high", "n", "baseline", "judge", "note"} <= set(records[0])


def printed(table: ns.Evaluation, width: int) -> str:
    console = Console(width=width)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def test_the_printed_table_has_every_metric_every_explanation_and_every_note(table: ns.Evaluation) -> None:
    words = " ".join(printed(table, 140).split())
    assert {RIGHT, WRONG, CONSTANT} <= {text for text in table.explanations if text in words}
    for text in ("correlation quantile 4", "hard", "WordSimulator", "explanation 3", "1.00 (1.00 to 1.00)"):
        assert text in words
    for note in [row.note for row in table.measurements] + list(table.unavailable.values()):
        assert note in words


def test_columns_that_do_not_fit_follow_in_tables_of_their_own(table: ns.Evaluation) -> None:
    narrow = printed(table, 90)
    assert max(map(len, narrow.splitlines())) <= 90
    assert narrow.count("judge") == 3
    assert narrow.count("(neuron)") == 1


def test_untrusted_text_can_neither_style_a_terminal_nor_a_notebook() -> None:
    hostile = '<script>alert(1)</script> \x1b[31m[bold]"red"[/bold]'
    table = evaluated([hostile], metrics=["correlation"])
    assert "[bold]" in printed(table, 120)
    assert "\x1b" not in printed(table, 120)
    html = table._repr_html_()
    assert "<script>" not in html
    assert "\x1b" not in html
    assert "&lt;script&gt;" in html


def test_both_models_are_named_where_a_result_is_evaluated_on_another_than_its_own() -> None:
    def of(subject: dict[str, str]) -> NeuronExplanation:
        return NeuronExplanation(BOTH, "explained", [Mode(BETTER_COLOURS)], provenance={"subject": subject})

    own = evaluated(of({"name": "planted"}), None, ["correlation"])
    assert "explained_subject" not in own.provenance
    assert "explained in" not in printed(own, 140)
    table = evaluated(of({"name": "<i>other</i>", "fingerprint": "abc123"}), None, ["correlation"])
    assert ns.Evaluation.from_json(table.to_json()).provenance["explained_subject"]["name"] == "<i>other</i>"
    assert "explained in <i>other</i> (fingerprint abc123), measured in planted" in printed(table, 140)
    assert "explained in &lt;i&gt;other&lt;/i&gt; (fingerprint abc123), measured in planted" in table._repr_html_()


# On a real model


@pytest.fixture(scope="module")
def real_store(smollm2: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("stores")
    return ns.collect_exemplars(smollm2, layers=[2], seq_len=32, top_k=20, n_tokens=6_000, cache_dir=folder)


SMALL = ns.ExplainConfig(seq_len=32, heldout_top=6, heldout_random=6)


def test_a_real_neuron_is_evaluated_with_the_hybrid_simulator(smollm2: Any, real_store: Any) -> None:
    neuron = real_store.top_neurons(2, n=1, by="max")[0]
    words = {
        max(zip(x.activations, x.tokens, strict=True))[1].strip() for x in real_store.bind(smollm2).exemplars(neuron)
    }
    told = "This neuron activates on " + ", ".join(f'"{word}"' for word in sorted(words) if word) + "."
    table = ns.evaluate([told, WRONG], neuron, store=real_store, simulator="hybrid", config=SMALL, n_bootstrap=100)
    assert only(table, "correlation", told).value > only(table, "correlation", WRONG).value
    assert only(table, "detection_balanced_accuracy", told, "random").n == 12
    assert {row.judge for row in table.measurements} == {"HybridSimulator", "MiniLM"}
    assert all(row.low <= row.value <= row.high for row in table.measurements if row.value is not None)
    assert list(table.unavailable) == ["concept"]


def test_written_texts_are_read_by_a_real_model_as_plain_text(smollm2: Any) -> None:
    from neuronscope.exemplars.texts import exemplars_of

    neuron = ns.Neuron(2, 7, sign=-1)
    texts = ["The red <|im_end|> house.", "", "A quiet road."]
    ids = [smollm2.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"] for text in texts]
    raw = smollm2.activations([ids[0][:5], ids[2][:5]], [2])[2]
    first, nothing, last = exemplars_of(texts, smollm2, neuron, 5)
    assert (nothing.tokens, nothing.activations.shape) == ([], (0,))
    for found, row in zip((first, last), raw, strict=True):
        assert found.activations == pytest.approx(np.maximum(-row[:, 7], 0), rel=1e-3)


# The command


def test_the_command_prints_saves_and_gives_json(
    smollm2: Any, real_store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Any, dict[str, Any]]] = []
    answer = evaluated([RIGHT], metrics=["correlation"])

    def pretend(*arguments: Any, **others: Any) -> ns.Evaluation:
        asked.append((arguments, others))
        return answer

    monkeypatch.setitem(vars(ns), "evaluate", pretend)
    command = ["evaluate", "smollm2-135m", "--layer", "2", "--neuron", "7", "--explanation", RIGHT]
    command += ["--explanation", WRONG, "--metrics", "correlation, r2", "--heldout-top", "5", "--seed", "3"]
    result = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "e.json")], env={"COLUMNS": "100"})
    assert result.exit_code == 0, result.output
    assert "correlation top" in result.stdout
    assert ns.Evaluation.load(tmp_path / "e.json") == answer
    (explanations, neuron, metrics), others = asked[0]
    assert (explanations, neuron, metrics) == ([RIGHT, WRONG], ns.Neuron(2, 7), ["correlation", "r2"])
    assert (others["config"].heldout_top, others["seed"]) == (5, 3)
    printed = CliRunner().invoke(app, [*command, "--json"]).stdout
    assert ns.Evaluation.from_json(printed) == answer


@pytest.mark.parametrize(
    "arguments",
    [[], ["--explanation", RIGHT], ["--explanation", RIGHT, "--layer", "2"], ["--explanation", "a", "--result", "b"]],
)
def test_the_command_wants_explanations_and_their_neuron(arguments: list[str]) -> None:
    assert CliRunner().invoke(app, ["evaluate", "smollm2-135m", *arguments]).exit_code == 2
