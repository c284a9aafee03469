"""How far the weights moved from the base's, group by group.

Every parameter and persistent buffer counts once, tied ones included. A group in which no bit differs has moved by
exactly 0.0. Sums are in float64; tensors are read in chunks, never copied whole.

Letters: L expert layers, E experts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from math import sqrt
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from moe_cli.activity import begin_activity
from moe_cli.model.load import LoadedModel
from moe_cli.model.tensors import float64_device, stored_tensors
from moe_cli.model.topology import Group, parameter_groups
from moe_cli.records.drift import GroupDrift

DriftGroup = Literal["selected experts", "other experts"] | Group

ORDER: tuple[DriftGroup, ...] = ("selected experts", "other experts", *get_args(Group))

CHUNK_VALUES = 1 << 20  # 8 MiB in float64

INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # by size: whose values are the bits


@dataclass(slots=True)
class _Sums:
    """Running sums of a group."""

    num_params: int = 0
    num_changed: int = 0
    squares: float = 0.0  # of the differences
    base_squares: float = 0.0
    largest: float = 0.0


@torch.inference_mode()
@begin_activity("comparing the weights")
def measure_weight_drift(
    base: LoadedModel, tuned: LoadedModel, selected_LE: NDArray[np.bool_] | None
) -> tuple[GroupDrift, ...]:
    """Drift of every group; without a selection the experts are one group.

    Raises:
        ValueError: the models have not the same tensors, or the selection is of other experts (bugs of the caller).
    """
    sums_of_group: dict[DriftGroup, _Sums] = {}
    for group, base_part, tuned_part in _parts(base, tuned, selected_LE):
        sums = sums_of_group.setdefault(group, _Sums())
        chunks = (part.reshape(-1).split(CHUNK_VALUES) for part in (base_part, tuned_part))
        for base_chunk, tuned_chunk in zip(*chunks, strict=True):
            device = float64_device(base_chunk.device)
            _add(sums, base_chunk.to(device), tuned_chunk.to(device))
    return tuple(_drift(group, sums_of_group[group]) for group in ORDER if group in sums_of_group)


def num_changed(base: Tensor, tuned: Tensor) -> int:
    """Number of values whose bits differ."""
    return int((_bits(base) != _bits(tuned.to(base.device))).sum())


def _drift(group: DriftGroup, sums: _Sums) -> GroupDrift:
    """Drift of a group; relative to a base of zeros every change is 1.0."""
    return GroupDrift(
        group=group,
        num_params=sums.num_params,
        num_changed=sums.num_changed,
        relative_l2=sqrt(sums.squares / (sums.base_squares or sums.squares)) if sums.squares else 0.0,
        largest=sums.largest,
    )


def _add(sums: _Sums, base: Tensor, tuned: Tensor) -> None:
    sums.num_params += base.numel()
    base64 = base.double()
    sums.base_squares += float(base64.square().sum())
    if torch.equal(_bits(base), _bits(tuned)):
        return
    difference = tuned.double() - base64
    sums.num_changed += num_changed(base, tuned)
    sums.squares += float(difference.square().sum())
    sums.largest = max(sums.largest, float(difference.abs().max()))


def _bits(values: Tensor) -> Tensor:
    return values.view(INTEGERS[values.element_size()])


def _parts(
    base: LoadedModel, tuned: LoadedModel, selected_LE: NDArray[np.bool_] | None
) -> Iterator[tuple[DriftGroup, Tensor, Tensor]]:
    """All tensors with their group; banks are cut where selected rows begin and end."""
    banks = {f"{layer.name}.{w}": index for index, layer in enumerate(base.layers) for w in layer.weights}
    shape_LE = (len(base.layers), base.identity.num_experts)
    if selected_LE is not None and selected_LE.shape != shape_LE:
        raise ValueError(f"the selection is of {selected_LE.shape} experts, the model has {shape_LE}")
    groups = parameter_groups(base.model)
    for name, base_tensor, tuned_tensor in _pairs(base, tuned):
        if name not in banks or selected_LE is None:
            yield groups[name], base_tensor, tuned_tensor
            continue
        for is_selected, rows in groupby(range(len(base_tensor)), key=selected_LE[banks[name]].item):
            indices = list(rows)
            of_run = slice(indices[0], indices[-1] + 1)
            yield "selected experts" if is_selected else "other experts", base_tensor[of_run], tuned_tensor[of_run]


def _pairs(base: LoadedModel, tuned: LoadedModel) -> Iterator[tuple[str, Tensor, Tensor]]:
    tuned_tensors = dict(stored_tensors(tuned.model))
    base_tensors = dict(stored_tensors(base.model))
    if base_tensors.keys() != tuned_tensors.keys():
        raise ValueError(f"only in one model: {sorted(base_tensors.keys() ^ tuned_tensors.keys())[:3]}")
    for name, tensor in base_tensors.items():
        other = tuned_tensors[name]
        if (tensor.shape, tensor.dtype) != (other.shape, other.dtype):
            raise ValueError(f"{name} is {tensor.dtype} {[*tensor.shape]} and {other.dtype} {[*other.shape]}")
        yield name, tensor, other
