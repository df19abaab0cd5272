"""What a refinement round proposed and what a simulator predicted for it, recorded so that scoring can be replayed."""

from __future__ import annotations

import asyncio
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuronscope.errors import ConfigurationError
from neuronscope.graphs.observe import draw_exemplars
from neuronscope.io import write_atomically
from neuronscope.metrics import pearson_rows
from neuronscope.state import Instruments, ProposalState, RefinementState


@dataclass(frozen=True, slots=True, eq=False)
class CandidateSet:
    """One round's candidates, predicted on every sequence that the round is scored on."""

    name: str
    """The neuron, and the round's number among those of the neuron."""
    best: str
    """The best attempt before the round."""
    candidates: tuple[str, ...]
    truth: list[NDArray[np.float32]]
    """Per sequence, the neuron's activations: shape `(tokens,)`. The top sequences come first."""
    predictions: list[NDArray[np.float32]]
    """Per sequence, shape `(1 + candidates, tokens)`: the best attempt before the round, then the candidates."""
    n_top: int
    """How many of the sequences are the neuron's top ones; the others were drawn at random."""

    def scores(self) -> list[float]:
        """The scores on all sequences: the best attempt before the round, then the candidates.

        Raises:
            ConfigurationError: the neuron does the same on all sequences, so there are none.
        """
        found = pearson_rows(np.concatenate(self.predictions, axis=1), np.concatenate(self.truth))
        scores = [score.value for score in found if score.value is not None]
        if not scores:
            raise ConfigurationError(f"{self.name} has no scores: its neuron does the same everywhere. Leave it out.")
        return scores

    def save(self, folder: Path) -> Path:
        """Write the set as one file of NumPy arrays."""
        file = io.BytesIO()
        np.savez_compressed(
            file,
            texts=np.array([self.best, *self.candidates]),
            lengths=np.array([len(row) for row in self.truth]),
            truth=np.concatenate(self.truth),
            predictions=np.concatenate(self.predictions, axis=1),
            n_top=np.array(self.n_top),
        )
        return write_atomically(folder / f"{self.name}.npz", file.getvalue())

    @classmethod
    def load(cls, path: Path) -> CandidateSet:
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as arrays:
            texts = [str(text) for text in arrays["texts"]]
            ends = np.cumsum(arrays["lengths"])[:-1]
            return cls(
                name=path.stem,
                best=texts[0],
                candidates=tuple(texts[1:]),
                truth=np.split(arrays["truth"], ends),
                predictions=np.split(arrays["predictions"], ends, axis=1),
                n_top=int(arrays["n_top"]),
            )


class Recorder:
    """A refinement agent that records what another one proposes, predicted on all of the round's sequences."""

    def __init__(self, agent: Any) -> None:
        self.agent = agent
        self.sets: list[CandidateSet] = []
        self._rounds = 0

    async def __call__(self, state: ProposalState, runtime: Any) -> RefinementState:
        """Pass on what the agent proposes."""
        proposed: RefinementState = await self.agent(state, runtime)
        for candidates in proposed.get("proposals", {}).values():
            if len(candidates) > 1:
                self._rounds += 1
                name = f"{state['neuron'].file_name}-round{self._rounds}"
                self.sets.append(await self._record(name, state, candidates, runtime.context))
        return proposed

    async def _record(
        self, name: str, state: ProposalState, candidates: list[str], instruments: Instruments
    ) -> CandidateSet:
        scorer, neuron, best = instruments.scorer, state["neuron"], state["mode"].explanation
        ids = await asyncio.to_thread(draw_exemplars, instruments.store, neuron, instruments.config)
        sequences, drawn = ids.of("validation"), set(ids.validation_random)
        exemplars = await scorer.exemplars(neuron, sequences)
        sequences = [one.sequence_id for one in exemplars if one.sequence_id in drawn or one.activations.max() > 0]
        return CandidateSet(
            name=name,
            best=best,
            candidates=tuple(candidates),
            truth=[exemplar.activations for exemplar in await scorer.exemplars(neuron, sequences)],
            predictions=await scorer.predict(neuron, [best, *candidates], sequences),
            n_top=sum(number not in drawn for number in sequences),
        )
