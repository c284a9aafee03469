"""What an update made is checked where it is written: no checkpoint, delta or final model holds NaN or infinity."""

import os
import signal

import pytest
import torch
from safetensors.torch import load_file, save_file

from moe_cli.artifacts import layout
from moe_cli.artifacts.files import write_checksums
from moe_cli.errors import NumericError, StoppedError
from moe_cli.records import StepRecord
from moe_cli.train import checkpoint
from moe_cli.train import stage as train
from tests.train.alternating_runs import settings_of

ONE_STEP = {"learning_rate": 3e38, "num_epochs": 1, "gradient_accumulation_steps": 1000, "max_share": 1.0}


@pytest.mark.parametrize("arm", ["selective", "baseline"])
def test_a_last_update_to_infinity_ends_with_its_step_and_writes_no_weights(experiments, arm):
    config = experiments.settings("infinite", **ONE_STEP)
    with pytest.raises(NumericError, match=r"what the updates up to step 1 made holds NaN or infinity in \S+") as stop:
        train.run(arm, config, experiments.store, lambda _: None)
    run = experiments.directory / arm / "infinite"
    assert stop.value.exit_code == 5
    assert not (run / layout.MANIFEST).exists() and not list(run.rglob("*.safetensors"))


def test_a_loss_of_the_routers_that_is_not_finite_ends_the_run_before_an_update_and_writes_no_weights(experiments):
    config = settings_of(experiments, "infinite", num_rounds=1, skip_expert_training=True, router_learning_rate=3e38)
    with pytest.raises(NumericError, match=r"the loss of step 2 is nan .*no parameter was updated with it") as stop:
        train.run("alternating", config, experiments.store, lambda _: None)
    run = experiments.directory / "alternating" / "infinite"
    assert stop.value.exit_code == 5
    assert not (run / layout.MANIFEST).exists() and not list(run.rglob("*.safetensors"))


def test_the_checkpoint_before_the_update_to_infinity_stays_the_newest(experiments):
    settings = {"checkpoint_every": 1, "num_epochs": 2}

    def explode(event: object) -> None:
        if isinstance(event, StepRecord) and event.step == 3:
            with torch.no_grad():
                explode.parameter.fill_(float("inf"))

    original = checkpoint.save_checkpoint

    def remember(run, owner, parameters, *rest):
        explode.parameter = next(iter(parameters.values()))
        return original(run, owner, parameters, *rest)

    config = experiments.settings("exploding", **settings)
    run = experiments.directory / "selective" / "exploding"
    with pytest.MonkeyPatch.context() as patch, pytest.raises(NumericError, match="updates up to step 3 made"):
        patch.setattr(checkpoint, "save_checkpoint", remember)
        train.run("selective", config, experiments.store, explode)
    assert [path.name for path in run.glob("checkpoint-*")] == ["checkpoint-2"]
    whole = train.run("selective", experiments.settings("undisturbed", **settings), experiments.store, lambda _: None)
    resumed = train.run("selective", config, experiments.store, lambda _: None, resume=True)
    assert resumed.summary.trained_fingerprint == whole.summary.trained_fingerprint


@pytest.mark.parametrize("file", [checkpoint.PARAMETERS, checkpoint.OPTIMIZER])
def test_a_checkpoint_that_holds_infinity_is_named_when_it_is_read(experiments, file):
    def stop(event: object) -> None:
        if isinstance(event, StepRecord) and event.step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    name = f"read_{file.partition('.')[0]}"
    config = experiments.settings(name)
    with pytest.raises(StoppedError):
        train.run("selective", config, experiments.store, stop)
    (path,) = (experiments.directory / "selective" / name).glob("checkpoint-*")
    tensors = load_file(path / file)
    next(tensor for tensor in tensors.values() if tensor.numel() > 1).view(-1)[0] = float("nan")
    save_file(tensors, path / file)
    (path / "digests.json").unlink()
    write_checksums(path)
    with pytest.raises(NumericError, match=f"{path.name} holds NaN or infinity") as refused:
        train.run("selective", config, experiments.store, lambda _: None, resume=True)
    assert f"remove {path}" in refused.value.hint
