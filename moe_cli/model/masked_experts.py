"""The parts of an intervention: masks of experts, the tokens that it is for, and what routers and experts do under it.

Letters: L expert layers, E experts, T tokens, K top-k, C classes of a router (E or E + 1), H hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from moe_cli.errors import UsageError
from moe_cli.model.decoding import CACHE
from moe_cli.model.topology import ExpertLayer, experts_function
from moe_cli.records import Expert
from moe_cli.records.ablation import InterventionKind, Steering, TokenScope


def experts_mask(layers: Sequence[ExpertLayer], experts: Sequence[Expert]) -> NDArray[np.bool_]:
    """bool [L, E], E of the layer with most experts.

    Raises:
        UsageError: an expert that the model does not have.
    """
    index_of = {layer.layer: index for index, layer in enumerate(layers)}
    mask_LE = np.zeros((len(layers), max(layer.num_experts for layer in layers)), dtype=np.bool_)
    for expert in experts:
        if expert.layer not in index_of or expert.index >= layers[index_of[expert.layer]].num_experts:
            raise UsageError(
                f"the model has no expert {expert.index} in layer {expert.layer}: its expert layers are "
                f"{', '.join(map(str, index_of))}, of {mask_LE.shape[1]} experts",
                hint="name experts of this model",
            )
        mask_LE[index_of[expert.layer], expert.index] = True
    return mask_LE


class Scope:
    """Whether the tokens of the forward that runs are among those that the intervention is for."""

    def __init__(self, model: nn.Module, tokens: TokenScope) -> None:
        self.suspended = False  # True: a forward of the model as it is
        self._model, self._tokens, self._inside = model, tokens, True

    @property
    def active(self) -> bool:
        """Whether the forward that runs is intervened on."""
        return self._inside and not self.suspended

    def begin_forward(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """A forward pre-hook of the model: while an answer is made, a forward of one position is one of its tokens.

        Raises:
            UsageError: the model keeps no cache, so that prompt and answer go through it together.
        """
        if self._tokens == "all":
            return
        if kwargs.get(CACHE) is None:
            raise UsageError(
                f"{type(self._model).__name__} keeps no cache, so an answer's tokens cannot be told from the prompt's",
                hint="intervene on all tokens: --tokens all",
            )
        ids_BS = kwargs["input_ids"]
        self._inside = (ids_BS.shape[1] == 1) == (self._tokens == "answer")


class Masks:
    """The masks of the layers, on the device where they are asked for."""

    def __init__(self, mask_LE: NDArray[np.bool_]) -> None:
        self._mask_LE = torch.from_numpy(mask_LE.copy())
        self._on: dict[tuple[int, torch.device], Tensor] = {}
        self.num_L: list[int] = mask_LE.sum(1).tolist()

    def of(self, index: int, device: torch.device) -> Tensor:
        """bool [E]."""
        if (index, device) not in self._on:
            self._on[index, device] = self._mask_LE[index].to(device)
        return self._on[index, device]

    def over(self, index: int, tensor_TC: Tensor) -> Tensor:
        """bool [C]: a class that is no expert is never masked."""
        mask_E = self.of(index, tensor_TC.device)
        return nn.functional.pad(mask_E, (0, tensor_TC.shape[-1] - len(mask_E)))


class MaskedRouter:
    """A handler of the routers: masked experts have no logit and no score, so that others are chosen."""

    def __init__(self, masks: Masks, scope: Scope) -> None:
        self._masks, self._scope = masks, scope
        self.scored: set[int] = set()  # layers, by index, whose router chose from scores that were seen

    def logits(self, index: int, logits_TC: Tensor) -> Tensor:
        """Minus infinity at the masked experts."""
        if not self._scope.active or not self._masks.num_L[index]:
            return logits_TC
        return logits_TC.masked_fill(self._masks.over(index, logits_TC), -torch.inf)

    def scores(self, index: int, scores_TC: Tensor) -> Tensor:
        """Minus infinity at the masked experts alone, which a correction bias could choose without a logit."""
        self.scored.add(index)
        if not self._scope.active or not self._masks.num_L[index]:
            return scores_TC
        return self.logits(index, without_excluded(scores_TC))


def without_excluded(scores_TC: Tensor) -> Tensor:
    """The scores with a value below all others of the token in place of minus infinity, so that all can be chosen.

    Minus infinity is what a router gives experts of groups that it did not choose.
    """
    excluded_TC = scores_TC == -torch.inf
    lowest_T1 = scores_TC.masked_fill(excluded_TC, torch.inf).amin(-1, keepdim=True)
    return torch.where(excluded_TC, lowest_T1 - step_of(lowest_T1, 1.0), scores_TC)


def step_of(values_T1: Tensor, step: float) -> Tensor:
    """`step`; where the dtype has no number so near, what is at least the distance to the next one."""
    return (values_T1.abs() * torch.finfo(values_T1.dtype).eps).clamp(min=step)


class SteeredRouter:
    """A handler of the routers: SteerMoE's rule, on the logits and on the scores to choose from."""

    def __init__(self, steering: Steering, layers: Sequence[ExpertLayer]) -> None:
        self._epsilon = steering.epsilon
        self._up, self._down = (Masks(experts_mask(layers, side)) for side in (steering.activate, steering.deactivate))

    def logits(self, index: int, logits_TC: Tensor) -> Tensor:
        """max + epsilon for activated experts, min - epsilon for deactivated ones, of each token's own logits.

        SteerMoE (arXiv 2509.09660) sets these values in log softmax(z), which is z less one number for each token, so
        that a softmax of either is the same.
        """
        highest_T1, lowest_T1 = logits_TC.amax(-1, keepdim=True), logits_TC.amin(-1, keepdim=True)
        raised_T1 = highest_T1 + step_of(highest_T1, self._epsilon)
        lowered_T1 = lowest_T1 - step_of(lowest_T1, self._epsilon)
        for masks, value_T1 in ((self._up, raised_T1), (self._down, lowered_T1)):
            if masks.num_L[index]:
                logits_TC = torch.where(masks.over(index, logits_TC), value_T1, logits_TC)
        return logits_TC

    def scores(self, index: int, scores_TC: Tensor) -> Tensor:
        """The same of a token's scores: a correction bias, or a choice of groups, could decide against the logits."""
        if not self._up.num_L[index] and not self._down.num_L[index]:
            return scores_TC
        return self.logits(index, without_excluded(scores_TC))


class ExpertsWithout:
    """The experts function without the contribution of masked experts; counts what it must never see."""

    def __init__(
        self,
        layers: Sequence[ExpertLayer],
        masks: Masks,
        scope: Scope,
        kind: InterventionKind,
        means: Sequence[Tensor] | None,
    ) -> None:
        self._index = {layer.module: index for index, layer in enumerate(layers)}
        self._before = [experts_function(layer) for layer in layers]
        self._masks, self._scope, self._kind, self._means = masks, scope, kind, means
        self._named: dict[int, Tensor] = {}  # by layer: whether a masked expert was given a token
        self._chosen: dict[int, Tensor] = {}  # by layer: whether that token had a weight for it

    def run(self, module: nn.Module, hidden_TH: Tensor, experts_TK: Tensor, weights_TK: Tensor) -> Tensor:
        """The experts function that is registered with transformers."""
        index = self._index[module]
        before = self._before[index]
        if not self._scope.active or not self._masks.num_L[index]:
            return before(module, hidden_TH, experts_TK, weights_TK)
        mask_E = self._masks.of(index, experts_TK.device)
        masked_TK = mask_E[experts_TK.clamp(max=len(mask_E) - 1)] & (experts_TK < len(mask_E))
        masked_TK = masked_TK.view(weights_TK.shape)
        if self._kind == "reroute":
            for seen, wrong in ((self._named, masked_TK), (self._chosen, masked_TK & (weights_TK != 0))):
                seen[index] = seen[index] | wrong.any() if index in seen else wrong.any()
            return before(module, hidden_TH, experts_TK, weights_TK)
        output_TH = before(module, hidden_TH, experts_TK, weights_TK.masked_fill(masked_TK, 0.0))
        if self._kind == "zero" or self._means is None:
            return output_TH
        taken_TE = output_TH.new_zeros(len(experts_TK), len(mask_E))
        taken_TE.scatter_add_(1, experts_TK.clamp(max=len(mask_E) - 1), (weights_TK * masked_TK).to(output_TH.dtype))
        return output_TH + taken_TE @ self._means[index].to(output_TH)

    def layers_that_chose(self) -> set[int]:
        """The layers, by index, that gave a token with a weight to a masked expert."""
        return {index for index, wrong in self._chosen.items() if wrong}

    def layers_that_named(self) -> set[int]:
        """The layers, by index, that gave a token to a masked expert, be it without a weight."""
        return {index for index, wrong in self._named.items() if wrong}


class MeanOutputs:
    """An experts function that adds up what each masked expert gives for the tokens that chose it."""

    def __init__(self, layers: Sequence[ExpertLayer], mask_LE: NDArray[np.bool_]) -> None:
        self._index = {layer.module: index for index, layer in enumerate(layers)}
        self._before = [experts_function(layer) for layer in layers]
        self._mask_LE = mask_LE
        self._sums: dict[tuple[int, int], Tensor] = {}  # [H]
        self._num: dict[tuple[int, int], int] = {}
        self._width = 0

    def run(self, module: nn.Module, hidden_TH: Tensor, experts_TK: Tensor, weights_TK: Tensor) -> Tensor:
        """The experts function that is registered with transformers."""
        index = self._index[module]
        output_TH = self._before[index](module, hidden_TH, experts_TK, weights_TK)
        self._width = output_TH.shape[-1]
        for expert in np.flatnonzero(self._mask_LE[index]).tolist():
            chosen_T = ((experts_TK == expert) & (weights_TK.view(experts_TK.shape) != 0)).any(-1)
            if num := int(chosen_T.sum()):
                alone_N1 = experts_TK.new_full((num, 1), expert)
                ones_N1 = weights_TK.new_ones(num, 1)
                of_expert_NH = self._before[index](module, hidden_TH[chosen_T], alone_N1, ones_N1)
                key = (index, expert)
                self._sums[key] = self._sums.get(key, 0.0) + of_expert_NH.float().sum(0)
                self._num[key] = self._num.get(key, 0) + num
        return output_TH

    def means(self) -> tuple[Tensor, ...]:
        """[E, H] for each layer."""
        means = [torch.zeros(self._mask_LE.shape[1], self._width) for _ in self._before]
        for (index, expert), sum_H in self._sums.items():
            means[index][expert] = (sum_H / self._num[index, expert]).cpu()
        return tuple(means)
