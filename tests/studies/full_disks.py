"""The disk is full at a write of a command; then there is space, and the same command is typed again.

    python -m tests.studies.full_disks [--every 1] [--rooms 8] [--sizes 8] [--commands prepare,compare]

Three ways, for every command of the small experiment:

* *writes*: from the k-th change of a file or a name on (files opened to be written, synced or renamed, directories
  made; `--every 10` tries one in ten) all fail with ENOSPC, but for removals. What is synced loses its last byte.
* *rooms*: the experiment lies on a file system in memory that has room for a part of what the command writes. Native
  writers meet this as it is. Only where the system lets it be mounted.
* *sizes*: no file may be larger than this (RLIMIT_FSIZE), for every size drawn from those of the command's files.

The command must end with exit code 4, the true reason and no traceback, or with 0 where it does without what failed.
The same command follows, with `--resume` where something was kept, and must end with exit code 0, the files and bytes
of the undisturbed command, and nothing left over. A command without `--resume` of which all was written must then end
as the undisturbed one that is typed twice.
"""

from __future__ import annotations

import argparse
import errno
import os
import resource
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from moe_cli.errors import ExitCode
from tests.studies.commands import (
    COMMANDS,
    TRACEBACK,
    Done,
    Fault,
    Step,
    differences,
    holds_interrupted_run,
    problem_of_second,
    run,
    steps,
)
from tests.studies.file_changes import count_changes, num_changes

NO_SPACE, TOO_LARGE = "no space left", "larger than the system allows"
REMOVALS = ("os.remove", "os.rmdir")
ROOM_FOR_WORDS = 8000  # bytes
PLENTY = 1 << 30  # bytes of a file system in memory that is not full


@dataclass(frozen=True)
class Full:
    """No space from the change number `point` on."""

    point: int

    def begin(self, directory: str, notes: str) -> None:
        """Watch the process."""
        count_changes(directory, notes, self.before)

    def before(self, number: int, event: str, path: str) -> None:
        """Fail as the system would; what was written last is lost."""
        if number < self.point or event in REMOVALS:
            return
        if event == "os.fsync" and os.path.isfile(path) and (size := os.path.getsize(path)):
            os.truncate(path, size - 1)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)


@dataclass(frozen=True)
class Limited:
    """No file may be larger than this."""

    num_bytes: int

    def begin(self, directory: str, notes: str) -> None:
        """Set the limit; Python ignores the signal by which the system would end the process."""
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.num_bytes, resource.RLIM_INFINITY))


@dataclass(frozen=True)
class Outcome:
    """One command that met a full disk, and what came of it."""

    command: str
    way: str  # "write 7", "room 1000 B"
    exit_code: int
    problem: str | None  # None: a true error, and the same command ended as the undisturbed one


def outcomes(
    directory: Path, commands: tuple[str, ...], *, every: int, first: int = 1, rooms: int = 0, sizes: int = 0
) -> Iterator[Outcome]:
    """Every `every`-th write (0: none), and this many rooms and sizes, of each of these commands."""
    for step in steps(directory, commands):
        if every:
            for point in range(first, num_changes(step) + 1, every):
                yield _faulty(step, f"write {point}", Full(point), NO_SPACE)
        for num_bytes in _sizes(step, sizes):
            yield _faulty(step, f"size {num_bytes} B", Limited(num_bytes), TOO_LARGE)
        for num_bytes in _rooms(step, rooms):
            yield _on_small_disk(step, num_bytes)


def _sizes(step: Step, num: int) -> list[int]:
    """Sizes below those of the files that the command writes, the largest and smallest among them.

    None so small that what the command says, into a file, meets the limit.
    """
    old = {path.relative_to(step.before) for path in step.before.rglob("*")}
    new = (path for path in step.after.rglob("*") if path.is_file() and path.relative_to(step.after) not in old)
    found = sorted({size for path in new if (size := path.stat().st_size) > ROOM_FOR_WORDS})
    places = sorted({round(place * (len(found) - 1) / max(1, num - 1)) for place in range(num)})
    return [found[place] - 1 for place in places]


def _rooms(step: Step, num: int) -> list[int]:
    """Evenly from nothing to what the command needs, exclusive."""
    needed = _used(step.after) - _used(step.before)
    return [needed * place // num for place in range(num)]


def _used(directory: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in directory.rglob("*") if path.is_file())


def _faulty(step: Step, way: str, fault: Fault, reason: str) -> Outcome:
    again = step.copy("again")
    try:
        failed = run(step.words, again, fault)
        return Outcome(step.name, way, failed.exit_code, _problem(step, again, failed, reason))
    finally:
        shutil.rmtree(again)


def _on_small_disk(step: Step, room: int) -> Outcome:
    disk = step.before.with_name("disk")
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={PLENTY}", "none", disk], check=True)
    try:
        again = disk / "experiment"
        shutil.copytree(step.before, again, symlinks=True)
        used = shutil.disk_usage(disk).used
        subprocess.run(["mount", "-o", f"remount,size={used + room}", disk], check=True)
        failed = run(step.words, again)
        subprocess.run(["mount", "-o", f"remount,size={PLENTY}", disk], check=True)
        return Outcome(step.name, f"room {room} B", failed.exit_code, _problem(step, again, failed, NO_SPACE))
    finally:
        subprocess.run(["umount", disk], check=True)
        disk.rmdir()


def _problem(step: Step, again: Path, failed: Done, reason: str) -> str | None:
    """What is wrong with the error, or differs from the undisturbed command after the same command again."""
    if failed.exit_code not in (ExitCode.OK, ExitCode.ENVIRONMENT) or TRACEBACK in failed.text:
        return f"ended with {failed.exit_code}: {failed.error}"
    if failed.exit_code == ExitCode.ENVIRONMENT and reason not in failed.error.lower():
        return f"does not say why: {failed.error}"
    if failed.exit_code == ExitCode.ENVIRONMENT:
        if not step.resumes and step.is_whole(again):
            return problem_of_second(step, again)
        more = step.resumes if holds_interrupted_run(again) else ()
        done = run((*step.words, *more), again)
        if done.exit_code != 0:
            return f"the same command {' '.join(more)} ended with {done.exit_code}: {done.error}"
    return next(differences(step.after, again), None)


def can_mount() -> bool:
    """Whether a file system in memory can be mounted here."""
    with tempfile.TemporaryDirectory() as place:
        mounted = subprocess.run(["mount", "-t", "tmpfs", "none", place], check=False, capture_output=True)
        return mounted.returncode == 0 and subprocess.run(["umount", place], check=False).returncode == 0


def main() -> None:
    """Print every full disk after which something was wrong, and the counts of every command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--rooms", type=int, default=8 if can_mount() else 0)
    parser.add_argument("--sizes", type=int, default=8)
    parser.add_argument("--commands", default=",".join(COMMANDS))
    asked = parser.parse_args()
    commands = tuple(asked.commands.split(","))
    tried: Counter[tuple[str, str]] = Counter()
    ended: Counter[tuple[str, str]] = Counter()
    wrong: Counter[tuple[str, str]] = Counter()
    with suppress(KeyboardInterrupt), tempfile.TemporaryDirectory() as place:  # the counts so far
        experiment = Path(place).resolve() / "experiment"
        for found in outcomes(experiment, commands, every=asked.every, rooms=asked.rooms, sizes=asked.sizes):
            key = (found.command, found.way.partition(" ")[0])
            tried[key] += 1
            ended[key] += found.exit_code == 0
            if found.problem is not None:
                wrong[key] += 1
                print(f"{found.command}, {found.way}: {found.problem}", flush=True)
    for key, number in tried.items():
        print(f"{key[0]}: {number} {key[1]}s, {ended[key]} ended well all the same, {wrong[key]} wrong")


if __name__ == "__main__":
    main()
