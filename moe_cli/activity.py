"""What takes long, told while it runs: a room begins an activity, and whoever listens may draw it.

A room does not know who listens; without a listener an activity does nothing.
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
    """Work that is going on."""

    text: str  # "loading the model tiny"
    total: int | None = None  # 14000000000; None: nothing is counted
    unit: Unit = ""  # of `total` and `done`; "": plain numbers
    done: int = 0

    def advance(self, amount: int = 1) -> None:
        """Count what was done since the last call."""
        self.done += amount


class Listener(Protocol):
    """Who is told of activities."""

    def began(self, activity: Activity) -> None:
        """It goes on from now on; its `done` changes by itself."""
        ...

    def ended(self, activity: Activity) -> None:
        """It is over, well or not."""
        ...


class _State:
    listener: Listener | None = None
    innermost: Activity | None = None


@contextmanager
def listening_to(listener: Listener) -> Iterator[None]:
    """Let `listener` be told of the activities inside the block."""
    before, _State.listener = _State.listener, listener
    try:
        yield
    finally:
        _State.listener = before


@contextmanager
def begin_activity(text: str, *, total: int | None = None, unit: Unit = "") -> Iterator[Activity]:
    """Tell that `text` is going on until the block ends."""
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
    """The items, counted one by one in the innermost activity that counts nothing yet, else in one named `text`."""
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
