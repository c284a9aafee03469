"""The joint variant of the alternating arm: one step lowers cross-entropy + W times the routers' consistency.

The forwards on the answers are those of the selective arm, masks and all, and those of the consistency are a router
phase's; their gradients add up before the one update. The experts of the batch and the routers get the gradient of the
whole loss: the routers that of the answers, too, and the experts that of the routing behind them.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from moe_cli.train.alternating_trainer import AlternatingTrainer
from moe_cli.train.gradients import one_gradient
from moe_cli.train.trainer import FixedBatchTrainer, Inputs


class JointTrainer(AlternatingTrainer):
    """Trains experts and routers in the same steps."""

    def train_parts(
        self, model: nn.Module, parts: Sequence[Inputs], num_items_in_batch: Tensor | int | None
    ) -> list[Tensor]:
        """Forwards and backwards of a batch; returns the cross-entropy of its parts.

        A batch that selected no expert trains the routers all the same.
        """
        with one_gradient(self.trained.values()):
            with self.routers.learning():  # also in the backward, as checkpointing repeats forwards there
                losses = FixedBatchTrainer.train_parts(self, model, parts, num_items_in_batch)
            self._train_consistency(self.open_step.batches[-1])
        return losses

    def _train_consistency(self, batch: int) -> None:
        """Add the gradient of W L_cons; of the step, that is the mean over the pairs of all its batches."""
        for cut in self.router_phase.paired[batch].attacked:
            rows = self.router_phase.rows_of(batch, cut)
            consistency = self.router_phase.consistency_loss(batch, rows) / self.num_pairs_of_step
            self.open_step.consistency.append(float(consistency.detach()))
            with self.routers.learning():
                (self.settings.router_consistency_weight * consistency).backward()  # type: ignore[no-untyped-call]
