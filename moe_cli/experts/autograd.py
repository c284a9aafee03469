"""Experts' forward and backward over a frozen bank: gradients only for slices, tokens and the router's weights.

The bank's selected rows hold the values of the slices, and the output has the bits of transformers' `grouped_mm`
experts. Which slices are active is decided in the forward, also where gradient checkpointing repeats it. An active
slice that no token reached gets zeros; no gradient of a frozen weight is ever computed. Kept for the backward are the
tokens, the order of the rows and the first product. Where nothing below needs a gradient not even that product is kept,
and the backward touches the active experts' rows alone.

Letters: T tokens, K top-k, S = T x K rows sorted by expert, H hidden, F expert width, G = 2F with a gate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from moe_cli.experts.backward import BackwardTarget, compute_row_gradients, compute_slice_gradients
from moe_cli.experts.bank import Bank
from moe_cli.experts.grouped_products import Dispatch, bounds_of, gather_experts, to_device


@dataclass(frozen=True, slots=True, eq=False)
class ExpertsCall:
    """The inputs of one layer that need no gradient."""

    bank: Bank
    dispatch: Dispatch
    targets: tuple[BackwardTarget, ...]  # what the active masters are, in their order


class _Context(Protocol):
    """What the forward hands to the backward."""

    needs_input_grad: tuple[bool, ...]
    saved_tensors: tuple[Tensor, ...]
    save_for_backward: Callable[..., None]
    bank: Bank
    targets: tuple[BackwardTarget, ...]
    dtypes: list[torch.dtype]
    below: bool  # something below waits for a gradient: the tokens or the router's weights
    autocast: Callable[[], AbstractContextManager[object]]


def run_routed_experts(
    tokens_TH: Tensor,
    router_TK: Tensor,
    work: ExpertsCall,
    masters: Sequence[Tensor],
    *,
    idle: Sequence[Tensor] = (),
) -> Tensor:
    """[T, H] sum over each token's experts, weighted by the router.

    `masters` belong to `work.targets`, in order, and get gradients in their own dtype. `idle` masters get none (their
    `.grad` stays None), but let a backward start here although nothing trains.
    """
    out_TH: Tensor = _RoutedExperts.apply(tokens_TH, router_TK, work, *masters, *idle)
    return out_TH


def compute_first_product(tokens_TH: Tensor, bank: Bank, dispatch: Dispatch) -> Tensor:
    """[S, G] every row times its expert's first weight."""
    rows_SH = tokens_TH.to(bank.up.dtype).index_select(0, dispatch.token_S)
    return dispatch.mask(bank.up_product(rows_SH, dispatch.offsets_E, dispatch.expert_S))


def combine_output(first_SG: Tensor, router_TK: Tensor, bank: Bank, dispatch: Dispatch, dtype: torch.dtype) -> Tensor:
    """[T, H] the layer's output, from the first product on."""
    act_SF = bank.activate(first_SG).to(bank.down.dtype)
    out_SH = dispatch.mask(bank.down_product(act_SF, dispatch.offsets_E, dispatch.expert_S))
    if bank.norm is not None:
        out_SH = bank.norm(out_SH)
    out_TKH = out_SH.index_select(0, dispatch.row_of_choice()).view(*router_TK.shape, -1)
    if out_TKH.dtype == router_TK.dtype:
        return out_TKH.mul_(router_TK.unsqueeze(-1)).sum(dim=1).to(dtype)
    return (out_TKH * router_TK.unsqueeze(-1)).sum(dim=1).to(dtype)


class _RoutedExperts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: _Context, tokens_TH: Tensor, router_TK: Tensor, work: ExpertsCall, *masters: Tensor) -> Tensor:
        bank, dispatch = work.bank, work.dispatch
        first_SG = compute_first_product(tokens_TH, bank, dispatch)
        ctx.bank, ctx.targets = bank, work.targets
        ctx.dtypes = [master.dtype for master in masters[: len(work.targets)]]
        ctx.below = any(ctx.needs_input_grad[:2])
        ctx.autocast = _autocast_of_now(tokens_TH.device.type)
        kept_SG = first_SG if ctx.below else None
        # the bank is saved only so that a write to it between forward and backward is an error
        ctx.save_for_backward(tokens_TH, router_TK, *dispatch.tensors(), kept_SG, bank.up, bank.down)
        return combine_output(first_SG, router_TK, bank, dispatch, tokens_TH.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: _Context, grad_TH: Tensor) -> tuple[Tensor | None, ...]:
        tokens_TH, router_TK, *rows, first_SG, _, _ = ctx.saved_tensors
        bank, dispatch = ctx.bank, Dispatch.of(rows, top_k=router_TK.shape[1])
        experts = sorted({target.expert for target in ctx.targets})
        bounds = dict(enumerate(bounds_of(dispatch))) if experts else {}
        num_idle = len(ctx.needs_input_grad) - 3 - len(ctx.targets)
        if not ctx.below and not experts:
            return None, None, None, *[None] * num_idle
        if not ctx.below:
            dispatch, bounds = gather_experts(dispatch, experts, bounds)
            bank = bank.only(to_device(torch.tensor(experts), grad_TH.device))
            with ctx.autocast():
                first_SG = compute_first_product(tokens_TH, bank, dispatch)
        with ctx.autocast():
            gradients = compute_row_gradients(grad_TH, router_TK, first_SG, bank, dispatch)
        tokens_grad = router_grad = None
        if ctx.needs_input_grad[0]:
            tokens_grad = gradients.of_tokens(bank, dispatch, router_TK.shape[1]).to(tokens_TH.dtype)
        if ctx.needs_input_grad[1]:
            router_grad = gradients.of_router(dispatch).view_as(router_TK).to(router_TK.dtype)
        targets = list(zip(ctx.targets, ctx.dtypes, strict=True))
        masters = compute_slice_gradients(
            gradients, targets, tokens_TH=tokens_TH, dispatch=dispatch, bounds=bounds, bank=bank
        )
        return tokens_grad, router_grad, None, *masters, *[None] * num_idle


def _autocast_of_now(device_type: str) -> Callable[[], AbstractContextManager[object]]:
    """The current autocast setting, to compute the gate in the backward as in the forward."""
    enabled = torch.is_autocast_enabled(device_type)
    return partial(torch.autocast, device_type, torch.get_autocast_dtype(device_type), enabled)
