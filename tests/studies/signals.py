"""Signals at random times in every command; then what its exit code says is tried.

    python -m tests.studies.signals [--signals 20] [--seed 1] [--commands prepare,compare] [--fresh]

SIGINT, SIGTERM, SIGUSR1 or SIGHUP comes at a time drawn from the length of the undisturbed command (and a tenth of it
more). The command must end with 0, 75 or 130, by no default action and without a traceback. After 130 the same command,
after 0 and 75 the same command with `--resume` where it has that, must end with exit code 0 and the files and bytes of
the undisturbed command. `--fresh` starts a new interpreter for every disturbed command, so that signals come while it
imports its libraries, too; the time then counts from the first line that the interpreter runs.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from moe_cli.errors import ExitCode
from tests.studies.commands import COMMANDS, TRACEBACK, Done, Step, differences, run, start, steps

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
TRUE_CODES = (ExitCode.OK, ExitCode.RESUMABLE, ExitCode.INTERRUPTED)
BEGUN = "begun"
PROGRAM = f"open({BEGUN!r}, 'w').close(); import runpy; runpy.run_module('moe_cli', run_name='__main__')"


@dataclass(frozen=True)
class Stop:
    """One command that a signal met, and what came of it."""

    command: str
    number: signal.Signals
    seconds: float  # after its begin
    exit_code: int
    problem: str | None  # None: what the exit code says is so


Disturbed = Callable[[Step, Path, signal.Signals | None, float], Done]


def stops(
    directory: Path, commands: tuple[str, ...], num: int, draws: random.Random, *, fresh: bool = False
) -> Iterator[Stop]:
    """This many signals in each of these commands, every signal as often as the others."""
    disturbed: Disturbed = _new_interpreter if fresh else _forked
    for step in steps(directory, commands):
        length = _length(step, disturbed)
        for place in range(num):
            number = SIGNALS[place % len(SIGNALS)]
            yield _stop(step, number, draws.uniform(0, 1.1 * length), disturbed)


def _length(step: Step, disturbed: Disturbed) -> float:
    """Seconds of the undisturbed command."""
    again = step.copy("whole")
    begin = time.monotonic()
    disturbed(step, again, None, 0.0)
    shutil.rmtree(again)
    return time.monotonic() - begin


def _stop(step: Step, number: signal.Signals, seconds: float, disturbed: Disturbed) -> Stop:
    again = step.copy("again")
    try:
        done = disturbed(step, again, number, seconds)
        return Stop(step.name, number, seconds, done.exit_code, _problem(step, again, done))
    finally:
        shutil.rmtree(again)


def _problem(step: Step, again: Path, stopped: Done) -> str | None:
    """What is not so of what the exit code says."""
    if stopped.exit_code not in TRUE_CODES or TRACEBACK in stopped.text:
        return f"ended with {stopped.exit_code}: {stopped.error}"
    if stopped.exit_code == ExitCode.RESUMABLE and "--resume" not in stopped.text:
        return f"does not say how to go on: {stopped.error}"
    if stopped.exit_code != ExitCode.OK:
        more = step.resumes if stopped.exit_code == ExitCode.RESUMABLE else ()
        done = run((*step.words, *more), again)
        if done.exit_code != 0:
            return f"after {stopped.exit_code} the same command ended with {done.exit_code}: {done.error}"
    return next(differences(step.after, again), None)


def _forked(step: Step, directory: Path, number: signal.Signals | None, seconds: float) -> Done:
    """The command in a process that has its libraries."""
    running = start(step.words, directory)
    while not running.has_begun():
        time.sleep(0.001)
    running.process.join(seconds if number is not None else None)
    if number is not None and running.process.pid is not None and running.process.is_alive():
        os.kill(running.process.pid, number)
    return running.end()


def _new_interpreter(step: Step, directory: Path, number: signal.Signals | None, seconds: float) -> Done:
    """The command in an interpreter of its own."""
    words = [sys.executable, "-c", PROGRAM, *step.words, "--config", "moe.yaml"]
    process = subprocess.Popen(
        words, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    while not (directory / BEGUN).exists():
        time.sleep(0.001)
    (directory / BEGUN).unlink()
    try:
        text, _ = process.communicate(timeout=seconds if number is not None else None)
    except subprocess.TimeoutExpired:
        process.send_signal(number or signal.SIGTERM)
        text, _ = process.communicate()
    return Done(process.returncode, text)


def main() -> None:
    """Print every signal after which something is not so, and the counts of every command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--signals", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--commands", default=",".join(COMMANDS))
    parser.add_argument("--fresh", action="store_true")
    asked = parser.parse_args()
    commands = tuple(asked.commands.split(","))
    codes: dict[str, Counter[int]] = {name: Counter() for name in commands}
    wrong = dict.fromkeys(commands, 0)
    with suppress(KeyboardInterrupt), tempfile.TemporaryDirectory() as place:  # the counts so far
        draws = random.Random(asked.seed)
        experiment = Path(place).resolve() / "experiment"
        for stop in stops(experiment, commands, asked.signals, draws, fresh=asked.fresh):
            codes[stop.command][stop.exit_code] += 1
            if stop.problem is not None:
                wrong[stop.command] += 1
                print(f"{stop.command}, {stop.number.name} after {stop.seconds:.2f} s: {stop.problem}", flush=True)
    for name, found in codes.items():
        by_code = ", ".join(f"{number} times {code}" for code, number in sorted(found.items()))
        print(f"{name}: {found.total()} signals ({by_code}), {wrong[name]} wrong")


if __name__ == "__main__":
    main()
