"""Freeze everything else and count what trains: the only source of counts and ratios.

A tied weight counts once. Slices are copies of rows that the total holds already, so the total never counts them twice.
With every parameter trainable the ratio is exactly 1.0.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

import torch
from torch import nn

from moe_cli.errors import UsageError
from moe_cli.experts.slices import ATTRIBUTE
from moe_cli.model.topology import ExpertLayer, expert_layers
from moe_cli.records import Expert, TrainableCount

BFLOAT16 = "add --set model.dtype=bfloat16 to both arms and to moe prepare"
STATE_BYTES = 16  # of a trained parameter: 4 of the float32 master, 4 of its gradient, 8 of AdamW's two moments


class Slices(Protocol):
    """The part of attached slices that counting needs."""

    @property
    def parameters(self) -> Mapping[str, nn.Parameter]:
        """All slices by name."""

    @property
    def experts(self) -> Sequence[Expert]:
        """All selected experts."""


def freeze_rest(model: nn.Module, keep: Collection[nn.Parameter]) -> Callable[[], None]:
    """Let nothing but `keep` require a gradient; returns a function that restores every flag."""
    kept_ids = {id(parameter) for parameter in keep}
    before = [(parameter, parameter.requires_grad) for parameter in model.parameters()]

    def thaw() -> None:
        for parameter, flag in before:
            parameter.requires_grad_(flag)

    for parameter, _ in before:
        parameter.requires_grad_(id(parameter) in kept_ids)
    return thaw


def count_trainable(model: nn.Module, attached: Slices | None = None) -> TrainableCount:
    """Count trainable and total parameters; with slices attached they are what trains.

    Raises:
        ValueError: something beside the slices would train too.
    """
    own = {id(p): p for name, p in model.named_parameters() if f".{ATTRIBUTE}." not in name}
    total = sum(parameter.numel() for parameter in own.values())
    layers = expert_layers(model)
    if attached is None:
        trainable = sum(parameter.numel() for parameter in own.values() if parameter.requires_grad)
        per_layer = tuple(layer.num_experts if _trains(layer) else 0 for layer in layers)
    else:
        if any(parameter.requires_grad for parameter in own.values()):
            raise ValueError("slices are attached, but another parameter requires a gradient too")
        trainable = sum(p.numel() for p in attached.parameters.values() if p.requires_grad)
        per_layer = tuple(sum(expert.layer == layer.layer for expert in attached.experts) for layer in layers)
    return TrainableCount(
        trainable_params=trainable,
        total_params=total,
        trainable_ratio=trainable / total,
        experts_per_layer=per_layer,
        num_experts=max(layer.num_experts for layer in layers),
    )


def refuse_underflow(dtype: torch.dtype, name: str, *, hint: str = BFLOAT16) -> None:
    """Refuse weights in a dtype that cannot be trained.

    Raises:
        UsageError: gradients in this dtype underflow.
    """
    if dtype not in (torch.float32, torch.bfloat16):
        short = str(dtype).removeprefix("torch.")
        raise UsageError(f"{name} is in {short}, in which gradients underflow", hint=hint)


def least_bytes(*, frozen_bytes: int, trained_params: int) -> int:
    """The least memory of a training: frozen weights, masters, gradients and moments, and no activation."""
    return frozen_bytes + STATE_BYTES * trained_params


def check_budget(counted: TrainableCount, *, requested_params: int, budget: float | None) -> None:
    """Refuse to train anything but what was requested, or more than the budget's share of all parameters.

    Raises:
        UsageError: see above.
    """
    if counted.trainable_params != requested_params:
        raise UsageError(
            f"asked to train {requested_params:,} parameters, but {counted.trainable_params:,} would train",
            hint="the selection was made on another model: run moe prepare on this one",
        )
    if budget is not None and counted.trainable_ratio > budget:
        raise UsageError(
            f"the selection is {counted.trainable_ratio:.2%} of all parameters, the budget is {budget:.2%}",
            hint="select fewer experts, or raise the budget",
        )


def _trains(layer: ExpertLayer) -> bool:
    return all(layer.module.get_parameter(name).requires_grad for name in layer.weights)
