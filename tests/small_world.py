"""A model and a text on disk, small enough to be collected and explained in a second."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any, NamedTuple


class SmallWorld(NamedTuple):
    """What `subject` and `corpus` take."""

    model: str
    texts: str


def write_small_world(folder: Path, tokenizer: Any) -> SmallWorld:
    """Write a random Llama of two layers with 12 neurons each, and 150 documents of 40 words; the same each time."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    shape = {"hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2}
    LlamaForCausalLM(LlamaConfig(vocab_size=259, max_position_embeddings=80, **shape)).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    words, drawn = "the red cat sat on a long road and it was quiet near a blue house".split(), random.Random(0)
    documents = [json.dumps({"text": " ".join(drawn.choices(words, k=40))}) for _ in range(150)]
    (folder / "texts.jsonl").write_text("\n".join(documents))
    return SmallWorld(str(folder / "model"), str(folder / "texts.jsonl"))
