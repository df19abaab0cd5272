"""What an experiment will take: a plan for each model's run, by the settings alone where a model is not at hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

from neuronscope.display.plan import count, dollars, duration
from neuronscope.errors import NeuronScopeError
from neuronscope.experiments.folder import ExperimentFolder, SubjectRun
from neuronscope.experiments.report import markdown_table
from neuronscope.llm.budget import BATCH_SHARE, price
from neuronscope.llm.models import BATCH
from neuronscope.planning import expectation
from neuronscope.planning.plan import Amounts, Plan
from neuronscope.text import shortened

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

    from neuronscope.config import ExplainConfig


@dataclass(frozen=True)
class SubjectPlan:
    """What one model's run takes."""

    name: str
    left: int
    amounts: Amounts
    plan: Plan | None
    """In full; None where the models are not at hand, and only the settings are known."""
    why: str = ""
    """Why they are not."""
    batches: Literal["used", "possible", "none"] = "none"
    """Whether the language models are asked in batches, or could be, at half of the price."""


def plan_experiment(folder: ExperimentFolder, sample: int = 0) -> list[SubjectPlan]:
    """Plan every run; nothing is asked of a language model without a sample.

    Raises:
        NeuronScopeError: a sample was asked for, and cannot be had.
    """
    return [_plan(each, sample) for each in folder.subjects]


def _plan(each: SubjectRun, sample: int) -> SubjectPlan:
    import neuronscope as ns

    name, batches = each.subject.label, _batches(each)
    if each.is_finished:
        return SubjectPlan(name, 0, Amounts(), None)
    try:
        plan = ns.plan(each.run, sample=sample)
    except NeuronScopeError as error:
        if sample:
            raise
        left = len(each.subject.layers) * each.run.neurons.n  # type: ignore[union-attr]  # a selection, as `runs` makes
        return SubjectPlan(name, left, by_settings(each, left), None, shortened(str(error), 200), batches)
    return SubjectPlan(name, plan.left, plan.expected, plan, batches=batches)


def _batches(each: SubjectRun) -> Literal["used", "possible", "none"]:
    llm = each.run.llm
    names = [str(name) for name in (llm.values() if isinstance(llm, Mapping) else [llm]) if name != "offline"]
    if any(name.startswith(BATCH) for name in names):
        return "used"
    return "possible" if names and all(name.startswith("openai:") for name in names) else "none"


def by_settings(each: SubjectRun, neurons: int) -> Amounts:
    """What so many neurons take by the settings alone: requests, tokens, dollars and simulator tokens; no time."""
    config, llm = each.run.config, each.run.llm
    names = dict(llm) if isinstance(llm, Mapping) else dict.fromkeys(("hypothesis", "decomposition", "refinement"), llm)
    asking = {
        role: names.get(role, names.get("default"))
        for role in ("hypothesis", "decomposition", "refinement")
        if names.get(role, names.get("default")) != "offline"
    }
    shape = expectation.expected_shape(config, offline="hypothesis" not in asking)
    requests, tokens = expectation.requests(shape, config), _tokens(config)
    asked = {role: neurons * requests[role] for role in asking}
    costs = [_dollars(model, tokens[role]) for role, model in asking.items()]
    is_chat = str(each.run.simulator).startswith("chat")  # its requests are known once it is there
    return Amounts(
        requests=None if is_chat else round(sum(asked.values())),
        input_tokens=None if is_chat else round(sum(n * tokens[role].input for role, n in asked.items())),
        output_tokens=None if is_chat else round(sum(n * tokens[role].output for role, n in asked.items())),
        dollars=None
        if is_chat or None in costs
        else sum(n * (cost or 0.0) for n, cost in zip(asked.values(), costs, strict=True)),
        simulated_tokens=round(neurons * expectation.simulated(shape, config) * config.seq_len),
        seconds=None,
    )


def _tokens(config: ExplainConfig) -> dict[str, expectation.Tokens]:
    return expectation.tokens_per_request(config, config.seq_len)


def _dollars(model: Any, tokens: expectation.Tokens) -> float | None:
    """Of one request, by the published price."""
    from langchain_core.messages import AIMessage

    asked, answered = round(1000 * tokens.input), round(1000 * tokens.output)  # of a thousand, which are whole
    counted: Any = {"input_tokens": asked, "output_tokens": answered, "total_tokens": asked + answered}
    cost = price(_nominal(model), AIMessage("", usage_metadata=counted))
    return None if cost is None else cost / 1000


def _nominal(model: Any) -> BaseChatModel | None:
    """The model by its name, for its price: it is not asked, so it needs no key."""
    if not isinstance(model, str) or not model.removeprefix(BATCH).startswith("openai:"):
        return None
    name = model.removeprefix(BATCH).removeprefix("openai:")
    if model.startswith(BATCH):
        from neuronscope.llm.batched_chat import BatchedChat

        return BatchedChat(model=name, api_key="none")
    from langchain_openai import ChatOpenAI

    return ChatOpenAI(model=name, api_key="none")


def total(plans: list[SubjectPlan]) -> Amounts:
    """All runs together; what one of them does not know is unknown."""
    sums: dict[str, Any] = {}
    for each in fields(Amounts):
        values = [getattr(plan.amounts, each.name) for plan in plans]
        sums[each.name] = None if None in values else sum(values)
    return Amounts(**sums)


def plan_markdown(plans: list[SubjectPlan]) -> str:
    """A line for each model, and for all."""
    rows = [(plan.name, plan.left, plan.amounts) for plan in plans]
    rows.append(("all", sum(plan.left for plan in plans), total(plans)))
    table = markdown_table(
        ("model", "neurons left", "requests", "prompt tokens", "answer tokens", "dollars", "simulator tokens", "time"),
        [
            (
                name,
                f"{left:,}",
                count(of.requests),
                count(of.input_tokens),
                count(of.output_tokens),
                dollars(of.dollars),
                count(of.simulated_tokens),
                duration(of.seconds),
            )
            for name, left, of in rows
        ],
    )
    said = [f"- {plan.name} is not at hand, so this is by the settings alone. {plan.why}" for plan in plans if plan.why]
    said += _about_batches(plans)
    return "\n".join([table, *([""] if said else []), *said])


def _about_batches(plans: list[SubjectPlan]) -> list[str]:
    """What batches have saved, or would."""
    costs = [plan.amounts.dollars for plan in plans if plan.batches == "possible" and plan.left]
    if costs:
        half = None if None in costs else sum(cost or 0.0 for cost in costs) * BATCH_SHARE
        return [f"- In batches, `--llm batch:openai:<model>`, the language model would cost {dollars(half)}."]
    if any(plan.batches == "used" and plan.left for plan in plans):
        return [
            "- The language model is asked in batches, at half of its price: an answer comes within 24 hours, and a "
            "neuron waits for one after another (docs/experiments.md). `--llm openai:<model>` asks at once, at the "
            "full price."
        ]
    return []
