"""What a unit does to the model's next token: its write direction through the final norm and the unembedding."""

from __future__ import annotations

from typing import Any

from neuronscope.evidence.record import OutputTokens
from neuronscope.evidence.vocabulary import is_model, text_of_token
from neuronscope.interfaces import ModelSubject, WritingSite
from neuronscope.subject.sites import site_named
from neuronscope.types import Neuron

SHOWN = 10
"""Tokens each way."""

_FINAL_NORMS = ("norm", "ln_f", "final_layernorm", "final_layer_norm")


def output_tokens(subject: ModelSubject, neuron: Neuron, n: int = SHOWN) -> OutputTokens | None:
    """The tokens that the unit makes most and least likely, later layers left out; None where this cannot be told.

    It cannot for a site that does not say what its units write, and for a model without a final norm and an unembedding
    where transformers models have them. What norm and unembedding add to every direction counts for none.
    """
    if not is_model(subject):
        return None
    site, norm, unembedding = site_named(neuron.site), _final_norm(subject.model), _unembedding(subject.model)
    if not isinstance(site, WritingSite) or norm is None or unembedding is None:
        return None
    import torch

    with torch.inference_mode():
        direction = neuron.sign * site.write_direction(subject, neuron.layer, neuron.index)
        weight = unembedding.weight
        both = torch.stack([direction, torch.zeros_like(direction)]).to(weight.device, weight.dtype)
        logits = unembedding(norm(both)).float()
        effects = (logits[0] - logits[1])[: len(subject.tokenizer)]
        promoted, suppressed = (
            effects.topk(min(n, len(effects)), largest=way).indices.tolist() for way in (True, False)
        )
    return OutputTokens(
        tuple(text_of_token(subject, token) for token in promoted),
        tuple(text_of_token(subject, token) for token in suppressed),
    )


def _final_norm(model: Any) -> Any:
    decoder = model.get_decoder() if hasattr(model, "get_decoder") else None
    return next((norm for name in _FINAL_NORMS if (norm := getattr(decoder, name, None)) is not None), None)


def _unembedding(model: Any) -> Any:
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    return head if hasattr(head, "weight") else None
