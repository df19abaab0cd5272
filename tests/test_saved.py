"""Results as files: what is written is read back as it was, and nothing else is read."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import neuronscope as ns
from neuronscope.metrics.table import Measurement
from neuronscope.results import Attempt, Cluster, Excerpt, Failure, Mode, NeuronExplanation, Probe, ProbeText, Usage
from neuronscope.saved import SCHEMA_VERSION

FULL = NeuronExplanation(
    ns.Neuron(4, 17, -1, "sae"),
    "partial",
    modes=[
        Mode(
            "This neuron activates on rain.",
            score=0.5,
            val_score=0.25,
            subset_score=-0.125,
            unrefined_score=0.0,
            history=[Attempt(0, "rain", 0.25), Attempt(1, "snow", None)],
            atoms=["rain"],
            excerpts=[Excerpt(["a", " wet\ud800"], [0.0, 9.5], [1.0, 10.0], 3, "news")],
            probes=[Probe(1, "rain", [ProbeText("It rains.", True, False, " rains", 1.5)], "")],
            interval=(0.25, 0.75),
            supported=False,
        ),
        Mode("not scored"),
    ],
    score=0.5,
    joint_score=None,
    corpus_score=0.25,
    corpus_interval=(-0.125, 0.5),
    number_interval=(0, 2),
    separation=0.5,
    separation_interval=(0.25, 0.75),
    null_score=0.0,
    null_best=0.125,
    unrefined_score=0.0,
    hypotheses=["weather"],
    atoms=["rain"],
    clusters=[Cluster(["rain"], "rain", [(0.5, -3.0)])],
    failures=[Failure("conclude", "out of memory")],
    usage=Usage({"hypothesis": 2}, {"hypothesis": 10}, {}, 12, 1.5, dollars={"hypothesis": None}),
    provenance={"subject": {"name": "tiny"}, "config": {"seed": 0, "list": [1, [2, None]]}},
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every field of a document, but those of the provenance, which is free."""
    if path and path[0] == "provenance":
        return
    for key, part in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield (*path, key)
        yield from places(part, (*path, key))


def edited(path: tuple[Any, ...], value: Any = None, *, drop: bool = False) -> str:
    document = json.loads(FULL.to_json())
    part = document
    for key in path[:-1]:
        part = part[key]
    if drop:
        del part[path[-1]]
    else:
        part[path[-1]] = value
    return json.dumps(document)


def written(path: tuple[Any, ...]) -> str:
    return ".".join(map(str, path))


FIELDS = [path for path in places(json.loads(FULL.to_json())) if path != ("schema_version",)]
NUMBERS = {"score", "joint_score", "unrefined_score", "val_score", "subset_score"}


def test_what_is_saved_is_read_back_as_it_was(tmp_path: Path) -> None:
    assert NeuronExplanation.load(FULL.save(tmp_path / "x.json")) == FULL
    assert NeuronExplanation.from_json("\ufeff" + FULL.to_json().replace("\n", "\r\n")) == FULL
    bare = NeuronExplanation(ns.Neuron(0, 0), "explained", modes=[Mode("by hand", score=0.25), Mode("unscored")])
    assert bare.score == 0.25
    assert NeuronExplanation.from_json(bare.to_json()) == bare


@pytest.mark.parametrize(
    "path", [path for path in FIELDS if isinstance(path[-1], str) and "usage" not in path[:-2]], ids=written
)
def test_no_field_may_be_missing(path: tuple[Any, ...]) -> None:
    if path[-2:-1] and isinstance(json.loads(FULL.to_json())["usage"].get(path[-2]), dict):
        return  # an agent's name is no field
    with pytest.raises(ns.ResultError, match=path[-1]):
        NeuronExplanation.from_json(edited(path, drop=True))


@given(st.sampled_from(FIELDS), st.sampled_from(["0.5", True, {"a": 1}, [[]], "x" * 50]))
def test_a_value_of_another_type_is_refused_and_never_converted(path: tuple[Any, ...], value: Any) -> None:
    text = edited(path, value)
    with suppress(ns.ResultError):
        read = NeuronExplanation.from_json(text)
        assert json.loads(read.to_json()) == json.loads(text), "it was of that type"


@pytest.mark.parametrize("path", [path for path in FIELDS if path[-1] in NUMBERS], ids=written)
@pytest.mark.parametrize("value", [1.0001, -2, 10**30, math.nan, math.inf])
def test_a_score_out_of_range_is_refused(path: tuple[Any, ...], value: float) -> None:
    with pytest.raises(ns.ResultError):
        NeuronExplanation.from_json(edited(path, value))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("neuron", "sign"), 0),
        (("neuron", "layer"), -1),
        (("neuron", "site"), "../.."),
        (("status",), "done"),
        (("modes", 0, "excerpts", 0, "activations"), [1.0]),
        (("modes", 0, "excerpts", 0, "activations", 0), 10.5),
        (("modes", 0, "excerpts", 0, "predicted", 0), -1),
        (("modes", 0, "history", 0, "iteration"), -1),
        (("usage", "seconds"), -0.5),
        (("usage", "requests", "hypothesis"), -1),
        (("score",), None),
    ],
    ids=str,
)
def test_a_value_that_cannot_be_is_refused(path: tuple[Any, ...], value: Any) -> None:
    with pytest.raises(ns.ResultError, match="damaged"):
        NeuronExplanation.from_json(edited(path, value))


NESTED = "[" * 200 + "]" * 200


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "{",
        FULL.to_json()[:-40],
        FULL.to_json().replace('"score": 0.5', '"score": NaN', 1),
        FULL.to_json().replace('"score": 0.5', '"score": -Infinity', 1),
        FULL.to_json().replace('"score": 0.5', '"score": 1e999', 1),
        FULL.to_json().replace('"score": 0.5', '"score": 0.5, "score": 0.9', 1),
        FULL.to_json().replace('"sequence_id": 3', f'"sequence_id": {"3" * 5000}'),
        FULL.to_json().replace('"list": [', f'"list": [{NESTED}, ', 1),
        '{"a":' * 50_000,
        b"\xff\xfe\xfa{}",
    ],
    ids=range(13),
)
def test_what_is_no_saved_result_is_refused_in_words(text: str | bytes) -> None:
    with pytest.raises(ns.ResultError) as caught:
        NeuronExplanation.from_json(text)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("version", [1, SCHEMA_VERSION + 1, str(SCHEMA_VERSION), True, None, float(SCHEMA_VERSION)])
def test_another_version_is_refused_with_what_to_do(version: Any, tmp_path: Path) -> None:
    file = tmp_path / "old.json"
    file.write_text(edited(("schema_version",), version))
    with pytest.raises(ns.ResultError, match=r"old\.json.*saved in form.*Explain the neuron again"):
        NeuronExplanation.load(file)


def test_what_a_later_version_may_have_added_is_ignored_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    document = json.loads(FULL.to_json())
    document["modes"][0]["sureness"] = [0.1, 0.2]
    with caplog.at_level(logging.WARNING, "neuronscope"):
        assert NeuronExplanation.from_json(json.dumps(document)) == FULL
    assert "modes.0.sureness" in caplog.text


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_number_that_is_none_is_not_written(value: float) -> None:
    with pytest.raises(ns.ResultError, match=r"joint_score is (nan|inf)"):
        replace(FULL, joint_score=value).to_json()
    noted = replace(FULL, provenance={"temperature": value}).to_json()
    assert json.loads(noted, parse_constant=pytest.fail)["provenance"] == {"temperature": None}


def test_an_evaluation_is_held_to_the_same() -> None:
    row = Measurement(
        metric="r2", explanation="a", value=None, low=None, high=None, n=0, baseline=0.0, judge="", note="nothing"
    )
    table = ns.Evaluation(ns.Neuron(0, 1), ["a"], [row])
    assert ns.Evaluation.from_json(table.to_json()) == table
    document = json.loads(table.to_json())
    del document["measurements"][0]["value"]
    with pytest.raises(ns.ResultError, match=r"measurements\.0\.value"):
        ns.Evaluation.from_json(json.dumps(document))


# In a prompt


LONG = "This neuron activates on " + "very " * 5000 + "long words.\n\x1b[31m"
HUGE = replace(
    FULL,
    modes=[replace(FULL.modes[0], explanation=LONG, history=[Attempt(0, LONG, 0.5)] * 50)] * 8,
    failures=[Failure("conclude", LONG)] * 9,
    clusters=[Cluster([LONG] * 99, LONG, [(0.0, 0.0)] * 99)],
)
PARTS = [
    HUGE,
    HUGE.modes[0],
    HUGE.clusters[0],
    HUGE.failures[0],
    HUGE.modes[0].history[0],
    Excerpt([LONG] * 64, [1.0] * 64, [1.0] * 64, 3, "news"),
    Probe(1, LONG, [ProbeText(LONG, True, True, "", 1.0)] * 20),
    ProbeText(LONG, True, True, "", 1.0),
    HUGE.usage,
    ns.Evaluation(ns.Neuron(0, 1), [LONG] * 8, []),
]


@pytest.mark.parametrize("part", PARTS, ids=lambda part: type(part).__name__)
def test_whatever_it_holds_it_is_one_short_line(part: Any) -> None:
    line = repr(part)
    assert len(line) < 200
    assert line.isprintable()
    assert line.startswith(type(part).__name__)
    assert len(repr([part] * 3)) < 600


def test_a_line_tells_the_neuron_what_became_of_it_and_whether_it_was_measured() -> None:
    assert repr(FULL) == "NeuronExplanation(sae:4/17/- of tiny: partial, 2 modes, score 0.50)"
    assert repr(FULL.modes[1]) == "Mode('not scored', score not measured)"
