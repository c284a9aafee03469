"""Stop a training run in ten ways, resume it, and compare every bit with the run that was never stopped.

    python -m tests.resume_everywhere

Comes in: nothing; the tiny model and its language. Goes out: one line per arm and configuration. Always holds: what is
compared is the final model, the float32 masters, the optimizer's state (what does not exist must not exist in the other
run either), the random generators, the schedule and every step record, all after the last step.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from math import ceil
from pathlib import Path
from typing import Literal
from unittest.mock import patch

import orjson

from moe_cli.artifacts import ScratchFiles, Store
from moe_cli.artifacts.files import sha256_of
from moe_cli.artifacts.layout import FINAL_MODEL, STEPS
from moe_cli.codec import decode_lines
from moe_cli.config import MoeConfig
from moe_cli.errors import StoppedError
from moe_cli.prepare import stage as prepare
from moe_cli.records import Arm, CheckpointState, StepRecord, TrainingPlan
from moe_cli.tiny import CHECKPOINT_PATH
from moe_cli.train import stage as train
from moe_cli.train.checkpoint import CHECKPOINTS, OPTIMIZER, PARAMETERS, RANDOM, TRAINER_STATE, read_state
from tests.small_experiment import settings_of_small_experiment

ARMS: tuple[Arm, ...] = ("selective", "baseline")
NUM_BATCHES = 6  # of the prepare run
DROPOUT_MODEL = "with_dropout"
DROPOUT = 0.2

CHANGE_NO_BIT = ("checkpoint_every", "workers")  # compared with a run that does not have them

COMPARED = {
    "final model": f"{FINAL_MODEL}/model.safetensors",
    "masters": f"checkpoint/{PARAMETERS}",
    "optimizer": f"checkpoint/{OPTIMIZER}",
    "random generators": f"checkpoint/{RANDOM}",
    "trainer state": f"checkpoint/{TRAINER_STATE}",
}


@dataclass(frozen=True)
class Configuration:
    """One way to train and to be stopped."""

    name: str
    stop_after: int  # the step whose checkpoint the resumed run starts from
    how: Literal["signal", "crash"]  # asked to stop, or gone while the step after the checkpoint ends
    settings: dict[str, object] = field(default_factory=dict)  # of the section `train`
    dropout: bool = False


CONFIGURATIONS = (
    Configuration("step 1", 1, "crash", {"checkpoint_every": 1}),
    Configuration("mid-epoch", 4, "crash", {"checkpoint_every": 4}),
    Configuration("epoch end", 6, "crash"),
    Configuration("second epoch", 8, "crash", {"checkpoint_every": 4}),
    Configuration("last step", 12, "crash"),
    Configuration("accumulation", 3, "signal", {"gradient_accumulation_steps": 4, "warmup_steps": 0}),
    Configuration("dropout", 4, "signal", dropout=True),
    Configuration("workers", 7, "signal", {"workers": 2}),
    Configuration("decay and clipping", 5, "signal", {"weight_decay": 0.1, "max_grad_norm": 0.05}),
    Configuration("SIGTERM", 9, "signal"),
)


class GoneError(Exception):
    """The process is gone; nothing after this line of it happens."""


@dataclass(frozen=True)
class Outcome:
    """A run that was stopped and resumed."""

    resumed_with: int  # the first step after resuming
    num_steps: int
    differences: tuple[str, ...]  # what is not as in the run that was never stopped


class Experiments:
    """A prepare run, and training runs on it below one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.store = Store(directory / "registry")
        prepare.run(self.settings("unused"), self.store, lambda _: None)
        copy = directory / DROPOUT_MODEL
        shutil.copytree(CHECKPOINT_PATH, copy)
        config = orjson.loads((copy / "config.json").read_bytes())
        (copy / "config.json").write_bytes(orjson.dumps({**config, "attention_dropout": DROPOUT}))
        self.uninterrupted = cache(self._uninterrupted)

    def settings(self, name: str, *, dropout: bool = False, **train_settings: object) -> MoeConfig:
        """Of a run in the directory `name`."""
        model = str(self.directory / DROPOUT_MODEL) if dropout else "tiny"
        own = {
            "prepared": self.directory / "prepared",
            "selective_dir": self.directory / "selective" / name,
            "baseline_dir": self.directory / "baseline" / name,
        }
        return settings_of_small_experiment(
            self.directory, model={"name": model, "threads": 1}, train={**own, **train_settings}
        )

    def outcome(self, arm: Arm, case: Configuration) -> Outcome:
        """Stop, resume and compare."""
        mattering = {name: value for name, value in case.settings.items() if name not in CHANGE_NO_BIT}
        whole = self.uninterrupted(arm, case.dropout, tuple(mattering.items()))
        config = self.settings(case.name.replace(" ", "_"), dropout=case.dropout, **case.settings)
        self._stopped(arm, config, case)
        plans: list[TrainingPlan] = []
        path = self.to_the_end(arm, config, lambda event: _keep_plan(plans, event), resume=True)
        return Outcome(plans[0].first_step, plans[0].num_steps, tuple(differences(whole, path)))

    def _uninterrupted(self, arm: Arm, dropout: bool, settings: tuple[tuple[str, object], ...]) -> Path:
        name = "-".join(["whole", *(str(value) for item in settings for value in item), *["dropout"] * dropout])
        return self.to_the_end(arm, self.settings(name, dropout=dropout, **dict(settings)), lambda _: None)

    def to_the_end(
        self, arm: Arm, config: MoeConfig, notify: Callable[[object], None], *, resume: bool = False
    ) -> Path:
        """As `train_to_the_end`."""
        return train_to_the_end(arm, config, self.store, notify, last_step=_last_step(config), resume=resume)

    def _stopped(self, arm: Arm, config: MoeConfig, case: Configuration) -> None:
        if case.how == "signal":
            _expect(StoppedError, lambda: self._train(arm, config, lambda e: ask_to_stop_after(case.stop_after, e)))
        elif case.stop_after < _last_step(config):
            _expect(GoneError, lambda: self._train(arm, config, lambda e: _gone_in(case.stop_after + 1, e)))
        else:  # the last step is done and saved, the final model is not
            with patch.object(train, "_write", side_effect=GoneError):
                _expect(GoneError, lambda: self._train(arm, config, lambda e: ask_to_stop_after(case.stop_after, e)))

    def _train(self, arm: Arm, config: MoeConfig, notify: Callable[[object], None]) -> None:
        train.run(arm, config, self.store, notify)


def train_to_the_end(
    arm: Arm,
    config: MoeConfig,
    store: Store,
    notify: Callable[[object], None],
    *,
    last_step: int,
    resume: bool = False,
    **more: object,
) -> Path:
    """Train; a signal in the last step leaves the checkpoint after it, which is kept as `checkpoint`."""

    def and_stop(event: object) -> None:
        notify(event)
        ask_to_stop_after(last_step, event)

    with patch.object(train, "SCRATCH", ScratchFiles(names=CHECKPOINTS, clear=_keep_last)):
        return train.run(arm, config, store, and_stop, resume=resume, **more).path


def step_records(run: Path) -> list[StepRecord]:
    """All that is recorded of the steps, but for how long they took and what several processes sent."""
    return [replace(step, seconds=0.0, gradient_bytes=0) for step in decode_lines(StepRecord, run / STEPS)]


def differences(one: Path, other: Path) -> Iterator[str]:
    """What two runs do not share, bit for bit."""
    for name, file in COMPARED.items():
        if sha256_of(one / file) != sha256_of(other / file):
            yield name
    if _state(one) != _state(other):
        yield "schedule"
    if step_records(one) != step_records(other):
        yield "step records"


def _state(run: Path) -> CheckpointState:
    """The state of the last checkpoint, but for how long a phase took to begin and to end."""
    state = read_state(run / "checkpoint")
    return replace(state, phases=tuple(replace(phase, seconds=0.0) for phase in state.phases))


def _last_step(config: MoeConfig) -> int:
    batches = NUM_BATCHES - config.train.validation_batches
    return config.train.num_epochs * ceil(batches / config.train.gradient_accumulation_steps)


def _keep_plan(plans: list[TrainingPlan], event: object) -> None:
    if isinstance(event, TrainingPlan):
        plans.append(event)


def _keep_last(run: Path) -> None:
    newest = max(run.glob("checkpoint-*"), key=lambda path: int(path.name.partition("-")[2]))
    newest.rename(run / "checkpoint")


def ask_to_stop_after(step: int, event: object) -> None:
    """What a scheduler does at the end of that step."""
    if isinstance(event, StepRecord) and event.step == step:
        os.kill(os.getpid(), signal.SIGTERM)


def _gone_in(step: int, event: object) -> None:
    if isinstance(event, StepRecord) and event.step == step:
        raise GoneError


def _expect(error: type[Exception], action: Callable[[], None]) -> None:
    try:
        action()
    except error:
        return
    raise AssertionError(f"the run was not stopped by {error.__name__}")


def main() -> None:
    """Print a table and the sum."""
    found = []
    with tempfile.TemporaryDirectory() as directory:
        experiments = Experiments(Path(directory))
        print(f"{'arm':<10} {'configuration':<20} {'stopped by':<10} {'resumed with':<14} differences")
        for arm in ARMS:
            for case in CONFIGURATIONS:
                outcome = experiments.outcome(arm, case)
                found.append(outcome)
                place = f"{outcome.resumed_with} of {outcome.num_steps}"
                said = ", ".join(outcome.differences) or "none"
                print(f"{arm:<10} {case.name:<20} {case.how:<10} {place:<14} {said}", flush=True)
    print(f"{sum(not outcome.differences for outcome in found)} of {len(found)} bit-identical")


if __name__ == "__main__":
    main()
