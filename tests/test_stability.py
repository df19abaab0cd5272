"""What is promised: names with their signatures, and the files that are saved."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, ValidationError

import neuronscope as ns
import public_api
import test_saved
from neuronscope.schemas import schema
from neuronscope.schemas.write import FORMS, derive
from small_world import write_small_world

KNOWN = json.loads(public_api.FILE.read_text("utf-8"))
NOW = public_api.public_api()
REMEDY = "where the change is meant, `make promises` writes it down, and CHANGELOG.md says it to users"


@pytest.mark.parametrize("part", KNOWN)
def test_what_is_promised_is_what_is_written_down(part: str) -> None:
    assert NOW[part] == KNOWN[part], REMEDY


def test_the_promises_hold_every_public_name_and_the_keys_of_the_states() -> None:
    assert {name.removeprefix("neuronscope.") for name in KNOWN["names"]} >= set(ns.__all__)
    assert {"neuron", "modes", "proposals", "iteration"} <= set(
        KNOWN["names"]["neuronscope.graphs.RefinementState"]["members"]
    )
    assert "neuron" in KNOWN["names"]["neuronscope.explain_neuron"]


def test_a_changed_signature_shows() -> None:
    def function(a: int, *, b: str | None = None) -> list[str]: ...

    async def other(a: int, *, b: str | None = "") -> list[str]: ...

    assert public_api.describe(function) == "(a: int, *, b: str | None = None) -> list[str]"
    assert public_api.describe(other) == "async (a: int, *, b: str | None = '') -> list[str]"


@pytest.mark.parametrize("name", FORMS)
def test_a_published_schema_is_what_follows_from_the_types(name: str) -> None:
    Draft202012Validator.check_schema(schema(name))
    assert schema(name) == derive(name), REMEDY


# Real files


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: Any) -> dict[str, Path]:
    """A file of each form, as a small run leaves it."""
    folder = tmp_path_factory.mktemp("saved")
    world = write_small_world(folder, tiny_tokenizer)
    setup = ns.Setup(
        subject=world.model,
        corpus=world.texts,
        llm="offline",
        simulator="hybrid",
        cache_dir=folder / "stores",
        config=ns.ExplainConfig(seq_len=16, n_tokens=4000, max_iterations=1, n_candidates=2, cache_answers=False),
    )
    with setup.open(layers=[1], progress=False) as lab:
        (x,) = lab.explain_many([(1, 3)], out=folder / "run", progress=False)
        (row,) = lab.compare([(1, 3)], "neuronscope", explanations=[x], out=folder / "run")
        lab.evaluate(x, metrics=["correlation", "retrieval"], n_bootstrap=10).save(folder / "evaluation.json")
    assert x.modes
    assert row.sentences
    return {
        "explanation": folder / "run" / "results" / "1-3.json",
        "evaluation": folder / "evaluation.json",
        "method_score": folder / "run" / "scores" / "1-3" / "neuronscope.json",
        "run": folder / "run" / "run.json",
        "store": next(folder.glob("stores/*/store.json")),
    }


@pytest.mark.parametrize("name", FORMS)
def test_a_real_file_is_of_its_schema_and_has_no_key_beside_it(name: str, saved: dict[str, Path]) -> None:
    document = json.loads(saved[name].read_bytes())
    Draft202012Validator(schema(name)).validate(document)
    assert document.keys() == schema(name)["properties"].keys()
    if name == "store":
        assert document["info"].keys() == schema(name)["$defs"]["StoreInfo"]["properties"].keys()


@pytest.mark.parametrize("name", FORMS)
def test_a_file_that_lacks_a_key_or_is_of_another_version_is_not(name: str, saved: dict[str, Path]) -> None:
    document = json.loads(saved[name].read_bytes())
    for key in document:
        with pytest.raises(ValidationError):
            Draft202012Validator(schema(name)).validate({other: document[other] for other in document if other != key})
    version = FORMS[name][1]
    with pytest.raises(ValidationError):
        Draft202012Validator(schema(name)).validate(document | {version: document[version] + 1})


def test_a_result_with_everything_in_it_is_of_its_schema() -> None:
    full = json.loads(test_saved.FULL.to_json())
    validator = Draft202012Validator(schema("explanation"))
    validator.validate(full)
    validator.validate(full | {"of a later version": 1})
    full["modes"][0]["score"] = 1.5
    assert not validator.is_valid(full)


def test_the_table_of_defaults_names_every_setting_in_which_paper_differs():
    page = (Path(__file__).parents[1] / "docs" / "architecture.md").read_text("utf-8")
    rows = re.findall(r"^\| (`[a-z_`, ]+`) \|", page.split("## Defaults")[1].split("\n## ")[0], flags=re.MULTILINE)
    ours, papers = ns.ExplainConfig(), ns.ExplainConfig.paper()
    assert set(re.findall(r"[a-z_]+", " ".join(rows))) == {
        name for name in ns.ExplainConfig.model_fields if getattr(ours, name) != getattr(papers, name)
    }
