"""One writer per directory.

Exactly one process holds the lock of a run directory; the system frees it when the process ends, so a killed run leaves
no lock behind.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from moe_cli.artifacts.layout import LOCK
from moe_cli.errors import ArtifactError, EnvironmentFaultError, LockedError

NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)


def is_locked(path: Path) -> bool:
    """Whether a run is being written there at this moment."""
    try:
        with hold_lock(path, hint=""):
            return False
    except LockedError:
        return True


@contextmanager
def hold_lock(path: Path, *, hint: str) -> Iterator[None]:
    """Hold the lock of a directory until the block ends; `hint` says what to do where another run holds it.

    Raises:
        LockedError: another run works there, in this process or in another one.
        EnvironmentFaultError: the file system has no locks.
        ArtifactError: the lock is a link, which would make a file where it points.
    """
    with hold_lock_file(path / LOCK, path, hint=hint):
        yield


@contextmanager
def hold_lock_file(file: Path, path: Path, *, hint: str) -> Iterator[None]:
    """As `locked`, by a lock file of any name for what becomes `path`."""
    if file.is_symlink():
        raise ArtifactError(f"{file} is a link, which no lock is", hint="remove it")
    # Without `fallback_to_soft`, as a soft lock outlives a killed process.
    lock = FileLock(file, thread_local=False, fallback_to_soft=False)
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        raise LockedError(f"another run is writing to {path}", hint=hint) from error
    except OSError as error:
        if error.errno not in NO_LOCKS and error.filename is not None:  # it is about the file, not about its lock
            raise
        raise EnvironmentFaultError(
            f"the file system of {path} gives no lock: {error.strerror or error}",
            hint="choose a directory on another file system",
        ) from error
    try:
        yield
    finally:
        if lock.is_locked:  # not in a forked child that leaves the block, too
            if os.name == "posix":  # elsewhere an open file stays, and filelock removes it
                file.unlink(missing_ok=True)  # before the release: nobody's lock is removed but our own
            lock.release()
