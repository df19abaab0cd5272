"""What simulating costs over a bare forward pass, and what it saves over one exemplar at a time.

For the fine-tuned form and the prompted form, with the same small model in both (what it predicts is of no interest
here), each round measures one after the other, in one process:

- floor: a bare forward pass of the model's trunk over the exemplars' tokens, as the form writes them, without any
  explanation and without an output layer, at the best of several batch sizes;
- ours: `simulate`, every explanation on every exemplar;
- naive: one exemplar at a time, everything before it read again, with logits over the whole vocabulary, on a sample of
  the pairs.

The ratios are of medians over the rounds, per pair of explanation and exemplar.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

import neuronscope as ns
from measuring import seconds
from neuronscope.corpus.sources import open_corpus
from neuronscope.corpus.windows import windows
from neuronscope.simulators import FinetunedSimulator, PromptedSimulator
from neuronscope.simulators.matrix import CausalSimulator
from neuronscope.subject.tokens import token_strings
from neuronscope.types import Exemplar

EXPLANATIONS = [
    'This neuron activates on words for colours, most strongly on "red", and weakly on materials such as "gold".',
    "This neuron activates on the last token of a sentence, unless the sentence is a question or a quotation.",
    'This neuron activates on "of" where it follows "because" or "instead", and barely on other prepositions.',
    "This neuron activates on names of rivers and lakes, particularly where a text is about travel or borders.",
    "This neuron activates on numbers that give a year, strongly between 1800 and 1999, and not on other numbers.",
    "This neuron activates on verbs of speaking that stand before direct speech, such as 'said' and 'replied'.",
    'This neuron activates on "-ness" at the end of nouns, and weakly on other endings that make nouns of adjectives.',
    "This neuron activates on anything about ships and harbours, particularly on parts of a ship and on sailors.",
]
"""Of the kind and length that the agents write."""
BATCH_SIZES = (8, 16, 32, 64)


def exemplars_of(tokenizer: Any, n: int, length: int, corpus: Any = "builtin") -> list[Exemplar]:
    """Real sequences of one length, without activations."""
    found = []
    for window in windows(open_corpus(corpus), tokenizer, length):
        if len(window.token_ids) == length:
            ids = list(window.token_ids)
            inactive = np.zeros(length, dtype=np.float32)
            found.append(Exemplar(token_strings(tokenizer, ids), ids, inactive, window.sequence_id, window.source))
        if len(found) == n:
            break
    return found


@torch.inference_mode()
def run_floor(simulator: CausalSimulator, texts: Sequence[Sequence[int]], size: int) -> None:
    """Texts in right-padded batches through the trunk."""
    decoder = simulator.model.model.get_decoder()
    for batch in _padded(simulator, texts, size):
        decoder(input_ids=batch, use_cache=False)


@torch.inference_mode()
def run_naive(simulator: CausalSimulator, prompts: Sequence[Sequence[int]], size: int = 1) -> None:
    """Whole prompts, so many at a time, full logits."""
    for batch in _padded(simulator, prompts, size):
        simulator.model.model(input_ids=batch, use_cache=False)


def _padded(simulator: CausalSimulator, texts: Sequence[Sequence[int]], size: int) -> Iterable[torch.Tensor]:
    ordered = sorted(texts, key=len)
    for start in range(0, len(ordered), size):
        batch = ordered[start : start + size]
        longest = max(map(len, batch))
        rows = [[*text, *[0] * (longest - len(text))] for text in batch]
        yield torch.tensor(rows, device=simulator.model.device)


class Comparison(NamedTuple):
    """Medians of the rounds, in seconds per pair of explanation and exemplar."""

    floor: float
    floor_size: int
    """Texts of a batch at which the floor is lowest."""
    ours: float
    naive: float
    naive_size: int
    """Prompts of a batch at which the naive way is fastest."""
    prompt_tokens: int
    """Of a whole prompt, exemplar included: the median."""
    n_rounds: int


def compare(
    simulator: CausalSimulator,
    before: Sequence[int],
    explanations: Sequence[str],
    exemplars: Sequence[Exemplar],
    n_pairs: int,
    rounds: Iterable[int],
    clock: Callable[[], float] = time.perf_counter,
    naive_sizes: Sequence[int] = (1,),
) -> Comparison:
    """Time the floor, `simulate` and the naive way one after the other in each round.

    Args:
        simulator: what predicts.
        before: what its form puts before every explanation.
        explanations: each is predicted on every exemplar.
        exemplars: without activations.
        n_pairs: of explanation and exemplar, that are also simulated the naive way.
        rounds: one item for each round.
        clock: in seconds.
        naive_sizes: prompts of a batch that the naive way tries.
    """
    texts = [simulator.text(exemplar).token_ids for exemplar in exemplars]
    pairs = [(explanation, text) for explanation in explanations for text in texts]
    sample = pairs[:: max(1, len(pairs) // n_pairs)][:n_pairs]
    prompts = [[*before, *simulator.explanation_ids(explanation), *text] for explanation, text in sample]
    floors: dict[int, list[float]] = {size: [] for size in BATCH_SIZES}
    naive: dict[int, list[float]] = {size: [] for size in naive_sizes}
    ours = []
    simulator.simulate(explanations[:1], exemplars[:1])
    for _ in rounds:
        for size, times in floors.items():
            every = list(texts) * len(explanations)
            times.append(seconds(lambda size=size, every=every: run_floor(simulator, every, size), clock) / len(every))
        ours.append(seconds(lambda: simulator.simulate(explanations, exemplars), clock) / len(pairs))
        for size, times in naive.items():
            times.append(seconds(lambda size=size: run_naive(simulator, prompts, size), clock) / len(prompts))
    floor, floor_size = min((statistics.median(times), size) for size, times in floors.items())
    fastest, naive_size = min((statistics.median(times), size) for size, times in naive.items())
    n_tokens = int(statistics.median(map(len, prompts)))
    return Comparison(floor, floor_size, statistics.median(ours), fastest, naive_size, n_tokens, len(ours))


def measure(
    form: str,
    simulator: CausalSimulator,
    before: Sequence[int],
    exemplars: Sequence[Exemplar],
    arguments: argparse.Namespace,
    clock: Callable[[], float],
) -> None:
    """Print one line of the table. `before` is what the form puts before every explanation."""
    explanations = EXPLANATIONS[: arguments.explanations]
    found = compare(simulator, before, explanations, exemplars, arguments.pairs, range(arguments.rounds), clock)
    print(
        f"{form:>10}  {found.prompt_tokens:>6}  {len(simulator.text(exemplars[0]).token_ids):>5}"
        f"  {1e3 * found.floor:>7.1f} ({found.floor_size:>2})  {1e3 * found.ours:>7.1f}  {1e3 * found.naive:>7.1f}"
        f"  {found.ours / found.floor:>8.2f}  {found.naive / found.ours:>8.1f}",
        flush=True,
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="What simulating costs, and what it saves.")
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--explanations", type=int, default=len(EXPLANATIONS))
    parser.add_argument("--exemplars", type=int, default=40)
    parser.add_argument("--length", type=int, default=64, help="of an exemplar, in tokens")
    parser.add_argument("--pairs", type=int, default=16, help="that are also simulated the naive way")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--forms", nargs="+", choices=["finetuned", "prompted"], default=["finetuned", "prompted"])
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall", help="cpu: for a machine that is busy")
    parser.add_argument("--threads", type=int, help="of torch; with --clock cpu, 1: threads that wait count as busy")
    arguments = parser.parse_args()
    clock = time.perf_counter if arguments.clock == "wall" else time.process_time
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    subject = ns.load_subject(arguments.model, device="cpu")
    pair = (subject.model, subject.tokenizer)
    exemplars = exemplars_of(subject.tokenizer, arguments.exemplars, arguments.length)
    print(
        f"{subject!r}, {torch.get_num_threads()} threads, {arguments.explanations} explanations x {len(exemplars)} "
        f"exemplars of {arguments.length} tokens, {arguments.rounds} rounds; milliseconds per pair"
    )
    print(
        f"{'form':>10}  {'prompt':>6}  {'text':>5}  {'floor (batch)':>12}  {'ours':>7}  {'naive':>7}"
        f"  {'to floor':>8}  {'speed-up':>8}"
    )
    for form in arguments.forms:
        if form == "finetuned":
            measure(form, FinetunedSimulator(pair), [], exemplars, arguments, clock)
        else:
            prompted = PromptedSimulator(pair)
            measure(form, prompted, prompted.root_ids, exemplars, arguments, clock)


if __name__ == "__main__":
    main()
