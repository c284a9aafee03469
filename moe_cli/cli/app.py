"""The command tree and the entry point.

`moe --help` imports neither torch nor transformers. The underscore spellings of the original scripts
(`--model_name`) are accepted.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Annotated, cast

import typer
from typer.core import TyperCommand, TyperGroup

from moe_cli.characters import is_text
from moe_cli.cli import (
    ablate,
    bench,
    compare,
    config,
    demo,
    evaluate,
    export,
    label,
    launch,
    plan,
    prepare,
    runs,
    select,
    sweep,
    train,
)
from moe_cli.cli.boundary import SafeRecord, print_error, show_warning, survive_closed_pipes
from moe_cli.cli.options import MoeCommand
from moe_cli.errors import ExitCode, UsageError
from moe_cli.masking import keep_environment_secret
from moe_cli.ranks import num_ranks, take_place
from moe_cli.signals import stay_deaf
from moe_cli.version import __version__

WordsFault = typer.BadParameter.__bases__[0]  # every fault in the words typed; where it lies differs between typers

IN_FLOW = (
    *("prepare", "select", "train", "evaluate", "label", "compare", "ablate", "sweep", "export", "push"),
    *("plan", "launch", "bench", "runs", "config", "env", "demo"),
)
IN_SEVERAL_PROCESSES = ("prepare", "train", "evaluate", "ablate")


class Commands(TyperGroup):
    """The commands in the order of the experiment."""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        """Names of all commands."""
        return sorted(super().list_commands(ctx), key=IN_FLOW.index)


app = typer.Typer(
    name="moe",
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Find the experts through which a mixture-of-experts model does harm, repair only those, compare honestly.",
)
app.command("prepare")(prepare.prepare)
app.command("select")(select.select)
app.add_typer(train.app, name="train")
app.command("evaluate")(evaluate.evaluate)
app.command("label")(label.label)
app.command("compare", cls=compare.CompareCommand)(compare.compare)
app.command("ablate")(ablate.ablate)
app.command("sweep")(sweep.sweep)
app.command("export")(export.export)
app.command("push")(export.push)
app.command("plan")(plan.plan)
app.command("launch")(launch.launch)
app.command("bench")(bench.bench)
app.add_typer(runs.app, name="runs")
app.add_typer(config.app, name="config")
app.command("env")(config.env)
app.command("demo")(demo.demo)


def _refuse_doubled_options(commands: typer.Typer) -> None:
    """Let every command, also of a group, be a `MoeCommand`."""
    for command in commands.registered_commands:
        if not issubclass(command.cls or TyperCommand, MoeCommand):
            command.cls = MoeCommand
    for group in commands.registered_groups:
        if group.typer_instance is not None:
            _refuse_doubled_options(group.typer_instance)


_refuse_doubled_options(app)


def _print_version(asked: bool) -> None:
    if asked:
        print(f"moe {__version__}")
        raise typer.Exit


@app.callback()
def root(
    ctx: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """All commands share one config and one registry."""
    if num_ranks() > 1 and ctx.invoked_subcommand not in IN_SEVERAL_PROCESSES:
        raise UsageError(
            f"moe {ctx.invoked_subcommand} runs in one process, and torchrun started {num_ranks()}",
            hint=f"without torchrun: moe {ctx.invoked_subcommand}; {', '.join(IN_SEVERAL_PROCESSES)} can use it",
        )


def main() -> None:
    """Entry point of the console script."""
    survive_closed_pipes()
    keep_environment_secret(os.environ)
    logging.setLogRecordFactory(SafeRecord)
    if logging.lastResort is not None:  # of libraries without a handler of their own: no warning reaches a person
        logging.lastResort.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.showwarning = show_warning
        try:
            code = _run()
        finally:
            stay_deaf()
        sys.exit(code)


def _run() -> int:
    """The exit code of the command that was typed."""
    if fault := take_place() or _undecodable(sys.argv[1:]):
        print_error(fault)
        return int(fault.exit_code)
    try:
        return int(app(args=hyphenated(sys.argv[1:]), prog_name="moe", standalone_mode=False) or 0)
    except UsageError as error:  # of no command yet
        print_error(error)
        return int(error.exit_code)
    except Exception as error:
        if not isinstance(error, WordsFault):
            raise
        return _drawn(cast(typer.BadParameter, error))


def _undecodable(argv: Sequence[str]) -> UsageError | None:
    """The error about an argument whose bytes are not UTF-8; None if there is none."""
    word = next((word for word in argv if not is_text(word)), None)
    if word is None:
        return None
    return UsageError(f"the word {word} is not UTF-8, so no record can hold it", hint="name files in UTF-8")


def _drawn(error: typer.BadParameter) -> int:
    """Print a usage error and return its exit code; a command group without a command has shown its help."""
    where = error.ctx.command_path if error.ctx else "moe"
    if message := error.format_message():
        print_error(UsageError(message, hint=f"{where} --help shows how it is used"))
    return int(ExitCode.USAGE)


def hyphenated(argv: list[str]) -> list[str]:
    """`--model_name` as `--model-name`; values, and the words after `--`, are left alone."""
    end = argv.index("--") if "--" in argv else len(argv)
    return [_hyphenated(word) if word.startswith("--") else word for word in argv[:end]] + argv[end:]


def _hyphenated(word: str) -> str:
    name, equals, value = word.partition("=")
    return name.replace("_", "-") + equals + value
