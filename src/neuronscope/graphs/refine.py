"""Refinement in rounds: every mode proposes, one call measures, and the modes meet before the next round.

    START → begin ─┬─► tools → reconcile ─┬─► [one per mode] propose → tools → …   five rounds, or until converged
                   ├─► edit → END         ├─► [one per mode] probe → tools → …     with `probe_texts=True`
                   └─► END                ├─► edit → END                           a language model's modes, as a whole
                                          └─► END

`begin` makes modes of the clusters, and round 0 measures their representatives. `propose` is the Refinement Agent, one
branch for each mode that still changes. `tools` is LangGraph's `ToolNode`, called once a round for all modes.
`reconcile` decides what becomes of each mode, in sight of all of them. `edit` has them written once more, together.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypedDict, cast
from uuid import uuid4

from langchain_core.messages import AIMessage, AnyMessage, ToolCall, ToolMessage
from langgraph.config import get_config
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.prebuilt import ToolNode
from langgraph.runtime import Runtime
from langgraph.types import Checkpointer, Overwrite, Send

from neuronscope.errors import NeuronScopeError
from neuronscope.graphs.checkpoints import knowing_our_types
from neuronscope.graphs.edit import Editor
from neuronscope.graphs.objective import proposals_of
from neuronscope.graphs.probe import Prober
from neuronscope.graphs.reconcile import reconcile
from neuronscope.graphs.threads import beginning_afresh
from neuronscope.graphs.tools import TOOLS, errors_to_messages, score_explanations
from neuronscope.results import Cluster, Failure, Mode
from neuronscope.state import Instruments, ProposalState, RefinementState
from neuronscope.types import ExemplarIds, Neuron

Agent = Callable[..., Awaitable[Any]]
"""A node: `(state, runtime) -> partial state`."""
RefinementGraph = CompiledStateGraph[RefinementState, Instruments, Any, Any]


class RefinementInput(TypedDict, total=False):
    """What the loop takes: modes from before, and clusters that are no mode yet."""

    neuron: Neuron
    exemplars: ExemplarIds
    clusters: list[Cluster]
    modes: list[Mode]
    unexplained: list[int]


class RefinementOutput(TypedDict, total=False):
    """What leaves the loop: the modes, what went wrong, and what no mode explains."""

    modes: list[Mode]
    failures: list[Failure]
    unexplained: list[int]


async def begin(state: RefinementState, runtime: Runtime[Instruments]) -> RefinementState:
    """Make a mode of what is new in every cluster, in the order of the clusters.

    Modes that were refined before settle where there are new ones, or where new ones were looked for; else they are
    refined further.
    """
    known, is_second_hypothesis = state.get("modes", []), bool(state.get("unexplained"))
    clusters = [cluster for cluster in state.get("clusters", []) if not cluster.noise]
    new = [mode for cluster in clusters if (mode := _new_in(cluster, known))]
    modes = [*known, *new][: runtime.context.config.max_modes]
    is_further = all(mode.history for mode in modes) and not is_second_hypothesis
    afresh: dict[str, Any] = {  # a thread may have been here before
        "proposals": Overwrite({}),
        "settled": Overwrite([] if is_further else [mode.representative for mode in modes if mode.history]),
        "messages": Overwrite([]),
        "failures": Overwrite([]),
        "phase": "proposals",
        "probed_iteration": 0,
        "answered_calls": [],
        "unexplained": [],
        "is_second_hypothesis": is_second_hypothesis,
    }
    return cast(RefinementState, {**afresh, "modes": modes, "iteration": int(is_further)})


def _new_in(cluster: Cluster, known: Sequence[Mode]) -> Mode | None:
    """A mode of the atoms that no known mode has; None if there are none."""
    old = {text for mode in known for text in (mode.representative, *mode.atoms)}
    atoms = [atom for atom in cluster.atoms if atom not in old]
    if not atoms:
        return None
    return Mode(cluster.representative if cluster.representative in atoms else atoms[0], atoms=atoms)


class Tools:
    """LangGraph's `ToolNode`, called once for everything that the branches of a round ask for.

    The candidates of all modes go into one call of `score_explanations`. Tool calls that agents have made themselves
    are answered as they stand.
    """

    def __init__(self) -> None:
        self._tools = ToolNode(TOOLS, awrap_tool_call=errors_to_messages)

    async def __call__(self, state: RefinementState, runtime: Runtime[Instruments]) -> RefinementState:
        """Return the call for the scores, and the answers to all calls."""
        messages = state.get("messages", [])
        calls = pending_calls(messages)
        asked: list[AnyMessage] = []
        candidates = [text for texts in proposals_of(state).values() for text in texts]
        if candidates:
            call = ToolCall(name=score_explanations.name, args={"explanations": candidates}, id=uuid4().hex)
            asked = [AIMessage("", tool_calls=[call])]
            calls = [*calls, call]
        if not calls:
            return {"answered_calls": []}
        request = {**state, "messages": [AIMessage("", tool_calls=calls)]}
        answers = await self._tools.ainvoke(request, get_config())
        return {"messages": [*asked, *answers["messages"]], "answered_calls": [str(call["id"]) for call in calls]}


def pending_calls(messages: Sequence[AnyMessage]) -> list[ToolCall]:
    """The tool calls that no message answers yet."""
    answered = {message.tool_call_id for message in messages if isinstance(message, ToolMessage)}
    calls = [call for message in messages if isinstance(message, AIMessage) for call in message.tool_calls]
    return [call for call in calls if call["id"] not in answered]


async def next_step(state: RefinementState, runtime: Runtime[Instruments]) -> list[Send] | str:
    """The next round: texts that try modes out, then proposals, until no mode changes any more."""
    config, iteration = runtime.context.config, state["iteration"]
    modes, settled = state["modes"], set(state.get("settled", []))
    if any(not mode.history for mode in modes):
        return "tools"
    is_over = iteration > config.max_iterations or all(mode.representative in settled for mode in modes)
    active = [] if is_over else [mode for mode in modes if mode.representative not in settled]
    node, chosen = "propose", active
    if config.probe_texts and state.get("probed_iteration", 0) < iteration:  # the last round was one of proposals
        untried = [mode for mode in modes if mode.generation_score is None] if is_over else active
        node, chosen = ("probe", untried) if untried else (node, chosen)
    return [Send(node, _branch(mode, state)) for mode in chosen] or END


async def next_or_edit(state: RefinementState, runtime: Runtime[Instruments]) -> list[Send] | str:
    """The next round; after the last one, where nothing is left unexplained, an LLM's modes as a whole.

    A second hypothesis that says nothing new has no round.
    """
    step, context = await next_step(state, runtime), runtime.context
    is_last = step == END and not state.get("unexplained")
    is_edited = context.config.tells_as_a_whole and context.asks_a_language_model and len(state["modes"]) > 1
    return "edit" if is_last and is_edited else step


def _branch(mode: Mode, state: RefinementState) -> ProposalState:
    ids = state["exemplars"]
    return {
        "neuron": state["neuron"],
        "exemplars": ids.without("validation", "test"),
        "mode": mode,
        "siblings": [other for other in state["modes"] if other.representative != mode.representative],
        "history": mode.history,
        "iteration": state["iteration"],
    }


class Branch:
    """One mode's call of an agent: an error of ours ends what it was called for, and loses no other mode.

    It is no `error_handler` of LangGraph's: after any other exception a thread could not go on with the loop.
    """

    def __init__(self, agent: Agent, on_error: Callable[[Mode], dict[str, Any]]) -> None:
        self._agent = agent
        self._on_error = on_error

    async def __call__(self, state: ProposalState, runtime: Runtime[Instruments]) -> RefinementState:
        """Return what the agent does."""
        mode = state["mode"]
        try:
            update: RefinementState = await self._agent(state, runtime)
        except NeuronScopeError as error:
            failure = Failure("refinement", f'{error} (mode "{mode.representative}")')
            return cast(RefinementState, {"failures": [failure], **self._on_error(mode)})
        return update


def settle(mode: Mode) -> dict[str, Any]:
    """A mode whose agent has failed proposes no more."""
    return {"proposals": {mode.representative: []}, "settled": [mode.representative]}


def go_on(_: Mode) -> dict[str, Any]:
    """Without texts of its own a mode is refined all the same."""
    return {"phase": "probes"}


def refinement_graph_builder(
    *, refinement: Agent | None = None
) -> StateGraph[RefinementState, Instruments, RefinementInput, RefinementOutput]:
    """The uncompiled loop, to be changed: `propose`, `probe`, `tools` and `reconcile` are nodes of it.

    A node between `propose` and `tools` sees the round's proposals: `builder.add_node("critic", critic)`,
    `builder.edges.remove(("propose", "tools"))`, and an edge to each side.

    Args:
        refinement: proposes candidates for one mode: `(ProposalState, runtime) -> {"proposals": {mode's representative:
            [...]}}`. None is `RefinementAgent()`. With `config.probe_texts`, its method `probe`, if it has one, is
            asked for texts to try out; with `config.edit`, its method `edit` for all modes as a whole, at the end:
            `(RefinementState, runtime) -> {"proposals": {"": [...]}}`.
    """
    if refinement is None:
        from neuronscope.agents import RefinementAgent

        refinement = RefinementAgent()
    graph = StateGraph(
        RefinementState,
        context_schema=Instruments,
        input_schema=RefinementInput,
        output_schema=RefinementOutput,
    )
    graph.add_node("begin", begin)  # clusters → modes
    graph.add_node("propose", Branch(refinement, settle), input_schema=ProposalState)  # one mode → candidates
    graph.add_node("probe", Branch(Prober(refinement), go_on), input_schema=ProposalState)  # one mode → texts
    graph.add_node("tools", Tools())  # candidates and texts of all modes → measurements
    graph.add_node("reconcile", reconcile)  # measurements → modes
    graph.add_node("edit", Editor(refinement))  # modes → fewer of them
    graph.add_edge(START, "begin")
    graph.add_conditional_edges("begin", next_or_edit, ["tools", "propose", "edit", END])  # round 0, or known modes
    graph.add_edge("propose", "tools")
    graph.add_edge("probe", "tools")
    graph.add_edge("tools", "reconcile")
    graph.add_conditional_edges("reconcile", next_or_edit, ["propose", "probe", "edit", END])  # until converged
    graph.add_edge("edit", END)
    return graph


def build_refinement_graph(*, refinement: Agent | None = None, checkpointer: Checkpointer = None) -> RefinementGraph:
    """Build the loop that refines all modes of a neuron.

    It takes `neuron`, `exemplars`, and `clusters` or `modes`, and returns `modes` and `failures`. Whatever fails on the
    way (an LLM, the simulator: errors of ours) ends the refinement of what it concerns with the best so far.

    Args:
        refinement: as for `refinement_graph_builder`.
        checkpointer: LangGraph's; as a subgraph it inherits the parent's.
    """
    graph = refinement_graph_builder(refinement=refinement)
    return beginning_afresh(graph.compile(checkpointer=knowing_our_types(checkpointer), name="refine"))
