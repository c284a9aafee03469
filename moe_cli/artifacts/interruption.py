"""What an interruption of long work means: exit 75 where `--resume` goes on, 130 where there is nothing to go on from.

Comes in: Ctrl-C, or the signals by which schedulers stop a job. Goes out: the error that says what was kept. Always
holds: outside the main thread no handler is touched; the old handlers come back.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from moe_cli.errors import StoppedError

SCHEDULER_SIGNALS = tuple(sign for sign in signal.Signals if sign.name in ("SIGTERM", "SIGUSR1"))  # as there are


@contextmanager
def resumable(run: Path, kept: str) -> Iterator[None]:
    """Inside the block an interruption says that `--resume` goes on, if anything in `run` matches the pattern `kept`.

    Raises:
        StoppedError: interrupted, and there is something to go on from.
        KeyboardInterrupt: interrupted, and there is not.
    """
    try:
        with _stopping_signals_interrupt():
            yield
    except KeyboardInterrupt as interrupt:
        if not any(path.is_dir() or path.stat().st_size for path in run.glob(kept)):
            raise
        raise StoppedError(
            f"interrupted; the work so far is kept in {run}",
            hint="run the same command with --resume to go on",
        ) from interrupt


@contextmanager
def _stopping_signals_interrupt() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.signal(number, _interrupt) for number in SCHEDULER_SIGNALS}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
