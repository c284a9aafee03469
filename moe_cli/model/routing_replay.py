"""Routing replay: without experts the model is computed, but every router decides as it does in the model as it is.

Before each forward the model as it is runs over the same tokens, in step and with a cache of its own, and the logits of
its routers are kept. In the forward itself they take the place of each router's own logits; masks are applied to them.
So in a layer whose experts are not masked the choices and weights are those of the model as it is, bit for bit, and in
a layer with masked experts its own router chooses others by the hidden states of the model as it is.

Letters: L expert layers, T tokens, K top-k, C classes of a router (E or E + 1), H hidden size.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from moe_cli.errors import UsageError
from moe_cli.model.decoding import CACHE, UNTOUCHED_CACHE
from moe_cli.model.masked_experts import MaskedRouter, Masks, Scope
from moe_cli.model.topology import ExpertLayer, experts_function


class RoutingReplay:
    """A pre-hook of the model, a handler of its routers, and an experts function that checks what reaches experts."""

    def __init__(self, layers: Sequence[ExpertLayer], masks: Masks, scope: Scope, masked: MaskedRouter | None) -> None:
        """`masked` is what the intervention does to the routers; None: nothing, so that all choices stay."""
        self._index = {layer.module: index for index, layer in enumerate(layers)}
        self._before = [experts_function(layer) for layer in layers]
        self._masks, self._scope, self._masked = masks, scope, masked
        self._logits: dict[int, Tensor] = {}  # by layer: [T, C] of the model as it is, in this forward
        self._routing: dict[int, tuple[Tensor, Tensor]] = {}  # by layer: its choices and weights [T, K]
        self._unlike: dict[int, Tensor] = {}  # by layer: whether other ones reached the experts

    def begin_forward(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """A forward pre-hook of the model: the model as it is runs over the same tokens first.

        Raises:
            UsageError: the model makes its cache itself, so that no second one can be kept in step.
        """
        if self._scope.suspended:
            return
        self._scope.suspended = True
        try:
            module(*args, **_beside(module, kwargs))
        finally:
            self._scope.suspended = False

    def logits(self, index: int, logits_TC: Tensor) -> Tensor:
        """Those of the model as it is, masked as the intervention masks."""
        if self._scope.suspended:
            self._logits[index] = logits_TC
            return logits_TC
        replayed_TC = self._logits[index]
        return replayed_TC if self._masked is None else self._masked.logits(index, replayed_TC)

    def scores(self, index: int, scores_TC: Tensor) -> Tensor:
        """Masked as the intervention masks; they come of the logits."""
        return scores_TC if self._masked is None else self._masked.scores(index, scores_TC)

    def run(self, module: nn.Module, hidden_TH: Tensor, experts_TK: Tensor, weights_TK: Tensor) -> Tensor:
        """The experts function that is registered with transformers."""
        index = self._index[module]
        if self._scope.suspended:
            self._routing[index] = experts_TK, weights_TK
        elif self._masked is None or not self._masks.num_L[index]:
            kept_TK, kept_weights_TK = self._routing[index]
            unlike = (experts_TK != kept_TK).any() | (weights_TK != kept_weights_TK).any()
            self._unlike[index] = self._unlike[index] | unlike if index in self._unlike else unlike
        return self._before[index](module, hidden_TH, experts_TK, weights_TK)

    def layers_that_differ(self) -> set[int]:
        """The layers, by index, whose experts got other choices or weights than in the model as it is."""
        return {index for index, unlike in self._unlike.items() if unlike}


def _beside(model: nn.Module, kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of the forward of the model as it is: with the cache that goes along with the one given."""
    cache = kwargs.get(CACHE)
    if cache is None:
        return kwargs
    if not hasattr(cache, UNTOUCHED_CACHE):
        if cache.get_seq_length():
            raise UsageError(
                f"{type(model).__name__} makes its cache by itself, so the model as it is cannot run in step",
                hint="leave --without-router-effects away",
            )
        setattr(cache, UNTOUCHED_CACHE, copy.deepcopy(cache))
    return {**kwargs, CACHE: getattr(cache, UNTOUCHED_CACHE)}
