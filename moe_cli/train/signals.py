"""Stop at the end of a step, with a checkpoint.

Comes in: SIGINT, SIGTERM or SIGUSR1. Goes out: a flag the training loop looks at after every step. Always holds: the
first signal lets the step finish and saves a state; a second SIGINT interrupts at once; the old handlers come back.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from moe_cli.artifacts.interruption import SCHEDULER_SIGNALS

STOPPING = (signal.SIGINT, *SCHEDULER_SIGNALS)


class StopRequest:
    """Whether somebody asked to stop."""

    def __init__(self) -> None:
        self.signal_name: str | None = None

    def __bool__(self) -> bool:
        return self.signal_name is not None


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Turn stopping signals into a request while the block runs; outside the main thread nothing is changed."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def note(number: int, frame: FrameType | None) -> None:
        if request and number == signal.SIGINT:
            raise KeyboardInterrupt
        request.signal_name = signal.Signals(number).name

    previous = {number: signal.signal(number, note) for number in STOPPING}
    try:
        yield request
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def stay_when_asked_to_stop(worker: int) -> None:
    """In a process that hands out batches: a signal to the whole group must not end it before the step has ended."""
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)
