"""The option that says which language model to ask, or which for each agent."""

from __future__ import annotations

from typing import Annotated

import typer

from neuronscope.cli.settings import option_help

LLMOption = Annotated[
    list[str] | None,
    typer.Option(
        help=f"{option_help('llm')} Repeat it for a model per agent: --llm refinement=openai:gpt-4o --llm "
        "default=offline."
    ),
]


def llm_from(given: list[str] | None) -> str | dict[str, str] | None:
    """One model's name, or a mapping from agent to name; None if none is given.

    Raises:
        typer.BadParameter: several models, of which some are nobody's.
    """
    from neuronscope.llm.models import DEFAULT_ROLE, OTHER_ROLES, ROLES

    if not given:
        return None
    parts = [one.partition("=") for one in given]
    roles = (*ROLES, *OTHER_ROLES, DEFAULT_ROLE)
    if len(given) == 1 and parts[0][0] not in roles:
        return given[0]
    for name, equals, _ in parts:
        if not equals or name not in roles:
            raise typer.BadParameter(
                f"--llm {name}: of several models each belongs to an agent: {', '.join(roles)}; write --llm "
                "refinement=openai:gpt-4o."
            )
    return {role: name for role, _, name in parts}
