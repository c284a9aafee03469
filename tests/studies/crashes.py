"""SIGKILL before every file operation of every command; then the same command again.

    python -m tests.studies.crashes [--every 1] [--commands prepare,compare]

A command of the small experiment runs in a process of its own, which ends itself by SIGKILL before its k-th operation
that changes a file or a name (audit events of Python: files opened to be written, renamed or removed, directories made
or removed). The same command follows, with `--resume` where it has that, and must end with exit code 0, the files of
the undisturbed command, the same bytes in all that holds no time, and nothing hidden. A command without `--resume` that
was killed when all was written must end as the undisturbed command does that is typed twice. `--every 10` tries one
point in ten.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.studies.commands import COMMANDS, Step, differences, problem_of_second, run, steps
from tests.studies.file_changes import count_changes, num_changes


@dataclass(frozen=True)
class Kill:
    """SIGKILL before the change number `point`."""

    point: int

    def begin(self, directory: str, notes: str) -> None:
        """Watch the process."""
        count_changes(directory, notes, self.before)

    def before(self, number: int, event: str, path: str) -> None:
        """End the process at the point."""
        if number == self.point:
            os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class Crash:
    """One command that was killed, and what came of it."""

    command: str
    point: int  # of its file operations
    problem: str | None  # None: the same command ended as the undisturbed one


def crashes(directory: Path, commands: tuple[str, ...], every: int, first: int = 1) -> Iterator[Crash]:
    """Every `every`-th point of these commands, whose earlier ones run undisturbed."""
    for step in steps(directory, commands):
        for point in range(first, num_changes(step) + 1, every):
            yield Crash(step.name, point, _problem(step, point))


def _problem(step: Step, point: int) -> str | None:
    """What differs from the undisturbed command after a kill at this point and the same command again."""
    again = step.copy(point)
    try:
        killed = run(step.words, again, Kill(point))
        if killed.exit_code != -signal.SIGKILL:
            return f"was not killed, but ended with {killed.exit_code}"
        if not step.resumes and step.is_whole(again):
            return problem_of_second(step, again)
        done = run((*step.words, *step.resumes), again)
        if done.exit_code != 0:
            return f"the same command ended with {done.exit_code}: {done.error}"
        return next(differences(step.after, again), None)
    finally:
        shutil.rmtree(again)


def main() -> None:
    """Print every point that went wrong, and the counts of every command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--commands", default=",".join(COMMANDS))
    asked = parser.parse_args()
    commands = tuple(asked.commands.split(","))
    counts = dict.fromkeys(commands, 0)
    wrong = dict.fromkeys(commands, 0)
    with suppress(KeyboardInterrupt), tempfile.TemporaryDirectory() as place:  # the counts so far
        for crash in crashes(Path(place).resolve() / "experiment", commands, asked.every):
            counts[crash.command] += 1
            if crash.problem is not None:
                wrong[crash.command] += 1
                print(f"{crash.command}, before operation {crash.point}: {crash.problem}", flush=True)
    for name, number in counts.items():
        print(f"{name}: {number} kills, {wrong[name]} wrong")


if __name__ == "__main__":
    main()
