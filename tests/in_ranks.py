"""Runs a function in several processes that work together, as torchrun does, without the imports of each.

The processes come from a fork server that has imported torch and moe; every one has an environment of its own. A
process that does not end in time is killed, and that is a failure: no wait of the program may be without a limit.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from unittest.mock import patch

from torch.distributed import TCPStore

from moe_cli import rounds
from moe_cli.artifacts import layout
from moe_cli.cli.child_commands import PRELOADED
from moe_cli.errors import MoeError
from moe_cli.ranks import this_rank

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(PRELOADED)
LIMIT = 120.0  # seconds
WAIT = 60.0  # seconds that a process waits for the others
STORES: deque[TCPStore] = deque(maxlen=4)  # through which the processes meet, as in torchrun outside of them


@dataclass(frozen=True)
class Ended:
    """What processes ended with."""

    codes: list[int]  # in the order of the processes; negative where a signal killed one
    said: str  # on stderr, by all together


def run_in_ranks(
    total: int, action: Callable[..., None], *args: object, limit: float = LIMIT, wait: float = WAIT
) -> Ended:
    """Let `total` processes call `action`, each with its place among them in the environment."""
    with tempfile.TemporaryDirectory() as directory:
        said = Path(directory) / "stderr"
        processes = start_in_ranks(total, said, wait, action, *args)
        return Ended(exit_codes(processes, limit=limit), said.read_text())


def start_in_ranks(
    total: int, stderr: Path, wait: float, action: Callable[..., None], *args: object
) -> list[BaseProcess]:
    """Start `total` processes that each call `action` and write what they say into `stderr`."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    STORES.append(store)
    processes = [
        CONTEXT.Process(target=_act, args=((index, total, store.port), stderr, wait, action, args))
        for index in range(total)
    ]
    for process in processes:
        process.start()
    return list(processes)


def exit_codes(processes: list[BaseProcess], *, limit: float = LIMIT) -> list[int]:
    """Wait for the processes; their exit codes, negative where a signal killed one.

    Raises:
        AssertionError: one did not end in time.
    """
    end = time.monotonic() + limit
    for process in processes:
        process.join(max(0.0, end - time.monotonic()))
    hanging = [index for index, process in enumerate(processes) if process.is_alive()]
    for process in processes:
        process.kill()
        process.join()
    if hanging:
        raise AssertionError(f"the processes {hanging} did not end within {limit} s")
    return [int(process.exitcode or 0) for process in processes]


def _act(
    place: tuple[int, int, int],
    stderr: Path,
    wait: float,
    action: Callable[..., None],
    args: tuple[object, ...],
) -> None:
    index, total, port = place
    sys.stderr.flush()
    os.fsync = lambda handle: None  # as in the other tests
    os.dup2(os.open(stderr, os.O_CREAT | os.O_WRONLY | os.O_APPEND), 2)
    os.environ |= {
        "RANK": str(index),
        "LOCAL_RANK": str(index),
        "WORLD_SIZE": str(total),
        "LOCAL_WORLD_SIZE": str(total),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
    }
    from moe_cli.cli.boundary import print_error
    from moe_cli.ranks import joined, peer_error

    try:
        with joined(wait):
            action(*args)
    except MoeError as error:
        print_error(error)
        sys.exit(int(error.exit_code))
    except RuntimeError as error:
        if (known := peer_error(error)) is None:
            raise
        print_error(known)
        sys.exit(int(known.exit_code))


def content_of(run: Path) -> dict[str, object]:
    """Every file of a run by its path, hidden ones included: its bytes, or a summary without times and directories.

    The manifest (times, ids, digests) and the settings (directories) are left out.
    """
    return {
        str(file.relative_to(run)): _content(file)
        for file in sorted(run.rglob("*"))
        if file.is_file() and file.name not in (layout.MANIFEST, layout.CONFIG)
    }


def _content(file: Path) -> object:
    if file.name != layout.PREPARE_SUMMARY:  # that of an evaluation has the same name
        return file.read_bytes()
    return json.loads(file.read_bytes(), object_hook=_without_times)


def _without_times(record: dict[str, object]) -> dict[str, object]:
    return {key: value for key, value in record.items() if not key.startswith("seconds") and key != "directory"}


@contextmanager
def acting_in_round(number: int, act: Callable[[], None], *, rank: int) -> Iterator[None]:
    """Inside the block one process acts when it has done its part of the round of this number, counted from 1."""
    honest, seen = rounds._own_part, []

    def own_part(items: Sequence[object], work: Callable[[object], object]) -> object:
        part = honest(items, work)
        seen.append(part)
        if len(seen) == number and this_rank().index == rank:
            act()
        return part

    with patch.object(rounds, "_own_part", own_part):
        yield
