"""Where a model keeps its neurons: the inputs of its MLPs' output projections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from neuronscope.errors import SubjectError

if TYPE_CHECKING:
    from torch import nn

SUPPORTED = (
    "Supported are decoder-only models with one dense MLP per layer: Llama, Mistral, Gemma 2, Gemma 3, Qwen 2, "
    "Qwen 3, Phi-3, GPT-2, GPT-NeoX, and others that are built from the same blocks. Mixtures of experts and "
    "encoder-decoder models are not."
)
"""Ends every error about a model that has no place here."""

_LAYER_LISTS = ("layers", "h")
_OUTPUT_PROJECTIONS = ("down_proj", "c_proj", "dense_4h_to_h", "fc_out", "fc2")
_EXPERT_COUNTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
_EXPERT_MODULES = {"experts", "router", "shared_expert", "shared_experts", "block_sparse_moe"}


class Layout(NamedTuple):
    """The parts of a model that matter for its neurons."""

    decoder: nn.Module
    """The decoder trunk: token ids in, hidden states out, no logits."""
    projections: tuple[nn.Module, ...]
    """Each layer's output projection; a neuron is one coordinate of its input."""
    widths: tuple[int, ...]
    """How many neurons each layer has."""


def find_layout(model: Any) -> Layout:
    """Find the output projection of every layer's MLP.

    Raises:
        SubjectError: the layout is not recognised, or the model is a mixture of experts.
    """
    kind = type(model).__name__
    if not hasattr(model, "get_decoder") or not hasattr(model, "config"):
        raise SubjectError(f"{kind} is not a language model of the transformers library. {SUPPORTED}")
    if getattr(model.config, "is_encoder_decoder", False):
        raise SubjectError(f"{kind} is an encoder-decoder model. {SUPPORTED}")
    decoder = model.get_decoder()
    _reject_experts(kind, model.config.get_text_config(), decoder)
    layers = next((found for name in _LAYER_LISTS if (found := getattr(decoder, name, None)) is not None), ())
    projections = tuple(_output_projection(layer) for layer in layers)
    if not projections or None in projections:
        missing = f"layer {projections.index(None)} has no MLP" if projections else "it has no list of layers"
        raise SubjectError(f"The layout of {kind} is not recognised: {missing} that NeuronScope knows. {SUPPORTED}")
    return Layout(decoder, projections, tuple(_width(projection) for projection in projections))


def _output_projection(layer: Any) -> Any:
    mlp = getattr(layer, "mlp", layer)
    return next((found for name in _OUTPUT_PROJECTIONS if (found := getattr(mlp, name, None)) is not None), None)


def _width(projection: Any) -> int:
    features = getattr(projection, "in_features", None)  # GPT-2's Conv1D has none; its weight is (inputs, outputs)
    return int(projection.weight.shape[0] if features is None else features)


def _reject_experts(kind: str, config: Any, decoder: nn.Module) -> None:
    """A shared expert, or a dense layer between sparse ones, has a projection too: finding one proves nothing."""
    counts = [getattr(config, name, None) for name in _EXPERT_COUNTS]
    in_config = any(isinstance(count, int) and count > 1 for count in counts)
    in_modules = any(name.rpartition(".")[2] in _EXPERT_MODULES for name, _ in decoder.named_modules())
    if in_config or in_modules:
        raise SubjectError(f"{kind} is a mixture of experts: it has no single set of neurons per layer. {SUPPORTED}")
