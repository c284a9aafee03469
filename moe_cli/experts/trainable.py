"""What trains: everything else is frozen, what trains is counted, and it is proved that nothing else changes.

The only source of counts and ratios. A tied weight counts once. Slices are copies of rows that the total holds already,
so the total never counts them twice. With every parameter trainable the ratio is exactly 1.0.

The probe step leaves no trace (gradients, random numbers, buffers). The digest covers every byte but the selected
experts' rows, and is the same before attaching, while attached and after merging.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Protocol

import torch
from torch import Tensor, nn

from moe_cli.errors import UsageError
from moe_cli.experts.slices import ATTRIBUTE
from moe_cli.model.sharding import whole
from moe_cli.model.tensors import digest_of_tensors, stored_tensors
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


def probe_gradients(
    model: nn.Module, loss: Callable[[], Tensor], requested: Collection[nn.Parameter], *, all_of_them: bool = True
) -> int:
    """Check that one forward and backward of `loss` reaches exactly the requested parameters; returns how many.

    Without `all_of_them` some of the requested may get none: a text reaches no encoder of images.

    Raises:
        ValueError: a requested parameter got none, or another one got one; nothing may be trained then.
    """
    parameters = dict(model.named_parameters())
    saved_gradients = {name: parameter.grad for name, parameter in parameters.items()}
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    devices = sorted({p.device.index or 0 for p in parameters.values() if p.device.type == "cuda"})
    _clear(parameters.values())
    try:
        with torch.random.fork_rng(devices=devices), torch.enable_grad():
            loss().backward()  # type: ignore[no-untyped-call]
        reached = {name for name, parameter in parameters.items() if parameter.grad is not None}
    finally:
        for name, parameter in parameters.items():
            parameter.grad = saved_gradients[name]
        for buffer, value in buffers:
            buffer.copy_(value)
    requested_ids = {id(parameter) for parameter in requested}
    missing = [name for name, p in parameters.items() if id(p) in requested_ids and name not in reached]
    uncalled = [name for name in reached if id(parameters[name]) not in requested_ids]
    if uncalled or not reached or (all_of_them and (missing or len(reached) != len(requested_ids))):
        raise ValueError(
            f"the probe step asked for {len(requested_ids)} gradients and got {len(reached)}; "
            f"without one: {missing[:3]}, not asked for: {sorted(uncalled)[:3]}"
        )
    return len(reached)


class FrozenProof:
    """The digest of what must not move, which is checked; further experts may begin to train on the way."""

    def __init__(self, digest: Callable[[], str] | None) -> None:
        """`digest` is over everything that does not train now; None: everything trains, and nothing is checked."""
        self._digest = digest
        self.before = self._now()

    def _now(self) -> str | None:
        return self._digest() if self._digest is not None else None

    def check(self) -> str | None:
        """The digest as it is now.

        Raises:
            AssertionError: it is another one: something that does not train moved.
        """
        if (now := self._now()) != self.before:
            raise AssertionError("a weight outside the selection moved; nothing is written")
        return now

    def extend(self, let_train: Callable[[], None]) -> None:
        """Call what lets further experts train; up to here nothing else has moved."""
        self.check()
        let_train()
        self.before = self._now()


def frozen_digest(model: nn.Module, selected: Iterable[Expert], trained: Collection[str] = ()) -> str:
    """Digest of everything that must not move: all parameters and persistent buffers but the selected experts' rows.

    `trained` are names of further parameters that may move.
    """
    return digest_of_tensors(_frozen(model, set(selected), trained))


def _frozen(model: nn.Module, selected: set[Expert], trained: Collection[str]) -> Iterator[tuple[str, Tensor]]:
    banks = {f"{layer.name}.{weight}": layer for layer in expert_layers(model) for weight in layer.weights}
    for name, tensor in stored_tensors(model):
        if f".{ATTRIBUTE}." in name or name in trained:
            continue
        if name not in banks:
            yield name, tensor
            continue
        bank = whole(tensor)
        chosen = {expert.index for expert in selected if expert.layer == banks[name].layer}
        for index, rows in groupby(range(bank.shape[0]), key=lambda row: row in chosen):
            if not index:
                frozen_rows = list(rows)
                yield f"{name}[{frozen_rows[0]}:{frozen_rows[-1] + 1}]", bank[frozen_rows[0] : frozen_rows[-1] + 1]


def _clear(parameters: Iterable[nn.Parameter]) -> None:
    for parameter in parameters:
        parameter.grad = None
