"""Weight drift: every weight once, exactly nothing where no bit differs, and on real runs exactly the selection."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from moe_cli.artifacts import Store, finished_run
from moe_cli.codec import decode, encode
from moe_cli.evaluate import weight_drift as module
from moe_cli.evaluate.base_router import changed_router_params
from moe_cli.evaluate.target import selected_experts_of
from moe_cli.evaluate.weight_drift import measure_weight_drift
from moe_cli.model.load import LoadedModel, load_model
from moe_cli.model.tensors import stored_tensors
from moe_cli.model.topology import expert_layers
from moe_cli.prepare import stage as prepare
from moe_cli.records.drift import GroupDrift
from moe_cli.train import stage as train
from tests.evaluate.two_models import moved, tiny
from tests.experts.catalog import build
from tests.experts.families import gpt_oss

SELECTED = np.zeros((4, 16), dtype=bool)
SELECTED[0, [2, 3, 9]] = SELECTED[3, 15] = True


def by_group(drifts):
    return {drift.group: drift for drift in drifts}


def as_loaded(model) -> LoadedModel:
    """A model without a tokenizer, as far as weights need it."""
    layers = expert_layers(model)
    return LoadedModel(model, None, layers, SimpleNamespace(num_experts=layers[0].num_experts))  # type: ignore[arg-type]


def norm_of(*tensors):
    return float(np.sqrt(sum(np.square(tensor.detach().double().numpy()).sum() for tensor in tensors)))


def test_a_model_has_moved_from_itself_by_exactly_nothing():
    base, tuned = tiny(), tiny()
    drifts = measure_weight_drift(base, tuned, SELECTED)
    assert [drift.group for drift in drifts] == [
        "selected experts", "other experts", "router", "attention", "embeddings", "norms", "head",
    ]  # fmt: skip
    assert {(drift.num_changed, drift.relative_l2, drift.largest) for drift in drifts} == {(0, 0.0, 0.0)}
    assert sum(drift.num_params for drift in drifts) == base.identity.total_params
    assert by_group(drifts)["selected experts"].num_params == 4 * 3 * 128 * 48


def test_numbers_are_those_of_numpy_on_the_whole_tensors(monkeypatch):
    monkeypatch.setattr(module, "CHUNK_VALUES", 1000)  # several chunks, the last one short
    base, tuned = tiny(), moved("mlp.gate", "experts.down_proj")
    found = by_group(measure_weight_drift(base, tuned, None))
    pairs = {
        name: (one, other)
        for (name, one), (_, other) in zip(stored_tensors(base.model), stored_tensors(tuned.model), strict=True)
    }
    for group, part in (("router", ".gate."), ("experts", ".experts.")):
        ours = [pair for name, pair in pairs.items() if part in name]
        moved_by = norm_of(*(other.double() - one.double() for one, other in ours))
        assert found[group].relative_l2 == pytest.approx(moved_by / norm_of(*(one for one, _ in ours)), rel=1e-12)
        assert found[group].largest == max(float((b.double() - a.double()).detach().abs().max()) for a, b in ours)
        assert found[group].num_changed == sum(int((one != other).sum()) for one, other in ours) > 0
    still = {group for group, drift in found.items() if drift.num_changed == 0 and drift.relative_l2 == 0.0}
    assert still == found.keys() - {"router", "experts"}


def test_rows_of_selected_experts_are_apart_from_the_others():
    base, tuned = tiny(), tiny()
    with torch.no_grad():
        tuned.model.model.layers[0].mlp.experts.down_proj[9, 5, 7] += 0.25
        tuned.model.model.layers[3].mlp.experts.gate_up_proj[14] *= 1.5  # not selected
    found = by_group(measure_weight_drift(base, tuned, SELECTED))
    assert (found["selected experts"].num_changed, found["selected experts"].largest) == (1, pytest.approx(0.25))
    row = base.model.model.layers[3].mlp.experts.gate_up_proj[14]
    assert found["other experts"].num_changed == int((row != 0).sum())
    assert found["other experts"].largest == pytest.approx(float(row.detach().abs().max()) / 2)
    assert found["attention"].relative_l2 == 0.0


def test_a_zero_that_changed_its_sign_is_a_changed_value_of_no_size():
    base, tuned = tiny(), tiny()
    with torch.no_grad():
        base.model.model.norm.weight[0], tuned.model.model.norm.weight[0] = 0.0, -0.0
    norms = by_group(measure_weight_drift(base, tuned, None))["norms"]
    assert (norms.num_changed, norms.relative_l2, norms.largest) == (1, 0.0, 0.0)


def test_a_base_of_zeros_has_moved_by_its_whole_size():
    base, tuned = tiny(), tiny()
    with torch.no_grad():
        for name, parameter in base.model.named_parameters():
            parameter.mul_(0.0 if "norm" in name else 1.0)
    norms = by_group(measure_weight_drift(base, tuned, None))["norms"]
    assert norms.relative_l2 == 1.0
    assert decode(GroupDrift, encode(norms), source="memory") == norms


def test_experts_are_cut_by_row_in_a_transposed_layout_with_biases():
    base, tuned = gpt_oss(), gpt_oss()
    with torch.no_grad():
        for weight in ("gate_up_proj", "gate_up_proj_bias", "down_proj", "down_proj_bias"):
            tuned.model.layers[1].mlp.experts.get_parameter(weight)[5] += 1.0
    selected = np.zeros((2, 8), dtype=bool)
    selected[1, 5] = True
    found = by_group(measure_weight_drift(as_loaded(base), as_loaded(tuned), selected))
    layer = expert_layers(base)[1]
    assert found["selected experts"].num_params == found["selected experts"].num_changed == layer.params_per_expert
    assert found["other experts"].num_changed == 0
    assert found["other experts"].num_params == 15 * layer.params_per_expert


@pytest.mark.parametrize("family", ["deepseek_v4", "gemma4", "lfm2_moe"])  # integer tables, tied heads, buffers
def test_every_stored_value_is_in_one_group(family):
    model = build(family)
    total = sum(tensor.numel() for _, tensor in stored_tensors(model))
    assert sum(drift.num_params for drift in measure_weight_drift(as_loaded(model), as_loaded(model), None)) == total


def test_other_tensors_or_another_selection_are_bugs_that_show():
    base = as_loaded(gpt_oss())
    with pytest.raises(ValueError, match="only in one model"):
        measure_weight_drift(base, tiny(), None)
    with pytest.raises(ValueError, match=r"experts, the model has \(2, 8\)"):
        measure_weight_drift(base, base, SELECTED)
    with pytest.raises(ValueError, match="bfloat16"):
        measure_weight_drift(base, as_loaded(gpt_oss().bfloat16()), None)


@pytest.fixture(scope="module")
def runs(tmp_path_factory, small_settings):
    """A prepare run of which the last batch is held out, and both arms."""
    directory = tmp_path_factory.mktemp("drifted")
    config = small_settings(directory, train={"num_epochs": 1, "learning_rate": 1e-3, "validation_batches": 1})
    store = Store(directory / "registry")
    prepared = prepare.run(config, store, lambda _: None)
    arms = {arm: train.run(arm, config, store, lambda _: None) for arm in ("selective", "baseline")}
    return SimpleNamespace(config=config, store=store, prepared=prepared, arms=arms)


def tuned_by(runs, arm):
    weights = str(runs.arms[arm].path / "final_model")
    return load_model(runs.config.model.model_copy(update={"name": weights}))


def test_both_arms_know_the_experts_that_the_training_batches_selected(runs):
    training = runs.prepared.selection.batches[:-1]
    expected = np.zeros((4, 16), dtype=bool)
    for expert in {expert for batch in training for expert in batch}:
        expected[expert.layer, expert.index] = True
    assert 0 < expected.sum() <= len(runs.prepared.selection.union)
    for arm in ("selective", "baseline"):
        assert np.array_equal(selected_experts_of(finished_run(runs.arms[arm].path), runs.store), expected)


def test_without_its_prepare_run_nothing_is_said_about_a_baselines_selection(runs, tmp_path):
    elsewhere = Store(tmp_path / "registry")
    assert selected_experts_of(finished_run(runs.arms["baseline"].path), elsewhere) is None
    assert selected_experts_of(finished_run(runs.arms["selective"].path), elsewhere).any()  # holds the masks itself


def test_a_selective_run_moved_its_selection_alone_and_no_router(runs):
    base, tuned = load_model(runs.config.model), tuned_by(runs, "selective")
    selected = selected_experts_of(finished_run(runs.arms["selective"].path), runs.store)
    found = by_group(measure_weight_drift(base, tuned, selected))
    chosen = found.pop("selected experts")
    assert chosen.num_params == runs.arms["selective"].summary.trainable_params
    assert 0.9 * chosen.num_params < chosen.num_changed <= chosen.num_params
    assert 0 < chosen.relative_l2 < 1
    assert {(drift.num_changed, drift.relative_l2, drift.largest) for drift in found.values()} == {(0, 0.0, 0.0)}
    assert changed_router_params(base, tuned) == 0


def test_a_baseline_run_moved_every_group(runs):
    base, tuned = load_model(runs.config.model), tuned_by(runs, "baseline")
    selected = selected_experts_of(finished_run(runs.arms["baseline"].path), runs.store)
    found = by_group(measure_weight_drift(base, tuned, selected))
    assert all(drift.relative_l2 > 0 for drift in found.values())
    assert changed_router_params(base, tuned) == found["router"].num_changed > 0
