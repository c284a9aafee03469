"""The commands of the small experiment, each in a process of its own, for the studies that disturb them."""

from __future__ import annotations

import multiprocessing
import os
import runpy
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Protocol

from moe_cli.artifacts.files import sha256_of
from moe_cli.artifacts.layout import STARTED
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
    "label": ("label", "tiny", "selective", "--evaluation", "many", "--metric", "asr", "--draw", "50"),
}
MANY = ("--output-name", "many", "--set", "evaluate.tiny_items=17", "--set", "evaluate.max_new_tokens=4")
PRELUDES = {"label": (("evaluate", "tiny", *MANY), ("evaluate", "selective", *MANY))}
WITHOUT_RESUME = ("compare", "export", "label")
WITHOUT_SETTINGS = ("runs", "env", "push")
WITH_TIMES = (".json", ".yaml", ".md", ".html", "steps.jsonl", "README.md")
TRACEBACK = "Traceback (most recent call last)"
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["moe_cli.prepare.stage", "moe_cli.train.stage", "moe_cli.evaluate.stage"])


class Fault(Protocol):
    """What is wrong in the process of one command."""

    def begin(self, directory: str, notes: str) -> None:
        """Called in that process before the command: watch it, or take something away from it."""


@dataclass(frozen=True)
class Done:
    """A command that ended, one way or the other."""

    exit_code: int
    text: str  # all that it wrote to the terminal

    @property
    def error(self) -> str:
        """The lines of its error, or the last one of a traceback."""
        lines = self.text.splitlines()
        if TRACEBACK in self.text:
            return f"traceback: {lines[-1]}"
        return " / ".join(line for line in lines if line.startswith(("error", "hint")))[:300]


@dataclass(frozen=True)
class Running:
    """A command at work."""

    process: ForkServerProcess
    notes: Path

    def has_begun(self) -> bool:
        """Whether its own process is there, with all libraries."""
        return (self.notes / "text").exists()

    def end(self) -> Done:
        """Wait for it."""
        self.process.join()
        text = (self.notes / "text").read_text(errors="replace")
        shutil.rmtree(self.notes)
        return Done(self.process.exitcode or 0, text)


@dataclass(frozen=True)
class Step:
    """One command, the directory before it, and the directory after it where nothing disturbs it."""

    name: str
    words: tuple[str, ...]
    before: Path
    after: Path

    @property
    def resumes(self) -> tuple[str, ...]:
        """The words by which it goes on."""
        return () if self.name.partition(" ")[0] in WITHOUT_RESUME else ("--resume",)

    def is_whole(self, again: Path) -> bool:
        """Whether all files that it writes are in this directory."""
        return set(_files(self.after)) <= set(_files(again))

    def copy(self, name: object) -> Path:
        """A copy of the directory before it; the caller removes it."""
        path = self.before.with_name(f"{self.before.name} {name}")
        shutil.copytree(self.before, path, symlinks=True)
        return path


def steps(directory: Path, commands: Iterable[str]) -> Iterator[Step]:
    """These commands, in the order of the experiment, whose earlier ones run undisturbed."""
    asked = set(commands)
    settings = settings_of_small_experiment(
        Path(), model={"threads": 1}, train={"num_epochs": 1, "checkpoint_every": 2}
    )
    (directory / ".moe").mkdir(parents=True)
    (directory / "moe.yaml").write_text(dump_yaml(settings))
    last = max(list(COMMANDS).index(name) for name in asked)
    for name, words in list(COMMANDS.items())[: last + 1]:
        for prelude in PRELUDES.get(name, ()):
            _undisturbed(prelude, directory)
        before = directory.with_name(f"{directory.name} before {name}")
        shutil.copytree(directory, before, symlinks=True)
        _undisturbed(words, directory)
        if name in asked:
            yield Step(name, words, before, directory)
        shutil.rmtree(before)


def _undisturbed(words: tuple[str, ...], directory: Path) -> None:
    done = run(words, directory)
    if done.exit_code != 0:
        raise RuntimeError(f"moe {' '.join(words)} ended with {done.exit_code}: {done.error}")


def run(words: tuple[str, ...], directory: Path, fault: Fault | None = None) -> Done:
    """The command in this directory, to its end."""
    return start(words, directory, fault).end()


def start(words: tuple[str, ...], directory: Path, fault: Fault | None = None) -> Running:
    """The command in this directory."""
    notes = tempfile.mkdtemp()
    process = CONTEXT.Process(target=_command, args=(words, str(directory), fault, notes))
    process.start()
    return Running(process, Path(notes))


def _command(words: tuple[str, ...], directory: str, fault: Fault | None, notes: str) -> None:
    text = os.open(f"{notes}/text", os.O_CREAT | os.O_WRONLY)
    os.dup2(text, 1)
    os.dup2(text, 2)
    os.chdir(directory)
    by_itself = words[0] in WITHOUT_SETTINGS or "--config" in words
    sys.argv = ["moe", *words, *(() if by_itself else ("--config", "moe.yaml"))]
    if fault is not None:
        fault.begin(directory, notes)
    runpy.run_module("moe_cli", run_name="__main__")


def holds_interrupted_run(directory: Path) -> bool:
    """Whether a command has kept something there."""
    return any(directory.rglob(STARTED))


def differences(whole: Path, again: Path) -> Iterator[str]:
    """What is not as in the undisturbed directory: files, and bytes of those that hold no time."""
    expected, found = _files(whole), _files(again)
    yield from (f"{file} is missing" for file in expected if file not in found)
    yield from (f"{file} is left over" for file in found if file not in expected)
    for file in expected:
        compared = not file.endswith(WITH_TIMES) and (again / file).is_file()
        if compared and sha256_of(whole / file) != sha256_of(again / file):
            yield f"{file} differs"


def problem_of_second(step: Step, again: Path) -> str | None:
    """What differs from the undisturbed command that is typed twice, where the first had written all."""
    twice = again.with_name(f"{again.name} twice")
    shutil.copytree(step.after, twice, symlinks=True)
    try:
        expected, done = run(step.words, twice), run(step.words, again)
        if done.exit_code != expected.exit_code:
            return f"the same command ended with {done.exit_code}, not {expected.exit_code}: {done.error}"
        return next(differences(twice, again), None)
    finally:
        shutil.rmtree(twice)


def _files(directory: Path) -> list[str]:
    """Names of all files and empty directories; records in the registry by their kind alone."""
    names = [
        path.relative_to(directory)
        for path in directory.rglob("*")
        if path.is_file() or path.is_symlink() or not any(path.iterdir())
    ]
    names = [name for name in names if name.parts != (".moe",)]
    return sorted(str(name) for name in names if name.parts[0] != ".moe") + sorted(
        name.name.partition("-")[0] + name.suffix for name in names if name.parts[0] == ".moe"
    )
