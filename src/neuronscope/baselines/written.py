"""Sentences that somebody else wrote, scored through the same entry point as every baseline.

A file of sentences is JSON lines, one explanation of a neuron each: the neuron (`layer`, `neuron`, `sign`, `site`);
either `explanations`, a list of sentences, or `modes`, each an `explanation` with a `strength` or without; and `form`,
how the sentences came about. A mode that was refined may have its `history`, whose first attempt is the sentence
before, and the scores that whoever wrote it measured: `val_score` in each attempt, `test_score` and
`unrefined_test_score`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

from pydantic import BaseModel, Field, ValidationError, model_validator

from neuronscope.errors import ConfigurationError
from neuronscope.interfaces import Explained
from neuronscope.types import SCALE, Neuron

if TYPE_CHECKING:
    from neuronscope.state import Instruments
    from neuronscope.types import ExemplarIds

LineT = TypeVar("LineT", bound=BaseModel)


class WrittenSentences:
    """Sentences that are given: those of a person, of another method, or of a language model elsewhere.

    It has no name of its own that `compare` knows, since it needs the sentences: pass the object, as in
    `lab.compare(neurons, [*WrittenSentences.load("sentences.jsonl"), "neuronscope"])`.

    Args:
        sentences: by neuron, one for each thing that it responds to.
        name: what tables call it.
    """

    def __init__(self, sentences: Mapping[Neuron, Sequence[str]], name: str = "written") -> None:
        self._sentences = {neuron: tuple(texts) for neuron, texts in sentences.items()}
        self.name = name

    @classmethod
    def load(cls, path: str | Path) -> list[WrittenSentences]:
        """An explainer for each form of sentences in a file, named as the form is.

        Raises:
            ConfigurationError: the file cannot be read, or has another form.
        """
        return [
            cls({neuron: [mode.explanation for mode in modes] for neuron, modes in by_neuron.items()}, form)
            for form, by_neuron in load_written(path).items()
        ]

    @property
    def neurons(self) -> list[Neuron]:
        """Whose sentences are given."""
        return list(self._sentences)

    async def explain(self, neuron: Neuron, exemplars: ExemplarIds, instruments: Instruments) -> Explained:
        """Return the neuron's sentences.

        Raises:
            ConfigurationError: none are given of it.
        """
        if neuron not in self._sentences:
            raise ConfigurationError(
                f"{self.name!r} has no sentences of {neuron}: it has those of {len(self._sentences)} other neurons."
            )
        return Explained(sentences=self._sentences[neuron])


class WrittenAttempt(BaseModel):
    """A sentence of a mode's history."""

    explanation: str = Field(min_length=1)
    val_score: float | None = None


class WrittenMode(BaseModel):
    """One of the things that a neuron is said to respond to."""

    explanation: str = Field(min_length=1)
    strength: float | None = Field(None, ge=0, le=SCALE)
    """The activation, 0 to 10, that the writer says it stands for."""
    history: list[WrittenAttempt] = []
    """What was tried, the sentence before refinement first."""
    test_score: float | None = None
    """As whoever wrote it measured it."""
    unrefined_test_score: float | None = None
    """That of the sentence before refinement."""

    @property
    def before(self) -> str:
        """The sentence before refinement; the same where nothing was tried."""
        return self.history[0].explanation if self.history else self.explanation

    @property
    def val_scores(self) -> tuple[float | None, float | None]:
        """The recorded validation scores before refinement and after it."""
        found = {attempt.explanation: attempt.val_score for attempt in reversed(self.history)}
        return found.get(self.before), found.get(self.explanation)


class WrittenLine(BaseModel):
    """One line of a file: an explanation of a neuron."""

    layer: int
    neuron: int
    sign: int = 1
    site: str = "mlp"
    form: str = ""
    modes: list[WrittenMode] = []
    explanations: list[Annotated[str, Field(min_length=1)]] = []

    @model_validator(mode="after")
    def _is_of_a_neuron(self) -> WrittenLine:
        try:
            Neuron(self.layer, self.neuron, self.sign, self.site)
        except ConfigurationError as error:
            raise ValueError(str(error)) from error
        return self

    @property
    def unit(self) -> Neuron:
        """The neuron."""
        return Neuron(self.layer, self.neuron, self.sign, self.site)

    @property
    def every_mode(self) -> list[WrittenMode]:
        """The modes, whichever way they are written."""
        return [*self.modes, *(WrittenMode(explanation=text) for text in self.explanations)]


def load_written(path: str | Path) -> dict[str, dict[Neuron, list[WrittenMode]]]:
    """The modes of each neuron by the form of the sentences; lines that name no form are of the file's name.

    Raises:
        ConfigurationError: the file cannot be read or has another form, or says two things of a neuron in one form.
    """
    path, found = Path(path), dict[str, dict[Neuron, list[WrittenMode]]]()
    for number, line in enumerate(read_lines(path, WrittenLine), start=1):
        form = line.form or path.stem
        modes = line.every_mode
        if not modes:
            raise ConfigurationError(f"{path}, explanation {number}: it has neither `modes` nor `explanations`.")
        if line.unit in found.setdefault(form, {}):
            raise ConfigurationError(
                f"{path}, explanation {number}: there is another of {line.unit} already, of the form {form!r}. Give "
                "one of them another `form`."
            )
        found[form][line.unit] = modes
    if not found:
        raise ConfigurationError(f"There are no sentences in {path}: it should have one explanation a line.")
    return found


def read_lines(path: Path, kind: type[LineT]) -> Iterator[LineT]:
    """The objects of a file of JSON lines; empty lines are none.

    Raises:
        ConfigurationError: it cannot be read, or a line has another form.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")  # a sentence may hold other separators
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"Cannot read {path}: {error}. Name a file with a JSON object a line.") from error
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                yield kind.model_validate_json(line)
            except ValidationError as error:
                raise ConfigurationError(f"{path}, line {number}: {error}") from error
