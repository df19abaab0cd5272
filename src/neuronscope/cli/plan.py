"""What commands that may cost something say before they do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from neuronscope.cli.output import print_json

if TYPE_CHECKING:
    from neuronscope.planning.plan import Plan

PlanFlag = Annotated[
    bool,
    typer.Option("--plan", help="Say what it will take, from the settings and this machine's speed, and pay nothing."),
]
SampleOption = Annotated[
    int,
    typer.Option("--sample", min=0, help="Plan by so many neurons, which are explained now and not paid for again."),
]


def print_plan(context: typer.Context, plan: Plan) -> None:
    """Print a plan, or with --json all that it holds."""
    if context.meta.get("as_json"):
        print_json(plan.to_dict())
        return
    from rich.console import Console

    Console().print(plan)
