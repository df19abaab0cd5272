"""The paper's figures, made of results whose numbers are known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import neuronscope as ns
from neuronscope.experiments.folder import NEURONS_FILE, ExperimentFolder
from neuronscope.experiments.named import clusters, compare, convergence, purity
from neuronscope.experiments.nearest import split_parts, split_sentences
from neuronscope.experiments.report import Report, markdown_table
from neuronscope.experiments.spec import ExperimentSpec
from neuronscope.results import Cluster, NeuronExplanation

COLOURS = "This neuron activates on words for colours, such as red and green."
ANIMALS = "This neuron activates on the names of animals, such as cat and dog."
MIXED = "It responds to colours like blue and yellow. It also responds to animals like horses, e.g. Ponies."
PURE = "The neuron likes red. It likes green and other colours."


def mode(sentence: str, first: float | None = 0.1, *scores: float | None) -> ns.Mode:
    """A mode with the validation score of its representative, and of the best candidate of each iteration."""
    best, history = first, [ns.Attempt(0, sentence, first)]
    for iteration, score in enumerate(scores, 1):
        gain = (score or -1.0) - (best or -1.0)
        history.append(ns.Attempt(iteration, sentence, score, gain=gain))
        best = score if gain > 0 else best
    return ns.Mode(sentence, score=0.5, val_score=best, history=history)


def experiment(folder: Path, *results: NeuronExplanation, layers: tuple[int, ...] = (0,)) -> ExperimentFolder:
    """An experiment that has found these."""
    subject: dict[str, Any] = {"subject": "none", "layers": list(layers), "name": "tiny"}
    setup = {"config": ns.ExplainConfig.paper().model_copy(update={"max_iterations": 3}).model_dump()}
    made = ExperimentFolder(folder, ExperimentSpec(subjects=[subject], n=9, setup=setup))  # type: ignore[arg-type]  # as JSON has it
    run = folder / "runs" / "tiny"
    run.mkdir(parents=True)
    for result in results:
        result.save(run / "results" / f"{result.neuron.file_name}.json")
    (run / NEURONS_FILE).write_text(json.dumps([str(result.neuron) for result in results]))
    return made


def explained(index: int, *modes: ns.Mode, layer: int = 0, **changes: Any) -> NeuronExplanation:
    return NeuronExplanation(ns.Neuron(layer, index), "explained", list(modes), **changes)


def files(report: Report, folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in report.save(folder)}


# --- convergence ------------------------------------------------------------------------------------------------------


def test_convergence_is_the_mean_over_modes_then_neurons_of_the_best_so_far(tmp_path: Path) -> None:
    first = explained(0, mode(COLOURS, 0.1, 0.3, 0.2, 0.5), mode(ANIMALS, 0.3, 0.3, 0.3, 0.3))
    second = explained(1, mode(COLOURS, 0.2, 0.6))
    report = convergence.report(experiment(tmp_path, first, second))
    (row,) = report.data["rows"]
    means = [each["value"] for each in row["score_by_iteration"]]
    assert means == pytest.approx([(0.2 + 0.2) / 2, (0.3 + 0.6) / 2, (0.3 + 0.6) / 2, (0.4 + 0.6) / 2])
    assert row["moving_by_iteration"] == [2, 0, 1]
    assert row["converged_before_last"] == 0.5


def test_a_gain_below_the_least_is_no_move_and_layers_stand_apart(tmp_path: Path) -> None:
    small, none = explained(0, mode(COLOURS, 0.1, 0.1, 0.1, 0.104)), explained(0, layer=1)
    first, second = convergence.report(experiment(tmp_path, small, none, layers=(0, 1))).data["rows"]
    assert first["moving_by_iteration"] == [0, 0, 0]
    assert first["converged_before_last"] == 1.0
    assert (second["neurons"], second["converged_before_last"]) == (0, None)


def test_an_attempt_that_was_not_measured_keeps_the_score(tmp_path: Path) -> None:
    (row,) = convergence.report(experiment(tmp_path, explained(0, mode(COLOURS, 0.4, None, 0.5)))).data["rows"]
    assert [each["value"] for each in row["score_by_iteration"]] == pytest.approx([0.4, 0.4, 0.5, 0.5])


# --- clusters ---------------------------------------------------------------------------------------------------------


def two_clusters(index: int, between: float, **changes: Any) -> NeuronExplanation:
    near = Cluster(["a", "b"], "b", [(0.0, 0.0), (0.1, 0.0)])
    far = Cluster(["c", "d"], "c", [(between, 0.0), (between + 0.1, 0.0)])
    stray = Cluster(["e"], "e", [(0.0, 5.0)], noise=True)
    return explained(index, mode("b"), clusters=[near, far, stray], **changes)


def test_clusters_draws_the_neuron_with_most_and_says_how_separate_all_are(tmp_path: Path) -> None:
    one = explained(0, mode("a"), clusters=[Cluster(["a"], "a", [(0.0, 0.0)])])
    report = clusters.report(experiment(tmp_path, one, two_clusters(1, 1.0), two_clusters(2, 9.0)))
    (row,) = report.data["rows"]
    assert row["neuron"] == "0/1"
    assert row["separation_neurons"] == 2
    assert 0.8 < row["separation"]["value"] < 1
    assert [each["representative"] for each in row["clusters"]] == ["b", "c", "e"]
    assert row["clusters"][1]["atoms"][0] == {"text": "c", "x": 1.0, "y": 0.0}


def test_clusters_draws_the_neuron_that_is_named(tmp_path: Path) -> None:
    made = experiment(tmp_path, two_clusters(1, 1.0), two_clusters(2, 9.0))
    assert clusters.report(made, "0/2").data["rows"][0]["neuron"] == "0/2"
    with pytest.raises(ns.ConfigurationError, match="0/7"):
        clusters.report(made, "0/7")


# --- purity -----------------------------------------------------------------------------------------------------------


def test_sentences_are_told_apart_and_their_parts() -> None:
    text = 'It likes "Dr. No." Also 3.5, e.g. Ponies!\n- a list\n2. and more\n\n...'
    assert split_sentences(text) == ['It likes "Dr. No."', "Also 3.5, e.g. Ponies!", "a list", "and more"]
    assert split_parts("It likes red words; it also likes cats, and it hates the rain, or so.") == [
        "It likes red words;",
        "it also likes cats,",
        "and it hates the rain, or so.",
    ]


def test_purity_counts_hypotheses_whose_sentences_are_nearest_to_several_modes(tmp_path: Path) -> None:
    both = explained(0, mode(COLOURS, 0.1), mode(ANIMALS, 0.1), hypotheses=[MIXED, PURE])
    alone = explained(1, mode(COLOURS, 0.1), hypotheses=[MIXED])
    report = purity.report(experiment(tmp_path, both, alone))
    (row,) = report.data["rows"]
    assert (row["neurons"], row["hypotheses"], row["mixed"]) == (1, 2, 1)
    assert row["share_mixed"]["value"] == 0.5
    assert row["share_by_chance"] == 0.5  # two sentences each, two modes
    (assigned,) = row["assignments"]
    assert [[part["mode"] for part in one] for one in assigned["hypotheses"]] == [[0, 1], [0, 0]]
    assert "🟦 It responds to colours" in report.markdown
    assert "🟥 It also responds to animals" in report.markdown


# --- methods compared -------------------------------------------------------------------------------------------------


def score(index: int, method: str, joint: float, *sentences: str) -> ns.MethodScore:
    return ns.MethodScore(
        neuron=ns.Neuron(0, index), method=method, joint_score=joint, score=joint / 2, number=1, sentences=[*sentences]
    )


@pytest.fixture
def compared(tmp_path: Path) -> ExperimentFolder:
    """Three neurons, two of them with two modes, all scored by two methods."""
    two = explained(1, mode(COLOURS), mode(ANIMALS)), explained(2, mode(COLOURS), mode(ANIMALS))
    made = experiment(tmp_path, explained(0, mode(COLOURS)), *two, explained(3))
    made = ExperimentFolder(
        tmp_path, made.spec.model_copy(update={"methods": "neuronscope,best_of_k:8", "compared": 2})
    )
    for index in (0, 1):
        for row in (score(index, "neuronscope", 0.6), score(index, "best_of_k:8", 0.2 + 0.2 * index, MIXED)):
            row.save(tmp_path / "compare" / "tiny" / "scores" / str(index) / f"{row.method[:4]}.json")
    return made


def test_compare_pairs_methods_on_the_first_neurons_that_have_modes(compared: ExperimentFolder) -> None:
    (row,) = compare.report(compared).data["rows"]
    assert row["neurons"] == ["0/0", "0/1"]
    own, other = row["methods"]
    assert (own["joint_score"]["value"], own["score"]["value"], own["difference"]["value"]) == (0.6, 0.3, 0.0)
    assert other["difference"]["value"] == pytest.approx(0.3)
    assert (other["difference"]["n"], other["difference"]["wins"], other["failed"]) == (2, 2, 0)


def test_table_3_has_the_parts_of_the_baselines_sentence_by_meaning_beside_the_modes(
    compared: ExperimentFolder,
) -> None:
    report = compare.report(compared)
    (beside,) = report.data["rows"][0]["beside"]
    assert (beside["neuron"], beside["baseline"], beside["modes"]) == ("0/1", "best_of_k:8", [COLOURS, ANIMALS])
    assert [part["mode"] for part in beside["parts"]] == [0, 1]
    (line,) = [line for line in report.markdown.splitlines() if "0 / 1" in line]
    assert line.split(" | ")[2].startswith("🟦 It responds to colours")


def test_without_neuronscope_nothing_is_compared(compared: ExperimentFolder) -> None:
    alone = compared.spec.model_copy(update={"methods": "best_of_k:8"})
    with pytest.raises(ns.ConfigurationError, match="add neuronscope"):
        compare.report(ExperimentFolder(compared.path, alone))


# --- files ------------------------------------------------------------------------------------------------------------


def test_figures_are_svg_and_png_with_their_data_and_equal_results_give_equal_files(tmp_path: Path) -> None:
    found = two_clusters(0, 3.0)
    both = explained(1, mode(COLOURS, 0.1, 0.2), mode(ANIMALS, 0.1), hypotheses=["It costs $5 or $6. <b>Cats</b> _x_."])
    made = experiment(tmp_path / "e", found, both)
    for module in (convergence, clusters, purity):
        first, again = (files(module.report(made), tmp_path / name) for name in ("a", "b"))
        assert first == again
        assert {Path(name).suffix for name in first} == {".md", ".json", ".svg", ".png"}
        for name, content in first.items():
            if name.endswith(".svg"):
                assert b"<svg" in content
                assert name in first[f"{module.__name__.rpartition('.')[2]}.md"].decode()
            if name.endswith(".png"):
                assert Image.open(tmp_path / "a" / name).size[0] > 500


def test_untrusted_text_stays_in_its_cell() -> None:
    table = markdown_table(("a",), [("x | y\n<script>*b*",)])
    assert table.splitlines()[-1] == r"| x \| y &lt;script&gt;\*b\* |"


def test_an_experiment_without_results_says_so(tmp_path: Path) -> None:
    made = experiment(tmp_path)
    for module in (convergence, clusters, purity):
        assert module.report(made).markdown
