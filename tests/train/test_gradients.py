"""Gradients are clipped as torch clips them, by a norm whose bits do not depend on how they are shared out."""

import pytest
import torch
from torch import nn

from moe_cli.train import gradients
from moe_cli.train.gradients import clip_gradients, one_gradient


def parameters_with(*values):
    parameters = []
    for value in values:
        parameter = nn.Parameter(torch.zeros_like(value))
        parameter.grad = value.clone()
        parameters.append(parameter)
    return parameters


def random_gradients(scale):
    generator = torch.Generator().manual_seed(3)
    return [scale * torch.randn(shape, generator=generator) for shape in ((7, 5), (300,), (2, 3, 4))]


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_gradients_are_clipped_as_torch_clips_them(scale):
    own, theirs = (parameters_with(*random_gradients(scale)) for _ in range(2))
    own.append(nn.Parameter(torch.ones(3)))  # has no gradient, and gets none
    norm = clip_gradients(iter(own), 1.0)
    assert float(norm) == pytest.approx(float(nn.utils.clip_grad_norm_(theirs, 1.0)), rel=1e-6)
    for ours, of_torch in zip(own, theirs, strict=False):
        torch.testing.assert_close(ours.grad, of_torch.grad, rtol=1e-6, atol=0)
    assert own[-1].grad is None


def test_the_norm_has_the_same_bits_in_any_order_and_in_any_pieces(monkeypatch):
    whole = random_gradients(1.0)
    norms = {float(clip_gradients(parameters_with(*pieces), 1e9)) for pieces in (whole, whole[::-1])}
    norms.add(float(clip_gradients(parameters_with(*(row for value in whole for row in value)), 1e9)))
    monkeypatch.setattr(gradients, "CHUNK", 11)
    norms.add(float(clip_gradients(parameters_with(*whole), 1e9)))
    assert len(norms) == 1
    exact = sum(float((value.double() ** 2).sum()) for value in whole) ** 0.5
    assert norms == {float(torch.tensor(exact, dtype=torch.float32))}


def test_what_is_no_number_reaches_every_gradient_and_an_endless_limit_changes_none():
    broken = parameters_with(torch.tensor([1.0, float("nan")]), torch.ones(2))
    assert clip_gradients(broken, 1.0).isnan() and broken[1].grad.isnan().all()
    free = parameters_with(torch.full((3,), 1e6))
    clip_gradients(free, float("inf"))
    assert free[0].grad.tolist() == [1e6] * 3


def test_what_a_block_makes_is_added_up_before_it_is_added_to_what_there_was():
    """In float32 1 + (2^-24 + 2^-24) is more than 1, and (1 + 2^-24) + 2^-24 is not."""
    small = torch.tensor([2.0**-24])
    (before,), (none,) = parameters_with(torch.ones(1)), parameters_with(small)
    untouched, fresh = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    with one_gradient([before, none, untouched, fresh]):
        assert before.grad is none.grad is None
        for _ in range(2):
            (small * (before + fresh)).sum().backward()
    assert float(before.grad) == 1.0 + 2.0**-23
    assert float(fresh.grad) == 2.0**-23
    assert float(none.grad) == 2.0**-24
    assert untouched.grad is None
