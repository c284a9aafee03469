"""Options of the commands. An option that sets a setting takes its help, its default and its type from the setting.

Such an option is None where it is not typed, so that the config file, the environment and the defaults apply.
"""

from __future__ import annotations

import functools
import inspect
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import NoneType
from typing import Annotated, Literal, cast, get_args, get_origin

import typer
from pydantic import BaseModel, BeforeValidator
from pydantic.fields import FieldInfo
from rich.markup import escape
from typer.core import TyperCommand, TyperOption

from moe_cli.config import MoeConfig
from moe_cli.config.loading import FLAT_KEYS

RUN, MACHINE, JUDGES, ANSWERS, SELECTION = "This run", "Machine", "Judges", "Answers", "Selection"
CAPABILITY = "Capability and drift"
LONGEST_DEFAULT = 28  # characters; a longer one would be cut in a terminal of 80 columns
TYPED = "typed"  # the parameter of a command that takes the settings
DOT = "__"  # of a setting's name in the name of a parameter: `train__num_epochs`

Resume = Annotated[bool, typer.Option("--resume", help="Continue the interrupted run there.", rich_help_panel=RUN)]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and stop.", rich_help_panel=RUN)]
NumProcesses = Annotated[
    int | None,
    typer.Option("--nproc", min=1, help="Processes of this machine, each on a card.", rich_help_panel=MACHINE),
]
Verbose = Annotated[
    bool, typer.Option("--verbose", help="Show the resolved settings in a dry run, too.", rich_help_panel=RUN)
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.", rich_help_panel=RUN)]
Config = Annotated[Path | None, typer.Option("--config", help="YAML file with settings.", rich_help_panel=RUN)]
Assignments = Annotated[
    list[str] | None,
    typer.Option("--set", help="One setting: `train.max_length=512`. Repeatable.", rich_help_panel=RUN),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class TypedSettings:
    """What was typed of the settings."""

    values: Mapping[str, object]  # by setting, such as "train.num_epochs"; only those that were typed
    config: Path | None
    assignments: tuple[str, ...]  # the values of --set

    def having(self, setting: str, value: object) -> TypedSettings:
        """The same with a further value, unless that is None."""
        return self if value is None else replace(self, values={**self.values, setting: value})


@dataclass(frozen=True, slots=True)
class SettingOption:
    """The option of one setting."""

    setting: str  # "train.num_epochs"
    names: tuple[str, ...]  # "--num-epochs"
    panel: str | None
    meaning: str | None = None  # where a command takes it otherwise than the setting says

    def parameter(self) -> inspect.Parameter:
        """The parameter of a command from which typer makes the option."""
        field = field_of(self.setting)
        described = typer.Option(
            None, *self.names, help=escape(self.meaning or _help(field)), rich_help_panel=self.panel
        )
        return _parameter(self.setting.replace(".", DOT), _kind(field) | None, described)


class MoeCommand(TyperCommand):
    """A command that refuses an option of one value that was typed twice, instead of taking the last."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        """Parse the words.

        Raises:
            click.UsageError: an option of one value has two.
        """
        *_, order = self.make_parser(ctx).parse_args(args=list(args))
        if ctx.resilient_parsing:  # words that are being completed
            order = []
        for parameter, number in Counter(order).items():
            if number > 1 and isinstance(parameter, TyperOption) and not (parameter.multiple or parameter.is_flag):
                ctx.fail(f"{parameter.opts[0]} is typed {number} times, and it takes one value")
        return super().parse_args(ctx, args)


def option(setting: str, *names: str, panel: str | None = None, meaning: str | None = None) -> SettingOption:
    """The option of a setting; by default it is named as the setting is in its section."""
    return SettingOption(setting, names or (f"--{setting.rpartition('.')[2].replace('_', '-')}",), panel, meaning)


def options(*settings: str, panel: str | None = None) -> tuple[SettingOption, ...]:
    """The options of several settings, each named as its setting."""
    return tuple(option(setting, panel=panel) for setting in settings)


MODEL = option("model.name", "--model-name", "--model", "-m")
SEED = option("seed", panel=RUN)
REGISTRY = option("registry", panel=RUN)
HARDWARE = options("model.gpu", "model.device", "model.threads", panel=MACHINE)
ENDPOINT = (
    option("endpoint.base_url", panel=ANSWERS),
    option("endpoint.model", "--api-model", panel=ANSWERS),
    option("endpoint.key_env", "--api-key-env", panel=ANSWERS),
    option("endpoint.concurrency", panel=ANSWERS),
)
JUDGE = (
    option("judge.base_url", "--judge-url", panel=JUDGES),
    option("judge.model", "--judge-model", panel=JUDGES),
    option("judge.key_env", "--judge-key-env", panel=JUDGES),
)
SELECTION_RULE = (
    *options("prepare.method", "prepare.selection_file", "prepare.select_by", "prepare.budget", panel=SELECTION),
    *options("prepare.threshold", "prepare.top_k", "prepare.top_p", "prepare.per_layer", panel=SELECTION),
    *options("prepare.stability", "prepare.answer_part", panel=SELECTION),
)


def with_settings(
    *settings: SettingOption, config_file: bool = True
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A decorator that gives a command the options of `settings`, and what was typed of them as its `typed`.

    With `config_file` the command also takes --config and --set.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        declared = inspect.signature(command, eval_str=True).parameters
        own = [
            parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for name, parameter in declared.items()
            if name != TYPED
        ]
        last = [parameter for parameter in own if _is_of_run(parameter)]
        parameters = [parameter for parameter in own if parameter not in last]
        parameters += [setting.parameter() for setting in settings]
        if config_file:
            parameters += [_parameter("config", Config, None), _parameter("assignments", Assignments, None)]
        parameters += last

        @functools.wraps(command)
        def run(**given: object) -> None:
            command(typed=typed_settings(given), **{parameter.name: given[parameter.name] for parameter in own})

        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return run

    return decorate


def setting_of(parameter: str) -> str | None:
    """The setting of a command's parameter; None for a parameter that sets none."""
    return parameter.replace(DOT, ".") if DOT in parameter or parameter in FLAT_KEYS else None


def typed_settings(given: Mapping[str, object]) -> TypedSettings:
    """What was typed of the settings, from the values of a command's parameters."""
    named = {setting_of(name): value for name, value in given.items()}
    config, assignments = given.get("config"), given.get("assignments")
    return TypedSettings(
        values={key: value for key, value in named.items() if key is not None and value not in (None, ())},
        config=config if isinstance(config, Path) else None,
        assignments=tuple(assignments) if isinstance(assignments, list) else (),
    )


def field_of(setting: str) -> FieldInfo:
    """The definition of a setting."""
    *sections, name = setting.split(".")
    fields: dict[str, FieldInfo] = MoeConfig.model_fields
    for section in sections:
        fields = cast("type[BaseModel]", fields[section].annotation).model_fields
    return fields[name]


def _parameter(name: str, annotation: object, default: object) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _is_of_run(parameter: inspect.Parameter) -> bool:
    """Whether an option is about the run as a whole; such options stand last."""
    return any(getattr(part, "rich_help_panel", None) == RUN for part in get_args(parameter.annotation))


def _kind(field: FieldInfo) -> type:
    """The type that typer reads: a text where people may write more than the type, such as `5%`."""
    annotation = _given(field.annotation)
    if get_origin(annotation) is tuple:
        return list[str]
    if isinstance(annotation, type) and not any(isinstance(one, BeforeValidator) for one in field.metadata):
        return annotation
    return str


def _given(annotation: object) -> object:
    """The type of a value that is not None, without its bounds."""
    if get_origin(annotation) is Annotated:
        return _given(get_args(annotation)[0])
    parts = get_args(annotation)
    return _given(next(part for part in parts if part is not NoneType)) if NoneType in parts else annotation


def _help(field: FieldInfo) -> str:
    """The meaning of a setting as a sentence, its default, and the words that it can be."""
    meaning = field.description or ""
    sentences = [f"{meaning[:1].upper()}{meaning[1:]}{_default(field.default)}."]
    annotation = _given(field.annotation)
    if choices := list(_words(annotation)):
        sentences.append(f"One of: {', '.join(choices)}.")
    if get_origin(annotation) is tuple:
        sentences.append("Repeatable.")
    return " ".join(sentences)


def _words(annotation: object) -> Iterator[str]:
    if get_origin(annotation) is Literal:
        yield from get_args(annotation)
    elif get_origin(annotation) is tuple:
        yield from _words(get_args(annotation)[0])


def _default(value: object) -> str:
    if value in (None, ()) or isinstance(value, bool):
        return ""
    if isinstance(value, tuple):
        return f" ({', '.join(f'{one:g}' if isinstance(one, float) else str(one) for one in value)})"
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return f" ({text})" if len(text) <= LONGEST_DEFAULT else ""
