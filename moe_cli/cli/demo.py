"""`moe demo`: the whole experiment on the built-in tiny model, with the same commands that a person would type.

Every run is written into one directory. Each command runs in a process of its own.
"""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from moe_cli.cli.boundary import catch_errors
from moe_cli.cli.child_commands import pass_signal, start_command
from moe_cli.config import MoeConfig
from moe_cli.errors import ExitCode, UsageError
from moe_cli.signals import ALL_SIGNALS, handled_by
from moe_cli.views.console import stderr_console, stdout_console
from moe_cli.views.text import safe_text, seconds_text

SETTINGS = "moe.yaml"
COMPARISON = MoeConfig().compare.output_dir  # as `moe compare` names it where the settings say nothing
COMMANDS = (
    ("prepare",),
    ("train", "selective"),
    ("train", "baseline"),
    ("evaluate", "tiny"),
    ("evaluate", "selective"),
    ("evaluate", "baseline"),
    ("compare", "tiny", "baseline", "selective"),
    ("ablate", "prepared", "--limit", "10"),
)
ABLATION = MoeConfig().ablate.output_dir


@catch_errors
def demo(
    output_dir: Annotated[Path, typer.Option("--output-dir", "-o", help="Directory to write to.")] = Path("demo"),
) -> None:
    """Run the whole experiment on the built-in tiny model: no network, no GPU, about a minute.

    Example: moe demo --output-dir demo
    """
    from moe_cli.artifacts import finished_run, layout
    from moe_cli.records import Ablation

    console = stdout_console()
    started = time.monotonic()
    directory = _new_directory(output_dir)
    settings = files("moe_cli.cli").joinpath("demo.yaml").read_text(encoding="utf-8")
    (directory / SETTINGS).write_text(settings, encoding="utf-8")
    console.print(safe_text(f"the experiment is written to {directory}; its settings, the same for both arms:"))
    print(settings)
    for command in COMMANDS:
        argv = [*command, "--config", SETTINGS]
        console.rule(safe_text(f"moe {shlex.join(argv)}"), style="")
        _run(argv, directory)
    console.print(safe_text(f"done in {seconds_text(time.monotonic() - started)}; everything is in {directory}"))
    ablation = finished_run(directory / ABLATION, "ablation").record(layout.ABLATION, Ablation)
    console.print(safe_text(f"the selected experts, taken away: {ablation.verdict}; {ablation.reason}"))
    report = directory / COMPARISON / layout.REPORT
    console.print(safe_text(f"the report, which opens with the conclusion of the comparison: {report}"), soft_wrap=True)
    console.print(safe_text(f"next: cd {directory} && moe runs list; README.md has the same steps for a real model"))


def _new_directory(wanted: Path) -> Path:
    """`wanted`, or with the first number that is free."""
    from moe_cli.artifacts import layout

    number, path = 1, wanted
    while (path / SETTINGS).exists():
        number += 1
        path = layout.beside(wanted, f"_{number}")
    hint = "choose another directory with --output-dir"
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise UsageError(f"{path} is no empty directory and no demo", hint=hint)
    try:
        (path / ".moe").mkdir(parents=True)  # a registry of its own
    except FileExistsError as error:
        raise UsageError(f"another demo has just begun in {path}", hint=hint) from error
    return path


def _run(argv: Sequence[str], directory: Path) -> None:
    """Run one command in a fresh process; stop with its exit code if it fails."""
    from moe_cli.cli.session import OFFLINE, QUIET

    os.environ |= {**QUIET, **OFFLINE}  # which the libraries read when they are imported, before any child
    child = start_command(argv, directory, environment={})

    def pass_on(number: int, frame: FrameType | None) -> None:
        pass_signal(child, number)  # it may be saving a state, and says itself how to go on

    with handled_by(pass_on, *ALL_SIGNALS):
        child.join()
    if child.exitcode == ExitCode.RESUMABLE:
        talk = stderr_console()
        talk.print(safe_text(f"in {directory}: moe {shlex.join(argv)} --resume"), soft_wrap=True)
    if child.exitcode:
        raise typer.Exit(child.exitcode)
