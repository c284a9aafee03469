"""Progress of slow work: code begins an activity, and a listener may display it.

The code does not know who listens; without a listener an activity does nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

Item = TypeVar("Item")
Unit = Literal["", "bytes"]


@dataclass(slots=True, eq=False)
class Activity:
    """A piece of work in progress."""

    text: str  # "loading the model tiny"
    total: int | None = None  # 14000000000; None: nothing is counted
    unit: Unit = ""  # of `total` and `done`; "": plain numbers
    done: int = 0

    def advance(self, amount: int = 1) -> None:
        """Add the amount of work since the last call."""
        self.done += amount


class Listener(Protocol):
    """Receives the begin and end of activities."""

    def began(self, activity: Activity) -> None:
        """The activity has begun; its `done` is updated in place."""
        ...

    def ended(self, activity: Activity) -> None:
        """The activity has ended, successfully or not."""
        ...


class _State:
    listener: Listener | None = None
    innermost: Activity | None = None


@contextmanager
def listening_to(listener: Listener) -> Iterator[None]:
    """Report the activities inside the block to `listener`."""
    before, _State.listener = _State.listener, listener
    try:
        yield
    finally:
        _State.listener = before


@contextmanager
def begin_activity(text: str, *, total: int | None = None, unit: Unit = "") -> Iterator[Activity]:
    """Report an activity named `text` until the block ends."""
    begun, around, listener = Activity(text, total, unit), _State.innermost, _State.listener
    _State.innermost = begun
    if listener is not None:
        listener.began(begun)
    try:
        yield begun
    finally:
        _State.innermost = around
        if listener is not None:
            listener.ended(begun)


def count_items(items: Collection[Item], text: str) -> Iterator[Item]:
    """The items, counted one by one in the innermost activity without a count, else in a new one named `text`."""
    around = _State.innermost
    if around is not None and around.total is None:
        around.total = len(items)
        yield from _advancing(items, around)
    else:
        with begin_activity(text, total=len(items)) as begun:
            yield from _advancing(items, begun)


def _advancing(items: Collection[Item], counter: Activity) -> Iterator[Item]:
    for item in items:
        yield item
        counter.advance()
