"""The least memory that a row needs, from the sizes of its tensors alone, and why a row has no figures.

The estimate is a lower bound (no activation is counted), so a row that is refused for it could not have run. With P
parameters in a dtype of i bytes, B of them in experts and N selected: frozen rows P i; selective P i + 16 N; full 16
P; zeroed gradients (P - B) i + 16 B.

A row without figures says why, and is never shown as 0. Errors that are no known failure are bugs and are not
caught.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from moe_cli.experts.trainable import least_bytes
from moe_cli.records import BenchmarkedModel

NO_MEMORY = "can't allocate memory"  # torch's, on the CPU
ITEM_BYTES = {"float32": 4, "bfloat16": 2}
ROOM_FOR_ACTIVATIONS = 2  # rows stay side by side only where twice their least bytes are available


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a row has no figures."""

    status: Literal["not measured", "out of memory"]
    note: str


class NotMeasuredError(Exception):
    """Something that a row needs is not installed."""


class NoRoomError(Exception):
    """A row needs more memory than there is."""


def failure_of(error: Exception) -> Failure | None:
    """The failure that an exception stands for; None where it is a bug."""
    note = (str(error).splitlines() or [type(error).__name__])[0]
    if isinstance(error, NotMeasuredError):
        return Failure("not measured", note)
    if isinstance(error, (NoRoomError, MemoryError, torch.OutOfMemoryError)) or NO_MEMORY in str(error):
        return Failure("out of memory", note)
    return None


def least_bytes_of_row(name: str, selected: int, model: BenchmarkedModel) -> int:
    """Bytes of the weights, masters, gradients and moments of a row."""
    item, total, experts = ITEM_BYTES[model.dtype], model.total_params, model.expert_params
    if name.startswith("full_"):
        return least_bytes(frozen_bytes=0, trained_params=total)
    if name == "zeroed_gradients":
        return least_bytes(frozen_bytes=item * (total - experts), trained_params=experts)
    if name.startswith("selective"):
        return least_bytes(frozen_bytes=item * total, trained_params=selected_params(model, selected))
    return item * total


def selected_params(model: BenchmarkedModel, selected: int) -> int:
    """Number of parameters in `selected` experts of every layer."""
    return selected * model.expert_params // model.num_experts


def check_room(name: str, selected: int, model: BenchmarkedModel, available: int) -> None:
    """Refuse a row that cannot fit, before the system kills the process for it.

    Raises:
        NoRoomError: see above.
    """
    needed = least_bytes_of_row(name, selected, model)
    if needed > available:
        raise NoRoomError(f"needs {needed / 1e9:.1f} GB without activations, {available / 1e9:.1f} GB are available")


def fits_side_by_side(rows: list[tuple[str, int]], model: BenchmarkedModel, available: int) -> bool:
    """Whether all rows fit in memory together, with room for their activations."""
    together = sum(least_bytes_of_row(name, selected, model) for name, selected in rows)
    return ROOM_FOR_ACTIVATIONS * together <= available
