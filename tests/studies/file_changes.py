"""Every change of a file or a name that a command makes, counted in its process before it happens."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.studies.commands import Step, run

NAMES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate"}

Before = Callable[[int, str, str], None]  # number of the change, its event, its path


def count_changes(directory: str, notes: str, before: Before) -> None:
    """From here on `before` is called before every change below the directory; what it raises, the change raises."""
    counted = os.open(f"{notes}/changes", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    done = 0

    def watch(event: str, args: tuple[object, ...]) -> None:
        nonlocal done
        if (path := _changed(event, args)) is not None and path.startswith(directory):
            done += 1
            before(done, event, path)
            os.write(counted, b".")

    sync = os.fsync

    def watched_sync(handle: int) -> None:
        watch("os.fsync", (handle,))
        sync(handle)

    os.fsync = watched_sync
    sys.addaudithook(watch)


def _changed(event: str, args: tuple[object, ...]) -> str | None:
    """The path that is changed; None for an event that changes nothing."""
    if event == "open":
        path, _, flags = args
        writes = isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        return _absolute(path) if writes else None
    if event == "os.fsync":
        return os.readlink(f"/proc/self/fd/{args[0]}")
    return _absolute(args[0]) if event in NAMES else None


def _absolute(path: object) -> str | None:
    return os.path.abspath(os.fsdecode(path)) if isinstance(path, str | bytes | os.PathLike) else None


@dataclass(frozen=True)
class Counted:
    """Nothing but the count, into a file that stays."""

    place: str

    def begin(self, directory: str, notes: str) -> None:
        """Watch the process."""
        count_changes(directory, self.place, _nothing)


def _nothing(number: int, event: str, path: str) -> None:
    """Let the change happen."""


def num_changes(step: Step) -> int:
    """How many changes the undisturbed command makes."""
    again, place = step.copy("counted"), step.copy("count")
    try:
        run(step.words, again, Counted(str(place)))
        return len(Path(place, "changes").read_bytes())
    finally:
        shutil.rmtree(again)
        shutil.rmtree(place)
