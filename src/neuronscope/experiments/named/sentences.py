"""What sentences of another writer score through the same entry point as NeuronScope's own, neuron by neuron.

    neuronscope experiment sentences written.jsonl --subject smollm2-135m --llm offline --out results

Each neuron of the file is explained, too. Explanations and scores are kept in `--out`, so that a killed command goes
on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import neuronscope as ns
from neuronscope.baselines import WrittenSentences, resolve_baselines
from neuronscope.baselines.written import WrittenMode, load_written
from neuronscope.cli.output import DebugFlag, JsonFlag, prepare
from neuronscope.cli.settings import config_from, setup_from, with_setup
from neuronscope.digests import name_of
from neuronscope.errors import ConfigurationError
from neuronscope.experiments.folder import versions
from neuronscope.experiments.options import save_and_print
from neuronscope.experiments.readings import ReadingScore, load_readings, read_neurons
from neuronscope.experiments.sentence_tables import AFTER, BEFORE, METHODS, NULL, Forms, SentenceScores, tables
from neuronscope.types import Neuron

if TYPE_CHECKING:
    from neuronscope.experiments.report import Report

app = typer.Typer(add_completion=False)


@app.command()
@with_setup
def sentences(
    context: typer.Context,
    files: Annotated[
        list[Path], typer.Argument(help="Sentences about neurons, JSON lines (docs/experiments.md).", exists=True)
    ],
    readings: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            help="The same sentences with a strong reader's predictions, JSON lines (docs/simulators.md).",
        ),
    ] = None,
    methods: Annotated[
        str, typer.Option(help="What is scored on the same neurons, with commas between (docs/methods.md).")
    ] = METHODS,
    out: Annotated[
        Path, typer.Option(file_okay=False, help="Explanations, scores and tables; what is there is not done again.")
    ] = Path("results/sentences"),
    parallel: Annotated[int, typer.Option(min=1, help="Neurons under way at once.")] = 8,
    as_json: JsonFlag = False,
    debug: DebugFlag = False,
    **settings: Any,
) -> None:
    """Score sentences of another writer beside NeuronScope's own and a look-up table."""
    forms = forms_of(load_written(path) for path in files)
    config = config_from(settings) or ns.ExplainConfig()
    read = [] if readings is None else load_readings(readings, None, None, config.seed)
    setup = ns.Setup(**{**setup_from(settings), "config": config})
    order = [name for form in forms for name in (form, form + NULL)]
    order += [method.name for method in resolve_baselines(methods)]
    prepare(out / "sentences.json")
    layers = sorted({neuron.layer for by_neuron in forms.values() for neuron in by_neuron})
    with setup.open(layers=layers) as lab:
        rows = sorted(score(lab, forms, methods, out, parallel), key=lambda row: (order.index(row.method), row.neuron))
        measured: list[ReadingScore] = [each for found, _ in read_neurons(lab.simulator, read) for each in found]
    default = "" if readings is None else readings.stem
    report = _report(SentenceScores(forms, ns.Comparison(rows), measured, default, config.seed), setup)
    save_and_print(report, out, context)


def forms_of(files: Iterable[Mapping[str, Mapping[Neuron, Sequence[WrittenMode]]]]) -> Forms:
    """The modes by form and neuron; a form whose modes were refined is two, that before and that after.

    Raises:
        ConfigurationError: two files have sentences of one form.
    """
    found: dict[str, Mapping[Neuron, Sequence[WrittenMode]]] = {}
    for by_form in files:
        for form, by_neuron in by_form.items():
            is_refined = any(mode.history for modes in by_neuron.values() for mode in modes)
            names = [f"{form}{BEFORE}", f"{form}{AFTER}"] if is_refined else [form]
            for name in names:
                if name in found:
                    raise ConfigurationError(f"Two files have sentences of the form {form!r}: name it in each `form`.")
                found[name] = by_neuron
    return found


def sentences_of(form: str, modes: Sequence[WrittenMode]) -> list[str]:
    """What a form says of a neuron."""
    return [mode.before if form.endswith(BEFORE) else mode.explanation for mode in modes]


def score(lab: ns.Session, forms: Forms, methods: str, out: Path, parallel: int) -> Iterable[ns.MethodScore]:
    """Each form's sentences on its neurons, those of another neuron as a null, and on all neurons the other methods.

    Rows are kept in a folder of the very sentences that they are of, so that others have others.
    """
    for form, by_neuron in forms.items():
        texts = {neuron: sentences_of(form, modes) for neuron, modes in by_neuron.items()}
        explainers = [WrittenSentences(texts, form)]
        if len(texts) > 1:
            explainers.append(WrittenSentences({each: texts[_another(each, texts)] for each in texts}, form + NULL))
        kept = out / "written" / name_of([form, {str(neuron): known for neuron, known in texts.items()}])
        yield from lab.compare(list(texts), explainers, out=kept, parallel=parallel)
    neurons = list(dict.fromkeys(neuron for by_neuron in forms.values() for neuron in by_neuron))
    yield from lab.compare(neurons, methods, out=out / "run", parallel=parallel)


def _another(neuron: Neuron, known: Iterable[Neuron]) -> Neuron:
    """The next neuron of the same layer, in a circle; of another layer where there is none."""
    same = sorted(each for each in known if each.layer == neuron.layer)
    around = same if len(same) > 1 else sorted(known)
    return around[(around.index(neuron) + 1) % len(around)]


def _report(scores: SentenceScores, setup: ns.Setup) -> Report:
    chosen = {name: str(getattr(setup, name)) for name in ("subject", "corpus", "llm", "embeddings", "simulator")}
    data = {"setup": chosen, "config": setup.config.model_dump(mode="json"), "versions": versions()}
    return tables(scores, data)
