"""Grouped matrix products over tokens sorted by expert: which row is which token, and one weight per expert.

The order is that of transformers' `grouped_mm` experts, and so is the kernel, so equal inputs in equal places give
equal bits. Sentinels (ids >= E) lie behind the last offset; rows there are undefined (zero where the loop runs). Making
a `Dispatch` costs no host synchronisation; taking a few experts' rows out of it costs one. Products are in the dtype of
the inputs, outer products in the masters' dtype.

Letters: T tokens, K top-k, S = T x K rows (token, expert) sorted by expert, E experts, A rows of the chosen experts,
N rows of one expert, I and O the sizes of one product.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import is_fake

GROUPED, LOOP = "grouped_mm", "loop"  # how a product of sorted rows is made
ALIGNED = 16  # bytes: what the strides of the kernel's operands are multiples of
KERNEL_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True, slots=True, eq=False)
class Dispatch:
    """Order of the rows of grouped products."""

    place_S: Tensor  # where the row's choice stands in the flattened [T, K]
    token_S: Tensor  # which token the row is
    offsets_E: Tensor  # int32; expert e's rows end here
    expert_S: Tensor | None  # the row's expert, clamped into the bank; only where biases need it
    sentinel_S: Tensor | None  # bool; only where sentinels may occur

    def mask(self, rows_SX: Tensor) -> Tensor:
        """The rows, with zeros where no expert computed them."""
        if self.sentinel_S is None:
            return rows_SX
        return rows_SX.masked_fill(self.sentinel_S.view(-1, *[1] * (rows_SX.dim() - 1)), 0.0)

    def row_of_choice(self) -> Tensor:
        """[T x K]: the row of each choice of the flattened [T, K] (the inverse of `place_S`)."""
        row_S = torch.empty_like(self.place_S)
        row_S[self.place_S] = torch.arange(self.place_S.shape[0], device=self.place_S.device)
        return row_S

    def tensors(self) -> tuple[Tensor | None, ...]:
        """The tensors to save for the backward; `of` takes them back."""
        return self.place_S, self.offsets_E, self.expert_S, self.sentinel_S

    @classmethod
    def of(cls, tensors: Sequence[Tensor | None], *, top_k: int) -> Dispatch:
        """Make a `Dispatch` from its saved tensors."""
        place_S, offsets_E, expert_S, sentinel_S = tensors
        if place_S is None or offsets_E is None:
            raise ValueError("a dispatch needs its order and its offsets")
        return cls(place_S, place_S // top_k, offsets_E, expert_S, sentinel_S)


def sort_by_expert(experts_TK: Tensor, num_experts: int, *, biased: bool, sentinels: bool) -> Dispatch:
    """All T x K choices, sorted by expert."""
    sorted_S, place_S = torch.sort(experts_TK.reshape(-1))
    bins_E = torch.arange(num_experts, device=sorted_S.device, dtype=sorted_S.dtype)
    return Dispatch(
        place_S=place_S,
        token_S=place_S // experts_TK.shape[-1],
        offsets_E=torch.searchsorted(sorted_S, bins_E, right=True, out_int32=True),
        expert_S=sorted_S.clamp(max=num_experts - 1) if biased else None,
        sentinel_S=sorted_S >= num_experts if sentinels else None,
    )


def bounds_of(dispatch: Dispatch) -> list[tuple[int, int]]:
    """First and last row (exclusive) of every expert, on the host: the one synchronisation."""
    ends = read_ends(dispatch.offsets_E, num_rows=len(dispatch.place_S))
    return list(zip([0, *ends[:-1]], ends, strict=True))


def read_ends(offsets_E: Tensor, *, num_rows: int) -> list[int]:
    """The offsets on the host; even use of the experts for fake tensors, by which `moe plan` follows a step."""
    if is_fake(offsets_E):
        return [num_rows * (expert + 1) // len(offsets_E) for expert in range(len(offsets_E))]
    ends: list[int] = offsets_E.tolist()
    return ends


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """Copy a host tensor to `device`; the host does not wait for the copy to a card."""
    return values.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else values


def gather_experts(
    whole: Dispatch, experts: Sequence[int], bounds: Mapping[int, tuple[int, int]]
) -> tuple[Dispatch, dict[int, tuple[int, int]]]:
    """The rows of a few experts, in the order given, and where each expert's rows are now."""
    sizes = [bounds[expert][1] - bounds[expert][0] for expert in experts]
    ends = list(accumulate(sizes))
    device = whole.place_S.device
    rows_A = to_device(torch.cat([torch.arange(*bounds[expert]) for expert in experts]), device)
    order_A = torch.repeat_interleave(torch.arange(len(experts)), torch.tensor(sizes), output_size=sum(sizes))
    packed = Dispatch(
        place_S=whole.place_S[rows_A],
        token_S=whole.token_S[rows_A],
        offsets_E=to_device(torch.tensor(ends, dtype=torch.int32), device),
        expert_S=to_device(order_A, device) if whole.expert_S is not None else None,
        sentinel_S=None,
    )
    return packed, dict(zip(experts, zip([0, *ends[:-1]], ends, strict=True), strict=True))


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
