"""Work that waits for others, several pieces at once.

Comes in: items and what to do with one. Goes out: results as they come. Always holds: the first error stops the rest
and is raised; leaving early, also by Ctrl-C, waits for nobody: no new piece is begun, and the threads end with the
process.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

LOOK_UP = 0.2  # seconds after which a waiting main thread sees a signal


def results_as_they_come(
    work: Callable[[Item], Result], items: Sequence[Item], *, num_threads: int
) -> Iterator[Result]:
    """`work(item)` for every item, in the order in which they are done."""
    waiting: queue.SimpleQueue[Item] = queue.SimpleQueue()
    done: queue.SimpleQueue[Result | BaseException] = queue.SimpleQueue()
    stopped = threading.Event()
    for item in items:
        waiting.put(item)

    def take() -> None:
        while not stopped.is_set():
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
        for _ in items:
            result = _next(done)
            if isinstance(result, BaseException):
                raise result
            yield result
    finally:
        stopped.set()


def _next(done: queue.SimpleQueue[Result | BaseException]) -> Result | BaseException:
    while True:
        try:
            return done.get(timeout=LOOK_UP)
        except queue.Empty:
            continue
