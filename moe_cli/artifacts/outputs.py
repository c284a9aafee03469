"""A directory or a file that a command makes beside any run, such as an export: new, whole, and by one process alone.

The place is locked for as long as it is made. What is made has a name of its own until it is whole, and takes its place
only where nothing is: nothing is ever replaced, by whomever it was put there in between.
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

from moe_cli import signals
from moe_cli.artifacts.files import is_there, remove, sync_to_disk
from moe_cli.artifacts.locks import hold_lock_file
from moe_cli.errors import ArtifactError, EnvironmentFaultError, LockedError, UsageError

TAKEN = (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR, errno.EISDIR)
NO_HARD_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS)
HINT = "choose another place with --output-dir"


@contextmanager
def new_directory(path: Path) -> Iterator[Path]:
    """A staging directory that becomes `path` when the block ends well.

    Raises:
        UsageError: `path` is there.
        ArtifactError: it came in between.
        LockedError: another process makes it.
    """
    with _staged(path, os.rename) as staging:  # fails onto a directory that is not empty
        staging.mkdir()
        yield staging


@contextmanager
def new_file(path: Path, *, hint: str = HINT) -> Iterator[Path]:
    """A temporary path that becomes the file `path` when the block ends well. Raises as `new_directory`."""
    with _staged(path, _publish_file, hint) as temporary:
        yield temporary


def refuse_unwritable(path: Path) -> None:
    """Refuse, before any work, a place where no file could be written, or where another thing than a file is.

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
    if os.path.lexists(path):
        _tidy(path)
        raise UsageError(f"{path} exists", hint=hint)
    made = [place for place in path.parents if not place.exists()]
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
            made = []
    finally:
        remove(staging)
        for place in made:
            with suppress(OSError):  # another process has begun beside this one
                place.rmdir()


def _publish_file(temporary: Path, path: Path) -> None:
    """Rename, where nothing is there: a hard link is never made over a file."""
    try:
        os.link(temporary, path)
    except OSError as error:
        if error.errno not in NO_HARD_LINKS:
            raise
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
        temporary.rename(path)


def _tidy(path: Path) -> None:
    """Remove what a process has left that was killed when `path` was whole."""
    lock = path.with_name(f".{path.name}.lock")
    if lock.exists():
        with suppress(LockedError), hold_lock_file(lock, path, hint=""):
            _drop_left_over(path)


def _drop_left_over(path: Path) -> None:
    """Remove what a killed process left; nobody else works here while the lock is held."""
    name = re.compile(rf"\.{re.escape(path.name)}(\.[0-9a-f]{{8}})?\.partial")
    for entry in path.parent.iterdir():
        if name.fullmatch(entry.name):
            remove(entry)
