"""From explanations and exemplars to a checkpoint: `python -m train_simulator --explanations … --output_dir …`.

Options are those of `Recipe` and of transformers' `TrainingArguments`. An interrupted training goes on from its last
checkpoint when the same command is given again.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import HfArgumentParser, Trainer, TrainingArguments, set_seed
from transformers.trainer_utils import get_last_checkpoint

import neuronscope as ns
from neuronscope.errors import ConfigurationError
from neuronscope.metrics.correlation import varies
from neuronscope.results import mean_of
from neuronscope.simulators import FinetunedSimulator
from neuronscope.subject.loading import choose_device, choose_dtype
from train_simulator.collator import Collator, Encoder, divide, loss
from train_simulator.compare import correlations, predict, true_activations
from train_simulator.data import ExplainedNeuron, is_held_out, read_jsonl, read_results
from train_simulator.model import SimulatorModel

REPORT = "report.json"


@dataclass
class Recipe:
    """What is trained on what."""

    explanations: str = field(metadata={"help": "A folder of saved results, such as a run's, or a JSONL file."})
    store: str | None = field(default=None, metadata={"help": "The exemplar store of the saved results' neurons."})
    subject: str | None = field(default=None, metadata={"help": "The store's model, if it lacks activations."})
    base: str = field(default="smollm2-135m", metadata={"help": "The language model to start from."})
    lora_rank: int = field(default=0, metadata={"help": "Train adapters of this rank; 0 trains all but embeddings."})
    exemplars_per_row: int = field(default=8, metadata={"help": "Exemplars that share a reading of their explanation."})
    top: int = field(default=20, metadata={"help": "Top sequences of each neuron and split."})
    random: int = field(default=20, metadata={"help": "Random sequences of each neuron and split."})
    heldout: float = field(default=0.15, metadata={"help": "The share of neurons that are kept for the report."})


DEFAULTS = {
    "learning_rate": 1e-4,
    "num_train_epochs": 1,
    "lr_scheduler_type": "cosine_with_min_lr",
    "lr_scheduler_kwargs": {"min_lr_rate": 0.1},
    "warmup_steps": 0.05,
    "weight_decay": 0.0,
    "logging_steps": 1,
    "save_steps": 50,
    "save_total_limit": 1,
    "seed": 0,  # that of ExplainConfig: the store has the activations of the sequences that it draws
    "report_to": "none",
    "remove_unused_columns": False,
}
"""What differs from the defaults of `TrainingArguments`; a batch is of 8 rows there."""


def train(recipe: Recipe, neurons: Sequence[ExplainedNeuron], arguments: TrainingArguments) -> dict[str, Any]:
    """Train on the neurons that are not held out, write the checkpoint, and report on the others.

    Raises:
        ConfigurationError: there is nothing to train on.
        SimulatorError: the base cannot be loaded or used, or reads too few tokens.
    """
    heldout = [neuron for neuron in neurons if is_held_out(neuron.name, recipe.heldout)]
    dtype = torch.bfloat16 if arguments.bf16 else torch.float32
    set_seed(arguments.seed)
    simulator = SimulatorModel(recipe.base, recipe.lora_rank, dtype)
    encoder = Encoder(simulator.tokenizer, simulator.context)
    encoded = [encoder.encode(neuron) for neuron in neurons]
    rows = divide(
        [row for neuron, row in zip(neurons, encoded, strict=True) if neuron not in heldout],
        recipe.exemplars_per_row,
        arguments.seed,
    )
    if not rows:
        raise ConfigurationError(
            f"There is nothing to train on: of {len(neurons)} explained neurons, {len(heldout)} are held out and the "
            "others have no exemplars in the documents to train on. Give more neurons, or hold out fewer."
        )
    trainer = Trainer(
        model=simulator.model,
        args=arguments,
        train_dataset=rows,
        data_collator=Collator(simulator.padding_id, dtype),
        compute_loss_func=loss,
    )
    folder = Path(arguments.output_dir)
    trained = trainer.train(resume_from_checkpoint=get_last_checkpoint(folder) if folder.is_dir() else None)
    simulator.save(folder)
    losses = [{key: line[key] for key in ("step", "loss")} for line in trainer.state.log_history if "loss" in line]
    tested = [neuron for neuron in heldout if neuron.unseen and varies(true_activations(neuron))]
    predictions = predict(FinetunedSimulator(folder, device=str(arguments.device), dtype=dtype), tested)
    measured = correlations(predictions, tested).tolist()
    report = {
        "base": simulator.name,
        "neurons": len(neurons) - len(heldout),
        "rows": len(rows),
        "steps": trained.global_step,
        "correlation": mean_of(measured),
        "heldout": {neuron.name: value for neuron, value in zip(tested, measured, strict=True)},
        "losses": losses,
    }
    (folder / REPORT).write_text(json.dumps(report, ensure_ascii=False, indent=1), "utf-8")
    return report


def read(recipe: Recipe, seed: int) -> list[ExplainedNeuron]:
    """The neurons of a folder of results, or of a JSONL file.

    Raises:
        ConfigurationError: the folder's store is not given, or there is nothing in it.
    """
    if not Path(recipe.explanations).is_dir():
        return read_jsonl(recipe.explanations)
    if recipe.store is None:
        raise ConfigurationError(
            f"The explanations in {recipe.explanations} need the exemplar store that their neurons are in: --store."
        )
    store = ns.open_store(recipe.store)
    if recipe.subject is not None:
        store.bind(ns.load_subject(recipe.subject))
    return read_results(recipe.explanations, store, top=recipe.top, random=recipe.random, seed=seed)


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Read the command line and train."""
    parser = HfArgumentParser((Recipe, TrainingArguments), description=__doc__)
    device = choose_device("auto")
    bf16 = choose_dtype("auto", device) == torch.bfloat16  # what matrices are multiplied in; the weights are float32
    parser.set_defaults(**DEFAULTS, bf16=bf16, use_cpu=device.type == "cpu")
    recipe, training = parser.parse_args_into_dataclasses(arguments)
    return train(recipe, read(recipe, training.seed), training)


if __name__ == "__main__":
    try:
        done = main()
    except ns.NeuronScopeError as error:
        sys.exit(f"Error: {error}")
    print(f"{done['steps']} steps; correlation {done['correlation']} on {len(done['heldout'])} held-out neurons")
