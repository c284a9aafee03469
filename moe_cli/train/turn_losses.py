"""The loss by the turn of its conversation that an answer is, of a step and of a whole training. Pure.

It is the loss that trains, row by row, and nothing is learnt from it. Sums are exact, so they do not depend on the
order of the rows or on the number of processes.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from moe_cli.records import StepRecord, TurnLoss, TurnTraining
from moe_cli.train.open_step import RowLoss, finite_sum


def turn_losses(rows_of_batches: Sequence[Sequence[RowLoss]]) -> tuple[TurnLoss, ...]:
    """The losses of the rows of a step by turn; empty where none is measured row by row."""
    rows = [row for batch in rows_of_batches for row in batch]
    turns = sorted({row.turn for row in rows})
    return tuple(_turn_loss(turn, [row for row in rows if row.turn == turn]) for turn in turns)


def _turn_loss(turn: int, rows: Sequence[RowLoss]) -> TurnLoss:
    num_answer_tokens = sum(row.num_answer_tokens for row in rows)
    loss = finite_sum([row.loss for row in rows]) / num_answer_tokens
    return TurnLoss(turn=turn, num_rows=len(rows), num_answer_tokens=num_answer_tokens, loss=loss)


def turn_trainings(steps: Sequence[StepRecord]) -> tuple[TurnTraining, ...]:
    """How the loss on the answers fell by turn; empty unless there are steps and each has it by turn."""
    if not (steps and all(step.turns for step in steps)):
        return ()
    last = last_epoch(steps)
    first = _first_epoch(steps) if len(last) < len(steps) else []  # of a single epoch it would be the same
    turns = sorted({measured.turn for step in last for measured in step.turns})
    return tuple(_turn_training(turn, first, last) for turn in turns)


def _turn_training(turn: int, first: Sequence[StepRecord], last: Sequence[StepRecord]) -> TurnTraining:
    before, after = ([one for step in steps for one in step.turns if one.turn == turn] for steps in (first, last))
    return TurnTraining(
        turn=turn,
        num_rows=sum(measured.num_rows for measured in after),
        num_answer_tokens=sum(measured.num_answer_tokens for measured in after),
        first_loss=mean_loss(before) if before else None,
        final_loss=mean_loss(after),
    )


def _first_epoch(steps: Sequence[StepRecord]) -> list[StepRecord]:
    return [step for step in steps if step.epoch <= ceil(steps[0].epoch)]


def last_epoch(steps: Sequence[StepRecord]) -> list[StepRecord]:
    """The steps of the last epoch; there is one."""
    return [step for step in steps if step.epoch > steps[-1].epoch - 1]


def mean_loss(measured: Sequence[StepRecord] | Sequence[TurnLoss]) -> float:
    """Mean over all their answer tokens."""
    return sum(one.loss * one.num_answer_tokens for one in measured) / sum(one.num_answer_tokens for one in measured)
