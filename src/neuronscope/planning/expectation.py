"""What explaining a neuron takes, from the settings: requests, tokens and simulator tokens, expected and at most.

How far a neuron goes is its `Shape`: how many modes it has, and for how many rounds they are refined. All else follows
from that and from the settings. Before any neuron has been explained its shape is a stated constant; every neuron that
has been counts as much as the constant does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from neuronscope.agents.editing_prompts import MOST_EDITED
from neuronscope.agents.parsing import MOST_SENTENCES
from neuronscope.config import ExplainConfig
from neuronscope.metrics.halving import FEWEST_SEQUENCES, RUNGS
from neuronscope.offline.agents import RANDOM_EXEMPLARS, TOP_EXEMPLARS
from neuronscope.results import NeuronExplanation

EXPECTED_MODES = 3.2
"""Modes of a neuron that a language model explains: the mean Number of the paper's table 1."""
EXPECTED_MODES_OFFLINE = 4.5
"""The same without one: eight are begun, of which three or four remain to be scored (300 random neurons of SmolLM2's
layer 9, by `benchmarks/explain.py`)."""
EXPECTED_ROUNDS, EXPECTED_ROUNDS_OFFLINE = 2.0, 1.0
"""Rounds after which a mode has converged with a patience of 1: 21 random neurons of SmolLM2's layer 9; without a
language model there is one. More patience adds as many."""
EXPECTED_ATOMS = 8
"""Conditions of one hypothesis: the same 20, and as many as `HYPOTHESIS_TOKENS` have room for."""
EXPECTED_SECOND = 0.3
"""The share of neurons from which is with a second hypothesis."""
ACCEPTED = 0.2
"""The share of rounds whose best candidate becomes the explanation: 12 neurons of docs/results/strong-llm-agents.md."""
REQUESTS_PER_ROUND = 1.25
"""Of the Refinement Agent for one mode: now and then candidates are missing, and asked for once more."""
EXPLANATION_TOKENS = 35
"""Generated tokens of one explanation."""
HYPOTHESIS_TOKENS = 250
"""Generated tokens of one hypothesis."""
EVIDENCE_TOKENS = 3700
"""Of a neuron's evidence but for the excerpts, from sequences of 64 tokens; estimated from a few prompts."""
SHOWN_EXCERPTS = 16
"""Excerpts that a hypothesis is written from."""
FEEDBACK_TOKENS = 2200
"""Of seventy-five cases on feedback text."""


class Shape(NamedTuple):
    """How far the explanation of a neuron goes."""

    modes: float
    """Modes that are refined, of both hypotheses."""
    rounds: float
    """Rounds of proposals, added up over the modes."""
    second: float
    """Whether it is with a second hypothesis, 0 or 1; of several neurons the share."""


class Tokens(NamedTuple):
    """Of one request."""

    input: float
    output: float


def expected_shape(config: ExplainConfig, *, offline: bool, known: Sequence[Shape] = ()) -> Shape:
    """The mean of the shapes that are known and of the constants, which count as one neuron.

    Args:
        config: the settings.
        offline: whether no language model writes the hypotheses.
        known: shapes of neurons that have been explained.
    """
    modes = EXPECTED_MODES_OFFLINE if offline else EXPECTED_MODES
    if config.max_modes is not None:
        modes = min(modes, config.max_modes)
    rounds = EXPECTED_ROUNDS_OFFLINE if offline else EXPECTED_ROUNDS
    patience = config.max_iterations if config.patience is None else rounds + config.patience - 1
    second = EXPECTED_SECOND if _has_second_hypothesis(config) and not offline else 0.0
    constants = Shape(modes, modes * min(config.max_iterations, patience), second)
    return Shape(*(sum(values) / (1 + len(known)) for values in zip(constants, *known, strict=True)))


def largest_shape(config: ExplainConfig) -> Shape | None:
    """The largest that the settings allow; None if they do not limit the number of modes."""
    if config.max_modes is None:
        return None
    second = _has_second_hypothesis(config)
    modes = config.max_modes + (config.max_modes - 1 if second else 0)
    return Shape(modes, modes * config.max_iterations, float(second))


def shape_of(result: NeuronExplanation, config: ExplainConfig) -> Shape:
    """How far the explanation of a neuron went; rounds of modes that were dropped count as far as they were asked for.

    Args:
        result: a neuron that has modes.
        config: the settings.
    """
    asked = {
        agent: usage.cached + (usage.answers if is_papers(config) else usage.requests)
        for agent, usage in result.usage.by_agent.items()
    }
    in_histories = sum(len(mode.history) - 1 for mode in result.modes)
    rounds = max(asked.get("refinement", 0) - config.tells_as_a_whole, 0) / answers_per_round(config)
    clusters = sum(not cluster.noise for cluster in result.clusters)
    hypotheses = max(len(result.hypotheses), asked.get("hypothesis", 0))
    return Shape(max(clusters, result.number), max(rounds, in_histories), float(hypotheses > config.n_hypotheses))


def is_papers(config: ExplainConfig) -> bool:
    """Whether every candidate is an independent answer."""
    return config.prompts == "paper"


def answers_per_round(config: ExplainConfig) -> float:
    """Answers of the Refinement Agent for one mode in one round."""
    if is_papers(config):
        return config.n_candidates
    return (REQUESTS_PER_ROUND if config.n_candidates > 1 else 1.0) + config.probe_texts


def requests(shape: Shape, config: ExplainConfig) -> dict[str, float]:
    """Requests of each agent for a neuron of this shape, at a backend that gives several answers to one request."""
    hypotheses = config.n_hypotheses * (1 + shape.second)
    split_again = 0 if config.cache_answers else config.n_hypotheses * shape.second
    per_round = 1.0 + config.probe_texts if is_papers(config) else answers_per_round(config)
    probes = shape.modes if config.probe_texts else 0
    return {
        "hypothesis": hypotheses,
        "decomposition": hypotheses + split_again,
        "refinement": shape.rounds * per_round + probes + config.tells_as_a_whole,
    }


def most_requests(config: ExplainConfig, *, knows_n: bool) -> dict[str, float] | None:
    """Requests of each agent at most, none repeated; None if the settings set no limit.

    Args:
        config: the settings.
        knows_n: whether the backend gives several answers to one request.
    """
    shape = largest_shape(config)
    if shape is None:
        return None
    singles = 1 if knows_n else config.n_candidates
    together = 0 if is_papers(config) or config.n_candidates == 1 else 1
    texts = 2 * (shape.rounds + shape.modes) if config.probe_texts else 0
    refinement = shape.rounds * (together + singles) + texts + config.tells_as_a_whole
    return {**requests(shape, config), "refinement": refinement}


def tokens_per_request(config: ExplainConfig, seq_len: float) -> dict[str, Tokens]:
    """Tokens of one request of each agent: counted on the prompts, with answers of the stated lengths.

    Args:
        config: the settings.
        seq_len: tokens of a sequence, in the mean.
    """
    shown = (1 + 0.75 * (config.n_hypotheses - 1)) / config.n_hypotheses  # all but the first see fewer
    excerpts = config.n_train_exemplars * seq_len * shown
    long = min(1.0, seq_len / 64)  # contexts are no longer than the sequences
    errors, feedback = (330, FEEDBACK_TOKENS * long) if config.feedback == "errors" else (0, 0)
    history = 28 * (1 + EXPECTED_ROUNDS / 2)
    candidates = Tokens(0, EXPLANATION_TOKENS * config.n_candidates)
    if is_papers(config):
        return {
            "hypothesis": Tokens(200 + 1.15 * excerpts, HYPOTHESIS_TOKENS),
            "decomposition": Tokens(180 + HYPOTHESIS_TOKENS, HYPOTHESIS_TOKENS),
            "refinement": Tokens(90 + history + errors, candidates.output),
        }
    return {
        "hypothesis": Tokens(1500 + EVIDENCE_TOKENS * long + 1.1 * shown * SHOWN_EXCERPTS * seq_len, HYPOTHESIS_TOKENS),
        "decomposition": Tokens(320 + HYPOTHESIS_TOKENS, HYPOTHESIS_TOKENS),
        "refinement": Tokens(1200 + EVIDENCE_TOKENS * long * 0.7 + history + feedback, candidates.output + 20),
    }


def simulated(shape: Shape, config: ExplainConfig) -> float:
    """Pairs of an explanation and a sequence that the simulator predicts for a neuron of this shape."""
    heldout = config.heldout_top + config.heldout_random
    fitted = config.n_train_exemplars + heldout if config.objective == "joint" else 0
    shown = heldout if config.feedback == "errors" else 0
    concluded = heldout + (0 if config.objective == "joint" else config.n_train_exemplars + heldout)
    begun = heldout + _of_all_ranks(config) + shown + (0 if _clustered_on(config) else fitted)  # it is one of the atoms
    mode = begun + (1 + ACCEPTED) * concluded + _in_strata(config)
    of_candidates = _compared(config.n_candidates, heldout, config.halving)
    of_candidates += _finishing(config) * _of_all_ranks(config)
    clustered = config.n_hypotheses * EXPECTED_ATOMS * (1 + shape.second) * _clustered_on(config)
    nulls = config.null_explanations * heldout if shape.modes else 0
    return clustered + shape.modes * mode + shape.rounds * (of_candidates + ACCEPTED * (fitted + shown)) + nulls


def most_simulated(config: ExplainConfig) -> float | None:
    """The same at most; None if the settings set no limit."""
    shape = largest_shape(config)
    if shape is None:
        return None
    heldout = config.heldout_top + config.heldout_random
    everywhere = 3 * heldout + _of_all_ranks(config) + config.n_train_exemplars + heldout
    each_round = config.n_candidates * (heldout + _of_all_ranks(config)) + everywhere - 2 * heldout
    nulls = config.null_explanations * heldout
    clustered = config.n_hypotheses * MOST_SENTENCES * (1 + shape.second) * _clustered_on(config)
    edited = MOST_EDITED * everywhere * config.tells_as_a_whole
    modes = shape.modes * (everywhere + 2 * heldout + _in_strata(config))
    return clustered + modes + shape.rounds * each_round + edited + nulls


def sequences(config: ExplainConfig, *, offline: bool) -> int:
    """Sequences of a neuron on which the subject runs: the top ones of each split, and those of its evidence."""
    drawn = config.n_train_exemplars + 4 * config.heldout_top + 4 * config.heldout_random + _in_strata(config)
    return drawn + (0 if is_papers(config) and not offline else TOP_EXEMPLARS + RANDOM_EXEMPLARS)


def _in_strata(config: ExplainConfig) -> int:
    """Sequences of the corpus score that are not in the test set."""
    if not (config.corpus_ranked and config.corpus_random):
        return 0
    return config.corpus_ranked + max(0, config.corpus_random - config.heldout_random)


def _has_second_hypothesis(config: ExplainConfig) -> bool:
    return config.second_hypothesis and config.objective == "joint"


def _of_all_ranks(config: ExplainConfig) -> int:
    """Further validation sequences on which modes are chosen together."""
    return config.heldout_top if config.objective == "joint" else 0


def _clustered_on(config: ExplainConfig) -> int:
    """Train sequences on which atoms are compared."""
    everywhere = config.n_train_exemplars + config.heldout_top + config.heldout_random
    return everywhere if config.clustering == "evidence" else 0


def _finishing(config: ExplainConfig) -> float:
    """Candidates of a round that are scored on all sequences."""
    return max(1.0, config.n_candidates * RUNGS[-1].survivors) if config.halving else config.n_candidates


def _compared(candidates: int, heldout: int, halving: bool) -> float:
    """Pairs of a candidate and a sequence in one round of one mode."""
    if not halving:
        return candidates * heldout
    running, seen, pairs = float(candidates), 0.0, 0.0
    for rung in RUNGS:
        reached = min(heldout, max(FEWEST_SEQUENCES, rung.sequences * heldout))
        pairs += running * (reached - seen)
        running, seen = max(1.0, candidates * rung.survivors), reached
    return pairs + running * (heldout - seen)
