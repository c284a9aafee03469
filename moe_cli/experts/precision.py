"""The baseline's experts in the dtype of the selective arm's: float32 weights, products in a lower precision.

Comes in: a model whose experts are kept in float32, and a dtype. Goes out: the same model with its experts' products
in that dtype. Always holds: autocast does not reach `grouped_mm`, so without this an arm with float32 weights would
compute its experts in float32 and could not be compared; the weights stay what they are and get gradients in their
own dtype; undoing restores the implementation.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS, grouped_mm_experts_forward

from moe_cli.experts.bank import weight_roles
from moe_cli.model.topology import switch_experts


def compute_experts_in(model: nn.Module, dtype: torch.dtype) -> Callable[[], None]:
    """Run transformers' `grouped_mm` experts on weights cast to `dtype`; returns what undoes it."""
    name = f"moe_{str(dtype).removeprefix('torch.')}"
    ALL_EXPERTS_FUNCTIONS.register(name, partial(_forward_in, dtype))
    return switch_experts(model, name)


def _forward_in(
    dtype: torch.dtype, module: nn.Module, tokens_TH: Tensor, experts_TK: Tensor, router_TK: Tensor
) -> Tensor:
    out_TH: Tensor = grouped_mm_experts_forward(_Cast(module, dtype), tokens_TH, experts_TK, router_TK)
    return out_TH


class _Cast:
    """The experts module as the library's function reads it, with its weights cast under autograd."""

    def __init__(self, module: nn.Module, dtype: torch.dtype) -> None:
        self._module, self._dtype = module, dtype
        self._weights = frozenset(weight_roles(module).values())

    def __getattr__(self, name: str) -> object:
        value: object = getattr(self._module, name)
        return value.to(self._dtype) if name in self._weights and isinstance(value, Tensor) else value
