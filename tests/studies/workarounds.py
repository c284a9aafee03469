"""Whether the libraries still do what the work of several processes works around.

    python -m tests.studies.workarounds

To be run when `make lock` has moved torch, transformers or accelerate. What is *gone* may be dropped from
`train/trainer.py`, `model/sharding.py` or `gloo_groups.py`; nothing here decides a number.

Letters of shapes: S rows, I inputs, O outputs.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from types import SimpleNamespace
from unittest.mock import patch

import torch
import torch.distributed as dist
from accelerate import skip_first_batches
from accelerate.data_loader import prepare_data_loader
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.utils.data import DataLoader
from transformers import Trainer

from moe_cli import gloo_groups
from moe_cli.ranks import this_rank
from moe_cli.train.dataset import EpochOrder
from tests.in_ranks import run_in_ranks

PROCESSES = 2
CRASHES = {-signal.SIGABRT, -signal.SIGSEGV}
GATHERED, AT_ONCE = 8000, 8  # times, and how many each time
BATCHES, DONE = 8, 3  # of an epoch; of the epoch that is resumed


class GoneError(Exception):
    """A library no longer does it."""


def epoch_is_lost() -> None:
    """What the Trainer tells of the epoch does not reach an order that accelerate shards and whose begin it skips."""
    order = EpochOrder(BATCHES, lambda epoch: list(range(BATCHES)))
    loader = DataLoader(list(range(BATCHES)), batch_sampler=order)
    sharded = prepare_data_loader(loader, num_processes=PROCESSES, process_index=0, put_on_device=False)
    skipping = skip_first_batches(sharded, DONE)
    skipping.set_epoch(1)
    if hasattr(skipping.batch_sampler.batch_sampler, "set_epoch"):  # as `Trainer._run_epoch` looks for it
        skipping.batch_sampler.batch_sampler.set_epoch(1)
    if order.epoch == 1:
        raise GoneError


def gradients_of_masks_mix() -> None:
    """The Trainer's hooks add up what two processes hold of different parameters."""
    generator = torch.Generator().manual_seed(0)
    experts = nn.ModuleList(nn.Linear(2, 2, bias=False) for _ in range(PROCESSES))
    trainer = SimpleNamespace(accelerator=SimpleNamespace(sync_gradients=True))
    Trainer._sync_replicated_trainable_parameters(trainer, experts)  # type: ignore[arg-type]
    mine, rows_SI = experts[this_rank().index], torch.rand(3, 2, generator=generator) + this_rank().index
    mine(rows_SI).sum().backward()
    alone_OI = rows_SI.sum(0).expand(2, 2)
    if torch.allclose(mine.weight.grad, alone_OI) or torch.allclose(mine.weight.grad, alone_OI / PROCESSES):
        raise GoneError


class WritesInForward(nn.Module):
    """A frozen weight into whose gathered copy the forward writes."""

    def __init__(self) -> None:
        super().__init__()
        self.weight_OI = nn.Parameter(torch.zeros(2, 2), requires_grad=False)

    def forward(self, rows_SI: Tensor) -> Tensor:
        """[S, O], of a weight of ones."""
        self.weight_OI.data.fill_(1.0)
        return rows_SI @ self.weight_OI.T


def backward_sees_the_base() -> None:
    """What a forward writes into a gathered weight is gone when the backward gathers it again."""
    layer = WritesInForward()
    fully_shard(layer, mesh=init_device_mesh("cpu", (PROCESSES,)), reshard_after_forward=True)
    rows_SI = torch.ones(3, 2, requires_grad=True)
    out_SO = layer(rows_SI)
    if not torch.equal(out_SO, torch.full((3, 2), 2.0)):
        raise AssertionError(f"the forward did not see what it wrote: {out_SO}")
    out_SO.sum().backward()
    if rows_SI.grad is not None and rows_SI.grad.any():
        raise GoneError


def names_are_freed_twice() -> None:
    """Two threads of a gloo group that end a collective at once free the same memory."""
    ended = run_in_ranks(PROCESSES, gathers_at_once)
    if any(ended.codes) and not CRASHES & set(ended.codes):
        raise AssertionError(ended.said)
    if not any(ended.codes):
        raise GoneError


def gathers_at_once() -> None:
    """In every process: many gathers in a group of two threads."""
    with patch.object(gloo_groups, "THREADS", 2):
        group = dist.new_group()
    of_group = torch.ops._c10d_functional
    for _ in range(GATHERED):
        under_way = [
            of_group.all_gather_into_tensor(torch.ones(4), PROCESSES, group.group_name) for _ in range(AT_ONCE)
        ]
        for rows in under_way:
            of_group.wait_tensor(rows)


def is_needed(check: Callable[[], None], *, in_processes: bool) -> bool:
    """Whether the check ends as it does where a library behaves as it did.

    Raises:
        AssertionError: a process ended in another way.
    """
    if not in_processes:
        try:
            check()
        except GoneError:
            return False
        return True
    ended = run_in_ranks(PROCESSES, check)
    if any(ended.codes) and "GoneError" not in ended.said:
        raise AssertionError(ended.said)
    return not any(ended.codes)


def main() -> None:
    """Print a line for every workaround; exit code 1 where one is needed no longer."""
    checks = (
        (epoch_is_lost, False),
        (gradients_of_masks_mix, True),
        (backward_sees_the_base, True),
        (names_are_freed_twice, False),  # starts its processes itself
    )
    needed = []
    for check, in_processes in checks:
        needed.append(is_needed(check, in_processes=in_processes))
        print(f"{'needed' if needed[-1] else 'GONE':7} {check.__doc__}", flush=True)
    sys.exit(not all(needed))


if __name__ == "__main__":
    main()
