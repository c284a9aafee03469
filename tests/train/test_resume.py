"""A run that was stopped and resumed is the uninterrupted one, bit for bit; `tests/resume_everywhere.py` prints it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess

import pytest

from moe_cli.errors import ArtifactError, StoppedError
from moe_cli.records import StepRecord
from moe_cli.train import checkpoint, tensor_files
from moe_cli.train import stage as train
from tests.resume_everywhere import ARMS, CONFIGURATIONS, differences

CASES = {case.name: case for case in CONFIGURATIONS}


@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.parametrize("name", CASES)
def test_a_stopped_and_resumed_run_is_the_uninterrupted_one_bit_for_bit(experiments, arm, name):
    outcome = experiments.outcome(arm, CASES[name])
    assert outcome.resumed_with == CASES[name].stop_after + 1
    assert outcome.differences == ()


def test_dropout_is_really_there_and_the_comparison_sees_it(experiments):
    whole, dropped = (experiments.uninterrupted("selective", dropout, ()) for dropout in (False, True))
    found = list(differences(whole, dropped))
    assert {"final model", "masters", "optimizer", "random generators", "step records"} <= set(found)


@pytest.mark.parametrize(
    ("file", "lost"),
    [(tensor_files, "load_random_state"), (checkpoint, "load_optimizer"), (checkpoint, "load_parameters")],
)
def test_a_resume_that_forgets_a_part_of_the_state_is_seen(experiments, monkeypatch, file, lost):
    case = CASES["dropout"]
    forgetful = type(case)(f"without {lost}", case.stop_after, case.how, dropout=True)
    monkeypatch.setattr(file, lost, lambda *_: None)
    assert "final model" in experiments.outcome("selective", forgetful).differences


def test_a_signal_to_the_whole_process_group_lets_the_step_finish_when_workers_hand_out_batches(experiments):
    config = experiments.settings("group", workers=2)
    seen = []

    def stop_the_group(event: object) -> None:
        if isinstance(event, StepRecord) and event.step in (2, 3):
            workers = [child.pid for child in multiprocessing.active_children()]
            seen.append(len(workers))
            mine = [os.getpid()] if event.step == 3 else []
            subprocess.run(["kill", "-TERM", *map(str, workers + mine)], check=True)

    with pytest.raises(StoppedError, match="by SIGTERM after step 3 of 12"):
        train.run("selective", config, experiments.store, stop_the_group)
    assert seen == [2, 2]


def test_only_resume_goes_on_with_an_interrupted_run(experiments):
    config = experiments.settings("interrupted")

    def stop(event: object) -> None:
        if isinstance(event, StepRecord):
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(StoppedError, match="after step 1 of 12"):
        train.run("selective", config, experiments.store, stop)
    with pytest.raises(ArtifactError, match="interrupted run"):
        train.run("selective", config, experiments.store, lambda _: None)
