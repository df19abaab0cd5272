"""Every setting of a training, once; the command line derives its options from here."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from neuronscope.validation import Settings


class TrainingSettings(Settings):
    """How a simulator is trained."""

    method: Literal["full", "lora"] = "full"
    """Train all weights but the embeddings, or low-rank adapters (LoRA), which are merged into them at the end."""
    lora_rank: int = Field(16, ge=1)
    """Rank of the adapters."""
    learning_rate: float = Field(1e-4, gt=0)
    """Its peak: it rises over the first twentieth of the steps, then falls to a tenth."""
    epochs: int = Field(1, ge=1)
    """How often every exemplar is seen."""
    max_steps: int | None = Field(None, ge=1)
    """Stop after so many steps, if the epochs have more; the learning rate follows."""
    batch_tokens: int = Field(4096, ge=1)
    """Tokens of a step, explanations and padding included."""
    exemplars_per_row: int = Field(8, ge=1)
    """Exemplars that share one reading of their explanation."""
    top: int = Field(20, ge=0)
    """Top sequences of each neuron and split."""
    random: int = Field(20, ge=0)
    """Random sequences of each neuron and split."""
    heldout: float = Field(0.15, ge=0, lt=1)
    """The share of neurons that are kept for the report."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """What matrices are multiplied in; the weights that are trained are float32. Automatic: by the hardware."""
    seed: int = 0
    """Seeds everything that is drawn."""
