"""`moe demo`: the whole experiment on the built-in tiny model, with the same commands that a person would type.

Every run is written into one directory. Each command runs in a process of its own, as many of them at once as there are
cores; what they print appears in the order of the list.
"""

from __future__ import annotations

import os
import shlex
import signal
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.resources import files
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from shutil import rmtree
from types import FrameType
from typing import Annotated

import typer

from moe_cli.cli.boundary import catch_errors
from moe_cli.cli.child_commands import import_libraries, pass_signal, start_command
from moe_cli.config import MoeConfig
from moe_cli.errors import ExitCode, UsageError
from moe_cli.ranks import num_cores
from moe_cli.signals import ALL_SIGNALS, handled_by
from moe_cli.views.console import stderr_console, stdout_console
from moe_cli.views.text import safe_text, seconds_text

SETTINGS = "moe.yaml"
COMPARISON = MoeConfig().compare.output_dir  # as `moe compare` names it where the settings say nothing
LOGS = ".output"  # of commands that run while another one has the terminal
ABLATION = MoeConfig().ablate.output_dir


@dataclass(frozen=True, slots=True)
class DemoCommand:
    """One command, and those whose output it reads."""

    argv: tuple[str, ...]
    after: tuple[int, ...] = ()  # indices into `COMMANDS`


COMMANDS = (
    DemoCommand(("prepare",)),
    DemoCommand(("train", "selective"), after=(0,)),
    DemoCommand(("train", "baseline"), after=(0,)),
    DemoCommand(("evaluate", "tiny")),
    DemoCommand(("evaluate", "selective"), after=(1,)),
    DemoCommand(("evaluate", "baseline"), after=(2,)),
    DemoCommand(("compare", "tiny", "baseline", "selective"), after=(3, 4, 5)),
    DemoCommand(("ablate", "prepared", "--limit", "10"), after=(0,)),
)


@catch_errors
def demo(
    output_dir: Annotated[Path, typer.Option("--output-dir", "-o", help="Directory to write to.")] = Path("demo"),
) -> None:
    """Run the whole experiment on the built-in tiny model: no network, no GPU, under a minute on two cores.

    Example: moe demo --output-dir demo
    """
    from moe_cli.artifacts import finished_run, layout
    from moe_cli.records import Ablation
    from moe_cli.views.ablated import verdict_sentence

    console = stdout_console()
    started = time.monotonic()
    directory = _new_directory(output_dir)
    settings = files("moe_cli.cli").joinpath("demo.yaml").read_text(encoding="utf-8")
    (directory / SETTINGS).write_text(settings, encoding="utf-8")
    console.print(safe_text(f"the experiment is written to {directory}; its settings, the same for both arms:"))
    print(settings)
    _DemoRun(directory, at_once=num_cores()).run()
    console.print(safe_text(f"done in {seconds_text(time.monotonic() - started)}; everything is in {directory}"))
    ablation = finished_run(directory / ABLATION, "ablation").record(layout.ABLATION, Ablation)
    console.print(safe_text(verdict_sentence(ablation)))
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


@dataclass(slots=True)
class _DemoRun:
    """The commands that run, and the exit codes of those that have ended."""

    directory: Path
    at_once: int
    running: dict[int, BaseProcess] = field(default_factory=dict)  # by index
    codes: dict[int, int] = field(default_factory=dict)
    stopping: bool = False

    def run(self) -> None:
        """Run all commands and show each in its turn; stop with the exit code of the first that fails."""
        from moe_cli.cli.session import OFFLINE, QUIET

        os.environ |= {**QUIET, **OFFLINE}  # which the libraries read when they are imported, before any child
        (self.directory / LOGS).mkdir()
        import_libraries()  # meanwhile a signal ends the demo at once, as nothing is lost
        with handled_by(self._pass_on, *ALL_SIGNALS):
            for shown in range(len(COMMANDS)):
                self._finish(shown)
                if self.stopping:
                    self._fail(shown)
        rmtree(self.directory / LOGS)

    def _finish(self, shown: int) -> None:
        """Show one command until it has ended; meanwhile begin others."""
        stdout_console().rule(_title(shown), style="")
        with ExitStack() as waiting:
            if shown in self.running:
                waiting.enter_context(stderr_console().status(_title(shown)))
            while shown not in self.codes and not (self.stopping and shown not in self.running):
                self._begin(shown)
                wait([process.sentinel for process in self.running.values()])
                self._collect()
        self._print_log(shown)

    def _begin(self, shown: int) -> None:
        """Begin what can run, in order; only the command that is shown has the terminal."""
        for index, command in enumerate(COMMANDS):
            is_new = index not in self.running and index not in self.codes
            is_ready = all(self.codes.get(earlier) == 0 for earlier in command.after)
            if is_new and is_ready and not self.stopping and len(self.running) < self.at_once:
                argv = [*command.argv, "--config", SETTINGS]
                log = None if index == shown else self._log(index).absolute()
                environment = {} if log is None else {"COLUMNS": str(stdout_console().width)}
                self.running[index] = start_command(argv, self.directory, environment=environment, log=log)
                if self.stopping:  # a signal came while this one was started
                    pass_signal(self.running[index], signal.SIGTERM)

    def _collect(self) -> None:
        """Note what has ended; a failure stops the others, which save a state if they can."""
        for index, process in list(self.running.items()):
            if process.exitcode is not None:
                process.join()
                self.codes[index] = self.running.pop(index).exitcode or 0
                if self.codes[index] and not self.stopping:
                    self._pass_on(signal.SIGTERM, None)

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        self.stopping = True  # they may be saving a state, and say themselves how to go on
        for process in list(self.running.values()):
            pass_signal(process, number)

    def _fail(self, shown: int) -> None:
        """Wait for the rest, print what was not shown of the commands that failed, and exit with the first's code."""
        while self.running:
            wait([process.sentinel for process in self.running.values()])
            self._collect()
        failed = {index: code for index, code in self.codes.items() if code}
        for index in sorted(failed.keys() - {shown}):
            stdout_console().rule(_title(index), style="")
            self._print_log(index)
        talk = stderr_console()
        for index in sorted(index for index, code in failed.items() if code == ExitCode.RESUMABLE):
            talk.print(safe_text(f"in {self.directory}: {_title(index)} --resume"), soft_wrap=True)
        for index, code in sorted(failed.items()):
            if code < 0:
                talk.print(safe_text(f"{_title(index)} was ended by {signal.Signals(-code).name}"), soft_wrap=True)
        first = next(iter(failed.values()), ExitCode.INTERRUPTED)
        raise typer.Exit(first if first > 0 else ExitCode.INTERRUPTED)

    def _log(self, index: int) -> Path:
        return self.directory / LOGS / f"{index}.txt"

    def _print_log(self, index: int) -> None:
        if (log := self._log(index)).is_file():
            typer.echo(log.read_text(encoding="utf-8", errors="replace"), nl=False)


def _title(index: int) -> str:
    return f"moe {shlex.join([*COMMANDS[index].argv, '--config', SETTINGS])}"
