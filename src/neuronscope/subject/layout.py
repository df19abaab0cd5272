"""Where a model keeps its neurons: the inputs of its MLPs' output projections, found, or as the user says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from neuronscope.arguments import did_you_mean
from neuronscope.errors import ConfigurationError, SubjectError

if TYPE_CHECKING:
    from torch import nn

SUPPORTED = (
    "Supported are decoder-only models with one dense MLP per layer: Llama, Mistral, Gemma 2, Gemma 3, Qwen 2, "
    "Qwen 3, Phi-3, GPT-2, GPT-NeoX, and others that are built from the same blocks. Mixtures of experts and "
    "encoder-decoder models are not. Of another model, say where its neurons are: "
    "load_subject(..., layout=ns.Layout(...))."
)
"""Ends every error about a model that has no place here."""

_LAYER_LISTS = ("layers", "h")
_OUTPUT_PROJECTIONS = ("down_proj", "c_proj", "dense_4h_to_h", "fc_out", "fc2")
_EXPERT_COUNTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
_EXPERT_MODULES = {"experts", "router", "shared_expert", "shared_experts", "block_sparse_moe"}
_COMPILED = "_orig_mod"


@dataclass(frozen=True, slots=True)
class Layout:
    """A user's description of a model whose parts have unusual names, in dotted paths as in `model.named_modules()`.

    `Layout(layers="model.blocks", mlp_output="ffn.w2")` reads the inputs of `model.blocks.0.ffn.w2`,
    `model.blocks.1.ffn.w2`, and so on.
    """

    layers: str
    """From the model to the list of its layers."""
    mlp_output: str
    """From a layer to the module whose input is the layer's neurons."""
    decoder: str | None = None
    """From the model to the part that takes token ids and runs the layers; None is `model.get_decoder()`, or the model
    itself where it has none."""


AnyLayout = Layout | Mapping[int, str]
"""A description, or for each layer, from 0, the path from the model to the module whose input is its neurons."""


class ModelParts(NamedTuple):
    """The parts of a model that matter for its neurons."""

    decoder: nn.Module
    """The decoder trunk: token ids in, hidden states out, no logits."""
    layers: tuple[nn.Module, ...]
    """The layers, from 0; none where a layout names the projections one by one."""
    projections: tuple[nn.Module, ...]
    """Each layer's output projection; a neuron is one coordinate of its input."""
    widths: tuple[int, ...]
    """How many neurons each layer has."""


def find_parts(model: Any, layout: AnyLayout | None = None) -> ModelParts:
    """Find the output projection of every layer's MLP.

    Args:
        model: a model of the transformers library; with a layout, any module that takes token ids.
        layout: the user's description; then nothing is searched for and nothing is refused.

    Raises:
        SubjectError: the layout is not recognised, the model is a mixture of experts, or it has no such module.
        ConfigurationError: the layout is none.
    """
    if layout is not None:
        return _described_parts(model, layout)
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
    return ModelParts(decoder, tuple(layers), projections, tuple(map(width_of_projection, projections)))


def describe_layout(layout: AnyLayout | None) -> str:
    """A layout as part of a subject's identity; "" for one that was found."""
    if layout is None:
        return ""
    if isinstance(layout, Layout):
        trunk = "" if layout.decoder is None else f" in {layout.decoder}"
        return f"{layout.layers}.*.{layout.mlp_output}{trunk}"
    return " ".join(layout[layer] for layer in sorted(layout))


def _described_parts(model: Any, layout: AnyLayout) -> ModelParts:
    model = getattr(model, _COMPILED, model)
    named = layout.decoder if isinstance(layout, Layout) else None
    decoder = _trunk(model) if named is None else _module(model, named)
    layers: tuple[nn.Module, ...] = ()
    if isinstance(layout, Layout):
        listed = _children(_module(model, layout.layers))
        layers = tuple(listed.values())
        paths = [f"{layout.layers}.{name}.{layout.mlp_output}" for name in listed]
        if not paths:
            raise SubjectError(f"{layout.layers} of {type(model).__name__} has no layers in it. Name the list of them.")
    elif isinstance(layout, Mapping) and layout and sorted(layout) == list(range(len(layout))):
        paths = [layout[layer] for layer in range(len(layout))]
    else:
        raise ConfigurationError(
            f"layout= is a Layout(layers=..., mlp_output=...), or maps every layer from 0 to the path of a module, not "
            f"{layout!r}."
        )
    projections = tuple(_module(model, path) for path in paths)
    return ModelParts(decoder, layers, projections, tuple(map(_described_width, projections, paths)))


def _trunk(model: Any) -> nn.Module:
    """What runs the layers, by the model's own account."""
    decoder: nn.Module = model.get_decoder() if hasattr(model, "get_decoder") else model
    return decoder


def _module(model: Any, path: str) -> nn.Module:
    """A module by its dotted path; an error names the first part that is not there, and what is."""
    found, done = model, ""
    for part in path.split("."):
        parts = _children(found)
        if part not in parts:
            found = f"its {done} has" if done else "it has"
            raise SubjectError(
                f"{type(model).__name__} has no module {path!r}: {found} {_listed(parts)}.{did_you_mean(part, parts)} "
                "Give layout= paths as in model.named_modules()."
            )
        found, done = parts[part], f"{done}.{part}".strip(".")
    module: nn.Module = found
    return module


def _children(module: nn.Module) -> dict[str, nn.Module]:
    """By name; unlike `named_children`, one that is used twice is there twice."""
    return {name: child for name, child in module._modules.items() if child is not None}


def _listed(names: Sequence[str] | Mapping[str, Any], most: int = 12) -> str:
    rest = len(names) - most
    return (", ".join(list(names)[:most]) + (f" and {rest} more" if rest > 0 else "")) or "no parts"


def _output_projection(layer: Any) -> Any:
    mlp = getattr(layer, "mlp", layer)
    return next((found for name in _OUTPUT_PROJECTIONS if (found := getattr(mlp, name, None)) is not None), None)


def width_of_projection(projection: Any) -> int:
    """How many numbers a linear layer reads."""
    features = getattr(projection, "in_features", None)  # GPT-2's Conv1D has none; its weight is (inputs, outputs)
    return int(projection.weight.shape[0] if features is None else features)


def _described_width(projection: Any, path: str) -> int:
    if not hasattr(projection, "in_features") and getattr(projection, "weight", None) is None:
        raise SubjectError(
            f"How many numbers {path} reads cannot be told: a {type(projection).__name__} has no weights. Name the "
            "linear layer whose input is the neurons."
        )
    return width_of_projection(projection)


def _reject_experts(kind: str, config: Any, decoder: nn.Module) -> None:
    """A shared expert, or a dense layer between sparse ones, has a projection too: finding one proves nothing."""
    counts = [getattr(config, name, None) for name in _EXPERT_COUNTS]
    in_config = any(isinstance(count, int) and count > 1 for count in counts)
    in_modules = any(name.rpartition(".")[2] in _EXPERT_MODULES for name, _ in decoder.named_modules())
    if in_config or in_modules:
        raise SubjectError(f"{kind} is a mixture of experts: it has no single set of neurons per layer. {SUPPORTED}")
