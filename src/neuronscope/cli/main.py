"""The command line. Every command is one call of the public API; the settings are `ExplainConfig`'s fields.

Results go to standard output, everything else to standard error, so that `--json` can be piped.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from neuronscope.cli.baselines import BaselinesOption, explain_and_compare, with_comparison
from neuronscope.cli.evaluate import EvaluateCommand, evaluate
from neuronscope.cli.experiment import experiment_app
from neuronscope.cli.llm import LLMOption, llm_from
from neuronscope.cli.options import (
    ENGINE,
    CacheOption,
    CorpusOption,
    HtmlOption,
    LayerOption,
    NeuronOption,
    OutOption,
    SignOption,
    SubjectArgument,
)
from neuronscope.cli.output import DebugFlag, JsonFlag, load_result, prepare, print_json
from neuronscope.cli.plan import PlanFlag, print_plan
from neuronscope.cli.run import merge, run
from neuronscope.cli.settings import config_from, setup_from, with_setup
from neuronscope.cli.signals import INTERRUPTED, MESSAGE, interrupted, is_watched, leaving_on_signals
from neuronscope.cli.store import store_app
from neuronscope.errors import NeuronScopeError
from neuronscope.results import NeuronExplanation

if TYPE_CHECKING:
    from neuronscope.comparison import MethodScore


class _Group(TyperGroup):
    """Answers every error of ours, and Ctrl-C, with one line."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            if not is_watched():
                _fail(MESSAGE, INTERRUPTED)
            raise
        except (NeuronScopeError, OSError) as error:
            if isinstance(error, BrokenPipeError) or ctx.meta.get("debug") or interrupted():
                raise
            _fail(f"Error: {_one_line(error)}", 1)


app = typer.Typer(
    cls=_Group,
    help="Find and score every meaning of a language model's neuron.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Examples: neuronscope explain smollm2-135m --layer 9 --neuron 421 --llm offline --html n.html",
)
app.add_typer(store_app)
app.add_typer(experiment_app)
app.command()(run)
app.command()(merge)
app.command(cls=EvaluateCommand)(evaluate)


def main() -> None:
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
    with leaving_on_signals():
        app()


def _print_version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        typer.echo(f"neuronscope {version('neuronscope')}")
        raise typer.Exit


VersionFlag = Annotated[
    bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
]


@app.callback()
def _options(as_json: JsonFlag = False, debug: DebugFlag = False, version: VersionFlag = False) -> None:
    """Find and score every meaning of a language model's neuron."""


@app.command()
def collect(
    context: typer.Context,
    subject: SubjectArgument,
    layers: Annotated[str, typer.Option(help="Layers to collect, counted from 0: 5,9 or 0-11.")],
    corpus: CorpusOption = "builtin",
    n_tokens: Annotated[
        int | None, typer.Option(min=1, help="Stop after this many tokens; else the whole corpus.")
    ] = None,
    seq_len: Annotated[int, typer.Option(min=8, help="Tokens of a sequence.")] = 64,
    top_k: Annotated[
        int | None,
        typer.Option(min=1, help="Sequences kept per neuron, sign and split; else 400 of train and 100."),
    ] = None,
    keep_activations: Annotated[
        bool,
        typer.Option("--keep-activations", help="Keep activations token by token: explaining needs no model then."),
    ] = False,
    cache_dir: CacheOption = None,
    engine: Annotated[str, ENGINE] = "local",
    as_json: JsonFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Run a corpus through a model once and keep what each neuron of some layers responds to most."""
    numbers = _layer_numbers(layers)
    prepare()
    import neuronscope as ns
    from neuronscope.cluster import ray_engine
    from neuronscope.corpus.sources import open_corpus
    from neuronscope.resources import check_before_loading

    ray_engine(engine)
    texts = open_corpus(corpus)
    check_before_loading(subject, [(number, 0) for number in numbers])
    store = ns.collect_exemplars(
        ns.load_subject(subject),
        corpus=texts,
        layers=numbers,
        seq_len=seq_len,
        top_k=top_k,
        n_tokens=n_tokens,
        keep_activations=keep_activations,
        cache_dir=cache_dir,
        engine=engine,
    )
    counts = {name: store.info[name] for name in ("n_tokens", "n_sequences")}
    if context.meta.get("as_json"):
        print_json({"path": str(store.path), "layers": store.layers, "widths": store.info["widths"], **counts})
        return
    typer.echo(f"Layers {', '.join(map(str, store.layers))}")
    for name, by_split in counts.items():
        per_split = ", ".join(f"{split} {count:,}" for split, count in by_split.items())
        typer.echo(f"{sum(by_split.values()):,} {name.removeprefix('n_')} ({per_split})")
    typer.echo(str(store.path))


@app.command()
@with_setup
def explain(
    context: typer.Context,
    subject: SubjectArgument,
    layer: LayerOption,
    neuron: NeuronOption,
    sign: SignOption = 1,
    llm: LLMOption = None,
    out: OutOption = None,
    html: HtmlOption = None,
    paper: Annotated[bool, typer.Option("--paper", help="Start from what the paper says of the method.")] = False,
    baselines: BaselinesOption = None,
    plan: PlanFlag = False,
    as_json: JsonFlag = False,
    debug: DebugFlag = False,
    **settings: str | None,
) -> None:
    """Explain one neuron: every meaning, each with its score on held-out text."""
    setup = setup_from({**settings, "llm": llm_from(llm)})
    config = config_from(settings, paper)
    prepare(out, html)
    import neuronscope as ns

    if plan:
        made = ns.Setup(subject=subject, config=config, **setup)
        print_plan(context, ns.plan(made, [ns.Neuron(layer, neuron, sign)]))
        return
    rows: list[MethodScore] = []
    if baselines is None:
        explanation = ns.explain_neuron(subject, layer=layer, neuron=neuron, sign=sign, config=config, **setup)
    else:
        made = ns.Setup(subject=subject, config=config, **setup)
        explanation, rows = explain_and_compare(made, ns.Neuron(layer, neuron, sign), baselines)
    if out is not None:
        explanation.save(out)
        _say(f"Saved {out}")
    _show(context, explanation, html, rows)


@app.command()
def show(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="A result that `explain --out` saved.")],
    html: HtmlOption = None,
    as_json: JsonFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Show a saved result."""
    explanation = load_result(file)
    prepare(html)
    _show(context, explanation, html)


def _show(
    context: typer.Context, explanation: NeuronExplanation, html: Path | None, rows: Sequence[MethodScore] = ()
) -> None:
    if html is not None:
        explanation.to_html(html)
        _say(f"Wrote {html}")
    if context.meta.get("as_json"):
        print_json(with_comparison(explanation, rows))
        return
    from rich.console import Console

    from neuronscope.display.terminal import TerminalReport

    Console().print(TerminalReport(explanation))
    if rows:
        from neuronscope.display.comparison import MethodTable

        Console().print(MethodTable(rows))


def _layer_numbers(text: str) -> list[int]:
    """`5,9` or `0-11`, or both together, as sorted layer numbers."""
    numbers: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or (dash and int(last) < int(first)):
            raise typer.BadParameter(f"--layers {text}: expected layer numbers such as 5,9 or 0-11.")
        numbers.update(range(int(first), int(last or first) + 1))
    return sorted(numbers)


def _say(line: str) -> None:
    typer.echo(line, err=True)


def _one_line(error: Exception) -> str:
    from neuronscope.display.words import visible

    if isinstance(error, OSError) and error.strerror:
        place = f"{error.filename}: " if error.filename else ""
        return visible(f"{place}{error.strerror}.")
    return visible(" ".join(str(error).split()))


def _fail(line: str, status: int) -> None:
    _say(line)
    raise typer.Exit(status)
