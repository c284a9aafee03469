"""Weights that lie in shares on several processes, as FSDP2 of torch lays them out (`DTensor`).

Every share holds whole rows of the first axis, so an expert lies on one process. What gathers a tensor or a row is
called by all processes, in the same order.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import transformers
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

from moe_cli.errors import EnvironmentFaultError
from moe_cli.ranks import gathered, num_ranks, this_rank

WEIGHTS_DO_NOT_FIT = "ignore_mismatched_sizes"  # what transformers says of them
NOT_CONVERTED = "automatic conversion of the weights"
OWN_CARD = "0"  # a process sees one card


def is_sharded(tensor: Tensor) -> bool:
    """Whether this process holds a share of the tensor alone."""
    return isinstance(tensor.data, DTensor)


def has_shares(model: nn.Module) -> bool:
    """Whether the weights of the model are sharded."""
    return any(is_sharded(parameter) for parameter in model.parameters())


def sum_gradients_of_shares(model: nn.Module) -> None:
    """Let FSDP add up the gradients of all processes, instead of taking their mean, whose division rounds."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)  # gloo knows no other one with a factor


def whole(tensor: Tensor) -> Tensor:
    """The tensor, gathered if it is sharded."""
    data = tensor.detach()
    return data.full_tensor() if isinstance(data, DTensor) else data


def share_of(tensor: Tensor) -> Tensor:
    """What this process holds of the tensor, all of it if it is not sharded; written to, autograd does not notice."""
    data = tensor.data
    return data.to_local() if isinstance(data, DTensor) else data


def share_offset(tensor: Tensor) -> int:
    """Index of the first row that this process holds; the share of an unsharded tensor begins with row 0."""
    data = tensor.detach()
    if not isinstance(data, DTensor):
        return 0
    _, offset = compute_local_shape_and_global_offset(data.shape, data.device_mesh, data.placements)
    return offset[0] if offset else 0


def row_here(tensor: Tensor, index: int) -> Tensor | None:
    """A view of row `index` if this process holds it."""
    share, first = share_of(tensor), share_offset(tensor)
    return share[index - first] if first <= index < first + share.shape[0] else None


def fetched_row(tensor: Tensor, index: int) -> Tensor:
    """A copy of row `index` on every process, sent by the one that holds it; a view if the tensor is not sharded."""
    row = row_here(tensor, index)
    if not is_sharded(tensor):
        if row is None:
            raise IndexError(f"row {index} of {tuple(tensor.shape)}")
        return row
    owner = gathered(row is not None).index(True)
    import torch.distributed as dist

    copy = row.clone() if row is not None else torch.empty(tensor.shape[1:], dtype=tensor.dtype, device=tensor.device)
    dist.broadcast(copy, src=owner)
    return copy


@contextmanager
def laying_out_shares(name: str) -> Iterator[None]:
    """A block in which transformers gives each process a share of the weights of the model `name`.

    Raises:
        EnvironmentFaultError: transformers cannot share out this model.
    """
    try:
        with _environment_of_torchrun():
            yield
    except RuntimeError as error:
        if any(sign in str(error) for sign in (WEIGHTS_DO_NOT_FIT, NOT_CONVERTED)):
            raise unsharable(name) from error
        raise


def unsharable(name: str) -> EnvironmentFaultError:
    """The error for a model whose weights come out wrong when transformers shares them out."""
    return EnvironmentFaultError(
        f"transformers {transformers.__version__} cannot share out the weights of {name}: they get other shapes",
        hint=f"where one of {num_ranks()} processes would hold no expert, as of 16 in 5 or 7, take another number; "
        "else train with --placement replicated, and if that says the same of the checkpoint, it is damaged",
    )


def shares() -> dict[str, object]:
    """Arguments of `from_pretrained` with which each process gets a share of every weight."""
    from transformers.distributed import DistributedConfig

    return {"distributed_config": DistributedConfig(fsdp_size=num_ranks())}


@contextmanager
def _environment_of_torchrun() -> Iterator[None]:
    """Inside the block the environment says what torchrun said, for transformers, which lays out the shares by it."""
    rank = this_rank()
    said = {"RANK": str(rank.index), "WORLD_SIZE": str(num_ranks()), "LOCAL_RANK": OWN_CARD}
    os.environ |= said
    try:
        yield
    finally:
        for name in said:
            os.environ.pop(name, None)
