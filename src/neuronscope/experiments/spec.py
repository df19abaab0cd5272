"""What an experiment is made of, once: models, layers, which of their neurons, and the setup that all share."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from neuronscope.config import ExplainConfig, Setup
from neuronscope.errors import ConfigurationError, SubjectError
from neuronscope.experiments.paper import GEMMA, LLAMA, MODELS, QWEN
from neuronscope.llm.models import BATCH, DEFAULT_MODEL
from neuronscope.runs.spec import RunSpec, Selection
from neuronscope.runs.yaml_file import read_yaml
from neuronscope.validation import Settings

Preset = Literal["small", "paper"]

SMALL_N = 20
"""Neurons of a layer in the small preset."""
SMALL_METHODS = (
    "neuronscope,unrefined,first_mode,best_of_n,single_pass,best_of_k:8,clustered,experimenter,token_lookup,"
    "token_lookup_own_size,another_neuron,random_description,random_description:8"
)
PAPER_N = 200
"""Neurons of a layer (paper, appendix B)."""


class ExperimentSubject(Settings):
    """A model, and the layers that are looked at."""

    subject: str
    """The model: as for `Setup`."""
    layers: list[int] = Field(min_length=1)
    """Layer numbers, from 0."""
    n: int | None = Field(None, ge=1)
    """Neurons of each layer; None for the experiment's."""
    name: str = ""
    """What tables and folders call it; else the last part of `subject`."""
    stands_for: str = ""
    """The paper's model whose figures stand beside this one's, layer by layer; none for none."""

    @field_validator("stands_for")
    @classmethod
    def _is_the_papers(cls, name: str) -> str:
        if name and name not in MODELS:
            raise ValueError(f"expected one of {', '.join(MODELS)}")
        return name

    @property
    def label(self) -> str:
        """What tables and folders call it."""
        return self.name or Path(self.subject).name or self.subject

    @property
    def folder(self) -> str:
        """The name of its run's folder."""
        return re.sub(r"[^\w.-]+", "-", self.label).strip(".") or "subject"


class ExperimentSpec(Settings):
    """Everything that an experiment's numbers depend on: the same spec gives the same numbers."""

    subjects: list[ExperimentSubject] = Field(min_length=1)
    """The models."""
    population: Literal["frequent", "random"] = "frequent"
    """Of each layer the neurons that are most often active, as in the paper; or drawn at random."""
    n: int = Field(SMALL_N, ge=1)
    """Neurons of each layer, of models that name no number of their own."""
    methods: str = "neuronscope,unrefined,best_of_n,single_pass,best_of_k:8,token_lookup"
    """What `compare` compares, with commas between (docs/methods.md)."""
    compared: int = Field(5, ge=1)
    """Neurons of each layer that `compare` scores all methods on: the first of the population."""
    parallel: int | None = Field(None, ge=1)
    """Neurons under way at once; None is 8, or 1,000 where a language model is asked in batches."""
    setup: Setup
    """Everything else; its `subject` is each of `subjects`, and its budget that of each."""

    @model_validator(mode="before")
    @classmethod
    def _without_subject(cls, given: Any) -> Any:
        setup = given.get("setup", {}) if isinstance(given, dict) else None
        return given if not isinstance(setup, dict) else {**given, "setup": {"subject": None, **setup}}

    @model_validator(mode="after")
    def _distinct_subjects(self) -> ExperimentSpec:
        if self.setup.subject is not None or self.setup.store is not None:
            raise ValueError("an experiment's setup has neither a subject nor a store: name the models in 'subjects'")
        folders = [each.folder for each in self.subjects]
        if twice := sorted({name for name in folders if folders.count(name) > 1}):
            raise ValueError(f"two subjects are called {twice[0]!r}: give one of them a name of its own")
        return self

    def runs(self, out: Path) -> list[RunSpec]:
        """A run for each subject, in a folder of its own, so that each resumes by itself."""
        fields = {name: getattr(self.setup, name) for name in Setup.model_fields if name != "subject"}
        by: Literal["frequency", "random"] = "frequency" if self.population == "frequent" else "random"
        return [
            RunSpec(
                subject=each.subject,
                neurons=Selection(layers=each.layers, n=each.n or self.n, by=by, seed=self.setup.config.seed),
                out=out / "runs" / each.folder,
                parallel=self.parallel,
                **fields,
            )
            for each in self.subjects
        ]


def preset(name: Preset) -> ExperimentSpec:
    """The paper's experiment, or a small one of the same form that needs nothing but PyPI.

    Both explain as the paper says (`ExplainConfig.paper()`), so that tables with and without refinement share every
    stage before it. The small one writes without a language model and scores with the reader; its layers are at the
    relative depths of the paper's, and it compares every method. The paper's language model is asked in batches, which
    cost half.
    """
    if name == "paper":
        subjects = [
            ExperimentSubject(subject=model.hub_id, layers=list(model.layers), name=label, stands_for=label)
            for label, model in MODELS.items()
        ]
        setup = Setup.paper("").model_copy(update={"subject": None, "llm": f"{BATCH}{DEFAULT_MODEL}"})
        return ExperimentSpec(subjects=subjects, n=PAPER_N, setup=setup)
    setup = Setup(subject=None, llm="offline", embeddings="minilm", simulator="reader", config=ExplainConfig.paper())
    subjects = [
        ExperimentSubject(subject="smollm2-135m", layers=depths(LLAMA, 30), stands_for=LLAMA),
        ExperimentSubject(subject="gemma3-270m", layers=depths(GEMMA, 18), stands_for=GEMMA),
    ]
    return ExperimentSpec(subjects=subjects, methods=SMALL_METHODS, setup=setup)


def depths(papers: str, n_layers: int) -> list[int]:
    """The layers of a model of so many that are as deep as those of one of the paper's models."""
    model = MODELS[papers]
    return sorted({round(layer / (model.n_layers - 1) * (n_layers - 1)) for layer in model.layers})


def subject_at_depths(subject: str, papers: str = QWEN) -> ExperimentSubject:
    """A model of one's own, with the layers that are as deep as those of one of the paper's models.

    Raises:
        SubjectError: how many layers it has cannot be found out.
    """
    from transformers import AutoConfig

    from neuronscope.subject.sources import locate

    source, name = locate(subject)
    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
        n_layers = int(config.get_text_config().num_hidden_layers)
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise SubjectError(
            f"How many layers {subject} has cannot be found out ({str(error).splitlines()[0]}). Name its layers in a "
            "file: `--spec`, docs/experiments.md."
        ) from error
    return ExperimentSubject(subject=subject, layers=depths(papers, n_layers), name=name, stands_for=papers)


def assembled(base: ExperimentSpec | None, changes: Mapping[str, Any], subjects: Sequence[str] = ()) -> ExperimentSpec:
    """A spec with some fields changed, those of `setup` and its `config` one by one, and models added to it.

    Raises:
        ConfigurationError: a field makes no sense.
        SubjectError: a model that is added cannot be found.
    """
    document = {} if base is None else base.model_dump(mode="json")
    named = changes.get("preset")
    if named is not None:
        if named not in ("small", "paper"):
            raise ConfigurationError(f"There is no preset {named!r}: expected small or paper.")
        document = preset(named).model_dump(mode="json")
    changes = {name: value for name, value in changes.items() if name != "preset"}
    merged = _merged(document, changes)
    if subjects:
        added = [subject_at_depths(each).model_dump(mode="json") for each in subjects]
        merged["subjects"] = [*merged.get("subjects", []), *added]
    return ExperimentSpec(**merged)


def load_spec(path: Path) -> ExperimentSpec:
    """Read a YAML file: the fields of `ExperimentSpec`, over those of a `preset` if it names one.

    Raises:
        ConfigurationError: it cannot be read, or something in it is wrong.
    """
    read = read_yaml(path)
    if read.problems or not isinstance(read.content, dict):
        what = read.problems[0].message if read.problems else "it has no fields such as subjects and n"
        raise ConfigurationError(f"{path}: {what}. See docs/experiments.md.")
    try:
        return assembled(None, read.content)
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from error


def _merged(document: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Changes over a document; where both have a mapping, field by field."""
    merged = dict(document)
    for name, value in changes.items():
        known = merged.get(name)
        merged[name] = _merged(known, value) if isinstance(known, dict) and isinstance(value, Mapping) else value
    return merged
