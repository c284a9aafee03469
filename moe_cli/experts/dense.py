"""The whole bank as it trains in the baseline: transformers' own experts, computed in a stated dtype.

Grouped matrix products do not autocast, so float32 masters under bfloat16 autocast would compute their experts in
float32 and flatter the baseline. Here inputs and weights are cast, whatever the dtype of the masters, so the dtype that
was used is known.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

from moe_cli.model.topology import expert_layers, switch_experts

IMPLEMENTATION = "moe_dense"  # the name under which transformers knows the function
KERNEL = "grouped_mm"


class DenseExperts:
    """Experts implementation that computes all experts of one model in `dtype`."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.compute_dtype: torch.dtype | None = None  # of the last forward; None before one

    def run(self, module: nn.Module, tokens_TH: Tensor, experts_TK: Tensor, router_TK: Tensor) -> Tensor:
        """transformers' `grouped_mm` experts on the module's weights in `dtype`; gradients reach the masters."""
        out: Tensor = ALL_EXPERTS_FUNCTIONS[KERNEL](
            _InDtype(module, self.dtype), tokens_TH.to(self.dtype), experts_TK, router_TK
        )
        self.compute_dtype = out.dtype
        return out.to(tokens_TH.dtype)


class _InDtype:
    """View of an experts module whose weights are cast to another dtype when read."""

    def __init__(self, module: nn.Module, dtype: torch.dtype) -> None:
        self._module, self._dtype = module, dtype

    def __getattr__(self, name: str) -> object:
        value = getattr(self._module, name)
        return value.to(self._dtype) if isinstance(value, nn.Parameter) else value


@contextmanager
def dense_experts(model: nn.Module, dtype: torch.dtype) -> Iterator[DenseExperts]:
    """Compute all experts in `dtype` inside the block; the previous implementation is restored afterwards."""
    expert_layers(model)  # refuses a model without experts
    dense = DenseExperts(dtype)
    ALL_EXPERTS_FUNCTIONS[IMPLEMENTATION] = dense.run
    undo = switch_experts(model, IMPLEMENTATION)
    try:
        yield dense
    finally:
        undo()
        del ALL_EXPERTS_FUNCTIONS[IMPLEMENTATION]
