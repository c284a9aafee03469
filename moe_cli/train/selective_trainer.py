"""The selective arm: the loop of both arms, in which each batch updates only its own experts.

A masked slice gets no gradient (None), so the optimizer skips it: weight, moments, step count and decay stay.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor, nn

from moe_cli.experts import AttachedSlices
from moe_cli.records import Expert
from moe_cli.train.trainer import FixedBatchTrainer, Inputs


class ExpertMaskingTrainer(FixedBatchTrainer):
    """Trains slices, each batch those of its own experts."""

    def mask_with(self, slices: AttachedSlices, batch_experts: Sequence[Collection[Expert]] | None) -> None:
        """Use these experts per batch; None trains the union on every batch (`--masking none`)."""
        self.slices, self.batch_experts = slices, batch_experts

    def add_slices(self, experts: Collection[Expert]) -> None:
        """Train these experts, too, in the optimizer if there is one yet."""
        self.slices.extend(experts)
        new = {name: master for name, master in self.slices.parameters.items() if name not in self.trained}
        self.trained |= new
        if self.optimizer is not None:
            decay = set(self.get_decay_parameter_names(self.model))
            of_id = {id(parameter): name for name, parameter in self.model.named_parameters()}
            for master in new.values():
                self.optimizer.param_groups[0 if of_id[id(master)] in decay else 1]["params"].append(master)

    def begin_batch(self, batch: int) -> None:
        """Give gradients to the experts of this batch alone."""
        self.slices.activate(None if self.batch_experts is None else self.batch_experts[batch])

    def train_parts(
        self, model: nn.Module, parts: Sequence[Inputs], num_items_in_batch: Tensor | int | None
    ) -> list[Tensor]:
        """Train the batch as usual; if it selected no expert, nothing is updated and only its loss is recorded.

        With sharded weights a backward runs all the same, as the other processes gather the layers for theirs.
        """
        if self.slices.active or self.of_shares:
            return super().train_parts(model, parts, num_items_in_batch)
        model.train()
        with torch.no_grad():
            return [
                self.compute_loss(model, self._prepare_inputs(part), num_items_in_batch=num_items_in_batch)
                for part in parts
            ]

    def begin_company(self) -> None:
        """Give no expert a gradient."""
        self.slices.activate(())

    def finish_step(self) -> None:
        """Called by the step callback when the optimizer has stepped."""
        if self.of_shares:
            self.slices.sync()
        super().finish_step()

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        self.slices.sync()

    def experts_of(self, batches: Sequence[int]) -> int:
        """Number of experts that these batches update together."""
        if self.batch_experts is None:
            return len(self.slices.experts)
        return len({expert for batch in batches for expert in self.batch_experts[batch]})
