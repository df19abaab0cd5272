"""A run in a file: which neurons of which model, with what, and where to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from neuronscope.config import ExplainConfig
from neuronscope.errors import ConfigurationError, first_problem
from neuronscope.units import Neuron

if TYPE_CHECKING:
    from neuronscope.exemplars.store import ExemplarStore


class Selection(BaseModel):
    """Neurons chosen by what they do: `n` of each layer (see `ExemplarStore.top_neurons`)."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    layers: list[int] = Field(min_length=1)
    """Layer numbers, from 0."""
    n: int = Field(ge=1)
    """How many of each layer."""
    by: Literal["frequency", "max", "random"] = "frequency"
    """The most often active ones, as in the paper; those with the largest maximum; or drawn at random."""
    sign: Literal[1, -1] = 1
    """Of which sign."""
    seed: int = 0
    """For the random ones."""


class RunSpec(BaseModel):
    """Everything that `neuronscope run` reads from its file; what is left out is as for `explain_neurons`."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    subject: str
    """The model: an alias, a Hugging Face id, a folder, a GGUF file."""
    neurons: Selection | list[str | Selection]
    """A selection; or a list of neurons by their written names (9/740, 9/740/-, sae:9/740), and of selections."""
    corpus: str = "builtin"
    """The text to look at."""
    llm: str | dict[str, str] = "auto"
    """A model's name, or one per agent."""
    base_url: str | None = None
    """Address of an OpenAI-compatible server that has the model."""
    embeddings: str = "auto"
    """For the clustering."""
    simulator: str = "auto"
    """What predicts activations from explanations."""
    budget: str | None = None
    """What the language models may cost, over all starts of the run: "5$" or "200k tokens"."""
    paper: bool = False
    """Start from what the paper says of the method instead of the defaults."""
    config: dict[str, Any] = Field(default_factory=dict)
    """Settings: the fields of `ExplainConfig`."""
    out: Path
    """The run's folder, from the current one."""
    checkpoints: str | None = "auto"
    """Where the steps of neurons under way are kept: "auto" is a file in the run's folder; or a Postgres URL; or
    nothing."""
    parallel: int = Field(8, ge=1)
    """Neurons under way at once."""
    engine: Literal["local", "ray"] = "local"
    """This process, or the workers of a Ray cluster."""
    cache_dir: Path | None = None
    """Where collected exemplars are kept."""

    @classmethod
    def load(cls, path: str | Path) -> RunSpec:
        """Read a YAML file.

        Raises:
            ConfigurationError: it cannot be read, or a field is wrong; the message names it.
        """
        import yaml

        try:
            document = yaml.safe_load(Path(path).read_text("utf-8"))
        except OSError as error:
            raise ConfigurationError(f"Cannot read {path}: {error.strerror}.") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"{path} is no YAML: {' '.join(str(error).split())}") from error
        return cls.of(document, str(path))

    @classmethod
    def of(cls, document: Any, name: str = "The run's description") -> RunSpec:
        """Check what stood in a file.

        Raises:
            ConfigurationError: a field is wrong.
        """
        try:
            spec = cls.model_validate(document)
            spec.settings()
            for each in spec._listed():
                if isinstance(each, str):
                    Neuron.parse(each)
        except ValidationError as error:
            raise ConfigurationError(f"{name}: {first_problem(error)}. See docs/runs.md for the fields.") from error
        return spec

    def settings(self) -> ExplainConfig:
        """The settings, over the defaults or the paper's."""
        base = ExplainConfig.paper() if self.paper else ExplainConfig()
        return ExplainConfig.model_validate({**base.model_dump(), **self.config})

    def _listed(self) -> list[str | Selection]:
        return [self.neurons] if isinstance(self.neurons, Selection) else list(self.neurons)

    @property
    def layers(self) -> list[int]:
        """Every layer that the neurons are in."""
        found = {layer for each in self._listed() for layer in _layers(each)}
        return sorted(found)

    def chosen(self, store: ExemplarStore) -> list[Neuron]:
        """The neurons, each once.

        Args:
            store: with all layers of the run, for selections.
        """
        return list(dict.fromkeys(neuron for each in self._listed() for neuron in _chosen(each, store)))


def _layers(each: str | Selection) -> Sequence[int]:
    return each.layers if isinstance(each, Selection) else [Neuron.parse(each).layer]


def _chosen(each: str | Selection, store: ExemplarStore) -> list[Neuron]:
    if isinstance(each, str):
        return [Neuron.parse(each)]
    return [
        neuron
        for layer in each.layers
        for neuron in store.top_neurons(layer, n=each.n, by=each.by, sign=each.sign, seed=each.seed)
    ]
