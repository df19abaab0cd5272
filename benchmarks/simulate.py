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
from collections.abc import Callable, Sequence

import torch

import neuronscope as ns
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


def exemplars_of(subject: ns.LoadedSubject, n: int, length: int) -> list[Exemplar]:
    """Real sequences of one length, without activations."""
    import numpy as np

    found = []
    for window in windows(open_corpus("builtin"), subject.tokenizer, length):
        if len(window.token_ids) == length:
            ids = list(window.token_ids)
            silent = np.zeros(length, dtype=np.float32)
            found.append(Exemplar(token_strings(subject.tokenizer, ids), ids, silent, window.sequence_id, "builtin"))
        if len(found) == n:
            break
    return found


@torch.inference_mode()
def run_floor(simulator: CausalSimulator, texts: Sequence[Sequence[int]], size: int) -> None:
    """Texts in right-padded batches through the trunk."""
    decoder = simulator.model.model.get_decoder()
    ordered = sorted(texts, key=len)
    for start in range(0, len(ordered), size):
        batch = ordered[start : start + size]
        longest = max(map(len, batch))
        decoder(input_ids=torch.tensor([[*text, *[0] * (longest - len(text))] for text in batch]), use_cache=False)


@torch.inference_mode()
def run_naive(simulator: CausalSimulator, whole: Sequence[Sequence[int]]) -> None:
    """One whole prompt at a time, full logits."""
    for ids in whole:
        simulator.model.model(input_ids=torch.tensor([list(ids)]), use_cache=False)


def seconds(action: Callable[[], object], clock: Callable[[], float]) -> float:
    """How long it takes."""
    start = clock()
    action()
    return clock() - start


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
    texts = [simulator.text(exemplar).token_ids for exemplar in exemplars]
    pairs = [(explanation, text) for explanation in explanations for text in texts]
    sample = pairs[:: max(1, len(pairs) // arguments.pairs)][: arguments.pairs]
    whole = [[*before, *simulator.explanation_ids(explanation), *text] for explanation, text in sample]
    n_floor = len(explanations) * len(texts)
    times: dict[str, list[float]] = {"ours": [], "naive": []} | {str(size): [] for size in BATCH_SIZES}
    simulator.simulate(explanations[:1], exemplars[:1])
    for _ in range(arguments.rounds):
        for size in BATCH_SIZES:
            times[str(size)].append(
                seconds(lambda size=size: run_floor(simulator, texts * len(explanations), size), clock) / n_floor
            )
        times["ours"].append(seconds(lambda: simulator.simulate(explanations, exemplars), clock) / n_floor)
        times["naive"].append(seconds(lambda: run_naive(simulator, whole), clock) / len(whole))
    median = {name: statistics.median(values) for name, values in times.items()}
    size = min(BATCH_SIZES, key=lambda size: median[str(size)])
    floor, ours, naive = median[str(size)], median["ours"], median["naive"]
    print(
        f"{form:>10}  {len(whole[0]):>6}  {len(texts[0]):>5}  {1e3 * floor:>7.1f} ({size:>2})  {1e3 * ours:>7.1f}"
        f"  {1e3 * naive:>7.1f}  {ours / floor:>8.2f}  {naive / ours:>8.1f}",
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
    exemplars = exemplars_of(subject, arguments.exemplars, arguments.length)
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
