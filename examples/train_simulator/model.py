"""The model that is trained: a causal language model whose output layer is the eleven levels."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import torch

from neuronscope.errors import SimulatorError, SubjectError
from neuronscope.simulators.finetuned import ALIAS_TOKENS, N_LEVELS, PADDING
from neuronscope.subject.loading import load_model
from train_simulator.collator import Collator, Row, Sample

_TOLERANCE = 0.1
"""Of the largest hidden value: far above what bfloat16 rounds away, far below what a wrong mask does."""


class SimulatorModel:
    """A base model with a fresh output layer for the levels, and what of it is trained.

    While it is trained, the output layer has eleven rows, so that no others are computed; it starts at zero, where all
    levels are equally likely. `save` puts them back as the first rows of the base's own output layer. They are never
    tied to the embeddings: the base's first tokens keep their meaning. The embeddings are not trained, since those of
    words that occur in no exemplar would be left behind.

    Args:
        base: whatever `load_subject` takes.
        lora_rank: trains adapters of this rank, and the output layer; 0 trains all weights but the embeddings.
        dtype: what matrices are multiplied in; weights that are trained are float32.

    Raises:
        SimulatorError: the base cannot be loaded, or its attention cannot be told which tokens to see.
    """

    def __init__(self, base: Any, lora_rank: int = 0, dtype: torch.dtype = torch.float32) -> None:
        self._dtype = dtype
        try:
            model, self.tokenizer, self.name = load_model(
                base, dtype=dtype if lora_rank else torch.float32, device="cpu"
            )
        except SubjectError as error:
            raise SimulatorError(f"The base cannot be loaded. {error}") from error
        self._add_padding(model)
        self._head: Any = model.get_output_embeddings()
        levels = torch.nn.Linear(self._head.weight.shape[1], N_LEVELS, bias=self._head.bias is not None)
        torch.nn.init.zeros_(levels.weight)
        if levels.bias is not None:
            torch.nn.init.zeros_(levels.bias)
        model.set_output_embeddings(levels)
        model.config.get_text_config().tie_word_embeddings = model.config.tie_word_embeddings = False
        self.context: int | None = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        self.padding_id = int(self.tokenizer.convert_tokens_to_ids(PADDING))
        self._require_masks(model)
        self.model = _with_adapters(model, lora_rank) if lora_rank else model.requires_grad_(True)
        if not lora_rank:
            model.get_input_embeddings().requires_grad_(False)

    def save(self, folder: Path) -> None:
        """Write what `FinetunedSimulator(folder)` loads: a Hugging Face folder. Adapters are merged for good."""
        merged = self.model.merge_and_unload() if hasattr(self.model, "merge_and_unload") else self.model
        levels = merged.get_output_embeddings()
        with torch.no_grad():
            self._head.weight = torch.nn.Parameter(self._head.weight.to(levels.weight.device, copy=True))  # untied
            self._head.weight[:N_LEVELS] = levels.weight
            if levels.bias is not None:
                self._head.bias.data = self._head.bias.to(levels.bias.device)
                self._head.bias[:N_LEVELS] = levels.bias
        merged.set_output_embeddings(self._head)
        merged.to(self._dtype).config.dtype = self._dtype
        merged.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

    def _add_padding(self, model: Any) -> None:
        """Add `PADDING` to a copy of the tokenizer, and a row for it to the embeddings if they have none to spare."""
        self.tokenizer = deepcopy(self.tokenizer)
        if PADDING not in self.tokenizer.get_vocab():
            self.tokenizer.add_special_tokens({"pad_token": PADDING})
        self.tokenizer.pad_token = PADDING
        self.tokenizer.padding_side = "left"
        if len(self.tokenizer) > model.get_input_embeddings().weight.shape[0]:
            model.resize_token_embeddings(len(self.tokenizer), mean_resizing=False)
        model.config.pad_token_id = self.tokenizer.pad_token_id
        setattr(model.config, ALIAS_TOKENS, False)

    @torch.no_grad()
    def _require_masks(self, model: Any) -> None:
        """Compare exemplars that share an explanation with the same ones alone, so that no base is misread in silence.

        Raises:
            SimulatorError: they differ.
        """
        explanation, samples = [3, 2, 1], [Sample([0, 1, 2], [0] * 3), Sample([2, 1], [0] * 2)]
        hidden: list[torch.Tensor] = []
        watch = model.get_output_embeddings().register_forward_pre_hook(
            lambda _, inputs: hidden.append(inputs[0].float())
        )
        try:
            model.eval()
            for shared in (samples, samples[1:]):
                batch = Collator(self.padding_id, self._dtype)([Row(explanation, shared)])
                with torch.autocast("cpu", self._dtype, enabled=self._dtype != torch.float32):
                    model(**{name: each for name, each in batch.items() if name != "labels"}, use_cache=False)
            together, alone = (each[0, -2:] for each in hidden)
            apart = bool((together - alone).abs().max() <= _TOLERANCE * alone.abs().max())
        except (RuntimeError, ValueError, TypeError) as error:
            raise SimulatorError(self._unfit()) from error
        finally:
            watch.remove()
        if not apart:
            raise SimulatorError(self._unfit())

    def _unfit(self) -> str:
        return (
            f"{self.name} does not keep exemplars apart that share an explanation: its layers are other than "
            "attention, or take no masks. Use another model as the base."
        )


def _with_adapters(model: Any, rank: int) -> Any:
    from peft import LoraConfig, get_peft_model

    head = model.get_output_embeddings()
    name = next(name for name, module in model.named_modules() if module is head)
    settings = LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        target_modules="all-linear",
        modules_to_save=[name.rpartition(".")[2]],
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, settings)
