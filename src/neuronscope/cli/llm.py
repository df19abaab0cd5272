"""The options that say which language model to ask, where, and for how much."""

from __future__ import annotations

from typing import Annotated

import typer

LLMOption = Annotated[
    list[str] | None,
    typer.Option(
        help='A model such as "openai:gpt-4o", "llamacpp:model.gguf", "offline" for none, or "auto" (default: auto). '
        "Repeat it for a model per agent: --llm refinement=openai:gpt-4o --llm default=offline."
    ),
]
BaseURLOption = Annotated[
    str | None, typer.Option(help="Address of an OpenAI-compatible server, such as http://127.0.0.1:8080/v1.")
]
BudgetOption = Annotated[
    str | None, typer.Option(help='What the language model may cost: "5$" or "200k tokens".', metavar="AMOUNT")
]


def llm_from(given: list[str] | None) -> str | dict[str, str]:
    """One model's name, or a mapping from agent to name.

    Raises:
        typer.BadParameter: several models, of which some are nobody's.
    """
    from neuronscope.llm.models import DEFAULT_ROLE, OTHER_ROLES, ROLES

    if not given:
        return "auto"
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
