"""Work that waits for others, such as requests, several items at once in threads.

Results come in groups of as many as are ready, so that each group can be written at once. At most `BACKLOG` items per
thread are started and not yet taken by the caller. The first error stops the rest and is raised after the results that
came before it were returned; an interruption likewise. Leaving early does not wait: no new item is started, and the
threads end with the process.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from moe_cli.signals import deferred_interruption

Item = TypeVar("Item")
Result = TypeVar("Result")
Done = queue.SimpleQueue[Result | BaseException]

LOOK_UP = 0.2  # seconds after which a waiting main thread looks whether it was interrupted
BACKLOG = 2  # pieces of one thread that are begun, or done and not taken


def results_as_they_come(
    work: Callable[[Item], Result], items: Sequence[Item], *, num_threads: int
) -> Iterator[list[Result]]:
    """The results of `work(item)` for every item, in order of completion, in groups.

    Raises:
        KeyboardInterrupt: interrupted; the results so far were returned.
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
    """All results that are ready, at least one, and the error or interruption that ends the work."""
    group: list[Result] = []
    while not interrupted():
        try:
            result = done.get(timeout=0 if group else LOOK_UP)
        except queue.Empty:
            if group:
                return group, None
            continue
        if isinstance(result, BaseException):
            return group, result
        group.append(result)
    while not done.empty():
        if isinstance(result := done.get(), BaseException):
            return group, result
        group.append(result)
    return group, KeyboardInterrupt()
