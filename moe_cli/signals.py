"""The signals that stop a command, from the first line of the program to the last.

Before a command works, a signal ends the program at once, as there is nothing to lose. While it works, a signal is an
interruption, as Ctrl-C is. When its result is being published, and afterwards, nothing is left to stop, and a signal
changes neither the result nor the exit code. This file imports nothing slow.
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
    """Install handlers so that no signal ends the program silently; called only by the program itself."""
    if threading.current_thread() is threading.main_thread():
        for number in _asked(ALL_SIGNALS):
            signal.signal(number, _outside)


def stay_deaf() -> None:
    """Ignore signals for good, even while the interpreter shuts down and removes its handlers."""
    for number in ALL_SIGNALS:
        if signal.getsignal(number) is _outside:
            signal.signal(number, signal.SIG_IGN)


@contextmanager
def working_command() -> Iterator[None]:
    """Inside the block a command works, and every stop signal is an interruption."""
    global _command  # noqa: PLW0603
    with handled_by(_interrupt, *ALL_SIGNALS):
        _command = "at work"
        try:
            yield
        finally:
            _command = "over"


def publish() -> None:
    """Ignore signals from now on: the command is publishing its result."""
    global _command  # noqa: PLW0603
    if _command == "at work":
        _command = "published"


@contextmanager
def stop_signals_interrupt() -> Iterator[None]:
    """Inside the block every stop signal is an interruption, like Ctrl-C."""
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


@contextmanager
def deferred_interruption() -> Iterator[threading.Event]:
    """Inside the block a first interruption only sets the event, which the working code checks to end in order.

    A second one interrupts at once. Outside the main thread nothing is changed.
    """
    interrupted = threading.Event()

    def note(number: int, frame: FrameType | None) -> None:
        if interrupted.is_set():
            raise KeyboardInterrupt
        interrupted.set()

    with handled_by(note, *ALL_SIGNALS):
        yield interrupted


def interruption(*, resuming: bool) -> MoeError:
    """The error for an interruption if no stage kept anything; a resumed run still has its earlier work."""
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
    """Handler for a signal before or after the command; an exception could be lost in a half imported library."""
    if _command == "to come":
        error = interruption(resuming="--resume" in sys.argv)
        os.write(2, f"error: {error.message}\nhint: {error.hint}\n".encode())
        os._exit(int(error.exit_code))
