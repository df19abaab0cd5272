"""The commands that read an exemplar store; none of them needs the model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from neuronscope.cli.options import NeuronOption, SignOption, one_index, one_of
from neuronscope.cli.output import DebugFlag, JsonFlag, print_json
from neuronscope.types import SPLITS

store_app = typer.Typer(name="store", help="Look into an exemplar store; no model is needed.", no_args_is_help=True)

PathArgument = Annotated[Path, typer.Argument(help="The store's folder, as `neuronscope collect` prints it.")]
LayerOption = Annotated[int, typer.Option(parser=one_index, metavar="INTEGER", help="The layer, counted from 0.")]
_BY = ("frequency", "max", "random")
ByOption = Annotated[
    Literal["frequency", "max", "random"],
    typer.Option(
        parser=one_of(*_BY), metavar="|".join(_BY), help="Most often active, largest maximum, or drawn evenly."
    ),
]
SplitOption = Annotated[str, typer.Option(parser=one_of(*SPLITS), metavar="|".join(SPLITS), help="Of which split.")]


@store_app.command()
def info(context: typer.Context, path: PathArgument, as_json: JsonFlag = False, debug: DebugFlag = False) -> None:
    """What a store was made of, and how large it is."""
    from neuronscope.exemplars import open_store

    store = open_store(path)
    size = sum(file.stat().st_size for file in store.path.rglob("*") if file.is_file())
    if context.meta.get("as_json"):
        print_json({"path": str(store.path), "bytes": size} | store.info)
        return
    made = store.info
    table = _table("", "")
    for name, value in {
        "model": f"{made['subject']['name']} (fingerprint {made['subject']['fingerprint']})",
        "corpus": made["corpus"]["name"],
        "sources": ", ".join(f"{source} {tokens:,}" for source, tokens in made["source_tokens"].items()) + " tokens",
        "tokens": _by_split(made["n_tokens"]),
        "sequences": _by_split(made["n_sequences"]) + f", up to {made['seq_len']} tokens each",
        "site": store.site,
        "layers": ", ".join(map(str, store.layers)),
        "neurons": f"{sum(made['widths'].values()):,}, signs {', '.join(f'{sign:+d}' for sign in store.signs)}",
        "top sequences": f"per neuron and sign, {_each_split(made['top_k'])}",
        "activations": "kept" if made["keep_activations"] else "computed when they are asked for",
        "size": f"{size / 1e6:,.1f} MB",
    }.items():
        table.add_row(name, _text(value))
    _print(table)


@store_app.command()
def top(
    context: typer.Context,
    path: PathArgument,
    layer: LayerOption,
    n: Annotated[int, typer.Option(min=1, help="How many neurons.")] = 20,
    by: ByOption = "frequency",
    sign: SignOption = 1,
    seed: Annotated[int, typer.Option(help="Another seed draws other neurons.")] = 0,
    as_json: JsonFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Choose neurons of a layer, as the paper does: by how often they are active."""
    from neuronscope.exemplars import open_store

    store = open_store(path)
    chosen = [neuron.index for neuron in store.top_neurons(layer, n, by, sign, seed)]
    columns = {
        "frequency": store.frequency(layer, sign),
        "maximum": store.max_activation(layer, sign),
        "mean": store.mean(layer, sign),
    }
    if context.meta.get("as_json"):
        rows = [{"index": i} | {name: float(values[i]) for name, values in columns.items()} for i in chosen]
        print_json({"layer": layer, "sign": sign, "by": by, "neurons": rows})
        return
    table = _table("neuron", *columns, numbers=True)
    for i in chosen:
        row = columns["frequency"][i], columns["maximum"][i], columns["mean"][i]
        table.add_row(str(i), f"{row[0]:.3%}", f"{row[1]:.3g}", f"{row[2]:.3g}")
    _print(table)


@store_app.command()
def show(
    context: typer.Context,
    path: PathArgument,
    layer: LayerOption,
    neuron: NeuronOption,
    sign: SignOption = 1,
    split: SplitOption = "train",
    n: Annotated[int, typer.Option(min=1, help="How many sequences.")] = 10,
    as_json: JsonFlag = False,
    debug: DebugFlag = False,
) -> None:
    """The sequences to which a neuron responds most, strongest first."""
    from neuronscope.exemplars import open_store
    from neuronscope.types import Neuron

    store = open_store(path)
    ranked = store.ranked(Neuron(layer, neuron, sign), split, n)
    if context.meta.get("as_json"):
        rows = [each._asdict() | {"text": "".join(each.tokens)} for each in ranked]
        print_json({"layer": layer, "neuron": neuron, "sign": sign, "split": split, "sequences": rows})
        return
    table = _table("activation", "source", "text")
    for each in ranked:
        table.add_row(f"{each.activation:.3g}", _text(each.source), _text("".join(each.tokens)))
    _print(table)


def _by_split(counts: dict[str, int]) -> str:
    return f"{sum(counts.values()):,} ({_each_split(counts)})"


def _each_split(counts: dict[str, int]) -> str:
    return ", ".join(f"{split} {count:,}" for split, count in counts.items())


def _table(*columns: str, numbers: bool = False) -> Any:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_header=any(columns), pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if numbers else "left")
    return table


def _text(text: str) -> Any:
    """Text of a corpus or of a model's name: it can neither style nor control the terminal."""
    from rich.text import Text

    from neuronscope.display.words import visible

    return Text(visible(text))


def _print(table: Any) -> None:
    from rich.console import Console

    Console().print(table)
