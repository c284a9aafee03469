"""The delta holds the trained experts alone and fits its base alone."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save_file

from moe_cli.errors import ArtifactError, NumericError
from moe_cli.experts.delta import apply_delta, read_delta, save_delta
from moe_cli.experts.interface import attach
from moe_cli.model.tensors import weights_fingerprint
from moe_cli.model.topology import expert_layers
from tests.builders import identity
from tests.experts.families import FAMILIES, olmoe
from tests.experts.steps import loss_of, same_bits, some_experts, token_ids, weights_of

torch.set_num_threads(1)


def identity_of(model):
    layers = expert_layers(model)
    return identity(
        name="tiny/random",
        revision="abc",
        fingerprint=weights_fingerprint(model),
        layers=tuple(layer.layer for layer in layers),
        num_experts=8,
        top_k=2,
    )


def trained(model, path):
    """Trains, saves the delta, merges; gives the identity of the base."""
    identity = identity_of(model)
    with attach(model, some_experts(model)) as slices:
        optimizer = torch.optim.AdamW(slices.parameters.values(), lr=1e-2)
        loss_of(model, token_ids()).backward()
        optimizer.step()
        save_delta(path, slices.take(), identity)
        slices.merge()
    return identity


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", FAMILIES)
def test_applied_to_its_base_it_gives_what_merging_gave_bit_for_bit(family, dtype, tmp_path):
    path = tmp_path / "expert_delta.safetensors"
    merged, base = FAMILIES[family]().to(dtype), FAMILIES[family]().to(dtype)
    trained(merged, path)
    assert not same_bits(weights_of(merged), weights_of(base))
    apply_delta(base, path)
    assert same_bits(weights_of(merged), weights_of(base))
    assert weights_fingerprint(merged) == weights_fingerprint(base)


def test_a_part_of_it_is_that_part_of_the_way_and_moves_nothing_else(tmp_path):
    path = tmp_path / "expert_delta.safetensors"
    whole, half, none, base = (olmoe() for _ in range(4))
    trained(whole, path)
    apply_delta(half, path, scale=0.5)
    apply_delta(none, path, scale=0.0)
    assert same_bits(weights_of(none), weights_of(base))
    ends = zip(weights_of(base).items(), weights_of(half).values(), weights_of(whole).values(), strict=True)
    moved = 0
    for (_, start), middle, end in ends:
        torch.testing.assert_close(middle, start + 0.5 * (end - start))
        moved += int((middle != start).sum())
        assert torch.equal(middle != start, end != start)
    assert moved > 0


def test_it_holds_the_slices_as_float32_and_the_base_it_belongs_to(tmp_path):
    path = tmp_path / "expert_delta.safetensors"
    model = olmoe().bfloat16()
    identity = trained(model, path)
    base, slices = read_delta(path)
    assert base == identity
    assert len(slices) == 2 * 3 * 2
    assert {value.dtype for value in slices.values()} == {torch.float32}
    assert same_bits(slices, load_file(path))


def test_another_base_is_refused_with_both_fingerprints(tmp_path):
    path = tmp_path / "expert_delta.safetensors"
    identity = trained(olmoe(), path)
    other = olmoe()
    with torch.no_grad():
        other.lm_head.weight[0, 0] += 1
    before = weights_of(other)
    with pytest.raises(ArtifactError, match=identity.fingerprint) as error:
        apply_delta(other, path)
    assert weights_fingerprint(other) in error.value.message
    assert "tiny/random at revision abc" in error.value.hint
    assert same_bits(before, weights_of(other))


def test_applying_it_twice_is_refused(tmp_path):
    path = tmp_path / "expert_delta.safetensors"
    trained(olmoe(), path)
    model = olmoe()
    apply_delta(model, path)
    with pytest.raises(ArtifactError):
        apply_delta(model, path)


def test_a_missing_a_cut_and_a_foreign_file_are_refused_by_name(tmp_path):
    path = tmp_path / "expert_delta.safetensors"
    with pytest.raises(ArtifactError, match="cannot be read"):
        read_delta(path)
    trained(olmoe(), path)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ArtifactError, match="cannot be read"):
        read_delta(path)
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(ArtifactError, match="has format None"):
        read_delta(path)


@pytest.mark.parametrize("name", ["layers.0.experts.99.down_proj", "layers.0.experts.1.sideways", "x"])
def test_slices_that_do_not_fit_the_base_are_refused_and_change_nothing(name, tmp_path):
    path = tmp_path / "expert_delta.safetensors"
    model = olmoe()
    save_delta(path, {name: torch.zeros(32, 16)}, identity_of(model))
    before = weights_of(model)
    with pytest.raises(ArtifactError, match="does not fit its base"):
        apply_delta(model, path)
    assert same_bits(before, weights_of(model))


def test_the_same_delta_is_the_same_bytes_every_time(tmp_path):
    model = olmoe()
    identity = trained(model, tmp_path / "delta.safetensors")
    _, slices = read_delta(tmp_path / "delta.safetensors")
    for number in range(8):
        save_delta(tmp_path / f"{number}.safetensors", slices, identity)
    assert len({file.read_bytes() for file in tmp_path.iterdir()}) == 1


def test_a_delta_with_a_value_that_is_no_number_is_neither_written_nor_read(tmp_path):
    model = olmoe()
    identity = trained(model, tmp_path / "delta.safetensors")
    _, slices = read_delta(tmp_path / "delta.safetensors")
    name = sorted(slices)[0]
    slices[name].view(-1)[0] = float("inf")
    with pytest.raises(NumericError, match=name):
        save_delta(tmp_path / "other.safetensors", slices, identity)
    assert not (tmp_path / "other.safetensors").exists()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("moe_cli.experts.delta.refuse_not_finite", lambda *_, **__: None)
        save_delta(tmp_path / "other.safetensors", slices, identity)
    with pytest.raises(NumericError, match=name):
        read_delta(tmp_path / "other.safetensors")
