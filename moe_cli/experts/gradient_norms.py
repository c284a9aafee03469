"""Squared gradient norm of each expert, measured without keeping a gradient of the bank.

The forward has the bits of transformers' `grouped_mm` experts. In the backward one expert's gradient is computed,
measured and dropped at a time, accumulated in float32 or better. No parameter requires or gets a gradient; after the
block, also after an error, the model is as it was.

Letters: T tokens, K top-k, L expert layers, E experts, H hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

from moe_cli.experts.autograd import combine_output, compute_first_product
from moe_cli.experts.backward import BackwardTarget, RowGradients, compute_row_gradients, compute_slice_gradients
from moe_cli.experts.bank import Bank, bank_of, check_understood, weight_roles
from moe_cli.experts.grouped_products import Dispatch, bounds_of, sort_by_expert
from moe_cli.experts.slices import ATTRIBUTE
from moe_cli.experts.trainable import freeze_rest
from moe_cli.model.tensors import float64_device
from moe_cli.model.topology import ExpertLayer, expert_layers, switch_experts

_names = (f"moe_gradient_norms_{number}" for number in count())


class GradientNorms:
    """Squared gradient norms of every expert, all its weights together, summed over the backwards so far."""

    def __init__(self, layers: tuple[ExpertLayer, ...]) -> None:
        self._place = {layer.module: index for index, layer in enumerate(layers)}
        device = next(layers[0].module.parameters()).device
        self._start = torch.zeros((), device=device, requires_grad=True)  # where a backward of a frozen model ends
        self._norms: list[Tensor] = [torch.zeros(layer.num_experts, dtype=torch.float64) for layer in layers]

    def take(self) -> Tensor:
        """float64 [L, E] on the CPU: the sum over all backwards since the last call."""
        norms = torch.stack([norms_E.cpu() for norms_E in self._norms])
        self._norms = [torch.zeros_like(norms_E) for norms_E in self._norms]
        return norms

    def run(self, module: nn.Module, tokens_TH: Tensor, experts_TK: Tensor, router_TK: Tensor) -> Tensor:
        """The experts function that transformers calls."""
        bank = bank_of(module)
        dispatch = sort_by_expert(
            experts_TK, bank.up.shape[0], biased=bank.up_bias is not None, sentinels=bank.sentinels
        )
        measured = _Measured(bank, dispatch, tuple(weight_roles(module)), self._place[module], self._add)
        start = self._start.to(tokens_TH.device)
        out_TH: Tensor = _MeasuredExperts.apply(tokens_TH, router_TK, start, measured)
        return out_TH

    def _add(self, index: int, norms_E: Tensor) -> None:
        self._norms[index] = self._norms[index].to(norms_E.device) + norms_E


@dataclass(frozen=True, slots=True, eq=False)
class _Measured:
    bank: Bank
    dispatch: Dispatch
    roles: tuple[str, ...]
    place: int
    add: Callable[[int, Tensor], None]


class _Context(Protocol):
    needs_input_grad: tuple[bool, ...]
    saved_tensors: tuple[Tensor, ...]
    save_for_backward: Callable[..., None]
    work: _Measured


class _MeasuredExperts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: _Context, tokens_TH: Tensor, router_TK: Tensor, start: Tensor, work: _Measured) -> Tensor:
        first_SG = compute_first_product(tokens_TH, work.bank, work.dispatch)
        ctx.work = work
        ctx.save_for_backward(tokens_TH, router_TK, first_SG)
        return combine_output(first_SG, router_TK, work.bank, work.dispatch, tokens_TH.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: _Context, grad_TH: Tensor) -> tuple[Tensor | None, ...]:
        tokens_TH, router_TK, first_SG = ctx.saved_tensors
        work = ctx.work
        gradients = compute_row_gradients(grad_TH, router_TK, first_SG, work.bank, work.dispatch)
        work.add(work.place, squared_norms(gradients, tokens_TH, work))
        tokens_grad = router_grad = None
        if ctx.needs_input_grad[0]:
            tokens_grad = gradients.of_tokens(work.bank, work.dispatch, router_TK.shape[1]).to(tokens_TH.dtype)
        if ctx.needs_input_grad[1]:
            router_grad = gradients.of_router(work.dispatch).view_as(router_TK).to(router_TK.dtype)
        return tokens_grad, router_grad, None, None


def squared_norms(gradients: RowGradients, tokens_TH: Tensor, work: _Measured) -> Tensor:
    """float64 [E]: one expert's gradient at a time, all its weights together; zero where no token reached it."""
    bounds = dict(enumerate(bounds_of(work.dispatch)))
    dtype = torch.promote_types(work.bank.up.dtype, torch.float32)
    norms_E = torch.zeros(len(bounds), dtype=torch.float64, device=float64_device(tokens_TH.device))
    for expert, (start, end) in bounds.items():
        if start == end:
            continue
        for role in work.roles:
            (gradient,) = compute_slice_gradients(
                gradients,
                [(BackwardTarget(expert, role), dtype)],
                tokens_TH=tokens_TH,
                dispatch=work.dispatch,
                bounds=bounds,
                bank=work.bank,
            )
            norms_E[expert] += gradient.to(norms_E.device).square().sum(dtype=torch.float64)
    return norms_E


@contextmanager
def measure_gradient_norms(model: nn.Module) -> Iterator[GradientNorms]:
    """Measure the gradients of the experts of `model` inside the block; parameters neither change nor keep a gradient.

    Of attached slices the values in the bank count: `AttachedSlices.sync` puts them there.

    Raises:
        UsageError: a family that is not understood.
    """
    layers = expert_layers(model)
    for layer in layers:
        if not hasattr(layer.module, ATTRIBUTE):  # what has slices was understood when it got them
            check_understood(layer)
    norms, name = GradientNorms(layers), next(_names)
    ALL_EXPERTS_FUNCTIONS[name] = norms.run
    thaw, undo = freeze_rest(model, keep=()), switch_experts(model, name)
    try:
        yield norms
    finally:
        undo()
        thaw()
        del ALL_EXPERTS_FUNCTIONS[name]
