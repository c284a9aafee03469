"""The step in progress: what is measured in it, by all processes and by turn, and a request to stop at its end.

The first signal (SIGINT, SIGTERM, SIGUSR1, SIGHUP) sets a flag that the training loop looks at after every step: the
step is finished and a state saved. A second SIGINT interrupts at once. The old handlers come back.

The loss by turn (whether an answer is the first of its conversation, the second, ...) is the loss that trains, row by
row, and nothing is learnt from it. Sums are exact, so they do not depend on the order of the rows or on the number of
processes.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import FrameType
from typing import TypeVar

from torch import Tensor

from moe_cli.model.token_rows import num_answer_tokens
from moe_cli.records import StepRecord, TurnLoss
from moe_cli.records.training import Phase
from moe_cli.signals import ALL_SIGNALS, handled_by
from moe_cli.train.dataset import TURNS

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


def row_losses_of(forwards: Sequence[tuple[Mapping[str, Tensor], Tensor]]) -> list[RowLoss]:
    """The losses of the rows of some forwards, each with the losses [B] of its rows."""
    return [
        RowLoss(turn, num_answer_tokens(labels_S[None]), loss)
        for inputs, losses_B in forwards
        for turn, labels_S, loss in zip(inputs[TURNS].tolist(), inputs["labels"], losses_B.tolist(), strict=True)
    ]


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

    def record_of(
        self, number: int, epoch: float, *, num_experts_updated: int | None, phase: Phase | None
    ) -> StepRecord:
        """The record of the step, which ends now."""
        return StepRecord(
            step=number,
            epoch=epoch,
            batches=tuple(self.batches),
            loss=self.loss,
            grad_norm=self.grad_norm,
            learning_rate=self.learning_rate,
            num_answer_tokens=self.num_answer_tokens,
            num_tokens=self.num_tokens,
            num_padded_tokens=self.num_padded_tokens,
            num_experts_updated=num_experts_updated,
            seconds=time.monotonic() - self.started,
            gradient_bytes=self.gradient_bytes,
            phase=phase,
            turns=turn_losses(self.rows),
            consistency=finite_sum(self.consistency) if self.consistency else None,
        )

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


def turn_losses(rows_of_batches: Sequence[Sequence[RowLoss]]) -> tuple[TurnLoss, ...]:
    """The losses of the rows of a step by turn; empty where none is measured row by row."""
    rows = [row for batch in rows_of_batches for row in batch]
    turns = sorted({row.turn for row in rows})
    return tuple(_turn_loss(turn, [row for row in rows if row.turn == turn]) for turn in turns)


def _turn_loss(turn: int, rows: Sequence[RowLoss]) -> TurnLoss:
    num_answer_tokens = sum(row.num_answer_tokens for row in rows)
    loss = finite_sum([row.loss for row in rows]) / num_answer_tokens
    return TurnLoss(turn=turn, num_rows=len(rows), num_answer_tokens=num_answer_tokens, loss=loss)
