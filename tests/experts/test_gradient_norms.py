"""The squared norms are those of the dense gradients, and the model is left as it was."""

from __future__ import annotations

import pytest
import torch
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

from moe_cli.experts.gradient_norms import measure_gradient_norms
from moe_cli.model.topology import expert_layers
from tests.experts.families import FAMILIES, olmoe
from tests.experts.steps import dense_gradients, loss_of, same_bits, token_ids, weights_of

torch.set_num_threads(1)


def dense_norms(model, ids):
    """[L, E] from an ordinary backward through all weights."""
    gradients = dense_gradients(model, ids)
    return torch.tensor(
        [
            [
                sum(
                    float(gradients[f"layers.{layer.layer}.experts.{index}.{weight}"].double().square().sum())
                    for weight in layer.weights
                )
                for index in range(layer.num_experts)
            ]
            for layer in expert_layers(model)
        ],
        dtype=torch.float64,
    )


def measured(model, ids):
    with measure_gradient_norms(model) as norms:
        loss_of(model, ids).backward()
        return norms.take()


@pytest.mark.parametrize("family", FAMILIES)
def test_norms_are_those_of_the_dense_gradients_of_every_family(family):
    model, ids = FAMILIES[family](), token_ids()
    assert torch.allclose(measured(model, ids), dense_norms(model, ids), rtol=1e-4, atol=1e-10)


@pytest.mark.parametrize("family", ["olmoe", "gpt_oss"])
def test_a_bfloat16_bank_has_the_norms_of_its_own_dense_gradients_up_to_rounding(family):
    model, ids = FAMILIES[family]().bfloat16(), token_ids()
    expected = dense_norms(model, ids)
    found = measured(model, ids)
    assert torch.allclose(found, expected, rtol=0.05, atol=float(expected.max()) * 1e-3)
    assert (found.argsort(1, descending=True)[:, :3] == expected.argsort(1, descending=True)[:, :3]).all()


def test_measuring_changes_no_bit_of_the_output_or_of_the_model_and_leaves_no_gradient():
    model, ids = olmoe(), token_ids()
    before, weights = model(input_ids=ids, use_cache=False).logits, weights_of(model)
    flags = [parameter.requires_grad for parameter in model.parameters()]
    with measure_gradient_norms(model):
        assert torch.equal(model(input_ids=ids, use_cache=False).logits, before)
        loss_of(model, ids).backward()
        assert all(parameter.grad is None for parameter in model.parameters())
    assert same_bits(weights_of(model), weights)
    assert [parameter.requires_grad for parameter in model.parameters()] == flags
    assert model.get_experts_implementation() == {"": "grouped_mm"}


def test_no_tensor_as_large_as_a_bank_is_made_in_the_backward():
    model, ids = olmoe(), token_ids(1, 4)
    bank = expert_layers(model)[0].module.gate_up_proj.numel()
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    made = []

    class Sizes(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor) and out.untyped_storage().data_ptr() not in weights:
                made.append(out.numel())
            return out

    with measure_gradient_norms(model):
        loss = loss_of(model, ids)
        with Sizes():
            loss.backward()
    assert made and max(made) < bank


def test_every_backward_adds_until_the_norms_are_taken():
    model, ids = olmoe(), token_ids()
    with measure_gradient_norms(model) as norms:
        loss_of(model, ids).backward()
        once = norms.take()
        assert not norms.take().any()
        for _ in range(2):
            loss_of(model, ids).backward()
        assert torch.equal(norms.take(), 2 * once)


def test_after_an_error_the_model_is_as_it_was():
    model, names = olmoe(), set(ALL_EXPERTS_FUNCTIONS)
    with pytest.raises(RuntimeError, match="mine"), measure_gradient_norms(model):
        raise RuntimeError("mine")
    assert model.get_experts_implementation() == {"": "grouped_mm"}
    assert set(ALL_EXPERTS_FUNCTIONS) == names
    assert all(parameter.requires_grad for parameter in model.parameters())
