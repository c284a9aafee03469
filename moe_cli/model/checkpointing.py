"""Gradient checkpointing that recomputes a layer's activations in the backward, but not its routing.

Decoder layers keep only their input. Every token meets the same experts with the same weights in both passes, since the
result of each `topk` in the forward is kept (two small tensors per router) and returned in the recomputation: routing
decided twice can differ in the last bit, and with it the shapes (transformers #47467). Outside the block the model
checkpoints nothing.

The kept tensors are copies, as some families divide the router's weights in place.
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
Run = Callable[[], object]
Kept = deque[tuple[Tensor, ...]]


class _AtTopK(TorchDispatchMode):
    """Intercepts every operator of a layer and replaces `topk`."""

    def __init__(self, kept: Kept, instead: Callable[[Kept, Run], object]) -> None:
        super().__init__()
        self.kept, self.instead = kept, instead

    def __torch_dispatch__(
        self, func: Operator, types: object, args: Sequence[object] = (), kwargs: Mapping[str, object] | None = None
    ) -> object:
        run = partial(func, *args, **(kwargs or {}))
        return self.instead(self.kept, run) if func is TOP_K else run()


def _keep(kept: Kept, run: Run) -> object:
    """In the forward: run `topk` and keep a copy of values and indices."""
    out = cast(tuple[Tensor, ...], run())
    kept.append(tuple(tensor.clone() for tensor in out))
    return out


def _give_back(kept: Kept, run: Run) -> object:
    """In the recomputation, once per forward: return the kept results of `topk`, in order."""
    return kept.popleft()


def _modes() -> tuple[_AtTopK, _AtTopK]:
    kept: Kept = deque()
    return _AtTopK(kept, _keep), _AtTopK(kept, _give_back)


@contextmanager
def enable_checkpointing(model: nn.Module) -> Iterator[None]:
    """Checkpoint every decoder layer of `model` inside the block while it is in training mode.

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
        for layer, former in zip(layers, before, strict=True):
            for name in switches:
                del vars(layer)[name]
            vars(layer).update(former)
