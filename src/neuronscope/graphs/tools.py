"""What the refinement loop can measure: two LangChain tools, for LangGraph's `ToolNode`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any, cast

import numpy as np
from langchain_core.messages import ToolMessage
from langchain_core.tools import tool
from langgraph.prebuilt import ToolRuntime
from langgraph.prebuilt.tool_node import ToolCallRequest
from langgraph.types import Command
from numpy.typing import NDArray
from pydantic import Field

from neuronscope.agents.prober import CAPTURE, CAPTURE_DESCRIPTION, CaptureArguments, Text
from neuronscope.errors import NeuronScopeError
from neuronscope.graphs.modes import representative
from neuronscope.locks import lock_of
from neuronscope.metrics import Standing, race
from neuronscope.metrics.scorer import Predictions
from neuronscope.results import Failure, Mode, best_attempt
from neuronscope.state import Instruments, RefinementState

MOST_TOKENS = 256
"""Tokens of a text of one's own that are read."""


@tool
async def score_explanations(
    explanations: Annotated[list[Text], Field(min_length=1)], runtime: ToolRuntime[Instruments]
) -> str:
    """Score explanations against the neuron's measured activations on validation text.

    Returns JSON: `sequences`, how many there are; `scores`, one `{explanation, score, constant, sequences}` per
    explanation in the order given; and `errors`, the tokens where the best of them predicts far too little or far too
    much. A score is always that on all sequences. It is null where an explanation was dropped early, because others
    did better on the first `sequences` of them, and where the neuron does the same on all sequences, or there are none.
    """
    scorer, state = runtime.context.scorer, cast(RefinementState, runtime.state)
    neuron, maximum = state["neuron"], state["exemplars"].maximum
    sequences = await validation_sequences(state, runtime.context)
    standings = await _standings(explanations, sequences, state, runtime.context)
    finished = {text: standing.score.value or 0.0 for text, standing in standings.items() if standing.score is not None}
    errors = await scorer.errors(neuron, max(finished, key=finished.__getitem__), sequences, maximum)
    answer = {
        "sequences": len(sequences),
        "scores": [_entry(text, standings[text]) for text in explanations],
        "errors": [
            {"context": error.context, "token": error.token, "predicted": error.predicted, "actual": error.actual}
            for error in errors
        ],
    }
    return json.dumps(answer, ensure_ascii=False)


async def _standings(
    explanations: Sequence[str], sequences: Sequence[int], state: RefinementState, instruments: Instruments
) -> dict[str, Standing]:
    """Score the explanations against each other, by a race if the settings allow and there is an attempt to beat."""
    scorer, neuron, history = instruments.scorer, state["neuron"], state.get("history", [])
    candidates = list(dict.fromkeys(explanations))
    if not instruments.config.racing or not history:
        scores = await scorer.score(neuron, candidates, sequences)
        return {text: Standing(score, len(sequences)) for text, score in zip(candidates, scores, strict=True)}

    async def predict(texts: Sequence[str], places: Sequence[int]) -> Predictions:
        return await scorer.predict(neuron, texts, [sequences[place] for place in places])

    best = best_attempt(history).explanation
    reference = [rows[0] for rows in await scorer.predict(neuron, [best], sequences)]
    truth = [exemplar.activations for exemplar in await scorer.exemplars(neuron, sequences)]
    return dict(zip(candidates, await race(predict, candidates, truth, reference), strict=True))


def _entry(explanation: str, standing: Standing) -> dict[str, Any]:
    """What the answer says about one explanation: a score on part of the sequences is none."""
    score = standing.score
    return {
        "explanation": explanation,
        "score": None if score is None else score.value,
        "constant": None if score is None else score.constant,
        "sequences": standing.sequences,
    }


@tool(CAPTURE, description=CAPTURE_DESCRIPTION, args_schema=CaptureArguments)
async def capture_activations(
    texts: list[str], runtime: ToolRuntime[Instruments], near_misses: Sequence[str] = ()
) -> str:
    """Measure the neuron on texts; `CAPTURE_DESCRIPTION` says what comes of it."""
    measured = await asyncio.to_thread(_capture, [*texts, *near_misses], runtime)
    return json.dumps(measured, ensure_ascii=False)


def _capture(texts: list[str], runtime: ToolRuntime[Instruments]) -> list[dict[str, Any]]:
    from neuronscope.subject.tokens import token_strings

    subject, neuron = runtime.context.subject, runtime.state["neuron"]
    as_text = {"add_special_tokens": False, "split_special_tokens": True}
    with lock_of(subject.tokenizer):
        token_ids = [subject.tokenizer(text, **as_text)["input_ids"][:MOST_TOKENS] for text in texts]
    read = [ids for ids in token_ids if ids]  # a tokenizer may leave nothing of a text
    layer = iter(subject.activations(read, [neuron.layer])[neuron.layer]) if read else iter(())
    return [
        {
            "tokens": token_strings(subject.tokenizer, ids),
            "activations": np.maximum(neuron.sign * next(layer)[:, neuron.index], 0.0).round(4).tolist() if ids else [],
        }
        for ids in token_ids
    ]


TOOLS = [score_explanations, capture_activations]
"""What a refinement agent may call."""


async def fail_in_words(
    request: ToolCallRequest, execute: Callable[[ToolCallRequest], Awaitable[ToolMessage | Command[Any]]]
) -> ToolMessage | Command[Any]:
    """Turn an error of ours in a tool into a message that carries a `Failure`; any other exception surfaces as a bug.

    (Bad arguments are not seen here: `ToolNode` answers those itself.)
    """
    try:
        return await execute(request)
    except NeuronScopeError as error:
        name, call_id = request.tool_call["name"], request.tool_call["id"]
        failure = refinement_failure(error, cast(RefinementState, request.state)["mode"])
        return ToolMessage(str(error), name=name, tool_call_id=call_id, status="error", artifact=failure)


def refinement_failure(error: NeuronScopeError, mode: Mode) -> Failure:
    """What to tell about a mode whose refinement ended early."""
    return Failure("refinement", f'{error} (mode "{representative(mode)}")')


async def validation_sequences(state: RefinementState, instruments: Instruments) -> list[int]:
    """The sequences that refinement is scored on.

    With `objective="mode"` the mode's own D_k: the top validation sequences that its representative fits at least as
    well as the other modes' representatives do, and the random ones. The representatives are those of the moment when
    refinement began, so the assignment is frozen. With `objective="neuron"` the whole validation set.
    """
    exemplars, mode = state["exemplars"], state["mode"]
    first, everything = representative(mode), [*exemplars.validation, *exemplars.validation_random]
    if instruments.config.objective == "neuron" or first not in mode.siblings or not everything:
        return everything
    belongs = await instruments.scorer.assign(state["neuron"], mode.siblings, everything)
    return own_sequences(exemplars.validation, exemplars.validation_random, belongs[mode.siblings.index(first)])


def own_sequences(top: list[int], random: list[int], belongs: NDArray[np.bool_]) -> list[int]:
    """The top sequences that belong to a mode, and the random ones; all of them if none belongs to it."""
    own = [number for number, is_own in zip(top, belongs, strict=False) if is_own]
    return [*(own or top), *random]
