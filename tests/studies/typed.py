"""Commands in this process that never come to their work, and what becomes of each, for the studies of hostile input.

`done`: exit 0. `begun`: it would have loaded a model, asked a server or started a child. `refused`: a line `error:` and
a line `hint:`, a known exit code, nothing left behind. The other outcomes are faults.
"""

from __future__ import annotations

import contextlib
import faulthandler
import io
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from unittest.mock import patch

from moe_cli.cli.session import OFFLINE, QUIET

os.environ |= {**QUIET, **OFFLINE}  # which the libraries read when they are imported


import moe_cli.bench.resources
import moe_cli.bench.stage
import moe_cli.evaluate.capability_tasks
import moe_cli.evaluate.stage
import moe_cli.evaluate.without_model
import moe_cli.export.push
import moe_cli.export.stage
import moe_cli.model.chat_endpoint
import moe_cli.prepare.reselect
import moe_cli.prepare.stage
import moe_cli.train.stage  # noqa: F401
from moe_cli.characters import is_unsafe
from moe_cli.cli.app import main as moe
from moe_cli.config import dump_yaml
from moe_cli.errors import ExitCode
from tests.small_experiment import settings_of_small_experiment
from tests.studies.commands import run

PATIENCE = 60.0  # seconds until a command counts as hanging
SLOW = 5.0  # seconds of this processor that nothing which is refused may take
FINE = ("done", "begun", "refused")
FAULTS = ("accepted", "form", "raw", "left", "slow", "traceback", "hang")
WORK = {  # where a command begins what takes long, or leaves the machine or the process
    *("moe_cli.prepare.generation.load_model", "moe_cli.evaluate.target.load_model", "moe_cli.train.stage.load_model"),
    *("moe_cli.export.stage.load_model", "moe_cli.bench.stage.run", "moe_cli.cli.demo._DemoRun.run"),
    *("moe_cli.cli.sweep_points.start_command", "moe_cli.cli.child_commands.start_ray"),
    "moe_cli.export.push._send",
    *("moe_cli.model.chat_endpoint.post_request", "moe_cli.judges.command.run_program"),
    "moe_cli.bench.arm_needs.follow_step",
    "moe_cli.evaluate.capability_tasks._every",  # reads the thousands of definitions of lm-eval
}
SPOKEN_AFTER_RESULTS = (ExitCode.THRESHOLD, ExitCode.UNSCORED)


class Late(BaseException):
    """The patience is over."""


class Begun(BaseException):
    """The work would begin."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One command to try."""

    kind: str  # of the hostile input
    name: str  # what is tried, for the fault's line
    words: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)  # which are there for this command alone
    must_be_refused: bool = False


@dataclass(frozen=True)
class Tried:
    """What became of it."""

    case: Case
    outcome: str
    text: str  # all that it wrote, or the exception that came through

    @property
    def fault(self) -> str | None:
        """One line in ASCII; None: nothing is wrong."""
        if self.outcome in FINE:
            return None
        words = " ".join(map(_short, self.case.words))
        return ascii(f"{self.outcome}: {self.case.name}: moe {words}: {self.text[-300:]}")


def tried(case: Case) -> Tried:
    """The case in the current directory, which is afterwards as it was before."""
    for name, content in case.files.items():
        Path(name).write_bytes(content)
    before, started = _contents(), time.process_time()
    code, out, err, raised = _run(case)
    seconds, after = time.process_time() - started, _contents()
    for name in case.files:
        os.remove(name)
    for path in sorted(after.keys() - before.keys(), reverse=True):
        shutil.rmtree(path) if os.path.isdir(path) and not os.path.islink(path) else os.remove(path)
    outcome = _outcome(case, code, out, err, raised, seconds)
    if outcome == "refused" and after != before and code not in SPOKEN_AFTER_RESULTS:
        outcome, err = "left", f"{sorted(after.items() ^ before.items())[:3]} {err}"
    return Tried(case, outcome, f"{type(raised).__name__}: {raised}" if outcome == "traceback" else out + err)


def _outcome(case: Case, code: int, out: str, err: str, raised: BaseException | None, seconds: float) -> str:
    if isinstance(raised, Late):
        return "hang"
    if raised is not None and not isinstance(raised, Begun):
        return "traceback"
    if any(is_unsafe(sign) for sign in out + err if sign != "\n"):
        return "raw"
    if seconds > SLOW:
        return "slow"
    if isinstance(raised, Begun) or code == 0:
        worked = "done" if raised is None else "begun"
        return "accepted" if case.must_be_refused else worked
    return "refused" if _is_refusal(code, out, err) else "form"


def _is_refusal(code: int, out: str, err: str) -> bool:
    lines = err.splitlines()
    while lines and not lines[0].startswith("error: "):  # notices
        del lines[0]
    unindented = [line for line in lines if not line.startswith("  ")]
    return (
        code in set(ExitCode) - {ExitCode.BUG}
        and (not out or code in SPOKEN_AFTER_RESULTS)
        and [line.partition(" ")[0] for line in unindented] == ["error:", "hint:"]
    )


def _run(case: Case) -> tuple[int, str, str, BaseException | None]:
    """Exit code, stdout, stderr with what libraries write past it, and what came through."""
    out, err = io.StringIO(), io.StringIO()
    raised: BaseException | None = None
    code = 0

    def late(number: int, frame: FrameType | None) -> None:
        raise Late

    def begin(*_: object, **__: object) -> None:
        raise Begun

    with contextlib.ExitStack() as stack:
        past = stack.enter_context(_descriptors())
        stack.enter_context(patch.dict(os.environ, case.environment))
        stack.enter_context(patch.object(sys, "argv", ["moe", *case.words]))
        for place in WORK:
            stack.enter_context(patch(place, begin))
        stack.enter_context(contextlib.redirect_stdout(out))
        stack.enter_context(contextlib.redirect_stderr(err))
        former = signal.signal(signal.SIGALRM, late)
        signal.setitimer(signal.ITIMER_REAL, PATIENCE)
        try:
            moe()
        except SystemExit as stop:
            code = int(stop.code or 0)
        except BaseException as error:
            raised = error
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, former)
    return code, out.getvalue(), err.getvalue() + past.getvalue(), raised


@contextlib.contextmanager
def _descriptors() -> Iterator[io.StringIO]:
    """The descriptors of the terminal lead to a file, whose text is given at the end; there is nothing to read."""
    text, kept = io.StringIO(), [os.dup(number) for number in range(3)]
    with tempfile.TemporaryFile() as file, open(os.devnull, "rb") as nothing:
        try:
            # What waits outside of Python hears no signal.
            faulthandler.dump_traceback_later(2 * PATIENCE, exit=True, file=kept[2])
            os.dup2(nothing.fileno(), 0)
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
            yield text
        finally:
            faulthandler.cancel_dump_traceback_later()
            for number, descriptor in enumerate(kept):
                os.dup2(descriptor, number)
                os.close(descriptor)
            file.seek(0)
            text.write(file.read().decode(errors="surrogateescape"))


def _contents() -> dict[str, tuple[int, int]]:
    """Every name below the current directory, with the size of a file."""
    return {
        path: (entry.st_mode, entry.st_size if os.path.isfile(path) else 0)
        for folder, folders, files in os.walk(".")
        for path in (os.path.join(folder, name) for name in (*folders, *files))
        if (entry := os.lstat(path))
    }


def _short(word: str) -> str:
    return word if len(word) <= 40 else f"{word[:30]}..({len(word)})"


@contextlib.contextmanager
def working_in(directory: Path) -> Iterator[None]:
    """This directory is the current one, and the home of whoever asks for one."""
    before = Path.cwd()
    os.chdir(directory)
    try:
        with patch.dict(os.environ, {"HOME": str(directory), "COLUMNS": "200"}):
            yield
    finally:
        os.chdir(before)


def make_runs() -> None:
    """The runs that the studies name."""
    Path(".moe").mkdir()
    Path("moe.yaml").write_text(dump_yaml(settings_of_small_experiment(Path(), model={"threads": 1})), encoding="utf-8")
    for words in (
        ("prepare",),
        ("train", "selective", "--prepared", "prepared"),
        ("evaluate", "tiny"),
        ("evaluate", "selective"),
    ):
        done = run(words, Path.cwd())
        if done.exit_code != 0:
            raise RuntimeError(f"moe {' '.join(words)}: {done.error}")


def print_table(results: Iterable[Tried]) -> None:
    """Every fault, when it is met, and at the end the counts by kind and outcome."""
    counts: Counter[tuple[str, str]] = Counter()
    for result in results:
        counts[result.case.kind, result.outcome] += 1
        if result.fault is not None:
            print(result.fault[:600], flush=True)
    names = (*FINE, *FAULTS)
    print(f"{'kind':12}" + " ".join(f"{name:>9}" for name in names))
    for kind in [*dict.fromkeys(kind for kind, _ in counts), "all"]:
        row = [sum(n for (k, o), n in counts.items() if kind in (k, "all") and o == name) for name in names]
        print(f"{kind:12}" + " ".join(f"{count:9}" for count in row))
