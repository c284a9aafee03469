"""One optimizer step of one row.

Comes in: a model, a batch and what trains. Goes out: `Row`, whose `step` is what is timed. Always holds: a step clears
the gradients first, so that after it they can be counted; what has to be in force during a step (autocast, an experts
function, checkpointing) is entered outside of what is timed.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from moe_cli.bench.model import Batch

CLIP = 1.0
LEARNING_RATE = 1e-5  # its size costs nothing


@dataclass(slots=True, eq=False)
class StepRow:
    """A model, ready to be stepped."""

    model: PreTrainedModel
    batch: Batch
    trained: tuple[nn.Parameter, ...] = ()  # what the optimizer moves
    backward: bool = True
    autocast: bool = False  # the forward in bfloat16, over float32 masters
    during: Callable[[], AbstractContextManager[object]] = nullcontext
    before_update: Callable[[], None] = lambda: None
    optimizer: torch.optim.AdamW | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        """The optimizer that the Trainer uses by default."""
        if self.trained:
            self.optimizer = torch.optim.AdamW(self.trained, lr=LEARNING_RATE, weight_decay=0.0, fused=True)

    def step(self) -> None:
        """Forwards; backwards, clipping and update where there are any."""
        if self.optimizer is not None:
            self.optimizer.zero_grad(set_to_none=True)
        for part_BS in self.batch.parts():
            loss = self.forward(part_BS)
            if self.backward:
                loss.backward()
        if self.optimizer is not None:
            self.before_update()
            torch.nn.utils.clip_grad_norm_(self.trained, CLIP)
            self.optimizer.step()

    def forward(self, part_BS: Tensor) -> Tensor:
        """What some rows add to the loss of the step."""
        batch, device = self.batch, part_BS.device.type
        with torch.set_grad_enabled(self.backward), torch.autocast(device, torch.bfloat16, enabled=self.autocast):
            logits_BAV = self.model(input_ids=part_BS, use_cache=False, logits_to_keep=batch.kept_A).logits
        return batch.loss(logits_BAV, part_BS)
