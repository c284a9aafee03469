"""No weight, moment or trained slice that is not a finite number is written, and none is worked with."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from moe_cli.errors import NumericError

ORDERED = (torch.float64, torch.float32, torch.bfloat16, torch.float16)  # dtypes whose extremes torch gives at once


def refuse_not_finite(tensors: Iterable[tuple[str, Tensor]], what: str, *, hint: str) -> None:
    """Refuse named tensors of which any holds NaN or infinity; `what` they are begins the error. One pass, no copy.

    Raises:
        NumericError: any does; it names the first.
    """
    wrong = [name for name, tensor in tensors if not _is_finite(tensor)]
    if wrong:
        others = f" and {len(wrong) - 1} more tensors" if len(wrong) > 1 else ""
        raise NumericError(f"{what} holds NaN or infinity in {wrong[0]}{others}", hint=hint)


def _is_finite(tensor: Tensor) -> bool:
    if not tensor.is_floating_point() or tensor.numel() == 0 or tensor.is_meta:
        return True
    values = tensor.detach() if tensor.dtype in ORDERED else tensor.detach().float()
    return bool(torch.isfinite(torch.stack(torch.aminmax(values))).all())  # NaN is the extreme of whatever holds it
