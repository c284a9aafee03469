"""In a real run a masked expert does not exist in a step, and a run that cannot prove what it trains does not start."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from moe_cli.artifacts import ScratchFiles, layout
from moe_cli.codec import decode, decode_lines
from moe_cli.experts import frozen_digest
from moe_cli.model.load import load_model
from moe_cli.records import Expert, StepRecord, TrainingSummary
from moe_cli.train import checkpoint, fitting
from moe_cli.train import stage as train
from moe_cli.train.trainer import FixedBatchTrainer
from tests.resume_everywhere import ask_to_stop_after

WEIGHTS = ("gate_up_proj", "down_proj")
DECAY = 0.1
CLIPPED_AT = 0.05

OPTIMIZERS = {
    "adamw fused": None,  # the program's own
    "adamw": lambda p: torch.optim.AdamW(p, lr=1e-3, weight_decay=DECAY),
    "sgd momentum": lambda p: torch.optim.SGD(p, lr=1e-2, momentum=0.9, weight_decay=DECAY),
}
ADAMW = {"step", "exp_avg", "exp_avg_sq"}
ENTRIES = {"adamw fused": ADAMW, "adamw": ADAMW, "sgd momentum": {"momentum_buffer"}}


def of_expert(tensors: dict[str, Tensor], expert: Expert) -> dict[str, Tensor]:
    """Everything that a checkpoint holds of one expert: masters, or the optimizer's state of them."""
    prefix = f"layers.{expert.layer}.experts.{expert.index}."
    return {name: tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def same_bits(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_weight_moments_step_count_and_decay_of_a_masked_expert_keep_their_bits_in_every_step_of_a_run(
    experiments, selection, monkeypatch, optimizer, accumulation
):
    if build := OPTIMIZERS[optimizer]:

        def create(trainer, model=None):
            trainer.optimizer = build(list(trainer.trained.values()))
            return trainer.optimizer

        monkeypatch.setattr(FixedBatchTrainer, "create_optimizer", create)
    monkeypatch.setattr(checkpoint, "drop_checkpoints", lambda *_, **__: None)  # every step's state stays
    monkeypatch.setattr(train, "SCRATCH", ScratchFiles(names=checkpoint.CHECKPOINTS))
    config = experiments.settings(
        f"masks {optimizer} {accumulation}",
        weight_decay=DECAY,
        max_grad_norm=CLIPPED_AT,
        gradient_accumulation_steps=accumulation,
        checkpoint_every=1,
        warmup_steps=0,
    )
    num_steps = 12 // accumulation
    made = train.run("selective", config, experiments.store, lambda event: ask_to_stop_after(num_steps, event))
    steps = list(decode_lines(StepRecord, made.path / layout.STEPS))
    assert len(steps) == num_steps
    assert all(step.grad_norm > CLIPPED_AT and len(step.batches) == accumulation for step in steps)
    files = (checkpoint.PARAMETERS, checkpoint.OPTIMIZER)
    saved = {k: [load_file(made.path / f"checkpoint-{k}" / file) for file in files] for k in range(1, num_steps + 1)}
    masked = absent = 0
    for step in steps[1:]:
        active = {expert for batch in step.batches for expert in selection.batches[batch]}
        for expert in selection.union:
            (weights_before, state_before), (weights, state) = (
                [of_expert(tensors, expert) for tensors in saved[number]] for number in (step.step - 1, step.step)
            )
            assert len(weights) == len(WEIGHTS)
            if expert in active:
                assert {name.rpartition("/")[2] for name in state} == ENTRIES[optimizer]
                assert not any(torch.equal(weights_before[name], weights[name]) for name in weights)
                assert not same_bits(state_before, state)
            else:
                assert same_bits(weights_before, weights)
                assert same_bits(state_before, state)
                masked += 1
                absent += not state
    assert masked > num_steps
    assert absent > 0  # some were never updated so far, and have no moments at all


def test_both_proofs_are_in_the_metadata_on_disk(experiments, selection):
    file = experiments.uninterrupted("selective", False, ()) / layout.METADATA
    proof = decode(TrainingSummary, file.read_bytes(), source=str(file)).proof
    num_slices = len(WEIGHTS) * len(selection.union)
    assert (proof.requested, proof.in_optimizer, proof.with_gradient) == (num_slices,) * 3
    assert proof.frozen_digest_before == proof.frozen_digest_after
    model = load_model(experiments.settings("base").model).model
    assert proof.frozen_digest_before == frozen_digest(model, selection.union)


@pytest.mark.parametrize(
    "fault", ["a slice without a gradient", "a gradient that nobody asked for"], ids=lambda fault: fault
)
def test_a_run_whose_probe_step_fails_does_not_start(experiments, monkeypatch, fault):
    honest = fitting._probe_loss

    def dishonest(loaded, setup, task):
        if fault == "a slice without a gradient":
            activate = setup.slices.activate
            monkeypatch.setattr(setup.slices, "activate", lambda _: activate(setup.slices.experts[1:]))
        else:
            loaded.model.get_input_embeddings().requires_grad_(True)
        return honest(loaded, setup, task)

    monkeypatch.setattr(fitting, "_probe_loss", dishonest)
    config, events = experiments.settings(fault), []
    with pytest.raises(ValueError, match="the probe step asked for"):
        train.run("selective", config, experiments.store, events.append)
    assert not any(isinstance(event, StepRecord) for event in events)
    assert not config.train.selective_dir.exists()  # nothing was begun, so nothing is left


def test_a_run_in_which_a_frozen_weight_moved_writes_no_model(experiments, monkeypatch):
    config, models = experiments.settings("moved", num_epochs=1), []

    def load(config, **options):
        models.append(load_model(config, **options))
        return models[-1]

    def move(event: object) -> None:
        if isinstance(event, StepRecord) and event.step == 2:
            with torch.no_grad():
                models[0].model.get_input_embeddings().weight[5, 5] += 1e-3

    monkeypatch.setattr(train, "load_model", load)
    with pytest.raises(AssertionError, match="a weight outside the selection moved; nothing is written"):
        train.run("selective", config, experiments.store, move)
    assert not (config.train.selective_dir / layout.FINAL_MODEL).exists()
    assert not (config.train.selective_dir / layout.MANIFEST).exists()
