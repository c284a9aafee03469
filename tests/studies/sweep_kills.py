"""Stop whole sweeps by every signal, and resume them: `python -m tests.studies.sweep_kills [MOMENTS]`.

A sweep on the tiny model is stopped at so many moments by SIGTERM, by Ctrl-C (which reaches its children too) and by
SIGKILL. Resumed, it has to end with the weights and the record of the uninterrupted one.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from moe_cli.artifacts import Store, finished_run, layout
from moe_cli.artifacts.locks import is_locked
from moe_cli.codec import decode
from moe_cli.config import dump_yaml
from moe_cli.records import Sweep, TrainingSummary
from tests.small_experiment import settings_of_small_experiment

COMMAND = ("sweep", "prepared", "--config", "moe.yaml", "--at-once", "2")
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGKILL)
LONGEST = 180.0  # seconds that anything here may take


def start_moe(directory: Path, *words: str) -> subprocess.Popen[str]:
    """Start a command in a group of its own, as a shell does."""
    environment = {**os.environ, "COLUMNS": "80", "PYTHONPATH": os.pathsep.join([str(Path.cwd()), *sys.path])}
    return subprocess.Popen(
        [sys.executable, "-m", "moe_cli", *words],
        cwd=directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )


def run_moe(directory: Path, *words: str, code: int = 0) -> tuple[str, str]:
    """Run a command; returns its stdout and stderr."""
    process = start_moe(directory, *words)
    out, err = process.communicate()
    assert process.returncode == code, err
    return out, err


def prepare_small(directory: Path) -> None:
    """A small prepare run with its settings, and a registry of its own."""
    (directory / ".moe").mkdir(parents=True)
    settings = settings_of_small_experiment(Path(), model={"threads": 1}, compare={"margin": 0.1})
    (directory / "moe.yaml").write_text(dump_yaml(settings), encoding="utf-8")
    run_moe(directory, "prepare", "--config", "moe.yaml")


def stop_sweep(directory: Path, output: str, number: signal.Signals, num_begun: int, *words: str) -> None:
    """Stop a sweep by a signal once so many of its trainings have made a step, and wait for its children."""
    process = start_moe(directory, *COMMAND, *words, "-o", output)
    points = directory / output / layout.POINTS
    deadline = time.monotonic() + LONGEST
    while len(list(points.glob("*/*/steps.jsonl"))) < num_begun and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)
    (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
    _, err = process.communicate(timeout=LONGEST)
    assert process.returncode == (-9 if number == signal.SIGKILL else 75), err
    assert not (directory / output / layout.MANIFEST).exists()
    locked = [run for run in points.glob("*/*") if run.is_dir() and is_locked(run)]
    assert not locked or number == signal.SIGKILL, locked  # of a killed parent the children end by themselves
    while any(map(is_locked, locked)) and time.monotonic() < deadline:
        time.sleep(0.05)


def record_of(directory: Path, name: str) -> Sweep:
    """The record of a complete sweep."""
    return decode(Sweep, finished_run(directory / name, "sweep").file(layout.SWEEP).read_bytes(), source="")


def fingerprints(directory: Path) -> Mapping[str, str]:
    """What every point of a directory's sweeps trained, by digest."""
    runs = Store(directory / ".moe" / "registry").records("selective", "baseline")
    trained = (finished_run(Path(run.path)) for run in runs if (Path(run.path) / layout.MANIFEST).is_file())
    return {run.path.parent.name: run.record(layout.METADATA, TrainingSummary).trained_fingerprint for run in trained}


def comparable(sweep: Sweep) -> Sweep:
    """What two sweeps of the same settings have alike: all but times and where their runs lie."""
    return replace(
        sweep, points=tuple(replace(one, seconds_training=None, run=None, evaluation=None) for one in sweep.points)
    )


def main(num_moments: int) -> None:
    words = ("--budgets", "10%,20%", "--random-draws", "1")
    with tempfile.TemporaryDirectory() as name:
        bare, done = Path(name, "bare"), Path(name, "done")
        prepare_small(bare)
        shutil.copytree(bare, done)
        run_moe(done, *COMMAND, *words)
        for number in SIGNALS:
            for num_begun in range(1, num_moments + 1):
                stopped = Path(name, f"{number.name}-{num_begun}")
                shutil.copytree(bare, stopped)
                stop_sweep(stopped, "sweep", number, num_begun, *words)
                run_moe(stopped, *COMMAND, *words, "--resume")
                assert fingerprints(stopped) == fingerprints(done), stopped.name
                assert comparable(record_of(stopped, "sweep")) == comparable(record_of(done, "sweep")), stopped.name
                print(f"{number.name} after the first step of {num_begun} trainings: bitwise the same", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
