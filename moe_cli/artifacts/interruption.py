"""What an interruption of long work means: exit 75 where `--resume` goes on, 130 where there is nothing to go on from.

Comes in: Ctrl-C, or the signals by which schedulers stop a job. Goes out: the error that says what was kept. Always
holds: outside the main thread no handler is touched; the old handlers come back.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from moe_cli.errors import StoppedError
from moe_cli.signals import ALL_SIGNALS, handled_by, stop_signals_interrupt


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

    with handled_by(note, *ALL_SIGNALS):
        yield interrupted
