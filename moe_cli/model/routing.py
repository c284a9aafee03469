"""Records which experts the router really chose, without changing anything.

For each forward, tokens are counted in boolean regions, per row, layer and expert, with sums of the router's weights;
the choices themselves can be kept as well. The forward is delegated to the function that was active before, so no logit
changes by a bit. What is counted are the indices that reach the experts. Padding, expert-parallel sentinels (ids >= E)
and choices without a weight (a token that skips the experts) are never counted. Per layer and row the choices,
including those two, sum to counted tokens x top-k; anything else is a bug.

Letters: R regions, C combinations of regions that a token is in, B rows, S positions, T = B x S tokens, K top-k,
L expert layers, E experts, N = B x C x (E + 1) bins.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from moe_cli.errors import NumericError, UsageError
from moe_cli.model.topology import ExpertLayer, expert_layers, experts_computed_by, experts_function

GATE_UNITS = 2.0**40  # weights are summed as whole numbers, exactly: a card may then add them in any order


class RoutingRecorder:
    """Counts of the routing in the forwards since the last `watch`; created by `record_routing`."""

    def __init__(self, layers: tuple[ExpertLayer, ...], *, keep_choices: bool = False) -> None:
        self.layers = layers
        self._chosen: dict[int, Tensor] | None = {} if keep_choices else None  # place -> [T, K]: what `choices` gives
        self._place = {layer.module: place for place, layer in enumerate(layers)}
        self._before = [experts_function(layer) for layer in layers]
        self._regions_RBS: Tensor | None = None
        self._bins = layers[0].num_experts + 1  # the last one holds what no expert answers
        self._first_bin_T1 = torch.empty(0, 1, dtype=torch.int64)  # of every token: (row x C + combination) x bins
        self._one = torch.ones((), dtype=torch.int64)
        self._inside_RC: list[list[int]] = []  # of every region the combinations that are in it
        self._num_combinations = 0
        self._tallies: dict[int, Tensor] = {}  # place -> [2, N]: choices, and their weights in 1 / GATE_UNITS
        self._found_LWRBE: Tensor | None = None  # the tallies by region, W: choices and weights
        self._top_k: dict[int, int] = {}
        self._counted_T = torch.empty(0, dtype=torch.bool)  # whether a token is in any region
        self._not_finite: dict[int, Tensor] = {}  # place -> whether a counted token has a weight that is no number

    def watch(self, regions_RBS: Tensor) -> None:
        """Count the next forward, which is over [B, S] token ids, in these boolean regions; forgets earlier counts."""
        if regions_RBS.dtype is not torch.bool or regions_RBS.dim() != 3:
            raise ValueError(f"regions are bool [R, B, S], not {regions_RBS.dtype} {tuple(regions_RBS.shape)}")
        self._regions_RBS = regions_RBS
        codes_BS = sum(region_BS.long() << number for number, region_BS in enumerate(regions_RBS))
        codes_C, combination_BS = codes_BS.unique(return_inverse=True)
        codes, self._num_combinations = codes_C.tolist(), len(codes_C)
        row_B1 = torch.arange(len(codes_BS), device=codes_BS.device)[:, None]
        self._first_bin_T1 = ((row_B1 * self._num_combinations + combination_BS) * self._bins).view(-1, 1)
        self._one = torch.ones((), dtype=torch.int64, device=codes_BS.device)
        self._inside_RC = [
            [place for place, code in enumerate(codes) if code >> number & 1] for number in range(len(regions_RBS))
        ]
        self._counted_T = (codes_BS > 0).view(-1)
        self._tallies.clear()
        self._not_finite.clear()
        if self._chosen is not None:
            self._chosen.clear()
        self._found_LWRBE = None

    def counts(self) -> Tensor:
        """int64 [B, R, L, E] on the CPU: tokens of the region whose top-k holds the expert, with a weight.

        Raises:
            NumericError: the router's weights of a counted token are not finite, so its choices mean nothing.
            ValueError: a layer did not see every counted token exactly once since `watch` (a bug of the caller).
        """
        regions_RBS = self._watched()
        missing = [layer.layer for place, layer in enumerate(self.layers) if place not in self._tallies]
        if missing:
            raise ValueError(f"no forward reached the experts of the layers {missing} since watch()")
        if wrong := [self.layers[place].layer for place, found in sorted(self._not_finite.items()) if found]:
            raise NumericError(
                f"the router's weights are not finite for tokens that are counted, in the layers {wrong}",
                hint="check the model's weights, or compute in another type: --set model.dtype=float32",
            )
        chosen_LRBE = self._by_region()[:, 0]
        top_k_L = torch.tensor([self._top_k[place] for place in range(len(self.layers))])
        expected_LRB = top_k_L[:, None, None] * regions_RBS.sum(-1).cpu()
        if not torch.equal(chosen_LRBE.sum(-1), expected_LRB):
            raise ValueError("routing counts do not sum to counted tokens x top-k: one forward per watch(), please")
        return chosen_LRBE[..., :-1].permute(2, 1, 0, 3).contiguous()

    def gates(self) -> Tensor:
        """float64 [B, R, L, E] on the CPU: the router's weights summed over the tokens that `counts` counts."""
        units_LRBE = self._by_region()[:, 1]
        return (units_LRBE[..., :-1].double() / GATE_UNITS).permute(2, 1, 0, 3).contiguous()

    def choices(self) -> tuple[Tensor, ...]:
        """For every layer int64 [T, K] on the CPU: the experts of every watched token, counted or not, row by row.

        The id E stands for a choice without an expert: a sentinel, or one without weight.

        Raises:
            ValueError: the recording keeps no choices, or a layer saw no forward since `watch` (bugs of the caller).
        """
        if self._chosen is None or len(self._chosen) != len(self.layers):
            raise ValueError("no choices are kept: record with keep_choices=True, then watch() and one forward")
        return tuple(self._chosen[place].cpu() for place in range(len(self.layers)))

    def run(self, module: nn.Module, hidden_TH: Tensor, experts_TK: Tensor, weights_TK: Tensor) -> Tensor:
        """The experts function: count, then call the original function."""
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
        num_rows, num_positions = self._watched().shape[1:]
        if experts_TK.shape[0] != num_rows * num_positions:
            raise ValueError(f"the experts saw {experts_TK.shape[0]} tokens, watched are {num_rows} x {num_positions}")
        if self._one.device != experts_TK.device:  # the layers are spread over several cards
            self._one, self._first_bin_T1 = self._one.to(experts_TK.device), self._first_bin_T1.to(experts_TK.device)
            self._counted_T = self._counted_T.to(experts_TK.device)
        weights_TK = weights_TK.reshape(experts_TK.shape)
        bin_TK = experts_TK.clamp(max=self._bins - 1).masked_fill_(weights_TK == 0, self._bins - 1)
        bin_N = (bin_TK + self._first_bin_T1).view(-1)
        wrong = (~weights_TK.isfinite().all(-1) & self._counted_T).any()
        self._not_finite[place] = self._not_finite[place] | wrong if place in self._not_finite else wrong
        units_TK = (weights_TK.float() * GATE_UNITS).long()
        self._top_k[place] = experts_TK.shape[1]
        if self._chosen is not None:
            self._chosen[place] = bin_TK
        if place not in self._tallies:
            self._tallies[place] = bin_N.new_zeros(2, num_rows * self._num_combinations * self._bins)
        choices_N, weights_N = self._tallies[place]
        choices_N.scatter_add_(0, bin_N, self._one.expand(bin_N.shape))
        weights_N.scatter_add_(0, bin_N, units_TK.view(-1))
        self._found_LWRBE = None

    def _by_region(self) -> Tensor:
        """int64 [L, 2, R, B, E + 1] on the CPU: for each region the sum over all combinations that include it."""
        if self._found_LWRBE is None:
            first = self._tallies[0].device
            found_LWN = torch.stack([self._tallies[place].to(first) for place in range(len(self.layers))])
            found_LWBCE = found_LWN.view(len(self.layers), 2, -1, self._num_combinations, self._bins)
            regions = [found_LWBCE[:, :, :, inside_C].sum(3) for inside_C in self._inside_RC]
            self._found_LWRBE = torch.stack(regions, dim=2).cpu()
        return self._found_LWRBE


@contextmanager
def record_routing(model: nn.Module, *, keep_choices: bool = False) -> Iterator[RoutingRecorder]:
    """Record the routing of `model` inside the block; afterwards, also after an error, the model is as it was.

    `keep_choices` keeps the choices of one forward: tokens x top-k x layers x 8 bytes.

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
    recorder = RoutingRecorder(layers, keep_choices=keep_choices)
    with experts_computed_by(model, recorder.run):
        yield recorder
