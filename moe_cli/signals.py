"""The signals that stop a command, from the first line that the program runs to its last.

Before a command works, a signal ends the program at once, as nothing is there to lose; while it works, a signal is an
interruption, as Ctrl-C is; once its result is being published, and when it is over, nothing is left to stop, and a
signal changes neither the result nor the exit code. Imports nothing that takes time.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Literal

from moe_cli.errors import InterruptedRunError, MoeError, StoppedError

Handler = Callable[[int, FrameType | None], None]

# By which schedulers and closed terminals stop a program, as there are.
STOP_SIGNALS = tuple(sign for sign in signal.Signals if sign.name in ("SIGTERM", "SIGUSR1", "SIGHUP"))
ALL_SIGNALS = (signal.SIGINT, *STOP_SIGNALS)
IGNORED_AT_WILL = ("SIGHUP", "SIGINT")  # by nohup, and by a shell for what runs in the background

_command: Literal["to come", "at work", "published", "over"] = "to come"  # of this process; a signal meets only one


def listen() -> None:
    """From here on no signal ends the program without a word; only the program itself calls it."""
    if threading.current_thread() is threading.main_thread():
        for number in _asked(ALL_SIGNALS):
            signal.signal(number, _outside)


def stay_deaf() -> None:
    """Nothing is left to stop, not even where the interpreter ends and takes its handlers away."""
    for number in ALL_SIGNALS:
        if signal.getsignal(number) is _outside:
            signal.signal(number, signal.SIG_IGN)


@contextmanager
def working_command() -> Iterator[None]:
    """Inside the block a command works: every signal that stops a program is an interruption."""
    global _command  # noqa: PLW0603
    with handled_by(_interrupt, *ALL_SIGNALS):
        _command = "at work"
        try:
            yield
        finally:
            _command = "over"


def publish() -> None:
    """What the command made is published now: it ends as if no signal came any more."""
    global _command  # noqa: PLW0603
    if _command == "at work":
        _command = "published"


@contextmanager
def stop_signals_interrupt() -> Iterator[None]:
    """Inside the block every signal that stops a program is an interruption, as Ctrl-C is."""
    with handled_by(_interrupt, *STOP_SIGNALS):
        yield


@contextmanager
def handled_by(handler: Handler, *numbers: signal.Signals) -> Iterator[None]:
    """Inside the block these signals have this handler; outside the main thread nothing is changed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.getsignal(number) for number in _asked(numbers)}
    try:
        for number in previous:
            signal.signal(number, handler)
        yield
    finally:
        for number, former in previous.items():
            signal.signal(number, former)


def interruption(*, resuming: bool) -> MoeError:
    """What a signal means where no stage kept anything; a run that goes on had something before."""
    if resuming:
        return StoppedError(
            "interrupted before the work began; what was kept is still there",
            hint="run the same command with --resume to go on",
        )
    return InterruptedRunError("interrupted; there is nothing to resume from", hint="run the command again")


def _asked(numbers: tuple[signal.Signals, ...]) -> list[signal.Signals]:
    return [n for n in numbers if not (n.name in IGNORED_AT_WILL and signal.getsignal(n) is signal.SIG_IGN)]


def _interrupt(number: int, frame: FrameType | None) -> None:
    if _command != "published":
        raise KeyboardInterrupt


def _outside(number: int, frame: FrameType | None) -> None:
    """Of a signal before the command or after it; an exception would be lost, or change, in a half imported library."""
    if _command == "to come":
        error = interruption(resuming="--resume" in sys.argv)
        os.write(2, f"error: {error.message}\nhint: {error.hint}\n".encode())
        os._exit(int(error.exit_code))
