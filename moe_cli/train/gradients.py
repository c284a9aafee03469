"""Gradients added up over the processes of a training.

The loss of a process is divided by the answer tokens of the whole step, so the sum is the gradient of the step. Only
what some process updates is sent, and a gradient that none has stays None: an expert outside the masks of the step is
not touched.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

from moe_cli.model.sharding import is_sharded
from moe_cli.ranks import gathered, num_ranks

BUCKET = 1 << 26  # elements that travel together: 256 MiB


def sum_gradients(trained: Iterable[nn.Parameter]) -> int:
    """Replace every gradient by its sum over the processes; returns the bytes of the gradients that were added up.

    `trained` are the same parameters in the same order on every process. FSDP has added up those of sharded ones.
    """
    parameters = [parameter for parameter in trained if not is_sharded(parameter)]
    if num_ranks() == 1 or not parameters:
        return 0
    here = [index for index, parameter in enumerate(parameters) if parameter.grad is not None]
    union = sorted({index for indices in gathered(here) for index in indices})
    for bucket in _buckets([_gradient(parameters[index]) for index in union]):
        _add_up(bucket)
    return sum(_gradient(parameters[index]).nbytes for index in union)


def _gradient(parameter: nn.Parameter) -> Tensor:
    """The gradient; zeros where this process has none."""
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad


def _buckets(gradients: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """The gradients in groups of about `BUCKET` elements of one dtype and device."""
    bucket: list[Tensor] = []
    for gradient in gradients:
        if bucket and (
            sum(held.numel() for held in bucket) + gradient.numel() > BUCKET
            or (bucket[0].dtype, bucket[0].device) != (gradient.dtype, gradient.device)
        ):
            yield bucket
            bucket = []
        bucket.append(gradient)
    if bucket:
        yield bucket


def _add_up(bucket: Sequence[Tensor]) -> None:
    import torch.distributed as dist

    if len(bucket) == 1 and bucket[0].is_contiguous():
        dist.all_reduce(bucket[0])
        return
    flat = torch.cat([gradient.reshape(-1) for gradient in bucket])
    dist.all_reduce(flat)
    parts = flat.split([gradient.numel() for gradient in bucket])
    torch._foreach_copy_(list(bucket), [part.view_as(gradient) for part, gradient in zip(parts, bucket, strict=True)])
