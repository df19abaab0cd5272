"""Settings as command-line options: names, help and checks come from the fields of the settings' models."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import typer
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from neuronscope.config import ExplainConfig, Setup
from neuronscope.validation import Problem, as_sentence, problems

Command = Callable[..., None]
Settings = TypeVar("Settings", bound=BaseModel)


def with_settings_of(*models: type[BaseModel]) -> Callable[[Command], Command]:
    """Replace a command's `**settings` by one option per field of some settings models; nested settings are none.

    Values arrive as text, None where the option is not given; `settings_from` makes them settings.
    """

    def replace(command: Command) -> Command:
        signature = inspect.signature(command, eval_str=True)
        fixed = {name: each for name, each in signature.parameters.items() if each.kind is not each.VAR_KEYWORD}
        command.__signature__ = signature.replace(  # type: ignore[attr-defined]  # how typer learns a command's options
            parameters=[
                *fixed.values(),
                *(
                    _option_of_setup(name, field) if model is Setup else _setting(name, field)
                    for model in models
                    for name, field in model.model_fields.items()
                    if name not in fixed and not _is_nested(field.annotation)
                ),
            ]
        )
        return command

    return replace


with_setup = with_settings_of(Setup, ExplainConfig)
"""One option per field of `Setup` and of its `config`: `setup_from` and `config_from` make arguments of them."""


def _setting(name: str, field: FieldInfo) -> inspect.Parameter:
    help_text = f"{field.description} (default: {field.default})"
    return _option(name, help_text, metavar=_metavar(field.annotation), rich_help_panel="Settings")


def _option_of_setup(name: str, field: FieldInfo) -> inspect.Parameter:
    default = "" if field.is_required() or field.default is None else f" (default: {field.default})"
    return _option(name, option_help(name) + default, metavar="TEXT")


def _option(name: str, help_text: str, **options: Any) -> inspect.Parameter:
    option = typer.Option(_flag(name), help=help_text.replace("[", r"\["), **options)
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[str | None, option]
    )


def option_help(name: str) -> str:
    """What a field of `Setup` takes on the command line."""
    return " ".join(str(Setup.model_fields[name].description).split()).partition(" In Python also ")[0]


def _is_nested(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _metavar(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return "|".join(get_args(annotation))
    return "|".join("none" if kind is type(None) else kind.__name__ for kind in get_args(annotation) or [annotation])


def setup_from(settings: dict[str, Any]) -> dict[str, Any]:
    """The fields of `Setup` that are given."""
    return {name: settings[name] for name in Setup.model_fields if settings.get(name) is not None}


def config_from(settings: dict[str, Any], paper: bool = False) -> ExplainConfig | None:
    """The settings given, over the defaults or the paper's; None if there are none.

    Raises:
        typer.BadParameter: a value does not fit its setting.
    """
    given = {name: settings[name] for name in ExplainConfig.model_fields if settings.get(name) is not None}
    if not given and not paper:
        return None
    return settings_from(ExplainConfig.paper() if paper else ExplainConfig(), given)


def settings_from(base: Settings, settings: Mapping[str, str | None]) -> Settings:
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


def _in_words(problem: Problem, settings: Mapping[str, str | None]) -> str:
    name = str(problem.location[0])
    return f"{_flag(name)} {settings[name]}: {problem.message.partition(': ')[2]}"
