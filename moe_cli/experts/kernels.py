"""Grouped matrix products: rows sorted by expert, one weight per expert.

The kernel is the one that transformers' own `grouped_mm` experts use, so equal inputs give equal bits. Products are in
the dtype of the inputs, outer products in the masters' dtype. Rows behind the last offset are undefined (zero where the
loop runs).

Letters: S rows (token, expert) sorted by expert, E experts, I and O the sizes of one product, N rows of one expert.
"""

from __future__ import annotations

import torch
from torch import Tensor

from moe_cli.experts.dispatch import read_ends

GROUPED, LOOP = "grouped_mm", "loop"  # how a product of sorted rows is made
ALIGNED = 16  # bytes: what the strides of the kernel's operands are multiples of
KERNEL_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def multiply_grouped(rows_SI: Tensor, weights_EIO: Tensor, offsets_E: Tensor) -> Tensor:
    """[S, O]; the rows from `offsets_E[e - 1]` up to `offsets_E[e]` are multiplied with the weight of expert e."""
    if _kernel_takes(rows_SI, weights_EIO):
        return torch.nn.functional.grouped_mm(rows_SI, weights_EIO, offs=offsets_E)
    return _loop(rows_SI, weights_EIO, offsets_E)


def multiply_outer(left_NI: Tensor, right_NO: Tensor, dtype: torch.dtype) -> Tensor:
    """[I, O] summed over the rows of one expert, accumulated in `dtype`; zeros where there are no rows."""
    if left_NI.dtype == dtype:
        return left_NI.T @ right_NO
    if left_NI.is_cuda and dtype is torch.float32 and left_NI.shape[0] > 0:
        return torch.mm(left_NI.T, right_NO, out_dtype=dtype)
    return left_NI.to(dtype).T @ right_NO.to(dtype)


def _kernel_takes(rows_SI: Tensor, weights_EIO: Tensor) -> bool:
    """Whether the kernel supports these operands.

    float64, odd sizes (a stride that is no multiple of 16 bytes) and cards before Ampere need the loop.
    """
    if kernel_of(rows_SI.device, rows_SI.dtype) == LOOP:
        return False
    sizes = (rows_SI.shape[1], weights_EIO.shape[2])
    return all(size * rows_SI.element_size() % ALIGNED == 0 for size in sizes)


def kernel_of(device: torch.device, dtype: torch.dtype) -> str:
    """`grouped_mm`, or `loop` where a device does not support it in this dtype."""
    old = device.type == "cuda" and torch.cuda.get_device_capability(device) < (8, 0)
    return LOOP if old or dtype not in KERNEL_DTYPES else GROUPED


def _loop(rows_SI: Tensor, weights_EIO: Tensor, offsets_E: Tensor) -> Tensor:
    out_SO = rows_SI.new_zeros(rows_SI.shape[0], weights_EIO.shape[2])
    start = 0
    for weight_IO, end in zip(weights_EIO, read_ends(offsets_E, num_rows=len(rows_SI)), strict=True):
        if end > start:
            torch.mm(rows_SI[start:end], weight_IO, out=out_SO[start:end])
        start = end
    return out_SO
