"""The seam at the routers: sees and changes the logits of every router and the scores it chooses from, in all families.

A router is watched only while its own forward runs, by a `TorchFunctionMode` that its hooks enter and leave. The mode
sees two calls there: the linear map to one value for each expert (the logits, differentiable), and the top-k over one
score for each expert, be they in groups. Changed scores decide which experts are chosen and never reach the values of
the top-k, which some routers take as weights. Nothing of a family is written again: grouped top-k, correction biases,
normalisation and scaling run as they are. A handler that changes nothing changes no bit, and after the block, also
after an error, the model is as it was. What the router scores its logits by (softmax, say) is seen as well.

Letters: L expert layers, T tokens (in whatever shape the router has them), E experts; some routers have one class more,
which is no expert (a token that skips them): C is E or E + 1. G groups of experts, K values of a top-k.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from transformers import PreTrainedModel

from moe_cli.errors import UsageError
from moe_cli.model.topology import ExpertLayer, expert_layers, router_module

PROBE_TOKENS = 8
TOP_K = (torch.topk, Tensor.topk)
SCORE_CALLS: Mapping[Callable[..., Any], str] = {  # what a router makes scores of its logits by
    **dict.fromkeys((torch.softmax, Tensor.softmax, functional.softmax), "softmax"),
    **dict.fromkeys((torch.sigmoid, Tensor.sigmoid, functional.sigmoid), "sigmoid"),
    functional.softplus: "softplus",
    **dict.fromkeys((torch.sqrt, Tensor.sqrt), "sqrt"),
}


class RouterHandler(Protocol):
    """What is done to the routers; `index` is the layer's place among the L expert layers."""

    def logits(self, index: int, logits_TC: Tensor) -> Tensor:
        """The logits to go on with, of the same shape."""
        ...

    def scores(self, index: int, scores_TC: Tensor) -> Tensor:
        """The scores to choose from, of the same shape; they decide the choice alone, and give no weight."""
        ...


class RouterMode(TorchFunctionMode):
    """Active in one router's forward; counts its linear maps to one value for each expert."""

    def __init__(self, index: int, num_experts: int, handler: RouterHandler) -> None:
        super().__init__()
        self.num_linears = 0
        self.score_calls: list[str] = []  # in the last forward, from the logits on, in order
        self._index, self._handler = index, handler
        self._widths = (num_experts, num_experts + 1)
        self._logits_dim = 0  # of the last logits

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 -- whatever `func` returns
        if func in TOP_K and args and (self._is_over_experts(args[0]) or self._is_in_groups(args[0])):
            return self._choose(func, args, kwargs or {})
        result = func(*args, **(kwargs or {}))
        if func is functional.linear and self._is_over_experts(result):
            self.num_linears += 1
            self._logits_dim = result.dim()
            return self._handler.logits(self._index, result)
        if self.num_linears and func in SCORE_CALLS:
            self.score_calls.append(SCORE_CALLS[func])
        return result

    def _choose(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:  # noqa: ANN401
        """The top-k by the handler's scores, with the router's own values."""
        own = args[0]
        own_TC = own if self._is_over_experts(own) else own.flatten(-2)
        scores_TC = self._handler.scores(self._index, own_TC)
        if scores_TC is own_TC:
            return func(*args, **kwargs)
        indices_TK = func(scores_TC.view_as(own), *args[1:], **kwargs)[1]
        return torch.return_types.topk((own.gather(-1, indices_TK), indices_TK))

    def _is_over_experts(self, tensor: Tensor) -> bool:
        return tensor.shape[-1] in self._widths

    def _is_in_groups(self, tensor: Tensor) -> bool:
        """Whether these are the scores of all experts as [T, G, E / G]."""
        return tensor.dim() == self._logits_dim + 1 and tensor.shape[-2:].numel() == self._widths[0]


@contextmanager
def router_seam(model: nn.Module, handler: RouterHandler) -> Iterator[tuple[RouterMode, ...]]:
    """Give the logits and scores of every router of `model` to the handler in all forwards inside the block.

    The block gets the mode of each layer, which knows what the last forward saw.

    Raises:
        UsageError: a layer has no router module beside its experts, or (in a forward) a router that does not map to
            its logits once.
    """
    layers = expert_layers(model)
    modes = tuple(RouterMode(index, layer.num_experts, handler) for index, layer in enumerate(layers))
    with ExitStack() as hooks:
        for layer, mode in zip(layers, modes, strict=True):
            for hook in _hooks_of(model, layer, mode):
                hooks.callback(hook.remove)
        yield modes


def _hooks_of(model: nn.Module, layer: ExpertLayer, mode: RouterMode) -> Iterator[torch.utils.hooks.RemovableHandle]:
    router = router_module(model, layer)

    def enter(module: nn.Module, args: tuple[object, ...]) -> None:
        mode.num_linears = 0
        mode.score_calls.clear()
        mode.__enter__()

    def leave(module: nn.Module, args: tuple[object, ...], output: object) -> None:
        mode.__exit__(None, None, None)

    def check(module: nn.Module, args: tuple[object, ...], output: object) -> None:
        if mode.num_linears != 1:
            raise UsageError(
                f"the router of layer {layer.layer} of {type(model).__name__} maps {mode.num_linears} times to "
                f"{layer.num_experts} values, so its logits are not known",
                hint="moe reads routers that map a token to its logits once; measure this model without its routers",
            )

    yield router.register_forward_pre_hook(enter)
    yield router.register_forward_hook(leave, always_call=True)
    yield router.register_forward_hook(check)


def forward_probe(model: nn.Module) -> None:
    """A short forward, for what its routers and experts are seen to do in it."""
    model(input_ids=probe_ids(model), use_cache=False)


def probe_ids(model: nn.Module) -> Tensor:
    """Ids [1, S] of the short forward."""
    embedding: Tensor = cast(PreTrainedModel, model).get_input_embeddings().weight
    return (torch.arange(PROBE_TOKENS, device=embedding.device) % embedding.shape[0])[None]
