"""Gradients added up over the processes of a training, and clipped.

The loss of a process is divided by the answer tokens of the whole step, so the sum is the gradient of the step. Only
what some process updates is sent, and a gradient that none has stays None: an expert outside the masks of the step is
not touched.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from moe_cli.model.sharding import is_sharded, share_of
from moe_cli.ranks import gathered, num_ranks

BUCKET = 1 << 26  # elements that travel together: 256 MiB
CHUNK = 1 << 22  # elements that are squared at once: 32 MiB in float64


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


def clip_gradients(parameters: Iterable[nn.Parameter], max_norm: float) -> Tensor:
    """Scale all gradients so that their norm is at most `max_norm`; returns the norm before, a float32 scalar.

    As `torch.nn.utils.clip_grad_norm_`, but the squares are added up in float64, so that the norm has the same bits
    however the gradients lie on processes. AdamW would make a last bit of it a part of the learning rate wherever the
    gradient of a weight nearly cancels.
    """
    trained = [parameter for parameter in parameters if parameter.grad is not None]
    shared = [parameter for parameter in trained if is_sharded(parameter)]
    squares = _sum_of_squares([parameter for parameter in trained if not is_sharded(parameter)])
    if shared:
        squares += math.fsum(gathered(_sum_of_squares(shared)))
    norm = torch.tensor(math.sqrt(squares), dtype=torch.float32)
    scale = float(torch.clamp(max_norm / (norm + 1e-6), max=1.0))
    if scale != 1.0:  # NaN, too
        for parameter in trained:
            share_of(_gradient(parameter)).mul_(scale)
    return norm


@contextmanager
def one_gradient(trained: Iterable[nn.Parameter]) -> Iterator[None]:
    """What the backwards of the block make is put together before it is added to the gradients that there were.

    Two batches of several backwards each then have one sum, whether one process takes both or two take one each.
    """
    parameters = list(trained)
    before = [parameter.grad for parameter in parameters]
    for parameter in parameters:
        parameter.grad = None
    yield
    for parameter, gradient in zip(parameters, before, strict=True):
        if gradient is not None:
            parameter.grad = gradient if parameter.grad is None else gradient.add_(parameter.grad)


def _sum_of_squares(trained: Iterable[nn.Parameter]) -> float:
    """Of the gradients that this process holds."""
    chunks = (chunk for one in trained for chunk in share_of(_gradient(one)).flatten().split(CHUNK))
    norms = [torch.linalg.vector_norm(chunk, dtype=_widest(chunk)) for chunk in chunks]  # all before one is waited for
    return math.fsum(float(norm) ** 2 for norm in norms)


def _widest(gradient: Tensor) -> torch.dtype:
    """The dtype in which squares are added up; Apple's processors have no float64."""
    return torch.float32 if gradient.device.type == "mps" else torch.float64


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
