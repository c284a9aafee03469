"""Locks with one writer per directory, and outputs that appear whole or not at all.

Exactly one process holds the lock of a run directory; the system frees it when the process ends, so a killed run leaves
no lock behind.

The target of an output is locked while it is made. It has a temporary name until it is whole, and is renamed only if
nothing has the final name: nothing is ever replaced, whoever put it there in the meantime.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile

from filelock import FileLock, Timeout

from moe_cli import signals
from moe_cli.artifacts.files import is_there, remove, sync_to_disk
from moe_cli.artifacts.layout import LOCK
from moe_cli.errors import ArtifactError, EnvironmentFaultError, LockedError, UsageError

NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
TAKEN = (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR, errno.EISDIR)
NO_HARD_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS)
HINT = "choose another place with --output-dir"


def is_locked(path: Path) -> bool:
    """Whether a run is currently being written there."""
    try:
        with hold_lock(path, hint=""):
            return False
    except LockedError:
        return True


@contextmanager
def hold_lock(path: Path, *, hint: str) -> Iterator[None]:
    """Hold the lock of a directory until the block ends; `hint` says what to do if another run holds it.

    Raises:
        LockedError: another run holds it, in this process or in another one.
        EnvironmentFaultError: the file system has no locks.
        ArtifactError: the lock file is a link, whose target would be created.
    """
    with hold_lock_file(path / LOCK, path, hint=hint):
        yield


@contextmanager
def hold_lock_file(file: Path, path: Path, *, hint: str) -> Iterator[None]:
    """Like `hold_lock`, with a lock file of any name, for an output that becomes `path`."""
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


@contextmanager
def new_directory(path: Path) -> Iterator[Path]:
    """A staging directory, renamed to `path` when the block succeeds.

    Raises:
        UsageError: `path` exists.
        ArtifactError: it was created in the meantime.
        LockedError: another process is creating it.
    """
    with _staged(path, os.rename) as staging:  # fails onto a directory that is not empty
        staging.mkdir()
        yield staging


@contextmanager
def new_file(path: Path, *, hint: str = HINT) -> Iterator[Path]:
    """A temporary path, renamed to the file `path` when the block succeeds. Raises as `new_directory`."""
    with _staged(path, _publish_file, hint) as temporary:
        yield temporary


def refuse_unwritable(path: Path) -> None:
    """Refuse, before any work, a path where no file can be written, or where something else than a file is.

    Raises:
        UsageError: a directory, a link, a pipe or a device is there, which a file would replace.
        EnvironmentFaultError: nothing can be written there.
    """
    if is_there(path) and (path.is_symlink() or not path.is_file()):
        raise UsageError(f"{path} is no regular file, and is not replaced by one", hint="name the file to write")
    there = next(place for place in path.absolute().parents if is_there(place))
    try:
        with TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise EnvironmentFaultError(
            f"{path} cannot be written: {error.strerror}", hint="name another file to write"
        ) from error


@contextmanager
def _staged(path: Path, publish: Callable[[Path, Path], None], hint: str = HINT) -> Iterator[Path]:
    refuse_existing(path, hint=hint)
    created = [parent for parent in path.parents if not parent.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        with hold_lock_file(path.with_name(f".{path.name}.lock"), path, hint=f"wait for it, or {hint}"):
            if os.path.lexists(path):
                raise UsageError(f"{path} exists", hint=hint)
            _drop_left_over(path)
            yield staging
            sync_to_disk(staging)
            signals.publish()
            try:
                publish(staging, path)
            except OSError as error:
                if error.errno not in TAKEN:
                    raise
                raise ArtifactError(f"{path} came to be while it was made; it is left as it is", hint=hint) from error
            created = []
    finally:
        remove(staging)
        for parent in created:
            with suppress(OSError):  # another process has begun beside this one
                parent.rmdir()


def _publish_file(temporary: Path, path: Path) -> None:
    """Rename without overwriting: a hard link cannot replace a file."""
    try:
        os.link(temporary, path)
    except OSError as error:
        if error.errno not in NO_HARD_LINKS:
            raise
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
        temporary.rename(path)


def refuse_existing(path: Path, *, hint: str) -> None:
    """Refuse an output that is there, and remove the leftovers of a process that was killed when it was whole.

    Raises:
        UsageError: `path` is there.
    """
    if not os.path.lexists(path):
        return
    lock = path.with_name(f".{path.name}.lock")
    if lock.exists() or _left_over(path):
        with suppress(LockedError), hold_lock_file(lock, path, hint=""):
            _drop_left_over(path)
    raise UsageError(f"{path} exists", hint=hint)


def _drop_left_over(path: Path) -> None:
    """Remove the leftovers of a killed process; nobody else works here while the lock is held."""
    for entry in _left_over(path):
        remove(entry)


def _left_over(path: Path) -> list[Path]:
    name = re.compile(rf"\.{re.escape(path.name)}(\.[0-9a-f]{{8}})?\.partial")
    return [entry for entry in path.parent.iterdir() if name.fullmatch(entry.name)]
