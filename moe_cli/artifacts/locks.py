"""One writer per directory.

Comes in: a run directory. Goes out: its lock, held while the block runs. Always holds: exactly one process holds it; it
goes with the process, so a killed run leaves no lock behind.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from moe_cli.artifacts.layout import LOCK
from moe_cli.errors import LockedError


@contextmanager
def locked(path: Path, *, hint: str) -> Iterator[None]:
    """Hold the lock of a directory until the block ends; `hint` says what to do where another run holds it.

    Raises:
        LockedError: another process works there.
    """
    handle = _lock_handle(path, hint)
    try:
        yield
    finally:
        (path / LOCK).unlink(missing_ok=True)
        os.close(handle)


def _lock_handle(path: Path, hint: str) -> int:
    """An open file that holds the lock."""
    lock = path / LOCK
    handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise LockedError(f"another run is writing to {path}", hint=hint) from error
    if lock.exists() and os.path.samestat(os.fstat(handle), lock.stat()):
        return handle
    os.close(handle)  # a run that ended this moment removed the file: what was locked is not what others will open
    return _lock_handle(path, hint)
