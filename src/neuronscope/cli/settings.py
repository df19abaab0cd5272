"""Settings as command-line options: names, help and checks come from the fields of the settings' model."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import typer
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from neuronscope.config import ExplainConfig
from neuronscope.validation import Problem, as_sentence, problems

Command = Callable[..., None]
Settings = TypeVar("Settings", bound=BaseModel)


def with_settings_of(model: type[BaseModel]) -> Callable[[Command], Command]:
    """Replace a command's `**settings` by one option per field of a settings model.

    Values arrive as text, None where the option is not given; `settings_from` makes them settings.
    """

    def replace(command: Command) -> Command:
        signature = inspect.signature(command, eval_str=True)
        fixed = [each for each in signature.parameters.values() if each.kind is not each.VAR_KEYWORD]
        command.__signature__ = signature.replace(  # type: ignore[attr-defined]  # how typer learns a command's options
            parameters=[*fixed, *(_setting(name, field) for name, field in model.model_fields.items())]
        )
        return command

    return replace


with_settings = with_settings_of(ExplainConfig)
"""One option per field of `ExplainConfig`; `config_from` makes them settings."""


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
    return settings_from(ExplainConfig.paper() if paper else ExplainConfig(), settings)


def settings_from(base: Settings, settings: dict[str, str | None]) -> Settings:
    """The settings given, over others of the same model.

    Raises:
        typer.BadParameter: a value does not fit its setting.
    """
    given = {name: None if value == "none" else value for name, value in settings.items() if value is not None}
    try:
        return type(base).model_validate({**base.model_dump(), **given})
    except ValidationError as error:
        wrong = problems(error, lambda _: type(base).model_fields)
        raise typer.BadParameter(as_sentence("; ".join(_in_words(each, settings) for each in wrong))) from error


def _in_words(problem: Problem, settings: dict[str, str | None]) -> str:
    name = str(problem.location[0])
    return f"{_flag(name)} {settings[name]}: {problem.message.partition(': ')[2]}"
