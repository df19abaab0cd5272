"""The two nouns everything else speaks of: a neuron, and an exemplar of what it does."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from neuronscope.arguments import integer
from neuronscope.errors import ConfigurationError
from neuronscope.text import shortened

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Split = Literal["train", "feedback", "validation", "test"]
"""Every document belongs to exactly one: agents see train, the errors that refinement is shown are of feedback,
validation only selects, reported scores are test."""

SCALE = 10.0
"""Predictions live on 0-10; the neuron's largest activation is 10."""
SPLITS: tuple[Split, ...] = ("train", "feedback", "validation", "test")

MLP = "mlp"
"""The site that every subject has: the inputs of its MLPs' output projections."""

_SITE = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
_NAME = re.compile(
    rf"(?:(?P<site>{_SITE.pattern}):)?(?P<layer>[0-9]{{1,19}})/"
    r"(?:-(?P<negative>[0-9]{1,19})|(?P<index>[0-9]{1,19})(?:/(?P<sign>[+-])1?)?)"
)


class HookPoint(NamedTuple):
    """A layer's place at a site: what a forward pass reads, a collection gathers and a file holds as one."""

    layer: int
    """Layer number, from 0."""
    site: str = "mlp"
    """The site's name."""

    def __str__(self) -> str:
        """In an error, at the beginning of a sentence: `Layer 9`, or `Layer 9 of site 'sae'`."""
        return f"Layer {self.layer}{'' if self.site == MLP else f' of site {self.site!r}'}"

    @property
    def file_name(self) -> str:
        """Part of a path, without an ending: `mlp-9`."""
        return f"{self.site}-{self.layer}"


@dataclass(frozen=True, slots=True, order=True)
class Neuron:
    """One scalar of a model: by default an input coordinate of an MLP's output projection."""

    layer: int
    """Layer number, from 0."""
    index: int
    """Position within the layer, from 0."""
    sign: int = 1
    """+1 studies the neuron's large values, -1 its large negative values."""
    site: str = "mlp"
    """Where the scalar lives; other sites (SAE latents, attention outputs) can join without a new type."""

    def __post_init__(self) -> None:
        for name in ("layer", "index", "sign"):  # as they come out of numpy and pandas
            object.__setattr__(self, name, integer(getattr(self, name), f"A neuron's {name}"))
        if self.sign not in (1, -1):
            raise ConfigurationError(f"A neuron's sign is 1 or -1, not {self.sign!r}.")
        if self.layer < 0 or self.index < 0:
            raise ConfigurationError(f"Layers and neurons count from 0: got layer {self.layer}, index {self.index}.")
        if not isinstance(self.site, str) or not _SITE.fullmatch(self.site):
            raise ConfigurationError(
                f"{self.site!r} cannot be the name of a site: it is part of file names, so write up to 64 small "
                "letters, digits, dots, hyphens and underscores, such as sae or resid-post."
            )

    def __str__(self) -> str:
        """The neuron's one written name: `9/740`, `9/740/-` for the negative side, `sae:9/740` at another site.

        `Neuron.parse` reads it back. Files, checkpoints, usage records and displays call a neuron by it, so no two
        neurons share one.
        """
        site = "" if self.site == "mlp" else f"{self.site}:"
        return f"{site}{self.layer}/{self.index}{'' if self.sign > 0 else '/-'}"

    @classmethod
    def parse(cls, name: str) -> Neuron:
        """Read a written name: what `str(neuron)` gives, or `9/-740` for the negative side, or `mlp:9/740/+`.

        Raises:
            ConfigurationError: it names no neuron.
        """
        match = _NAME.fullmatch(name.strip()) if isinstance(name, str) else None
        if match is None:
            raise ConfigurationError(
                f"{shortened(repr(name), 80)} names no neuron: write layer/index, such as 9/740, or "
                "9/740/- for its large negative values, with the site in front if it is not the MLP, as in sae:9/740."
            )
        negative = match["negative"] is not None or match["sign"] == "-"
        index = int(match["negative"] or match["index"])
        return cls(int(match["layer"]), index, -1 if negative else 1, match["site"] or "mlp")

    @property
    def hook_point(self) -> HookPoint:
        """Its layer and site."""
        return HookPoint(self.layer, self.site)

    @property
    def file_name(self) -> str:
        """The written name as part of a path, without an ending: `9-740`, `9-740-negative`, `sae@9-740`."""
        return str(self).replace("/-", "-negative").replace("/", "-").replace(":", "@")


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Exemplar:
    """A sequence with its per-token activations for one neuron and sign.

    `"".join(tokens)` is the text, also where one character spans several tokens.
    """

    tokens: Sequence[str]
    """The text of each token, `seq_len` of them."""
    token_ids: Sequence[int]
    """The subject's ids of the same tokens."""
    activations: NDArray[np.float32]
    """Shape `(seq_len,)`, `max(sign * activation, 0)`: the other sign counts as inactive."""
    sequence_id: int
    """The sequence's number within its corpus."""
    source: str
    """Which part of the corpus the document came from."""

    def __repr__(self) -> str:
        peak = max(map(float, self.activations), default=0.0)
        text = shortened("".join(self.tokens[:60]))
        return f"Exemplar(sequence {self.sequence_id}, {len(self.tokens)} tokens, at most {peak:.3g}, {text!r})"

    @property
    def text(self) -> str:
        """The sequence as text."""
        return "".join(self.tokens)


@dataclass(frozen=True, slots=True)
class Stratum:
    """A part of a split, and which of its sequences were drawn from it, each as likely as any other."""

    ids: list[int] = field(default_factory=list)
    """The sequences that were drawn."""
    size: int = 0
    """How many sequences the part has, drawn or not."""


@dataclass(frozen=True, slots=True)
class ExemplarIds:
    """Which sequences are used for what; the exemplars themselves are in the store."""

    train: list[int] = field(default_factory=list)
    """The top train sequences: what the agents see."""
    train_others: list[int] = field(default_factory=list)
    """Train sequences of all ranks below the top, and random ones: strengths are fitted on these and the top ones."""
    feedback: list[int] = field(default_factory=list)
    """The top feedback sequences: the source of the errors that agents are shown."""
    feedback_random: list[int] = field(default_factory=list)
    """Feedback sequences drawn without regard to activation."""
    validation: list[int] = field(default_factory=list)
    """The top validation sequences."""
    validation_random: list[int] = field(default_factory=list)
    """Validation sequences drawn without regard to activation."""
    validation_others: list[int] = field(default_factory=list)
    """Validation sequences of all ranks below the top, where modes are chosen together: on these, too."""
    test: list[int] = field(default_factory=list)
    """The top test sequences."""
    test_random: list[int] = field(default_factory=list)
    """Test sequences drawn without regard to activation."""
    test_strata: list[Stratum] = field(default_factory=list)
    """The whole test split in parts: the top sequences, all of them, some of the other listed ones, some of the rest.
    The corpus score is estimated from these; empty where it is not asked for, or the source cannot name them."""
    maximum: float = 0.0
    """The neuron's largest activation in the whole corpus, of its sign: 10 on the 0-10 scale."""

    def of(self, split: Split) -> list[int]:
        """Those of a split, the top ones first."""
        match split:
            case "train":
                return [*self.train, *self.train_others]
            case "feedback":
                return [*self.feedback, *self.feedback_random]
            case "validation":
                return [*self.validation, *self.validation_random]
            case "test":
                return [*self.test, *self.test_random]

    def in_strata(self) -> list[int]:
        """Those of all parts of the test split."""
        return [number for stratum in self.test_strata for number in stratum.ids]

    def all_ids(self) -> list[int]:
        """All of them, of every split, each once."""
        of_splits = (number for split in SPLITS for number in self.of(split))
        return list(dict.fromkeys([*of_splits, *self.validation_others, *self.in_strata()]))

    def without(self, *splits: Split) -> ExemplarIds:
        """What somebody may see who is to know no sequence of these splits."""
        hidden = {f"{split}{others}" for split in splits for others in ("", "_others", "_random", "_strata")}
        return ExemplarIds(
            **{each.name: [] if each.name in hidden else getattr(self, each.name) for each in fields(self)}
        )


def normalise(activations: NDArray[np.floating[Any]], maximum: float) -> NDArray[np.float64]:
    """Activations on the scale 0-10, where 10 is the neuron's largest one."""
    import numpy as np

    values = np.asarray(activations, dtype=np.float64)
    return np.clip(values * (SCALE / maximum), 0.0, SCALE) if maximum > 0 else np.zeros_like(values)
