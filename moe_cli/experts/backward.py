"""The arithmetic of the backward: from the output's gradient to the slices', the tokens' and the router's.

Every product over all rows is with the frozen bank. A weight gradient is computed for the targets alone, from their own
rows alone, and accumulated in the dtype of the master. The gate is differentiated by autograd itself, so a family's own
gate needs no formula here.

The router's weights stand outside the second product, so with `g` the gradient of a token's output, `W` the second
weight, `h` the activation and `w` the router's weight of a row: d h = w (g W), d w = (g W) . h; the output of each row
is not needed again. With a norm after the experts this does not hold, and the row is computed once more.

Letters: T tokens, K top-k, S rows sorted by expert, H hidden, F expert width, G = 2F with a gate, N rows of one expert.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from moe_cli.experts.bank import DOWN_BIAS, UP, UP_BIAS, Bank
from moe_cli.experts.grouped_products import Dispatch, multiply_outer


@dataclass(frozen=True, slots=True)
class BackwardTarget:
    """Address of one slice: the rows of one expert in one weight of the bank."""

    expert: int  # 31
    role: str  # "up"


@dataclass(frozen=True, slots=True, eq=False)
class OutputGradient:
    """Gradient of the second product; the router's weight is multiplied in only where a slice asks for its rows."""

    grad_SH: Tensor
    scale_S1: Tensor | None

    def rows(self, start: int, end: int) -> Tensor:
        """[N, H] the gradient of these rows."""
        grad_NH = self.grad_SH[start:end]
        return grad_NH if self.scale_S1 is None else (grad_NH * self.scale_S1[start:end]).to(grad_NH.dtype)


@dataclass(frozen=True, slots=True, eq=False)
class RowGradients:
    """Gradients and activation of every row."""

    first_SG: Tensor  # gradient of the first product
    act_SF: Tensor  # activation (a value, not a gradient)
    out: OutputGradient
    router_S: Tensor  # gradient of the router's weight

    def of_tokens(self, bank: Bank, dispatch: Dispatch, top_k: int) -> Tensor:
        """[T, H] gradient of the tokens."""
        grad_SH = dispatch.mask(bank.up_gradient(self.first_SG, dispatch.offsets_E))
        return grad_SH.index_select(0, dispatch.row_of_choice()).view(-1, top_k, grad_SH.shape[1]).sum(1)

    def of_router(self, dispatch: Dispatch) -> Tensor:
        """[T x K] gradient of the router's weights."""
        return self.router_S.index_select(0, dispatch.row_of_choice())


def compute_row_gradients(
    grad_TH: Tensor, router_TK: Tensor, first_SG: Tensor, bank: Bank, dispatch: Dispatch
) -> RowGradients:
    """Back from the output to the first product, in every row of `dispatch`.

    Rows of sentinels stay undefined: no product reads them, and the two results that would show them are masked.
    """
    grad_SH = grad_TH.to(bank.down.dtype).index_select(0, dispatch.token_S)
    scale_S1 = router_TK.reshape(-1).index_select(0, dispatch.place_S).unsqueeze(-1)
    with torch.enable_grad():
        leaf_SG = first_SG.detach().requires_grad_()
        gated_SF = bank.activate(leaf_SG)
    act_SF = gated_SF.detach().to(bank.down.dtype)
    through = _through_down if bank.norm is None else _through_norm
    act_grad_SF, router_S, out = through(grad_SH, scale_S1, act_SF, bank, dispatch)
    (first_grad_SG,) = torch.autograd.grad(gated_SF, leaf_SG, act_grad_SF.to(gated_SF.dtype))
    return RowGradients(first_grad_SG.to(bank.up.dtype).contiguous(), act_SF, out, dispatch.mask(router_S))


def _through_down(
    grad_SH: Tensor, scale_S1: Tensor, act_SF: Tensor, bank: Bank, dispatch: Dispatch
) -> tuple[Tensor, Tensor, OutputGradient]:
    unscaled_SF = bank.down_gradient(grad_SH, dispatch.offsets_E)
    router_S = (unscaled_SF * act_SF).sum(-1)
    if bank.down_bias is not None:
        router_S = router_S + (grad_SH * bank.down_bias[dispatch.expert_S]).sum(-1)
    return unscaled_SF.mul_(scale_S1), router_S, OutputGradient(grad_SH, scale_S1)


def _through_norm(
    grad_SH: Tensor, scale_S1: Tensor, act_SF: Tensor, bank: Bank, dispatch: Dispatch
) -> tuple[Tensor, Tensor, OutputGradient]:
    norm = cast(Callable[[Tensor], Tensor], bank.norm)
    with torch.enable_grad():
        leaf_SH = bank.down_product(act_SF, dispatch.offsets_E, dispatch.expert_S).requires_grad_()
        normed_SH = norm(leaf_SH)
    router_S = (grad_SH * normed_SH.detach()).sum(-1)
    (out_SH,) = torch.autograd.grad(normed_SH, leaf_SH, (grad_SH * scale_S1).to(normed_SH.dtype))
    act_grad_SF = bank.down_gradient(out_SH.contiguous(), dispatch.offsets_E)
    return act_grad_SF, router_S, OutputGradient(out_SH, None)


def compute_slice_gradients(
    gradients: RowGradients,
    targets: Sequence[tuple[BackwardTarget, torch.dtype]],
    *,
    tokens_TH: Tensor,
    dispatch: Dispatch,
    bounds: Mapping[int, tuple[int, int]],
    bank: Bank,
) -> list[Tensor]:
    """One gradient per target, in its master's dtype, from the rows of its own expert."""
    result = []
    for target, dtype in targets:
        start, end = bounds[target.expert]
        if target.role in (UP, UP_BIAS):
            left_NX = gradients.first_SG[start:end]
            right_NX = tokens_TH.index_select(0, dispatch.token_S[start:end]).to(left_NX.dtype)
        else:
            left_NX, right_NX = gradients.out.rows(start, end), gradients.act_SF[start:end]
        if target.role in (UP_BIAS, DOWN_BIAS):
            result.append(left_NX.sum(0, dtype=dtype))
        else:
            pair = (right_NX, left_NX) if bank.transposed else (left_NX, right_NX)
            result.append(multiply_outer(*pair, dtype))
    return result
