"""One optimizer step of the routers of the alternating arm, as training takes it, on rows of one length.

The loss is that of `consistency_over` = `pair` with a stored target: the divergence of the mean distribution over the
answer of every row, mean over the layers. The experts are attached and idle, and the optimizer holds both.

Letters of shapes: B rows, S positions, A answer positions, L expert layers, C classes of a router.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from inspect import signature

import torch
from torch import Tensor

from moe_cli.bench.step import StepRow
from moe_cli.model.router_distributions import RouterLogits, kl_divergences, log_distribution
from moe_cli.model.router_seam import router_seam
from moe_cli.model.token_rows import LOGITS_TO_KEEP


@dataclass(slots=True, eq=False)
class RouterRow(StepRow):
    """A row whose step trains the routers: `during` it their masters learn."""

    def outputs(self, part_BS: Tensor) -> Tensor:
        """[L, B, C], ln of the mean distribution over the answer of every row, for every layer."""
        Q_LBC = torch.stack([log_p_BSC[:, self.batch.kept_A + 1].logsumexp(1) for log_p_BSC in self._routing(part_BS)])
        return Q_LBC - math.log(len(self.batch.kept_A))

    def loss(self, outputs: Tensor, part_BS: Tensor) -> Tensor:
        """Divergence of these rows' routing from a target, in nats."""
        target_LBC = torch.zeros_like(outputs).log_softmax(-1)
        return kl_divergences(target_LBC, outputs).mean(0).sum() / len(self.batch.ids_BS)

    def _routing(self, part_BS: Tensor) -> Sequence[Tensor]:
        """ln p [B, S, C] of every layer."""
        options: dict[str, bool | int] = {"use_cache": False}
        if LOGITS_TO_KEEP in signature(self.model.forward).parameters:
            options[LOGITS_TO_KEEP] = 1
        reader = RouterLogits()
        with router_seam(self.model, reader) as modes:
            self.model(input_ids=part_BS, attention_mask=torch.ones_like(part_BS), **options)
        return [
            log_distribution(reader.of_layer[index].reshape(*part_BS.shape, -1), mode.score_calls, self.model)
            for index, mode in enumerate(modes)
        ]
