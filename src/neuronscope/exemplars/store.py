"""The exemplar store: what every neuron of some layers responds to most, on disk."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from neuronscope.arguments import did_you_mean, integer
from neuronscope.errors import ConfigurationError, StoreError, SubjectError
from neuronscope.exemplars.activations import ActivationCache, compute
from neuronscope.exemplars.identity import require_own
from neuronscope.exemplars.layout import LayerFile, StoreFiles, activations_file, read_description
from neuronscope.exemplars.sampling import draw, draw_neurons, draw_random, draw_strata, strongest
from neuronscope.exemplars.sequences import SequenceFile
from neuronscope.exemplars.stored_activations import StoredActivations
from neuronscope.interfaces import Subject
from neuronscope.locks import Lock
from neuronscope.types import MLP, SPLITS, Exemplar, HookPoint, Neuron, Split, Stratum

logger = logging.getLogger(__name__)


def open_store(path: str | Path) -> ExemplarStore:
    """Open a store without its model.

    All is there but per-token activations that nobody has asked for yet; of a store that was collected with
    `keep_activations=True`, these too. Files are compared with what was written: small ones now, large ones when they
    are first read.

    Raises:
        StoreError: there is no store at this path, or it is damaged or of another version; the message names the file.
    """
    return ExemplarStore(Path(path).expanduser())


class RankedSequence(NamedTuple):
    """One of a neuron's top sequences, as far as a store knows it without its model."""

    sequence_id: int
    """The sequence's number within its corpus."""
    activation: float
    """The neuron's largest `sign * activation` in it."""
    source: str
    """Which part of the corpus the document came from."""
    tokens: list[str]
    """The text of each token."""


class ExemplarStore:
    """Top sequences, random sequences and statistics of every neuron of some layers.

    Files are read when they are needed. Threads may share a store. Pickled, it is its folder and its subject.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        """The store's folder; `layout` says what is in it."""
        self.info: dict[str, Any]
        """What the store was made of: subject, corpus, settings, and how many tokens, sequences and documents."""
        self.info, records = read_description(self.path)
        self.subject: Subject | None = None
        """The model that computes activations on demand, if one is bound."""
        self._revision: Any = None
        self._files = StoreFiles(self.path, records, tuple(map(activations_file, self._points)))
        self._layers: dict[HookPoint, LayerFile] = {}
        self._stored: dict[HookPoint, StoredActivations | None] = {}
        self._cache = ActivationCache(self.path / "activations")
        self._one_at_a_time = Lock()

    def __reduce__(self) -> tuple[Callable[..., ExemplarStore], tuple[type[ExemplarStore], Path, Subject | None]]:
        """A pickle or a copy opens the same folder, and has its own copy of the subject."""
        return _reopen, (type(self), self.path, self.subject)

    def __copy__(self) -> ExemplarStore:
        return _reopen(type(self), self.path, self.subject)

    def __repr__(self) -> str:
        return (
            f"ExemplarStore({self.info['subject']['name']!r}, "
            f"{'' if self.site == MLP else f'site {self.site!r}, '}layers {self.layers}, "
            f"{sum(self.info['n_tokens'].values()):,} tokens of {self.info['corpus']['name']!r})"
        )

    @property
    def site(self) -> str:
        """The site whose units it holds: `"mlp"` for neurons."""
        return str(self.info["site"])

    @property
    def layers(self) -> list[int]:
        """The layers it holds."""
        return [int(layer) for layer in self.info["widths"]]

    @property
    def _points(self) -> list[HookPoint]:
        return [HookPoint(layer, self.site) for layer in self.layers]

    @property
    def signs(self) -> tuple[int, ...]:
        """The signs it holds."""
        return tuple(self.info["signs"])

    def frequency(self, layer: int, sign: int = 1) -> NDArray[np.float32]:
        """The share of the corpus's tokens on which each neuron is active, shape `(width,)`, 0 to 1.

        A token counts if the activation exceeds a quarter of the neuron's maximum, give or take the width of a bin:
        see `exemplars.frequency`. 0 for a dead neuron.
        """
        return self._layer(layer, sign).statistic("frequency", sign)

    def mean(self, layer: int, sign: int = 1) -> NDArray[np.float32]:
        """Each neuron's mean of `max(sign * activation, 0)` over the corpus's tokens, shape `(width,)`."""
        return self._layer(layer, sign).statistic("mean", sign)

    def max_activation(self, layer: int, sign: int = 1) -> NDArray[np.float32]:
        """Each neuron's largest `sign * activation` in the corpus, shape `(width,)`; 0 for a dead neuron."""
        return self._layer(layer, sign).statistic("maximum", sign)

    def top_neurons(
        self,
        layer: int,
        n: int = 200,
        by: Literal["frequency", "max", "random"] = "frequency",
        sign: int = 1,
        seed: int = 0,
    ) -> list[Neuron]:
        """Choose n neurons of a layer; all of them if it has fewer.

        Args:
            layer: the layer.
            n: how many.
            by: `"frequency"`, the most often active ones, as in the paper (appendix B), ties by the larger maximum;
                `"max"`, those with the largest maximum, ties by the higher frequency; `"random"`, drawn evenly from
                the whole layer. Remaining ties go by the lower index.
            sign: of which sign.
            seed: another seed draws other neurons.

        Raises:
            StoreError: the store lacks the layer or the sign.
            ConfigurationError: there is no such way to choose.
        """
        layer, n, seed = integer(layer, "layer"), integer(n, "n", least=0), integer(seed, "seed")
        frequency, maximum = self.frequency(layer, sign), self.max_activation(layer, sign)
        if by == "frequency":
            chosen = strongest(frequency, n, then=maximum)
        elif by == "max":
            chosen = strongest(maximum, n, then=frequency)
        elif by == "random":
            chosen = draw_neurons(len(maximum), n, layer, sign, seed, self.site)
        else:
            hint = did_you_mean(by, ("frequency", "max", "random"))
            raise ConfigurationError(f"Neurons are chosen by 'frequency', 'max' or 'random', not by {by!r}.{hint}")
        return [Neuron(layer, index, sign, self.site) for index in chosen]

    def top_ids(self, neuron: Neuron, split: str = "train", n: int = 20) -> list[int]:
        """Ids of the neuron's n top sequences of a split, strongest first; fewer if fewer have any activation."""
        ids, _ = self._layer_of(neuron).top(neuron.index, neuron.sign, _split(split))
        return [int(i) for i in ids[: integer(n, "n", least=0)]]

    def ranked(self, neuron: Neuron, split: str = "train", n: int = 20) -> list[RankedSequence]:
        """The neuron's n top sequences of a split, strongest first, without per-token activations: needs no model.

        Raises:
            StoreError: the store lacks the neuron's layer or sign.
            SubjectError: the layer has no such neuron.
        """
        ids, activations = self._layer_of(neuron).top(neuron.index, neuron.sign, _split(split))
        ids = ids[: integer(n, "n", least=0)]
        rows = [(int(i), float(value), self._sequences.row(i)) for i, value in zip(ids, activations, strict=False)]
        return [RankedSequence(i, value, row.source, list(row.tokens)) for i, value, row in rows]

    def random_ids(self, neuron: Neuron, split: str = "test", n: int = 20, seed: int = 0) -> list[int]:
        """Ids of n sequences drawn without regard to activation, none of them among the neuron's top ones.

        The top ones are all that the store lists; in a split so small that fewer than n others are left, they are the
        stronger half of the split.
        """
        n, seed = integer(n, "n", least=0), integer(seed, "seed")
        ids, _ = self._layer_of(neuron).top(neuron.index, neuron.sign, _split(split))
        sample = self._sequences.sampled(_split(split)).tolist()
        return draw_random(sample, ids.tolist(), self.info["n_sequences"][split], neuron, _split(split), n, seed)

    def strata(
        self,
        neuron: Neuron,
        split: str = "test",
        *,
        top: int = 20,
        ranked: int = 40,
        random: int = 60,
        seed: int = 0,
    ) -> list[Stratum]:
        """A whole split in three parts, and what is drawn of each: from these its sequences can be estimated.

        The parts are the `top` sequences, all of them; the others that the store lists, `ranked` of them; and all the
        rest, `random` of them. A split that has no more sequences than that is taken whole.
        """
        ids, _ = self._layer_of(neuron).top(neuron.index, neuron.sign, _split(split))
        return draw_strata(
            self._sequences.sampled(_split(split)).tolist(),
            ids.tolist(),
            self.info["n_sequences"][split],
            neuron,
            _split(split),
            top=integer(top, "top", least=0),
            ranked=integer(ranked, "ranked", least=0),
            random=integer(random, "random", least=0),
            seed=integer(seed, "seed"),
        )

    def sample_ids(self, split: str = "test", n: int = 20, seed: int = 0) -> list[int]:
        """Ids of n sequences drawn from a whole split, for no neuron in particular: its top ones may be among them."""
        return draw(self._sequences.sampled(_split(split)).tolist(), n, f"{seed}/{split}")

    def exemplars(self, neuron: Neuron, split: str = "train", n: int = 20) -> list[Exemplar]:
        """The neuron's n top sequences of a split, strongest first.

        Raises:
            StoreError: the store lacks the neuron's layer or sign, or needs a model to compute activations.
            SubjectError: the layer has no such neuron.
        """
        return self.by_id(neuron, self.top_ids(neuron, split, n))

    def random_sequences(self, neuron: Neuron, split: str = "test", n: int = 20, seed: int = 0) -> list[Exemplar]:
        """N sequences of a split drawn without regard to activation; see `random_ids`.

        Raises:
            StoreError: the store lacks the neuron's layer or sign, or needs a model to compute activations.
            SubjectError: the layer has no such neuron.
        """
        return self.by_id(neuron, self.random_ids(neuron, split, n, seed))

    def by_id(self, neuron: Neuron, sequence_ids: Sequence[int]) -> list[Exemplar]:
        """Exemplars of given sequences, in the order asked; what is not known yet is computed together.

        Raises:
            StoreError: the store lacks the layer, the sign or a sequence, or needs a model to compute activations.
            SubjectError: the layer has no such neuron.
        """
        self.prefetch({neuron: sequence_ids})
        known = self._cache.get(neuron)
        rows = [(int(sequence_id), self._sequences.row(sequence_id)) for sequence_id in sequence_ids]
        stored = self._stored_of(neuron)
        if stored is not None:
            known = known | stored.get(neuron, [sequence_id for sequence_id, _ in rows])
        return [
            Exemplar(
                list(row.tokens),
                list(row.token_ids),
                known[sequence_id][: len(row.token_ids)].copy(),
                sequence_id,
                row.source,
            )
            for sequence_id, row in rows
        ]

    def prefetch(self, wanted: Mapping[Neuron, Iterable[int]]) -> None:
        """Compute activations that will be asked for, of any number of neurons, in as few forward passes as can be.

        A sequence that many neurons want goes through the model once. So for hundreds of neurons of a corpus that is
        not large, this costs about one pass over it; asking neuron by neuron, each runs its own few hundred sequences.

        Args:
            wanted: for each neuron the ids of its sequences, such as `top_ids` and `random_ids` give.

        Raises:
            StoreError: the store lacks a layer, a sign or a sequence, or needs a model to compute activations.
            SubjectError: a layer has no such neuron, or the bound model has changed since.
        """
        for neuron in wanted:
            self._layer_of(neuron)
        with self._one_at_a_time:
            self._notice_change()
            missing = {neuron: set(map(int, ids)) - self._known_ids(neuron) for neuron, ids in wanted.items()}
            missing = {neuron: ids for neuron, ids in missing.items() if ids}
            if not missing:
                return
            sequences = {i: self._sequences.row(i).token_ids for i in sorted(set().union(*missing.values()))}
            if self.subject is None:
                raise StoreError(
                    f"The store {self.path} does not have the activations of {next(iter(missing))} on {len(sequences)} "
                    "of these sequences yet. Bind the model that computes them: store.bind(subject)."
                )
            self._require_own(self.subject)
            for neuron, found in compute(self.subject, sequences, missing).items():
                self._cache.add(neuron, found)

    def _known_ids(self, neuron: Neuron) -> set[int]:
        stored = self._stored_of(neuron)
        return set(self._cache.get(neuron)) | (set() if stored is None else stored.ids(neuron))

    def _stored_of(self, neuron: Neuron) -> StoredActivations | None:
        """The activations of a neuron's layer; a damaged file is named, and left out if a model is bound."""
        point = neuron.hook_point
        with self._one_at_a_time:
            if point not in self._stored:
                self._stored[point] = None
                if activations_file(point) in self._files:
                    try:
                        self._stored[point] = StoredActivations(self._files, point, self._layer_of(neuron))
                    except StoreError as error:
                        if self.subject is None:
                            del self._stored[point]
                            raise
                        logger.warning("%s Until then activations are computed again.", error)
            return self._stored[point]

    def _notice_change(self) -> None:
        """What the store knows belongs to the model that it was made with; an error if the bound one has changed."""
        if self.subject is not None and (now := _revision(self.subject)) != self._revision:
            self._require_own(self.subject)
            self._revision = now

    def bind(self, subject: Subject) -> ExemplarStore:
        """Let `subject` compute the activations that are asked for; returns the store.

        Raises:
            StoreError: it is not the model that the store was made with.
        """
        self._require_own(subject)
        self.subject = subject
        self._revision = _revision(subject)
        return self

    def _require_own(self, subject: Subject) -> None:
        require_own(self.path, self.info, subject, bound=subject is self.subject)

    @cached_property
    def _sequences(self) -> SequenceFile:
        return SequenceFile(self._files)

    def _layer(self, layer: int, sign: int) -> LayerFile:
        layer, sign = integer(layer, "layer"), integer(sign, "sign")
        if layer not in self.layers or sign not in self.signs:
            raise StoreError(
                f"The store {self.path} has layers {self.layers} with signs {list(self.signs)}, not layer {layer} with "
                f"sign {sign}. Collect exemplars for it: collect_exemplars(..., layers=[{layer}], signs=({sign},))."
            )
        with self._one_at_a_time:
            point = HookPoint(layer, self.site)
            if point not in self._layers:
                self._layers[point] = LayerFile(self._files, point)
            return self._layers[point]

    def _layer_of(self, neuron: Neuron) -> LayerFile:
        if neuron.site != self.site:
            raise StoreError(
                f"The store {self.path} holds the site {self.site!r}, not the site {neuron.site!r}. Collect exemplars "
                f"for it: collect_exemplars(..., site={neuron.site!r}, layers=[{neuron.layer}])."
            )
        file = self._layer(neuron.layer, neuron.sign)
        width = self.info["widths"][str(neuron.layer)]
        if neuron.index >= width:
            raise SubjectError(
                f"Layer {neuron.layer} has neurons 0 to {width - 1}; there is no neuron {neuron.index}. "
                "Choose an index in that range."
            )
        return file


def _revision(subject: Subject) -> Any:
    """What tells at once that a subject may have changed, if it says so."""
    revision = getattr(subject, "revision", None)
    return revision() if callable(revision) else None


def _reopen(kind: type[ExemplarStore], path: Path, subject: Subject | None) -> ExemplarStore:
    store = kind(path)
    store.subject = subject
    return store


def _split(split: str) -> Split:
    if split not in SPLITS:
        hint = did_you_mean(split, SPLITS)
        raise ConfigurationError(f"There is no split {split!r}.{hint} Choose one of {', '.join(SPLITS)}.")
    return split
