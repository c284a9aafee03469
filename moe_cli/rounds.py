"""How several processes share out work that is no training: in rounds, or to the first of them alone.

Batches are dealt out one to each process in a round, so that nobody waits longer than one batch takes, and what comes
of them is what one process would have made, in the same order. What cannot be shared, or is not worth it, the first
does alone, however long it takes. A process that is alone does the same work without any of this.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from typing import TypeVar

from moe_cli.errors import MoeError
from moe_cli.ranks import acting_alone, current_meeting, dealt, gathered, is_first, num_ranks, on_first, peer_gone
from moe_cli.signals import deferred_interruption

PULSE, DONE = "moe/pulse", "moe/done"  # in the store of the meeting, of the first while it works alone
BEAT = 0.2  # seconds

Value = TypeVar("Value")
Item = TypeVar("Item")

_times_alone = count()  # the same in every process


def in_rounds(items: Sequence[Item], work: Callable[[Item], Value]) -> Iterator[list[Value]]:
    """Deal the items out, one to each process in a round; yields what a round made, in the order of the items.

    The first process gets the values, the others get empty lists. A `MoeError` of one process is raised in all of them,
    and a signal to one of them interrupts all at the end of the round, as Ctrl-C interrupts one that is alone.
    """
    if num_ranks() == 1:
        yield from ([work(item)] for item in items)
        return
    with deferred_interruption() as interrupted:
        for start in range(0, len(items), num_ranks()):
            values, error = _own_part(dealt(items[start : start + num_ranks()]), work)
            shares = _gathered_on_first(values)
            ends = gathered((error, interrupted.is_set()))
            if (fault := next((fault for fault, _ in ends if fault is not None), None)) is not None:
                raise fault
            if any(stopped for _, stopped in ends):
                raise KeyboardInterrupt
            yield [value for share in shares for value in share]


def _own_part(items: Sequence[Item], work: Callable[[Item], Value]) -> tuple[list[Value], MoeError | None]:
    try:
        return [work(item) for item in items], None
    except MoeError as error:
        return [], error


def _gathered_on_first(value: Value) -> list[Value]:
    """What every process passes, in the order of the processes; nothing in all but the first."""
    import torch.distributed as dist

    values = [value] * num_ranks() if is_first() else None
    dist.gather_object(value, values, dst=0)
    return values or []


def alone(action: Callable[[], Value]) -> Value:
    """As `on_first`, for work that takes long: the others wait as long as the first shows that it lives.

    Inside `action` the first process is one of one, so nothing there waits for the others.

    Raises:
        MoeError: that of `action`, in every process.
        PeerError: the first has shown no sign of life for as long as anybody waits.
    """
    if num_ranks() == 1:
        return action()
    done = f"{DONE}/{next(_times_alone)}"
    if not is_first():
        _wait_for_first(done)
        return on_first(action)
    with _pulse():
        outcome = _outcome_of(action)
    current_meeting().store.set(done, "")
    return on_first(outcome)


def _outcome_of(action: Callable[[], Value]) -> Callable[[], Value]:
    """Run `action` alone; what gives its value, or raises its `MoeError`."""
    try:
        with acting_alone():
            value = action()
    except MoeError as error:
        fault = error

        def give() -> Value:
            raise fault

        return give
    return lambda: value


@contextmanager
def _pulse() -> Iterator[None]:
    """Inside the block a thread shows the others that this process lives."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(BEAT):
            current_meeting().store.add(PULSE, 1)

    heart = threading.Thread(target=beat, daemon=True)
    heart.start()
    try:
        yield
    finally:
        ended.set()
        heart.join()


def _wait_for_first(done: str) -> None:
    """Wait until the first process has set `done`.

    Raises:
        PeerError: it has shown no sign of life for as long as anybody waits.
    """
    pulse, end = -1, 0.0
    while not current_meeting().store.check([done]):
        if (now := current_meeting().store.add(PULSE, 0)) != pulse:
            pulse, end = now, time.monotonic() + current_meeting().seconds
        elif time.monotonic() > end:
            raise peer_gone()
        time.sleep(BEAT)
