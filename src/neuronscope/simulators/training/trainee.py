"""The model that learns to simulate: a causal language model whose output layer is the eleven levels."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Literal

import torch

from neuronscope.errors import ConfigurationError, SimulatorError, SubjectError
from neuronscope.simulators.finetuned import ALIAS_TOKENS, N_LEVELS, PADDING
from neuronscope.simulators.training.batches import Batch, Passage, Row, collate
from neuronscope.subject.loading import load_model, quiet

_TOLERANCE = 0.1
"""Of the largest hidden value: far above what bfloat16 rounds away, far below what a wrong mask does."""


class Trainee:
    """A base model with a fresh output layer for the levels, and what of it is trained.

    While it learns, the output layer has eleven rows, so that no others are computed; it starts at zero, where all
    levels are equally likely. `save` puts them back as the first rows of the base's own output layer. They are never
    tied to the embeddings: the base's first tokens keep their meaning. The embeddings are not trained, since those of
    words that occur in no exemplar would be left behind.

    Args:
        base: whatever `load_subject` takes.
        method: `"full"` trains float32 weights; `"lora"` trains float32 adapters of a base in `precision`.
        lora_rank: rank of the adapters.
        precision: what matrices are multiplied in.
        device: as for `load_subject`.

    Raises:
        SimulatorError: the base cannot be loaded, or its attention cannot be told which tokens to see.
        ConfigurationError: LoRA needs a package that is not installed.
    """

    def __init__(
        self, base: Any, method: Literal["full", "lora"], lora_rank: int, precision: torch.dtype, device: str
    ) -> None:
        dtype = torch.float32 if method == "full" else precision
        try:
            model, self.tokenizer, self.name = load_model(base, device=device, dtype=dtype)
        except SubjectError as error:
            raise SimulatorError(f"The base cannot be loaded. {error}") from error
        self._precision = precision
        self._add_padding(model)
        self._head: Any = model.get_output_embeddings()
        self.levels = torch.nn.Linear(self._head.weight.shape[1], N_LEVELS, bias=self._head.bias is not None)
        torch.nn.init.zeros_(self.levels.weight)
        if self._head.bias is not None:
            torch.nn.init.zeros_(self.levels.bias)
        model.set_output_embeddings(self.levels.to(model.device))
        model.config.get_text_config().tie_word_embeddings = model.config.tie_word_embeddings = False
        self.model: Any = _with_adapters(model, lora_rank) if method == "lora" else model
        if method == "full":
            model.requires_grad_(True)
            model.get_input_embeddings().requires_grad_(False)
        self.levels.requires_grad_(True)
        self._require_masks()

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.levels.weight.device

    @property
    def context(self) -> int | None:
        """How many tokens the base reads at most, if it says so."""
        return getattr(self.model.config.get_text_config(), "max_position_embeddings", None)

    @property
    def padding_id(self) -> int:
        """The id of `PADDING`."""
        return int(self.tokenizer.convert_tokens_to_ids(PADDING))

    def trained(self) -> dict[str, torch.nn.Parameter]:
        """The parameters that are trained, by name."""
        return {name: each for name, each in self.model.named_parameters() if each.requires_grad}

    def logits(self, batch: Batch) -> torch.Tensor:
        """The levels' logits at every token, `(rows, tokens, 11)`, float32."""
        with torch.autocast(self.device.type, self._precision, enabled=self._precision != torch.float32):
            output = self.model(
                input_ids=batch.input_ids.to(self.device),
                attention_mask=batch.mask.to(self.device, self._precision),
                position_ids=batch.position_ids.to(self.device),
                use_cache=False,
            )
        return output.logits.float()  # type: ignore[no-any-return]  # transformers is untyped

    def save(self, folder: Path) -> None:
        """Write the checkpoint: a Hugging Face folder that `FinetunedSimulator` loads. Adapters are merged for good.

        The files appear in the folder when all of them are written.
        """
        if hasattr(self.model, "merge_and_unload"):
            self.model = self.model.merge_and_unload()
        model = self.model
        with torch.no_grad():
            head = torch.nn.Linear(
                self._head.weight.shape[1], self._head.weight.shape[0], bias=self._head.bias is not None
            )
            head.weight.copy_(self._head.weight)
            head.weight[:N_LEVELS] = self.levels.weight
            if self._head.bias is not None:
                head.bias.copy_(self._head.bias)
                head.bias[:N_LEVELS] = self.levels.bias
        model.set_output_embeddings(head.to(model.device))
        model.to(self._precision).config.dtype = self._precision
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".checkpoint.") as temporary:
            with quiet():
                model.save_pretrained(temporary)
                self.tokenizer.save_pretrained(temporary)
            for file in sorted(Path(temporary).iterdir(), key=lambda path: path.name == "config.json"):
                file.replace(folder / file.name)

    def _add_padding(self, model: Any) -> None:
        """Add `PADDING` to the tokenizer, and a row for it to the embeddings if they have none to spare."""
        if PADDING not in self.tokenizer.get_vocab():
            self.tokenizer.add_special_tokens({"pad_token": PADDING})
        self.tokenizer.pad_token = PADDING
        self.tokenizer.padding_side = "left"
        if len(self.tokenizer) > model.get_input_embeddings().weight.shape[0]:
            model.resize_token_embeddings(len(self.tokenizer), mean_resizing=False)
        model.config.pad_token_id = self.padding_id
        setattr(model.config, ALIAS_TOKENS, False)

    @torch.no_grad()
    def _require_masks(self) -> None:
        """Compare exemplars that share an explanation with the same ones alone, so that no base is misread in silence.

        Raises:
            SimulatorError: they differ.
        """
        explanation, passages = [3, 2, 1], [Passage([0, 1, 2], [0] * 3), Passage([2, 1], [0] * 2)]
        hidden: list[torch.Tensor] = []
        watch = self.levels.register_forward_pre_hook(lambda _, inputs: hidden.append(inputs[0].float()))
        training = self.model.training
        try:
            self.model.eval()
            for shared in (passages, passages[1:]):
                self.logits(collate([Row(explanation, list(shared))], self.padding_id))
            together, alone = (each[0, -2:] for each in hidden)
            apart = bool((together - alone).abs().max() <= _TOLERANCE * alone.abs().max())
        except (RuntimeError, ValueError, TypeError) as error:
            raise SimulatorError(self._unfit()) from error
        finally:
            watch.remove()
            self.model.train(training)
        if not apart:
            raise SimulatorError(self._unfit())

    def _unfit(self) -> str:
        return (
            f"{self.name} does not keep exemplars apart that share an explanation: its layers are other than "
            "attention, or take no masks. Use another model as the base."
        )


def _with_adapters(model: Any, rank: int) -> Any:
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise ConfigurationError(
            "LoRA needs peft, which is not installed: pip install 'neuronscope[train]'."
        ) from error
    settings = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")
    return get_peft_model(model, settings)
