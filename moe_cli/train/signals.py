"""Stop at the end of a step, with a checkpoint.

The first signal (SIGINT, SIGTERM, SIGUSR1, SIGHUP) sets a flag that the training loop looks at after every step: the
step is finished and a state saved. A second SIGINT interrupts at once. The old handlers come back.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from moe_cli.signals import ALL_SIGNALS, handled_by


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

    def note(number: int, frame: FrameType | None) -> None:
        if request and number == signal.SIGINT:
            raise KeyboardInterrupt
        request.signal_name = signal.Signals(number).name

    with handled_by(note, *ALL_SIGNALS):
        yield request


def stay_when_asked_to_stop(worker: int) -> None:
    """In a process that hands out batches: a signal to the whole group must not end it before the step has ended."""
    for number in ALL_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
