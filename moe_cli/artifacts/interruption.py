"""What an interruption of long work means: exit 75 where `--resume` goes on, 130 where there is nothing to go on from.

Comes in: Ctrl-C, or the signals by which schedulers stop a job. Goes out: the error that says what was kept. Always
holds: outside the main thread no handler is touched; the old handlers come back.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from moe_cli.errors import StoppedError

# By which schedulers and closed terminals stop a program, as there are.
STOP_SIGNALS = tuple(sign for sign in signal.Signals if sign.name in ("SIGTERM", "SIGUSR1", "SIGHUP"))
IGNORED_AT_WILL, IGNORED = "SIGHUP", signal.SIG_IGN  # by nohup


@contextmanager
def resumable(run: Path, kept: str) -> Iterator[None]:
    """Inside the block an interruption says that `--resume` goes on, if anything in `run` matches the pattern `kept`.

    Raises:
        StoppedError: interrupted, and there is something to go on from.
        KeyboardInterrupt: interrupted, and there is not.
    """
    try:
        with stop_signals_interrupt():
            yield
    except KeyboardInterrupt as interrupt:
        if not any(path.is_dir() or path.stat().st_size for path in run.glob(kept)):
            raise
        raise StoppedError(
            f"interrupted; the work so far is kept in {run}",
            hint="run the same command with --resume to go on",
        ) from interrupt


@contextmanager
def deferred_interruption() -> Iterator[threading.Event]:
    """Inside the block a first interruption only sets the event; whoever waits there looks at it and ends the work.

    A second one interrupts at once. Outside the main thread nothing is changed.
    """
    interrupted = threading.Event()

    def note(number: int, frame: FrameType | None) -> None:
        if interrupted.is_set():
            raise KeyboardInterrupt
        interrupted.set()

    with handled_by(note, signal.SIGINT, *STOP_SIGNALS):
        yield interrupted


@contextmanager
def stop_signals_interrupt() -> Iterator[None]:
    """Inside the block every signal that stops a program is an interruption, as Ctrl-C is."""
    with handled_by(_interrupt, *STOP_SIGNALS):
        yield


@contextmanager
def handled_by(handler: Callable[[int, FrameType | None], None], *numbers: signal.Signals) -> Iterator[None]:
    """Inside the block these signals have this handler; outside the main thread nothing is changed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ignored = [number for number in numbers if number.name == IGNORED_AT_WILL and signal.getsignal(number) is IGNORED]
    asked = [number for number in numbers if number not in ignored]
    previous = {number: signal.signal(number, handler) for number in asked}
    try:
        yield
    finally:
        for number, former in previous.items():
            signal.signal(number, former)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
