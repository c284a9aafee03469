"""What each arm unfreezes; the reference: a union of everything without masks is a dense run of the same experts."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from moe_cli.config import ModelConfig, MoeConfig
from moe_cli.errors import EnvironmentFaultError, UsageError
from moe_cli.experts import attach
from moe_cli.experts.dense import dense_experts
from moe_cli.model.load import load_model
from moe_cli.model.token_rows import answer_loss_sum
from moe_cli.records import Expert
from moe_cli.train import arm_setup
from moe_cli.train.arm_setup import baseline_arm, compute_dtype, refuse_too_large
from moe_cli.train.dataset import FixedBatches
from tests.train.test_dataset import ROWS


@pytest.fixture
def loaded():
    torch.set_num_threads(1)
    return load_model(ModelConfig(name="tiny", device="cpu"))


def losses_of(model, parameters, steps: int = 4) -> list[float]:
    batch = FixedBatches([ROWS], max_padding=0.1, max_tokens=None)[0]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.0, fused=True)
    found = []
    for _ in range(steps):
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        loss = answer_loss_sum(logits, batch["labels"])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        found.append(loss.item())
    return found


def test_slices_of_all_experts_without_masks_follow_a_dense_run_of_the_same_experts(loaded):
    experts = [Expert(layer=layer.layer, index=i) for layer in loaded.layers for i in range(layer.num_experts)]
    with attach(loaded.model, experts) as slices:
        sliced = losses_of(loaded.model, list(slices.parameters.values()))
    loaded.model.requires_grad_(False)
    banks = [layer.module.get_parameter(name) for layer in loaded.layers for name in layer.weights]
    for bank in banks:
        bank.requires_grad_(True)
    with dense_experts(loaded.model, torch.float32):
        dense = losses_of(loaded.model, banks)
    assert sliced == pytest.approx(dense, rel=1e-5)
    assert sliced[-1] < sliced[0]


def test_the_baseline_trains_everything_as_float32_masters_and_computes_experts_in_the_checkpoint_s_dtype(loaded):
    half = dataclasses.replace(loaded, identity=dataclasses.replace(loaded.identity, dtype="bfloat16"))
    half.model.to(torch.bfloat16)
    with baseline_arm(half) as setup:
        assert setup.count.trainable_ratio == 1.0
        assert {parameter.dtype for parameter in setup.trained.values()} == {torch.float32}
        batch = FixedBatches([ROWS], max_padding=0.1, max_tokens=None)[0]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = half.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        answer_loss_sum(logits, batch["labels"]).backward()
        assert setup.experts_dtype() is torch.bfloat16
        assert all(p.grad is not None and p.grad.dtype is torch.float32 for p in setup.trained.values())
        setup.finish()
    assert {parameter.dtype for parameter in half.model.parameters()} == {torch.bfloat16}


def test_what_a_bfloat16_checkpoint_keeps_in_float32_keeps_every_bit_in_an_untrained_baseline(loaded):
    model = loaded.model.to(torch.bfloat16)
    precise = torch.nn.Parameter(torch.tensor([1.0 + 2.0**-20]))
    model.register_parameter("precise", precise)
    model.register_buffer("correction", torch.tensor([1.0 + 2.0**-20]))
    before = {name: tensor.clone() for name, tensor in [*model.named_parameters(), *model.named_buffers()]}
    half = dataclasses.replace(loaded, identity=dataclasses.replace(loaded.identity, dtype="bfloat16"))
    with baseline_arm(half) as setup:
        setup.finish()
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        assert tensor.dtype is before[name].dtype, name
        assert torch.equal(tensor, before[name]), name


def test_dense_experts_in_the_same_dtype_change_no_logit(loaded):
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        before = loaded.model(ids).logits
        with dense_experts(loaded.model, torch.float32):
            inside = loaded.model(ids).logits
        after = loaded.model(ids).logits
    assert torch.equal(before, inside)
    assert torch.equal(before, after)


def test_half_precision_whose_gradients_underflow_is_refused(loaded):
    half = dataclasses.replace(loaded, identity=dataclasses.replace(loaded.identity, dtype="float16"))
    with pytest.raises(UsageError, match="gradients underflow"):
        compute_dtype(half)


@pytest.mark.parametrize(
    ("arm", "dtype", "selected", "room", "needs"),
    [
        (
            "baseline",
            "auto",
            100_000,
            16 * 1_570_944 - 1,
            "at least 0.0 GB for its masters, gradients and moments, and",
        ),
        ("selective", "auto", 0, 4 * 1_570_944 - 1, "for its weights in float32, and"),
        ("selective", "bfloat16", 0, 2 * 1_570_944 - 1, "for its weights in bfloat16, and"),
        (
            *("selective", "bfloat16", 300_000, 2 * 1_570_944 + 16 * 300_000 - 1),
            "weights in bfloat16 and the masters, gradients and moments of 0.3 M selected parameters, and",
        ),
        (
            "alternating",
            "auto",
            0,
            4 * 1_570_944 - 1,
            "the alternating arm of tiny needs .* for its weights in float32",
        ),
    ],
)
def test_an_arm_that_cannot_fit_is_refused_before_anything_is_loaded(monkeypatch, arm, dtype, selected, room, needs):
    config = MoeConfig.model_validate({"model": {"name": "tiny", "device": "cpu", "dtype": dtype}})
    monkeypatch.setattr(arm_setup, "total_bytes", lambda device: (room,))
    with pytest.raises(EnvironmentFaultError, match=needs) as refused:
        refuse_too_large(arm, config, selected)
    assert "moe plan tiny shows what each arm needs" in refused.value.hint
    assert ("--set model.dtype=bfloat16" in refused.value.hint) == (arm != "baseline" and dtype == "auto")
    monkeypatch.setattr(arm_setup, "total_bytes", lambda device: (room // 2 + 1, room // 2 + 1))  # two cards
    refuse_too_large(arm, config, selected)


@pytest.mark.parametrize(("arm", "may_share"), [("selective", True), ("baseline", True), ("alternating", False)])
def test_several_processes_are_told_to_share_the_weights_of_an_arm_that_can(arm, may_share, monkeypatch):
    monkeypatch.setattr(arm_setup, "total_bytes", lambda device: (10**6,))
    monkeypatch.setattr(arm_setup, "num_ranks", lambda: 2)
    with pytest.raises(EnvironmentFaultError, match="for each of 2 processes") as refused:
        refuse_too_large(arm, MoeConfig.model_validate({"model": {"name": "tiny", "device": "cpu"}}), 0)
    assert ("train.placement=sharded" in refused.value.hint) == may_share
