"""Kill a training run at random moments, resume it, and compare with the run that nobody killed.

    python -m tests.kill_and_resume --kills 50 --arms selective baseline alternating

Each round trains one arm of the tiny model, with or without a held-out batch, in a process of its own, sends SIGKILL
after a random time, and resumes with no other step until the run is complete. The trained weights must be those of the
uninterrupted run, bit for bit.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from moe_cli.artifacts import Store, finished_run
from moe_cli.artifacts.layout import MANIFEST, METADATA
from moe_cli.cli.child_commands import PRELOADED
from moe_cli.codec import decode
from moe_cli.config import MoeConfig
from moe_cli.records import Arm, TrainingSummary
from tests.small_experiment import settings_of_small_experiment

KINDS: tuple[tuple[Arm, int], ...] = (
    *(("selective", 0), ("baseline", 1), ("alternating", 1)),
    *(("selective", 1), ("baseline", 0), ("alternating", 0)),
)
ENDS: dict[Arm, str] = {"selective": "", "baseline": "_b", "alternating": "_a"}  # of the names of directories
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(PRELOADED)


@dataclass(frozen=True)
class Outcome:
    """One killed and resumed run."""

    arm: Arm
    held_out: int  # batches
    seconds: float  # after which it was killed
    begun: bool  # the kill came after the run had begun and before it was complete
    same: bool  # as the uninterrupted run, bit for bit


def settings(directory: Path, output: Path, held_out: int) -> MoeConfig:
    """A short run that saves a checkpoint after every second step."""
    return settings_of_small_experiment(
        directory,
        model={"threads": 1},
        train={
            "prepared": directory / "prepared",
            "selective_dir": output,
            "baseline_dir": output.with_name(output.name + ENDS["baseline"]),
            "num_epochs": 4,
            "checkpoint_every": 2,
            "validation_batches": held_out,
        },
        alternating={
            "num_rounds": 2,
            "router_learning_rate": 1e-3,
            "output_dir": output.with_name(output.name + ENDS["alternating"]),
        },
    )


def outcomes(directory: Path, kills: int, seed: int, kinds: Sequence[tuple[Arm, int]] = KINDS) -> Iterator[Outcome]:
    """Kill and resume `kills` runs, the kinds in turn."""
    _in_child(_prepare, directory)
    expected, durations = {}, {}
    for arm, held_out in kinds:
        started, target = time.monotonic(), directory / f"whole_{arm}_{held_out}"
        _in_child(_train, directory, target, arm, held_out, False)
        durations[arm, held_out] = time.monotonic() - started
        expected[arm, held_out] = _fingerprint(_output(target, arm))
    chance = random.Random(seed)
    for number in range(kills):
        arm, held_out = kinds[number % len(kinds)]
        target = directory / f"killed_{number}"
        seconds = chance.uniform(0.0, durations[arm, held_out])
        child = CONTEXT.Process(target=_train, args=(directory, target, arm, held_out, False))
        child.start()
        child.join(seconds)
        child.kill()
        child.join()
        output = _output(target, arm)
        begun = output.is_dir() and not (output / MANIFEST).is_file()
        if not (output / MANIFEST).is_file():
            _in_child(_train, directory, target, arm, held_out, True)
        yield Outcome(arm, held_out, seconds, begun, _fingerprint(output) == expected[arm, held_out])


def _output(target: Path, arm: Arm) -> Path:
    return target.with_name(target.name + ENDS[arm])


def _fingerprint(output: Path) -> str:
    run = finished_run(output)
    if run.damaged():
        raise AssertionError(f"{output} is damaged: {run.damaged()}")
    return decode(TrainingSummary, (output / METADATA).read_bytes(), source=str(output)).trained_fingerprint


def _in_child(target: object, *words: object) -> None:
    child = CONTEXT.Process(target=target, args=words)
    child.start()
    child.join()
    if child.exitcode != 0:
        raise AssertionError(f"{target} ended with {child.exitcode}")


def _prepare(directory: Path) -> None:
    from moe_cli.prepare import stage

    stage.run(settings(directory, directory / "unused", 0), Store(directory / "registry"), lambda _: None)


def _train(directory: Path, target: Path, arm: Arm, held_out: int, resume: bool) -> None:
    from moe_cli.train import stage

    store = Store(directory / "registry")
    stage.run(arm, settings(directory, target, held_out), store, lambda _: None, resume=resume)


def main() -> None:
    """Print one line per kill and the sum."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--kills", type=int, default=50)
    words.add_argument("--seed", type=int, default=0)
    words.add_argument("--arms", nargs="+", choices=ENDS, default=list(ENDS))
    typed = words.parse_args()
    kinds = [kind for kind in KINDS if kind[0] in typed.arms]
    with tempfile.TemporaryDirectory() as directory:
        found = []
        for outcome in outcomes(Path(directory), typed.kills, typed.seed, kinds):
            found.append(outcome)
            said = "same" if outcome.same else "DIFFERENT"
            print(
                f"{outcome.arm}, {outcome.held_out} held out, killed after {outcome.seconds:.2f} s: {said}", flush=True
            )
    caught = sum(outcome.begun for outcome in found)
    print(f"{sum(outcome.same for outcome in found)} of {len(found)} bit-identical; {caught} were killed mid-run")


if __name__ == "__main__":
    main()
