"""The tables of `neuronscope experiment sentences`: forms of sentences, paired differences, and what was recorded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

from neuronscope.baselines.written import WrittenMode
from neuronscope.comparison import Comparison
from neuronscope.display.words import number
from neuronscope.experiments.readings import ReadingScore
from neuronscope.experiments.report import Report, estimate_data, estimated, markdown_table
from neuronscope.metrics.bootstrap import Estimate, Resampling
from neuronscope.metrics.paired import PairedDifference, mean_score, paired_difference
from neuronscope.results import mean_of
from neuronscope.types import Neuron

Forms = Mapping[str, Mapping[Neuron, Sequence[WrittenMode]]]
"""The modes of each neuron by the form of the sentences."""

BEFORE, AFTER = ", before refinement", ", after refinement"
NULL = ", another neuron's"
METHODS = "token_lookup,unrefined,neuronscope"
"""What stands beside the sentences where nobody says what."""

NOTES = """Joint is the test score of all of a neuron's sentences together, each by a strength that is fitted on train
text, as for NeuronScope's own: means over the form's neurons with 95 % bootstrap intervals over neurons. *Null* is what
the same form's sentences of another neuron score. The last columns are other methods on the same neurons, which are in
docs/methods.md: `neuronscope` is its own explanation. On *the file's texts* stand what the file's strong reader got
there and our simulator from the same sentences; where a strength is given they use it."""


@dataclass(frozen=True)
class SentenceScores:
    """All that was measured."""

    forms: Forms
    comparison: Comparison
    """Rows of each form, of its null, and of the other methods."""
    readings: Sequence[ReadingScore]
    """On the file's own texts."""
    unnamed: str
    """What a form without a name is called in the readings."""
    seed: int

    @property
    def methods(self) -> list[str]:
        """The other methods."""
        written = {name for form in self.forms for name in (form, form + NULL)}
        return [name for name in self.comparison.methods if name not in written]

    @property
    def resampling(self) -> Resampling:
        """Of every interval."""
        return Resampling(seed=self.seed)

    def of(self, form: str, method: str, score: str = "joint_score") -> list[float | None]:
        """A method's scores on the neurons of a form, in their order; None where one was not measured."""
        found = {row.neuron: getattr(row, score) for row in self.comparison.rows if row.method == method}
        return [found.get(neuron) for neuron in self.forms[form]]

    def read(self, form: str) -> dict[Neuron, ReadingScore]:
        """What was made of a form's sentences on the file's own texts."""
        return {Neuron.parse(each.neuron): each for each in self.readings if (each.form or self.unnamed) == form}

    def read_scores(self, form: str, which: str) -> list[float | None]:
        """The strong reader's scores there (`strong`), or our simulator's (`score`)."""
        read = self.read(form)
        return [getattr(read[each], which) if each in read else None for each in self.forms[form]]

    def mean(self, scores: Sequence[float | None]) -> Estimate:
        """With its interval."""
        return mean_score(scores, self.resampling)


def tables(scores: SentenceScores, settings: Mapping[str, Any]) -> Report:
    """Everything as one report; the data have every neuron's scores, and no sentence."""
    rows = [_row(scores, form) for form in scores.forms]
    differences = [*_differences(scores)]
    refined = [_refinement(scores, form) for form in scores.forms if form.endswith(AFTER)]
    parts = [
        _forms_table(rows, scores.methods),
        NOTES,
        _difference_table(differences),
        *(table for _, table in refined),
    ]
    data = {
        **settings,
        "forms": [
            {name: estimate_data(value) if isinstance(value, Estimate) else value for name, value in row.items()}
            for row in rows
        ],
        "differences": [{"first": one, "second": two, **asdict(found)} for one, two, found in differences],
        "refinement": [found for found, _ in refined],
        "scores": [
            {"neuron": str(row.neuron), "method": row.method, "joint_score": row.joint_score, "score": row.score}
            | {"val_joint_score": row.val_joint_score, "val_score": row.val_score, "number": row.number}
            for row in scores.comparison.rows
        ],
        "readings": [asdict(each) for each in scores.readings],
    }
    return Report("sentences", "Sentences of another writer", "\n\n".join(parts), data)


def _row(scores: SentenceScores, form: str) -> dict[str, Any]:
    modes = scores.forms[form]
    null = form + NULL if form + NULL in scores.comparison.methods else None
    return {
        "form": form,
        "n": len(modes),
        "number": sum(map(len, modes.values())) / len(modes),
        "joint": scores.mean(scores.of(form, form)),
        "null": scores.mean([] if null is None else scores.of(form, null)),
        "strong_reader": scores.mean(scores.read_scores(form, "strong")),
        "simulator_on_its_texts": scores.mean(scores.read_scores(form, "score")),
    } | {name: scores.mean(scores.of(form, name)) for name in scores.methods}


def _forms_table(rows: Sequence[Mapping[str, Any]], methods: Sequence[str]) -> str:
    texts = ("strong reader, the file's texts", "our simulator, the file's texts")
    head = ("sentences", "neurons", "sentences each", "joint", "null", *texts, *methods)
    names = ("joint", "null", "strong_reader", "simulator_on_its_texts", *methods)
    return markdown_table(
        head,
        [
            (row["form"], str(row["n"]), f"{row['number']:.1f}", *(estimated(row[name]) for name in names))
            for row in rows
        ],
    )


def _differences(scores: SentenceScores) -> Iterator[tuple[str, str, PairedDifference]]:
    """Each form and the other methods, forms of the same neurons, and our reading and the strong reader's."""
    for form in scores.forms:
        for other in (form + NULL, *scores.methods):
            if other in scores.comparison.methods:
                yield form, other, _difference(scores, scores.of(form, form), scores.of(form, other))
    for one, other in combinations(scores.forms, 2):
        if scores.forms[one].keys() & scores.forms[other].keys():
            yield other, one, _difference(scores, scores.of(one, other), scores.of(one, one))
    for form in scores.forms:
        if scores.read(form):
            read = scores.read_scores(form, "score"), scores.read_scores(form, "strong")
            yield f"our simulator on {form}", "the strong reader", _difference(scores, *read)


def _difference(
    scores: SentenceScores, first: Sequence[float | None], second: Sequence[float | None]
) -> PairedDifference:
    return paired_difference(first, second, scores.resampling)


def _difference_table(differences: Sequence[tuple[str, str, PairedDifference]]) -> str:
    return markdown_table(
        ("first", "second", "neurons", "mean difference of joint", "more", "less", "p (sign test)"),
        [
            (one, other, str(found.n), _shown(found), str(found.wins), str(found.losses), number(found.p_value, 3))
            for one, other, found in differences
        ],
    )


def _shown(found: PairedDifference) -> str:
    return estimated(Estimate(found.mean, found.low, found.high))


@dataclass(frozen=True)
class _Gain:
    """A score before refinement and after it."""

    what: str
    before: Sequence[float | None]
    after: Sequence[float | None]


def _gains(scores: SentenceScores, form: str) -> list[_Gain]:
    """What the file recorded of a form's modes, the mean over a neuron's; and what is measured here."""
    before = form.removesuffix(AFTER) + BEFORE
    modes = scores.forms[form].values()
    val = [[mode.val_scores for mode in of_one] for of_one in modes]
    return [
        _Gain(
            "Score, validation, as recorded",
            [mean_of(one for one, _ in of_one) for of_one in val],
            [mean_of(two for _, two in of_one) for of_one in val],
        ),
        _Gain(
            "Score, test, as recorded",
            [mean_of(mode.unrefined_test_score for mode in of_one) for of_one in modes],
            [mean_of(mode.test_score for mode in of_one) for of_one in modes],
        ),
        *(
            _Gain(what, scores.of(form, before, score), scores.of(form, form, score))
            for score, what in {
                "val_score": "Score, validation",
                "score": "Score, test",
                "val_joint_score": "joint, validation",
                "joint_score": "joint, test",
            }.items()
        ),
    ]


def _refinement(scores: SentenceScores, form: str) -> tuple[dict[str, Any], str]:
    """What refinement brought, as data and as a table."""
    name = form.removesuffix(AFTER)
    rows, lines = [], []
    for gain in _gains(scores, form):
        ends = scores.mean(gain.before), scores.mean(gain.after)
        difference = _difference(scores, gain.after, gain.before)
        rows.append(
            {"what": gain.what, "before": estimate_data(ends[0]), "after": estimate_data(ends[1])}
            | {"gain": asdict(difference), "by_neuron": {"before": list(gain.before), "after": list(gain.after)}}
        )
        lines.append(
            (gain.what, *map(estimated, ends), _shown(difference), str(difference.wins), str(difference.losses))
        )
    survived = scores.comparison.surviving_gain(form, name + BEFORE, scores.resampling)
    neurons = [str(neuron) for neuron in scores.forms[form]]
    data = {"form": name, "neurons": neurons, "rows": rows, "survived": estimate_data(survived)}
    table = markdown_table((name, "before refinement", "after", "gain", "neurons with more", "with less"), lines)
    share = (
        ""
        if survived.value is None
        else f"\n\nOf the gain in joint validation score {estimated(survived, 2)} is left on test."
    )
    return data, table + share
