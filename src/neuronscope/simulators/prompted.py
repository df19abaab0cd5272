"""Any causal language model as a simulator: a few worked examples, and one forward pass for all tokens of a text."""

from __future__ import annotations

import os
from typing import Any

import torch

from neuronscope.errors import SimulatorError
from neuronscope.simulators.alignment import align
from neuronscope.simulators.causal_lm import CausalModel
from neuronscope.simulators.few_shot import EXAMPLES, ShownNeuron
from neuronscope.simulators.matrix import CausalSimulator, Text
from neuronscope.subject.tokens import leading_ids
from neuronscope.types import Exemplar

INTRODUCTION = (
    "Neurons of a language model fire at some tokens of a text and are silent at most. Each neuron below has a summary "
    "of what it fires at. Then every line is a token of a text, a tab, and how strongly the neuron fires at this "
    "token: from 0, silent, to {top}, as strongly as it can. It says unknown where nobody has measured it. Predict "
    "the activations from the summary."
)
NEURON = "\n\nNeuron {number}\nSummary: {explanation}"
TEXT = "\nActivations:\n"
SEPARATOR = "\t"
UNKNOWN = "unknown"
LINE_END = "\n"
_ANCHORS = ("\n", "|", "a")
"""Where a tokenizer puts a space before a first word, pieces are encoded behind the first of these that stays apart."""
_CACHED = 50_000
"""How many pieces' ids are cached."""


class PromptedSimulator(CausalSimulator):
    """Predicts activations with a language model that was not trained for it, by the all-at-once method.

    The prompt holds worked examples, the explanation, and the exemplar, one token a line: the token, a tab, and
    `unknown`. What the model expects in place of each `unknown` is read behind the tab, in one forward pass; the
    prediction is the mean level, weighted by the levels' probabilities (Bills et al., 2023, *Language models can
    explain neurons in language models*).

    Tokens, tabs, levels and line ends are encoded one by one and joined as ids. So a tab or a line break cannot merge
    with what stands beside it, no text of an exemplar can become a special token or the end of its line, and every
    exemplar token has exactly one place where its activation is read: the last id of its tab. A token need not be
    one of the simulator's, so tokenizers need no alignment.

    Levels are 0 to 10 where the tokenizer has one token for each of these numbers, as GPT-2's and Llama 3's. Where
    it writes 10 as two tokens, as most others do, they are 0 to 9, in the examples too, and predictions are stretched
    to 0-10. The worked examples are read once for all calls, and as many are used as fit half of the model's context.

    Args:
        source: whatever `load_subject` takes: an alias, a Hugging Face id, a folder, a GGUF file, `(model, tokenizer)`.
        device: as for `load_subject`.
        dtype: as for `load_subject`.

    Raises:
        SimulatorError: there is no such model, or its tokenizer has no single tokens for digits.
        ConfigurationError: there is no such device or dtype.
    """

    def __init__(
        self,
        source: str | os.PathLike[str] | tuple[Any, Any],
        *,
        device: str = "auto",
        dtype: str | torch.dtype = "auto",
    ) -> None:
        model = CausalModel(source, device=device, dtype=dtype)
        self._tokenizer = model.tokenizer
        self._adds_space = self._encode_alone("0") != self._encode_behind_anchor("0")
        self._ids_of: dict[str, tuple[int, ...]] = {}
        self.level_ids = self._levels_of_tokenizer(model.name)
        """The ids of the levels, from 0 up."""
        self._top = len(self.level_ids) - 1
        self.root_ids, self._n_examples = self._worked_examples(model.context)
        levels = [10 * level / self._top for level in range(self._top + 1)]
        super().__init__(model, self.level_ids, levels, *model.extend([None], [self.root_ids]))
        self.name = f"prompted:{model.name}"
        """What to ask for to get this simulator."""

    def explanation_ids(self, explanation: str) -> list[int]:
        """The explanation, on one line, under the next neuron's number."""
        return [*self._headed(self._n_examples + 1, explanation), *self._encode(TEXT)]

    def text(self, exemplar: Exemplar) -> Text:
        """A line for each token; what comes behind the last tab is not read."""
        ids: list[int] = []
        positions = []
        for token in exemplar.tokens:
            ids += self._encode(token) + self._encode(SEPARATOR)
            positions.append(max(len(ids) - 1, 0))
            ids += self._encode(UNKNOWN) + self._encode(LINE_END)
        return Text(ids[: positions[-1] + 1] if positions else [], positions, lambda values: values)

    def _levels_of_tokenizer(self, name: str) -> list[int]:
        numbers = [self._encode(str(number)) for number in range(11)]
        for top in (10, 9):
            single = [ids[0] for ids in numbers[: top + 1] if len(ids) == 1]
            if len(set(single)) == top + 1:
                return single
        raise SimulatorError(
            f"The tokenizer of {name} has no single tokens for the digits 0 to 9, so activation levels cannot be read. "
            "Use another model as the simulator."
        )

    def _worked_examples(self, context: int | None) -> tuple[list[int], int]:
        """What stands before every explanation, and how many examples there are in it."""
        ids = [*leading_ids(self._tokenizer), *self._encode(INTRODUCTION.format(top=self._top))]
        for number, example in enumerate(EXAMPLES, start=1):
            more = self._example(number, example)
            if context is not None and len(ids) + len(more) > context // 2:
                return ids, number - 1
            ids += more
        return ids, len(EXAMPLES)

    def _example(self, number: int, neuron: ShownNeuron) -> list[int]:
        ids = [*self._headed(number, neuron.explanation)]
        for text in neuron.texts:
            ids += self._encode(TEXT)
            for token, strength in text.tokens():
                shown = UNKNOWN if strength is None else str(round(strength * self._top / 10))
                ids += [part for piece in (token, SEPARATOR, shown, LINE_END) for part in self._encode(piece)]
        return ids

    def _headed(self, number: int, explanation: str) -> tuple[int, ...]:
        return self._encode(NEURON.format(number=number, explanation=" ".join(explanation.split())))

    def _encode(self, piece: str) -> tuple[int, ...]:
        """The ids of a piece of the prompt, whatever stands before and behind it."""
        if piece not in self._ids_of:
            if len(self._ids_of) > _CACHED:
                self._ids_of.clear()
            encode = self._encode_behind_anchor if self._adds_space else self._encode_alone
            self._ids_of[piece] = tuple(encode(piece))
        return self._ids_of[piece]

    def _encode_alone(self, piece: str) -> list[int]:
        return align([piece], self._tokenizer).token_ids

    def _encode_behind_anchor(self, piece: str) -> list[int]:
        for anchor in _ANCHORS:
            before, both = self._encode_alone(anchor), self._encode_alone(anchor + piece)
            if before and both[: len(before)] == before:
                return both[len(before) :]
        return self._encode_alone(piece)
