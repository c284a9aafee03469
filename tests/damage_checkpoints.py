"""Cut or flip one bit in a file of a real checkpoint, many times: the command must refuse to resume and name the file.

    python -m tests.damage_checkpoints --trials 200

Comes in: nothing; the tiny model and its language. Goes out: how many damages were detected, by file and kind. Always
holds: the checkpoints are those of both arms, stopped in the middle; the command is `moe train ... --resume` with its
exit code and its words; what is on disk after it is what was there before it; undamaged, both runs resume to their end.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import random
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from unittest.mock import patch

from moe_cli.artifacts import Store
from moe_cli.artifacts.files import sha256_of
from moe_cli.cli.app import main as moe
from moe_cli.config import MoeConfig, dump_yaml
from moe_cli.errors import ExitCode, StoppedError
from moe_cli.prepare import stage as prepare
from moe_cli.records import Arm, StepRecord
from moe_cli.train import stage as train
from tests.small_experiment import settings_of_small_experiment

ARMS: tuple[Arm, ...] = ("selective", "baseline")
STOP_AFTER = 5


@dataclass(frozen=True)
class Trial:
    """One damage and what the command made of it."""

    arm: Arm
    file: str
    damage: Literal["cut", "bit flip"]
    place: int  # bytes that are left, or the bit that was flipped
    exit_code: int
    named: bool  # the error names the file, and a hint follows
    untouched: bool  # nothing on disk was changed by the command

    @property
    def detected(self) -> bool:
        """Refused, said why, and left everything as it was."""
        return self.exit_code == ExitCode.ARTIFACT and self.named and self.untouched


def stopped_runs(directory: Path) -> dict[Arm, Path]:
    """A run of each arm, stopped in the middle; its settings are in `settings.yaml`."""
    config = _settings(directory)
    (directory / "settings.yaml").write_text(dump_yaml(config), encoding="utf-8")
    store = Store(directory / "registry")
    prepare.run(config, store, lambda _: None)
    for arm in ARMS:
        with contextlib.suppress(StoppedError):
            train.run(arm, config, store, _stop)
    return {"selective": config.train.selective_dir, "baseline": config.train.baseline_dir}


def trials(directory: Path, runs: dict[Arm, Path], number: int, seed: int) -> Iterator[Trial]:
    """Damage `number` times and mend each time."""
    chance = random.Random(seed)
    for _ in range(number):
        arm = chance.choice(ARMS)
        (checkpoint,) = runs[arm].glob("checkpoint-*")
        file = chance.choice(sorted(checkpoint.iterdir()))
        whole = file.read_bytes()
        damage: Literal["cut", "bit flip"] = chance.choice(("cut", "bit flip"))
        place = chance.randrange(len(whole) if damage == "cut" else 8 * len(whole))
        file.write_bytes(whole[:place] if damage == "cut" else _flipped(whole, place))
        before = _contents(runs[arm])
        code, said = resume(directory, arm)
        first, _, rest = said.partition("\n")
        named = first.startswith(f"error: {file} ") and rest.startswith("hint: ")
        yield Trial(arm, file.name, damage, place, code, named, before == _contents(runs[arm]))
        file.write_bytes(whole)


def resume(directory: Path, arm: Arm) -> tuple[int, str]:
    """Exit code and stderr of `moe train ARM --resume`."""
    words = ["moe", "train", arm, "--resume", "--config", str(directory / "settings.yaml")]
    said = io.StringIO()
    with (
        patch.object(sys, "argv", words),
        patch.dict(os.environ),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(said),
    ):
        try:
            moe()
        except SystemExit as stop:
            return int(stop.code or 0), said.getvalue()
    raise AssertionError("the command ended without an exit code")


def _settings(directory: Path) -> MoeConfig:
    config = settings_of_small_experiment(
        directory, model={"threads": 1}, train={"prepared": directory / "prepared", "checkpoint_every": STOP_AFTER}
    )
    return config.model_copy(update={"registry": directory / "registry"})


def _stop(event: object) -> None:
    if isinstance(event, StepRecord) and event.step == STOP_AFTER:
        os.kill(os.getpid(), signal.SIGTERM)


def _flipped(data: bytes, bit: int) -> bytes:
    byte = bit // 8
    return data[:byte] + bytes([data[byte] ^ (1 << bit % 8)]) + data[byte + 1 :]


def _contents(run: Path) -> dict[str, str]:
    return {str(file.relative_to(run)): sha256_of(file) for file in run.rglob("*") if file.is_file()}


def main() -> None:
    """Print the sums by file and kind, and what was not detected."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--trials", type=int, default=200)
    words.add_argument("--seed", type=int, default=0)
    typed = words.parse_args()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        runs = stopped_runs(directory)
        found = list(trials(directory, runs, typed.trials, typed.seed))
        ends = [resume(directory, arm)[0] for arm in ARMS]
    tried = Counter((trial.file, trial.damage) for trial in found)
    detected = Counter((trial.file, trial.damage) for trial in found if trial.detected)
    for (file, damage), count in sorted(tried.items()):
        print(f"{file:<26} {damage:<9} {detected[file, damage]} of {count} detected")
    for trial in found:
        if not trial.detected:
            print(f"NOT DETECTED: {trial}")
    print(f"{sum(detected.values())} of {len(found)} detected; undamaged, {ends.count(0)} of {len(ends)} resume")


if __name__ == "__main__":
    main()
