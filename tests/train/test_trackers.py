"""TensorBoard follows a training in the run's own directory; a tracker that is not here is refused before the model."""

import os
import signal

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from moe_cli.artifacts import finished_run, layout
from moe_cli.artifacts.files import sha256_of
from moe_cli.codec import decode_lines
from moe_cli.errors import EnvironmentFaultError, StoppedError, UsageError
from moe_cli.records import StepRecord
from moe_cli.train import arguments
from moe_cli.train import stage as train

WEIGHTS = f"{layout.FINAL_MODEL}/model.safetensors"


def scalars(directory, name):
    events = EventAccumulator(str(directory)).Reload()
    return {event.step: event.value for event in events.Scalars(name)}


def test_a_tracked_run_that_is_stopped_and_resumed_shows_every_step_and_is_the_untracked_one(experiments):
    config = experiments.settings("tracked", report_to="tensorboard")

    def stop(event):
        if isinstance(event, StepRecord) and event.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(StoppedError):
        train.run("selective", config, experiments.store, stop)
    made = train.run("selective", config, experiments.store, lambda _: None, resume=True)
    run = finished_run(made.path)
    assert [name for name in run.manifest.files if name.startswith("tensorboard/")] and run.damaged() == ()
    steps = {step.step: step for step in decode_lines(StepRecord, made.path / layout.STEPS)}
    for name, value in (("loss", "loss"), ("grad_norm", "grad_norm"), ("learning_rate", "learning_rate")):
        logged = scalars(made.path / layout.TENSORBOARD, f"train/{name}")
        assert logged == pytest.approx({number: getattr(step, value) for number, step in steps.items()}, rel=1e-4)
    assert sorted(steps) == list(range(1, 13))
    assert sha256_of(made.path / WEIGHTS) == sha256_of(experiments.uninterrupted("selective", False, ()) / WEIGHTS)


def test_the_environment_may_name_another_place(experiments, monkeypatch, tmp_path):
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "board"))
    config = experiments.settings("elsewhere", report_to="tensorboard", num_epochs=1)
    made = train.run("selective", config, experiments.store, lambda _: None)
    assert len(scalars(tmp_path / "board", "train/loss")) == 6
    assert not (made.path / layout.TENSORBOARD).exists()


@pytest.mark.parametrize(
    ("tracker", "error", "words"),
    [
        ("tensorbord", UsageError, "tensorbord is not supported, only "),
        ("all", UsageError, "all is not supported, only "),
        ("tensorboard", EnvironmentFaultError, "tensorboard, which is not installed"),
        ("comet_ml", EnvironmentFaultError, "comet_ml, which is not installed"),
    ],
)
def test_a_tracker_that_is_not_here_is_refused_before_the_model_is_loaded(
    experiments, monkeypatch, tracker, error, words
):
    monkeypatch.setattr(arguments, "get_available_reporting_integrations", lambda: ["wandb"])
    monkeypatch.setattr(train, "load_model", lambda *_, **__: pytest.fail("the model was loaded"))
    config = experiments.settings("refused", report_to=["wandb", tracker])
    with pytest.raises(error, match=words) as refusal:
        train.run("selective", config, experiments.store, lambda _: None)
    assert "comet_ml" not in words or "pip install comet-ml" in refusal.value.hint
    assert not (experiments.directory / "selective/refused").exists()
