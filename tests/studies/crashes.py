"""SIGKILL before every file operation of every command; then the same command again.

    python -m tests.studies.crashes [--every 1] [--commands prepare,compare]

A command of the small experiment runs in a process of its own, which ends itself by SIGKILL before its k-th operation
that changes a file or a name (audit events of Python: files opened to be written, renamed or removed, directories made
or removed). The same command follows, with `--resume` where it has that, and must end with exit code 0, the files of
the undisturbed command, the same bytes in all that holds no time, and nothing hidden. `--every 10` tries one point in
ten.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import runpy
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from moe_cli.artifacts.files import sha256_of
from moe_cli.config import dump_yaml
from tests.small_experiment import settings_of_small_experiment

COMMANDS = {
    "prepare": ("prepare",),
    "select": ("select", "prepared", "-o", "selected", "--threshold", "0.2"),
    "selective": ("train", "selective", "--prepared", "prepared"),
    "baseline": ("train", "baseline", "--prepared", "prepared"),
    "evaluate": ("evaluate", "selective"),
    "evaluate base": ("evaluate", "tiny"),
    "compare": ("compare", "tiny", "selective"),
    "export": ("export", "selective", "-o", "exported"),
}
WITHOUT_RESUME = ("compare", "export")
WITH_TIMES = (".json", ".yaml", ".md", ".html", "steps.jsonl", "README.md")
CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate"}
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["moe_cli.prepare.stage", "moe_cli.train.stage", "moe_cli.evaluate.stage"])


@dataclass(frozen=True)
class Crash:
    """One command that was killed, and what came of it."""

    command: str
    point: int  # of its file operations
    problem: str | None  # None: the same command ended as the undisturbed one


def crashes(directory: Path, commands: tuple[str, ...], every: int, first: int = 1) -> Iterator[Crash]:
    """Every `every`-th point of these commands, whose earlier ones run undisturbed."""
    settings = settings_of_small_experiment(
        Path(), model={"threads": 1}, train={"num_epochs": 1, "checkpoint_every": 2}
    )
    (directory / ".moe").mkdir(parents=True)
    (directory / "moe.yaml").write_text(dump_yaml(settings))
    last = max(list(COMMANDS).index(name) for name in commands)
    for name, words in list(COMMANDS.items())[: last + 1]:
        before = directory.with_name(f"{directory.name} before {name}")
        shutil.copytree(directory, before, symlinks=True)
        whole = _run(words, directory, None)
        if whole.exit_code != 0:
            raise RuntimeError(f"moe {' '.join(words)} ended with {whole.exit_code}")
        if name in commands:
            for point in range(first, whole.num_changes + 1, every):
                yield Crash(name, point, _problem(name, words, before, directory, point))
        shutil.rmtree(before)


def _problem(name: str, words: tuple[str, ...], before: Path, whole: Path, point: int) -> str | None:
    """What differs from the undisturbed command after a kill at this point and the same command again."""
    again = before.with_name(f"{before.name} {point}")
    shutil.copytree(before, again, symlinks=True)
    try:
        killed = _run(words, again, point)
        if killed.exit_code != -signal.SIGKILL:
            return f"was not killed, but ended with {killed.exit_code}"
        more = () if name.partition(" ")[0] in WITHOUT_RESUME else ("--resume",)
        done = _run((*words, *more), again, None)
        if done.exit_code != 0:
            return f"the same command ended with {done.exit_code}: {done.said}"
        return next(_differences(whole, again), None)
    finally:
        shutil.rmtree(again)


def _differences(whole: Path, again: Path) -> Iterator[str]:
    expected, found = _files(whole), _files(again)
    yield from (f"{file} is missing" for file in expected if file not in found)
    yield from (f"{file} is left over" for file in found if file not in expected)
    for file in expected:
        if not file.endswith(WITH_TIMES) and sha256_of(whole / file) != sha256_of(again / file):
            yield f"{file} differs"


def _files(directory: Path) -> list[str]:
    """Names of all files; records in the registry by their kind alone."""
    names = [path.relative_to(directory) for path in directory.rglob("*") if path.is_file()]
    return sorted(str(name) for name in names if name.parts[0] != ".moe") + sorted(
        name.name.partition("-")[0] + name.suffix for name in names if name.parts[0] == ".moe"
    )


@dataclass(frozen=True)
class Done:
    """A command that ended, one way or the other."""

    exit_code: int
    num_changes: int
    said: str


def _run(words: tuple[str, ...], directory: Path, point: int | None) -> Done:
    with tempfile.TemporaryDirectory() as notes:
        child = CONTEXT.Process(target=_command, args=(words, str(directory), point, notes))
        child.start()
        child.join()
        counted, said = Path(notes, "changes"), Path(notes, "said")
        changes = len(counted.read_bytes()) if counted.exists() else 0
        last = [line for line in said.read_text().splitlines() if line.startswith(("error", "hint"))]
        return Done(child.exitcode or 0, changes, " / ".join(last)[:300])


def _command(words: tuple[str, ...], directory: str, point: int | None, notes: str) -> None:
    """Run it here, counting what it does to files below the directory; end before the change number `point`."""
    said = os.open(f"{notes}/said", os.O_CREAT | os.O_WRONLY)
    os.dup2(said, 1)
    os.dup2(said, 2)
    counted = os.open(f"{notes}/changes", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.chdir(directory)
    done = 0

    def watch(event: str, args: tuple[object, ...]) -> None:
        nonlocal done
        if _is_change(event, args, directory):
            done += 1
            if done == point:
                os.kill(os.getpid(), signal.SIGKILL)
            os.write(counted, b".")

    sys.addaudithook(watch)
    sys.argv = ["moe", *words, "--config", "moe.yaml"]
    runpy.run_module("moe_cli", run_name="__main__")


def _is_change(event: str, args: tuple[object, ...], directory: str) -> bool:
    if event == "open":
        path, _, flags = args
        writes = isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        return writes and _is_below(path, directory)
    return event in CHANGES and _is_below(args[0], directory)


def _is_below(path: object, directory: str) -> bool:
    return isinstance(path, str | bytes | os.PathLike) and os.path.abspath(os.fsdecode(path)).startswith(directory)


def main() -> None:
    """Print every point that went wrong, and the counts of every command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--commands", default=",".join(COMMANDS))
    asked = parser.parse_args()
    commands = tuple(asked.commands.split(","))
    counts = dict.fromkeys(commands, 0)
    wrong = dict.fromkeys(commands, 0)
    with tempfile.TemporaryDirectory() as place:
        for crash in crashes(Path(place).resolve() / "experiment", commands, asked.every):
            counts[crash.command] += 1
            if crash.problem is not None:
                wrong[crash.command] += 1
                print(f"{crash.command}, before operation {crash.point}: {crash.problem}", flush=True)
    for name, number in counts.items():
        print(f"{name}: {number} kills, {wrong[name]} wrong")


if __name__ == "__main__":
    main()
