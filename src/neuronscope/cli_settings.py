"""The settings of `ExplainConfig` as command-line options: names, help and checks come from the model's fields."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from neuronscope.config import ExplainConfig


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Replace a command's `**settings` by one option per field of `ExplainConfig`.

    Values arrive as text, None where the option is not given; `config_from` makes them settings.
    """
    signature = inspect.signature(command, eval_str=True)
    fixed = [parameter for parameter in signature.parameters.values() if parameter.kind is not parameter.VAR_KEYWORD]
    fields = ExplainConfig.model_fields.items()
    command.__signature__ = signature.replace(  # type: ignore[attr-defined]  # how typer learns a command's options
        parameters=[*fixed, *(_setting(name, field) for name, field in fields)]
    )
    return command


def _setting(name: str, field: FieldInfo) -> inspect.Parameter:
    option = typer.Option(
        _flag(name),
        help=f"{field.description} (default: {field.default})".replace("[", r"\["),
        metavar=_metavar(field.annotation),
        rich_help_panel="Settings",
    )
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[str | None, option]
    )


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _metavar(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return "|".join(get_args(annotation))
    return "|".join("none" if kind is type(None) else kind.__name__ for kind in get_args(annotation) or [annotation])


def config_from(settings: dict[str, str | None], paper: bool) -> ExplainConfig:
    """The settings given, over the defaults or the paper's.

    Raises:
        typer.BadParameter: a value does not fit its setting.
    """
    given = {name: None if value == "none" else value for name, value in settings.items() if value is not None}
    base = ExplainConfig.paper() if paper else ExplainConfig()
    try:
        return ExplainConfig.model_validate({**base.model_dump(), **given})
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        raise typer.BadParameter(f"{_flag(name)} {settings[name]}: {first['msg']}.") from error
