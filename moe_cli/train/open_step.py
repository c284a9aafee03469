"""The step in progress: what is measured in it, by all processes together, and a request to stop at its end.

The first signal (SIGINT, SIGTERM, SIGUSR1, SIGHUP) sets a flag that the training loop looks at after every step: the
step is finished and a state saved. A second SIGINT interrupts at once. The old handlers come back.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import FrameType
from typing import TypeVar

from moe_cli.signals import ALL_SIGNALS, handled_by

Item = TypeVar("Item")


class StopRequest:
    """True once a stopping signal arrived; holds its name."""

    def __init__(self) -> None:
        self.signal_name: str | None = None

    def __bool__(self) -> bool:
        return self.signal_name is not None


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Turn stopping signals into a request while the block runs; does nothing outside the main thread."""
    request = StopRequest()

    def note(number: int, frame: FrameType | None) -> None:
        if request and number == signal.SIGINT:
            raise KeyboardInterrupt
        request.signal_name = signal.Signals(number).name

    with handled_by(note, *ALL_SIGNALS):
        yield request


def stay_when_asked_to_stop(worker: int) -> None:
    """Ignore stopping signals in a data loader worker.

    A signal to the whole process group must not end the worker before the step has ended.
    """
    for number in ALL_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def finite_sum(values: Sequence[float]) -> float:
    """The exact sum, whatever the order; NaN or infinity if a value is."""
    return math.fsum(values) if all(map(math.isfinite, values)) else sum(values)  # fsum refuses opposite infinities


@dataclass(frozen=True, slots=True)
class RowLoss:
    """The loss of one row."""

    turn: int  # of its answer in its conversation
    num_answer_tokens: int
    loss: float  # nats, summed over these tokens


@dataclass(slots=True)
class OpenStep:
    """Measurements of the step in progress."""

    started: float = field(default_factory=time.monotonic)
    batches: list[int] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)  # of each batch; they add up to the loss of the step
    consistency: list[float] = field(default_factory=list)  # of a joint step, of each forward; they add up to L_cons
    rows: list[list[RowLoss]] = field(default_factory=list)  # of each batch; empty where all answers are of one turn
    grad_norm: float = 0.0
    learning_rate: float = 0.0
    num_answer_tokens: int = 0
    num_tokens: int = 0
    num_padded_tokens: int = 0
    gradient_bytes: int = 0

    @property
    def loss(self) -> float:
        """Mean over the answer tokens of the step."""
        return finite_sum(self.losses)

    def joined(self, steps: Sequence[OpenStep]) -> OpenStep:
        """This step with what all processes measured, in the order in which one process would take the batches."""
        return replace(
            self,
            batches=_dealt_in_turn([step.batches for step in steps]),
            losses=_dealt_in_turn([step.losses for step in steps]),
            consistency=[value for step in steps for value in step.consistency],
            rows=_dealt_in_turn([step.rows for step in steps]),
            num_answer_tokens=sum(step.num_answer_tokens for step in steps),
            num_tokens=sum(step.num_tokens for step in steps),
            num_padded_tokens=sum(step.num_padded_tokens for step in steps),
        )


def _dealt_in_turn(shares: Sequence[Sequence[Item]]) -> list[Item]:
    """Items that were dealt to several processes, in their order before."""
    return [share[turn] for turn in range(max(map(len, shares))) for share in shares if turn < len(share)]
