"""Groups of processes that talk through gloo, each with one thread instead of two.

Both threads of a group write the name of what they did last into the same string of `ProcessGroupGloo`, without a
lock. Where two collectives end at once and the name is long ("ALLGATHER_COALESCED", by which shares are gathered), its
memory is given back twice, and the process dies at some later allocation: "malloc(): unaligned tcache chunk detected"
(torch 2.13; `python -m tests.studies.workarounds` says whether it still does). One thread works off what is asked for
in its order, which is the same in all processes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from torch._C._distributed_c10d import ProcessGroupGloo, Store

INTERFACES = "GLOO_SOCKET_IFNAME"  # names of network interfaces, as torch reads it
THREADS = 1


@contextmanager
def of_one_thread() -> Iterator[None]:
    """A block in which every group that begins with gloo gets one thread, also those that libraries begin."""
    from torch.distributed import ProcessGroupGloo

    begin: Any = ProcessGroupGloo.__init__

    def begin_with_one(group: ProcessGroupGloo, store: Store, rank: int, size: int, timeout: timedelta) -> None:
        options = cast("Any", ProcessGroupGloo)._Options()
        options._threads, options._timeout, options._devices = THREADS, timeout, _devices()
        begin(group, store, rank, size, options)

    ProcessGroupGloo.__init__ = begin_with_one  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        ProcessGroupGloo.__init__ = begin  # type: ignore[method-assign]


def _devices() -> list[ProcessGroupGloo.Device]:
    """Those that torch takes itself: of the interfaces named, or of the address that the host name stands for."""
    from torch.distributed import ProcessGroupGloo

    if not (names := os.environ.get(INTERFACES)):
        return [ProcessGroupGloo.create_default_device()]
    return [ProcessGroupGloo.create_device(interface=name) for name in names.removesuffix(",").split(",")]
