"""Every artifact of the small experiment in one directory, and commands on it in this process."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from stat import S_ISDIR
from types import FrameType
from unittest.mock import patch

from moe_cli.artifacts.files import remove
from moe_cli.artifacts.journal import Journal
from moe_cli.cli.app import main as moe
from moe_cli.config import dump_yaml
from moe_cli.data.label_sheets import read_sheet, sheet_bytes
from moe_cli.train.trainer import FixedBatchTrainer
from tests.small_experiment import settings_of_small_experiment
from tests.studies.file_damage import copy_back

PATIENCE = 45  # seconds
WITHOUT_CONFIG = ("runs", "push")
MANY = ("--output-name", "many", "--set", "evaluate.tiny_items=17", "--set", "evaluate.max_new_tokens=4")
NINE = ("--set", "evaluate.max_new_tokens=9")
Words = tuple[str, ...]


class LateError(BaseException):
    """The command took longer than anybody waits."""


class EnoughError(BaseException):
    """The command has read all that it reads."""


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int | None  # None: with an exception of its own
    out: str
    err: str
    how: str = "exit"  # or "enough", "hang", "traceback"


@dataclass
class OpenedFiles:
    """Which files Python opened; the hook cannot be taken away, so there is one."""

    paths: set[str] = field(default_factory=set)
    on: bool = False

    def __call__(self, event: str, words: tuple[object, ...]) -> None:
        if self.on and event == "open" and isinstance(words[0], (str, bytes)):
            self.paths.add(os.path.abspath(os.fsdecode(words[0])))


OPENED = OpenedFiles()
sys.addaudithook(OPENED)


def run(words: Words, *, until: tuple[object, str] | None = None) -> Ended:
    """`moe WORDS` in the current directory, or until it calls the function `until` (its module and name)."""
    typed = [*words, *(() if words[0] in WITHOUT_CONFIG else ("--config", "moe.yaml"))]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.ExitStack() as stack:
        stack.enter_context(patch.object(sys, "argv", ["moe", *typed]))
        stack.enter_context(patch.dict(os.environ, {"COLUMNS": "200"}))
        stack.enter_context(contextlib.redirect_stdout(out))
        stack.enter_context(contextlib.redirect_stderr(err))
        stack.enter_context(patience())
        if until is not None:
            stack.enter_context(patch.object(*until, side_effect=EnoughError))
        code, how = _ended()
    return Ended(code, out.getvalue(), err.getvalue() + ("" if how == "exit" else how), how.partition("\n")[0])


def _ended() -> tuple[int | None, str]:
    OPENED.paths.clear()
    OPENED.on = True
    try:
        moe()
    except SystemExit as stop:
        return int(stop.code or 0), "exit"
    except EnoughError:
        return None, "enough"
    except LateError:
        return None, "hang"
    except Exception:
        return 1, f"traceback\n{traceback.format_exc()}"
    finally:
        OPENED.on = False
    raise AssertionError("the command ended without an exit code")


@contextmanager
def patience() -> Iterator[None]:
    """Inside the block nothing takes longer than `PATIENCE`."""

    def late(number: int, frame: FrameType | None) -> None:
        raise LateError

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE)
    watch = threading.Timer(PATIENCE + 1, _release, (Path.cwd(),))  # code of a library is not interrupted
    watch.daemon = True
    watch.start()
    try:
        yield
    finally:
        watch.cancel()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _release(directory: Path) -> None:
    """Let whoever waits for a pipe go on: somebody opens its other end."""
    for file in directory.rglob("*"):
        if file.is_fifo():
            os.close(os.open(file, os.O_RDWR | os.O_NONBLOCK))


@contextmanager
def stopped_at(owner: type, method: str, count: int) -> Iterator[None]:
    """Inside the block the process is asked to stop after the method was called so often."""
    original, calls = getattr(owner, method), [0]

    def counted(*words: object, **named: object) -> object:
        made = original(*words, **named)
        calls[0] += 1
        if calls[0] == count:
            os.kill(os.getpid(), signal.SIGTERM)
        return made

    with patch.object(owner, method, counted):
        yield


def make_experiment(directory: Path, *, wide: bool = True) -> None:
    """Run every command once in `directory`, which becomes the current one; `wide`: with all that only one reader has.

    Prepare runs `prepared` and `selected`; `selective` and `baseline` with evaluations; `stopped_selective`,
    `stopped_baseline`, `stopped_prepare` and a stopped evaluation; `comparison`, `exported`, `delta.safetensors` and
    `labels.csv`.
    """
    (directory / ".moe").mkdir(parents=True)
    os.chdir(directory)
    settings = settings_of_small_experiment(
        Path(),
        model={"threads": 1},
        prepare={
            "tiny_pairs": 16,
            "max_new_tokens": 8,
            "benign_max_new_tokens": 8,
            "resamples": 10,
            "null_draws": 5,
        },
        train={"num_epochs": 1, "checkpoint_every": 1},
        evaluate={"max_new_tokens": 8},
    )
    (directory / "moe.yaml").write_text(dump_yaml(settings))
    (directory / "items.jsonl").write_text(
        "".join(
            f'{{"suite": "attacked", "kind": "harmful", "prompt": "how do i zorp the glim {n}"}}\n' for n in range(4)
        )
    )
    whole("prepare")
    whole("select", "prepared", "-o", "selected", "--threshold", "0.2")
    for arm in ("selective", "baseline"):
        whole("train", arm, "--prepared", "prepared")
        with stopped_at(FixedBatchTrainer, "finish_step", 3):
            whole("train", arm, "--prepared", "prepared", "-o", f"stopped_{arm}", code=75)
        whole("evaluate", arm)
    whole("evaluate", "tiny")
    whole("compare", "tiny", "selective", "baseline")
    whole("export", "selective", "-o", "exported")
    whole("export", "selective/final_model", "--delta", "--model-name", "tiny", "-o", "delta.safetensors")
    if wide:
        with stopped_at(Journal, "append", 1):
            whole("prepare", "-o", "stopped_prepare", code=75)
        with stopped_at(Journal, "append", 2):
            whole("evaluate", "baseline", "--output-name", "stopped", *NINE, code=75)
        for name in ("tiny", "selective"):
            whole("evaluate", name, *MANY)
        whole("label", "tiny", "selective", "--evaluation", "many", "--metric", "asr", "--draw", "50")
        _label(directory / "labels.csv")


def whole(*words: str, code: int = 0) -> Ended:
    """Run a command that is to end with this code."""
    ended = run(words)
    if ended.code != code:
        raise RuntimeError(f"moe {' '.join(words)} ended with {ended.code}: {ended.err}")
    return ended


def _label(sheet: Path) -> None:
    """Say yes to every other answer."""
    rows = [replace(row, label=bool(number % 2)) for number, row in enumerate(read_sheet(str(sheet)).rows)]
    sheet.write_bytes(sheet_bytes(rows))


Signature = dict[str, tuple[int, int, int, int]]


class Sandbox:
    """A directory that is put back as it was after each disturbance."""

    def __init__(self, work: Path, original: Path) -> None:
        """`original` is where a copy of `work` is kept."""
        self.work, self.original = work, original
        shutil.copytree(work, original)
        self._whole = signature(work)
        self.note()

    def restore(self) -> None:
        """Everything as it was."""
        for name in signature(self.work):
            if name not in self._whole:
                remove(self.work / name)
        for place, directories, _ in os.walk(self.work):
            for inner in [Path(place, name) for name in directories]:
                if not (self.original / inner.relative_to(self.work)).is_dir():
                    remove(inner)
        there = signature(self.work)
        for name in [name for name, seen in self._whole.items() if there.get(name) != seen]:
            (self.work / name).parent.mkdir(parents=True, exist_ok=True)
            copy_back(self.original / name, self.work / name)
            self._whole |= signature(self.work, name)
        self.note()

    def changed(self) -> list[Path]:
        """Files that are new or other ones than after `note`."""
        return [self.work / name for name, seen in signature(self.work).items() if self._noted.get(name) != seen]

    def note(self) -> None:
        """What is there now is what `changed` compares with."""
        self._noted = signature(self.work)


@contextmanager
def experiment(directory: Path | None = None, *, wide: bool = True) -> Iterator[Sandbox]:
    """The small experiment in a box, below `directory` or a temporary one; in the block it is the current one."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory(dir=directory) as place:
        try:
            make_experiment(Path(place) / "experiment", wide=wide)
            yield Sandbox(Path(place) / "experiment", Path(place) / "original")
        finally:
            os.chdir(before)


def signature(directory: Path, *names: str) -> Signature:
    """Every file and link below it (or these), by what changes when it is written; links are not followed."""
    files = [Path(place, name) for place, inner, names_ in os.walk(directory) for name in (*names_, *inner)]
    made: Signature = {}
    for file in [directory / name for name in names] or files:
        stat = file.lstat()
        if not S_ISDIR(stat.st_mode):
            made[str(file.relative_to(directory))] = (stat.st_mode, stat.st_size, stat.st_mtime_ns, stat.st_ino)
    return made
