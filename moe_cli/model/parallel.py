"""Work that waits for others, several pieces at once.

Results come in groups, as many as there are when they are asked for, so that each group can be written at once. At most
`BACKLOG` pieces a thread are begun and not yet taken by the caller. The first error stops the rest and is raised when
what came before it was handed out, and so is an interruption. Leaving early waits for nobody: no new piece is begun,
and the threads end with the process.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from moe_cli.artifacts.journal import deferred_interruption

Item = TypeVar("Item")
Result = TypeVar("Result")
Done = queue.SimpleQueue[Result | BaseException]

LOOK_UP = 0.2  # seconds after which a waiting main thread looks whether it was interrupted
BACKLOG = 2  # pieces of one thread that are begun, or done and not taken


def results_as_they_come(
    work: Callable[[Item], Result], items: Sequence[Item], *, num_threads: int
) -> Iterator[list[Result]]:
    """`work(item)` for every item, in the order in which they are done, in groups.

    Raises:
        KeyboardInterrupt: interrupted; the results that had come were handed out.
    """
    waiting: queue.SimpleQueue[Item] = queue.SimpleQueue()
    done: Done[Result] = queue.SimpleQueue()
    stopped, room = threading.Event(), threading.Semaphore(BACKLOG * num_threads)
    for item in items:
        waiting.put(item)

    def take() -> None:
        while room.acquire() and not stopped.is_set():
            try:
                item = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                done.put(work(item))
            except BaseException as error:  # crosses to the thread that asked
                stopped.set()
                done.put(error)

    for _ in range(min(num_threads, len(items))):
        threading.Thread(target=take, daemon=True).start()
    try:
        with deferred_interruption() as interruption:
            num_left = len(items)
            while num_left:
                group, error = _next_group(done, interruption.is_set)
                if error is not None:
                    stopped.set()
                if group:
                    yield group
                    room.release(len(group))
                if error is not None:
                    raise error
                num_left -= len(group)
    finally:
        stopped.set()
        room.release(num_threads)  # who waits for room sees that there is nothing to do


def _next_group(done: Done[Result], interrupted: Callable[[], bool]) -> tuple[list[Result], BaseException | None]:
    """At least one result, and all that are there; with them, what ends the work."""
    group: list[Result] = []
    while not interrupted():
        try:
            found = done.get(timeout=0 if group else LOOK_UP)
        except queue.Empty:
            if group:
                return group, None
            continue
        if isinstance(found, BaseException):
            return group, found
        group.append(found)
    while not done.empty():
        if isinstance(found := done.get(), BaseException):
            return group, found
        group.append(found)
    return group, KeyboardInterrupt()
