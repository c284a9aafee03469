"""Gradient checkpointing: a layer's activations are made again in the backward, its routing is not.

Comes in: a model in training. Goes out: the same model, whose decoder layers keep their input alone. Always holds:
every token meets the same experts with the same weights both times, since each `topk` of the forward is kept (two small
tensors a router) and given back in the repeat: routing decided twice can differ in the last bit, and with it the shapes
(transformers #47467); outside the block the model checkpoints nothing.

The kept tensors are copies: families divide the router's weights in place.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from moe_cli.errors import UsageError

TOP_K = torch.ops.aten.topk.default
Operator = Callable[..., object]
Kept = deque[tuple[Tensor, ...]]


class _TopK(TorchDispatchMode):
    """Sees every operator of a layer; what happens to a top-k is up to the two below."""

    def __init__(self, kept: Kept) -> None:
        super().__init__()
        self.kept = kept

    def __torch_dispatch__(
        self, func: Operator, types: object, args: Sequence[object] = (), kwargs: Mapping[str, object] | None = None
    ) -> object:
        run = partial(func, *args, **(kwargs or {}))
        return self.top_k(run) if func is TOP_K else run()

    def top_k(self, run: Callable[[], object]) -> object:
        """What takes the place of one top-k."""
        raise NotImplementedError


class _Keep(_TopK):
    """The forward: put a copy of every top-k aside."""

    def top_k(self, run: Callable[[], object]) -> object:
        """Values and indices, as they are."""
        out = cast(tuple[Tensor, ...], run())
        self.kept.append(tuple(tensor.clone() for tensor in out))
        return out


class _GiveBack(_TopK):
    """The repeat, once per forward: the top-k of the forward, in its order."""

    def top_k(self, run: Callable[[], object]) -> object:
        """What was kept."""
        return self.kept.popleft()


def _modes() -> tuple[_Keep, _GiveBack]:
    kept: Kept = deque()
    return _Keep(kept), _GiveBack(kept)


@contextmanager
def checkpointed(model: nn.Module) -> Iterator[None]:
    """Checkpoint every decoder layer of `model` inside the block, where it is in training mode.

    Raises:
        UsageError: the model has no layers that can be checkpointed.
    """
    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    if not layers:
        raise UsageError(
            f"{type(model).__name__} has no layers that transformers can checkpoint",
            hint="train it with --set train.gradient_checkpointing=false",
        )
    switches = {
        "gradient_checkpointing": True,
        "_gradient_checkpointing_func": partial(checkpoint, use_reentrant=False, context_fn=_modes),
    }
    before = [{name: vars(layer)[name] for name in switches if name in vars(layer)} for layer in layers]
    for layer in layers:
        vars(layer).update(switches)
    try:
        yield
    finally:
        for layer, found in zip(layers, before, strict=True):
            for name in switches:
                del vars(layer)[name]
            vars(layer).update(found)
