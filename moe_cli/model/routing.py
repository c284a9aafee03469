"""Watch which experts the router really chose; changes nothing.

Comes in: a model, and for every forward the tokens to count as boolean regions. Goes out: integer counts per region,
row, layer and expert. Always holds: the forward is delegated to the function that was active before, so no logit
changes by a bit; what is counted are the indices that reach the experts; padding, expert-parallel sentinels (ids >= E)
and choices that the router gave no weight (a token that skips the experts) are never counted; per layer and row the
choices, with those two, sum to counted tokens x top-k, else it is a bug.

Letters: R regions, B rows, S positions, T = B x S tokens, K top-k, L expert layers, E experts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

import torch
from torch import Tensor, nn
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

from moe_cli.errors import UsageError
from moe_cli.model.topology import ExpertLayer, expert_layers, experts_function, switch_experts

_names = (f"moe_recording_{number}" for number in count())


class RoutingRecorder:
    """Counts of the routing in the forwards since the last `watch`; made by `recording`."""

    def __init__(self, layers: tuple[ExpertLayer, ...]) -> None:
        self.layers = layers
        self._place = {layer.module: place for place, layer in enumerate(layers)}
        self._before = [experts_function(layer) for layer in layers]
        self._regions_RBS: Tensor | None = None
        self._counts: dict[int, Tensor] = {}  # place -> [R, B, E + 1]; the last bin holds what no expert answers
        self._top_k: dict[int, int] = {}

    def watch(self, regions_RBS: Tensor) -> None:
        """Count the next forward, which is over [B, S] token ids, in these boolean regions; forgets earlier counts."""
        if regions_RBS.dtype is not torch.bool or regions_RBS.dim() != 3:
            raise ValueError(f"regions are bool [R, B, S], not {regions_RBS.dtype} {tuple(regions_RBS.shape)}")
        self._regions_RBS = regions_RBS
        self._counts.clear()

    def counts(self) -> Tensor:
        """int64 [B, R, L, E] on the CPU: tokens of the region whose top-k holds the expert, with a weight.

        Raises:
            ValueError: a layer did not see every counted token exactly once since `watch` (a bug of the caller).
        """
        regions_RBS = self._watched()
        missing = [layer.layer for place, layer in enumerate(self.layers) if place not in self._counts]
        if missing:
            raise ValueError(f"no forward reached the experts of the layers {missing} since watch()")
        places = range(len(self.layers))
        chosen_LRBE = torch.stack([self._counts[place].cpu() for place in places])
        top_k_L = torch.tensor([self._top_k[place] for place in places])
        expected_LRB = top_k_L[:, None, None] * regions_RBS.sum(-1).cpu()
        if not torch.equal(chosen_LRBE.sum(-1), expected_LRB):
            raise ValueError("routing counts do not sum to counted tokens x top-k: one forward per watch(), please")
        return chosen_LRBE[..., :-1].permute(2, 1, 0, 3).contiguous()

    def run(self, module: nn.Module, hidden_TH: Tensor, experts_TK: Tensor, weights_TK: Tensor) -> Tensor:
        """The experts function: count, then do what was done before."""
        place = self._place[module]
        if self._regions_RBS is not None:
            self._add(place, experts_TK, weights_TK)
        return self._before[place](module, hidden_TH, experts_TK, weights_TK)

    def _watched(self) -> Tensor:
        if self._regions_RBS is None:
            raise ValueError("nothing is watched: call watch(regions) before the forward")
        return self._regions_RBS

    @torch.no_grad()
    def _add(self, place: int, experts_TK: Tensor, weights_TK: Tensor) -> None:
        regions_RBS = self._watched().to(experts_TK.device)
        num_regions, num_rows, num_positions = regions_RBS.shape
        if experts_TK.shape[0] != num_rows * num_positions:
            raise ValueError(f"the experts saw {experts_TK.shape[0]} tokens, watched are {num_rows} x {num_positions}")
        bins = self.layers[place].num_experts + 1
        row_B11 = torch.arange(num_rows, device=experts_TK.device).view(num_rows, 1, 1)
        bin_TK = experts_TK.clamp(max=bins - 1).masked_fill(weights_TK.reshape(experts_TK.shape) == 0, bins - 1)
        bin_BSK = bin_TK.view(num_rows, num_positions, -1) + row_B11 * bins
        counted_RBSK = regions_RBS.unsqueeze(-1).expand(num_regions, *bin_BSK.shape)
        counts_RN = torch.zeros(num_regions, num_rows * bins, dtype=torch.int64, device=experts_TK.device)
        counts_RN.scatter_add_(
            1, bin_BSK.reshape(1, -1).expand(num_regions, -1), counted_RBSK.reshape(num_regions, -1).long()
        )
        self._top_k[place] = experts_TK.shape[1]
        counts_RBE = counts_RN.view(num_regions, num_rows, bins)
        self._counts[place] = self._counts.get(place, 0) + counts_RBE


@contextmanager
def recording(model: nn.Module) -> Iterator[RoutingRecorder]:
    """Record the routing of `model` inside the block; afterwards, also after an error, the model is as it was.

    Raises:
        UsageError: the model has no experts, or layers with different numbers of them.
    """
    layers = expert_layers(model)
    sizes = sorted({layer.num_experts for layer in layers})
    if len(sizes) > 1:
        raise UsageError(
            f"{type(model).__name__} has layers with different numbers of experts: {sizes}",
            hint="moe compares experts across layers and needs the same number in each",
        )
    recorder = RoutingRecorder(layers)
    name = next(_names)
    ALL_EXPERTS_FUNCTIONS[name] = recorder.run
    undo = switch_experts(model, name)
    try:
        yield recorder
    finally:
        undo()
        del ALL_EXPERTS_FUNCTIONS[name]
