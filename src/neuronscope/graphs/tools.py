"""What refinement can measure: two LangChain tools, for LangGraph's `ToolNode`.

Each answers a model in JSON, and the graph with an object: the message's artifact.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from functools import cache
from typing import Annotated, Any, cast

import numpy as np
from langchain_core.messages import ToolMessage
from langchain_core.tools import tool
from langgraph.prebuilt import ToolRuntime
from langgraph.prebuilt.tool_node import ToolCallRequest
from langgraph.types import Command
from pydantic import Field, TypeAdapter

from neuronscope.agents.prober import CAPTURE, CAPTURE_DESCRIPTION, CaptureArguments, Text
from neuronscope.errors import NeuronScopeError
from neuronscope.exemplars.texts import exemplars_of
from neuronscope.graphs.objective import candidates_of, measure
from neuronscope.metrics.stimuli import ACTIVATION_THRESHOLD
from neuronscope.results import Failure, Measured, ProbeText, sortable
from neuronscope.state import Instruments, RefinementState
from neuronscope.types import SCALE, Exemplar, normalise

SHOWN_FIELDS = ("explanation", "score", "constant", "sequences")
"""The fields of a measured explanation that a model sees."""
MOST_TOKENS = 256
"""Tokens of a text of one's own that are read."""


@tool(response_format="content_and_artifact")
async def score_explanations(
    explanations: Annotated[list[Text], Field(min_length=1)], runtime: ToolRuntime[Instruments]
) -> tuple[str, list[Measured]]:
    """Score explanations against the neuron's measured activations on validation text.

    Returns JSON: `sequences`, how many there are; and `scores`, one `{explanation, score, constant, sequences}` per
    explanation in the order given. A score is always that on all sequences. It is null where an explanation was pruned,
    because others did better on the first `sequences` of them.
    """
    state = cast(RefinementState, runtime.state)
    measured = await measure(candidates_of(state, explanations), state, runtime.context)
    best = {one.explanation: one for one in sorted(measured, key=lambda one: sortable(one.score))}
    scores = [{name: getattr(best[text], name) for name in SHOWN_FIELDS} for text in explanations]
    answer = {"sequences": max(one.sequences for one in measured), "scores": scores}
    return json.dumps(answer, ensure_ascii=False), measured


@tool(
    CAPTURE,
    description=CAPTURE_DESCRIPTION,
    args_schema=CaptureArguments,
    response_format="content_and_artifact",
)
async def capture_activations(
    texts: list[str], runtime: ToolRuntime[Instruments], hard_negatives: Sequence[str] = ()
) -> tuple[str, list[ProbeText]]:
    """Measure the neuron on texts; `CAPTURE_DESCRIPTION` says what comes of it."""
    state, subject = cast(RefinementState, runtime.state), runtime.context.subject
    read = await asyncio.to_thread(exemplars_of, [*texts, *hard_negatives], subject, state["neuron"], MOST_TOKENS)
    ids = state.get("exemplars")
    maximum = ids.maximum if ids else max((float(one.activations.max(initial=0.0)) for one in read), default=0.0)
    measured = [_probe_text(one, one.sequence_id < len(texts), maximum) for one in read]
    answer = [{"tokens": one.tokens, "activations": one.activations.astype(float).round(4).tolist()} for one in read]
    return json.dumps(answer, ensure_ascii=False), measured


def _probe_text(read: Exemplar, expected: bool, maximum: float) -> ProbeText:
    levels = normalise(read.activations, maximum)
    level = float(levels.max(initial=0.0))
    return ProbeText(
        text=read.text,
        expected=expected,
        activated=level > ACTIVATION_THRESHOLD * SCALE,
        token=read.tokens[int(np.argmax(levels))] if level > 0 else "",
        activation=round(level, 2),
    )


TOOLS = [score_explanations, capture_activations]
"""What a refinement agent may call."""


def artifacts(messages: Sequence[ToolMessage], tool_name: str, kind: Any) -> list[Any]:
    """What a tool's messages carry, read as this kind: from a checkpoint it comes back as plain data."""
    found = [message.artifact for message in messages if message.name == tool_name and message.status != "error"]
    return [_reader(kind).validate_python(artifact) for artifact in found]


@cache
def _reader(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


async def errors_to_messages(
    request: ToolCallRequest, execute: Callable[[ToolCallRequest], Awaitable[ToolMessage | Command[Any]]]
) -> ToolMessage | Command[Any]:
    """Turn an error of ours in a tool into a message that carries a `Failure`; any other exception surfaces as a bug.

    (Bad arguments are not seen here: `ToolNode` answers those itself.)
    """
    try:
        return await execute(request)
    except NeuronScopeError as error:
        name, call_id = request.tool_call["name"], request.tool_call["id"]
        failure = Failure("refinement", str(error))
        return ToolMessage(str(error), name=name, tool_call_id=call_id, status="error", artifact=failure)
