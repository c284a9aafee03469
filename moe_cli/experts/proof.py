"""Proofs that training changes what was asked for and nothing else.

The probe step leaves no trace (gradients, random numbers, buffers). The digest covers every byte but the selected
experts' rows, and is the same before attaching, while attached and after merging.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import groupby

import torch
from torch import Tensor, nn

from moe_cli.experts.slices import ATTRIBUTE
from moe_cli.model.sharding import whole
from moe_cli.model.tensors import digest_of_tensors, stored_tensors
from moe_cli.model.topology import expert_layers
from moe_cli.records import Expert


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
