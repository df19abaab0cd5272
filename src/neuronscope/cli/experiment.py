"""`neuronscope experiment`: what was measured for the documentation, to be measured again or on models of one's own."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from neuronscope.experiments.named import experiment_names, named_experiment


class _Experiments(TyperGroup):
    """The experiments that have a name; one is imported when it is asked for, since it takes NumPy and more."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Their names."""
        return experiment_names()

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of one; None if there is none of that name."""
        if cmd_name not in experiment_names():
            return None
        command = typer.main.get_command(named_experiment(cmd_name).app)
        command.name = cmd_name
        return command


experiment_app = typer.Typer(
    name="experiment",
    cls=_Experiments,
    help="Measure what the documentation reports (docs/results).",
    no_args_is_help=True,
)


@experiment_app.callback()
def _experiments() -> None:
    """Measure what the documentation reports (docs/results)."""
