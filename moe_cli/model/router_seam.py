"""The seam at the routers of all families: sees and changes their logits and scores, and makes distributions of them.

A router is watched only while its own forward runs, by a `TorchFunctionMode` that its hooks enter and leave. The mode
sees two calls there: the linear map to one value for each expert (the logits, differentiable), and the top-k over one
score for each expert, be they in groups. Changed scores decide which experts are chosen and never reach the values of
the top-k, which some routers take as weights. Nothing of a family is written again: grouped top-k, correction biases,
normalisation and scaling run as they are. A handler that changes nothing changes no bit, and after the block, also
after an error, the model is as it was. What the router scores its logits by (softmax, say) is seen as well.

p = s / sum s, where s are the scores that the router itself makes of its logits: softmax, sigmoid, or the root of
softplus, before a correction bias, grouping and top-k. A softmax over the chosen experts alone is taken as one over
all. Logarithms are in float32, in nats. A class that is no expert (a token that skips them) counts as one.

Letters: L expert layers, B rows, S positions, T = B x S tokens (in whatever shape the router has them), E experts; some
routers have one class more, which is no expert (a token that skips them): C is E or E + 1. G groups of experts, K
values of a top-k.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from inspect import signature
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from transformers import PreTrainedModel

from moe_cli.errors import UsageError
from moe_cli.model.load import LoadedModel
from moe_cli.model.token_rows import LOGITS_TO_KEEP, attention_mask, right_padded
from moe_cli.model.topology import ExpertLayer, expert_layers, router_module

PROBE_TOKENS = 8
TOP_K = (torch.topk, Tensor.topk)
SCORE_CALLS: Mapping[Callable[..., Any], str] = {  # what a router makes scores of its logits by
    **dict.fromkeys((torch.softmax, Tensor.softmax, functional.softmax), "softmax"),
    **dict.fromkeys((torch.sigmoid, Tensor.sigmoid, functional.sigmoid), "sigmoid"),
    functional.softplus: "softplus",
    **dict.fromkeys((torch.sqrt, Tensor.sqrt), "sqrt"),
}
SOFTPLUS_IS_EXP = -20.0  # below it softplus(z) is e^z to all digits of a float32


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


class RouterLogits:
    """A handler of the routers that changes nothing: it keeps the logits of every token, differentiable."""

    def __init__(self) -> None:
        self.of_layer: dict[int, Tensor] = {}

    def logits(self, index: int, logits_TC: Tensor) -> Tensor:
        """Unchanged."""
        self.of_layer[index] = logits_TC
        return logits_TC

    def scores(self, index: int, scores_TC: Tensor) -> Tensor:
        """Unchanged."""
        return scores_TC


class LastLogits:
    """A handler of the routers that changes nothing: it keeps the logits at the last token of every row."""

    def __init__(self, mask_BS: Tensor) -> None:
        last_B = mask_BS.sum(1) - 1
        self._place_B = torch.arange(len(mask_BS), device=mask_BS.device) * mask_BS.shape[1] + last_B
        self._num_tokens = mask_BS.numel()
        self.logits_of: dict[int, Tensor] = {}  # [B, C]

    def logits(self, index: int, logits_TC: Tensor) -> Tensor:
        """Unchanged."""
        flat_TC = logits_TC.reshape(-1, logits_TC.shape[-1])
        if len(flat_TC) != self._num_tokens:
            raise ValueError(f"a router saw {len(flat_TC)} of {self._num_tokens} tokens (a bug)")
        self.logits_of[index] = flat_TC[self._place_B.to(flat_TC.device)]
        return logits_TC

    def scores(self, index: int, scores_TC: Tensor) -> Tensor:
        """Unchanged."""
        return scores_TC


@torch.inference_mode()
def last_token_distributions(loaded: LoadedModel, rows: Sequence[Sequence[int]]) -> tuple[Tensor, ...]:
    """ln p [B, C] of every layer's router at the last token of each row, float32, on the CPU.

    Raises:
        UsageError: a router whose logits or scores are not understood (`router_seam`).
    """
    mask_BS = attention_mask(rows).to(loaded.device)
    options: dict[str, bool | int] = {"use_cache": False}
    if LOGITS_TO_KEEP in signature(loaded.model.forward).parameters:
        options[LOGITS_TO_KEEP] = 1
    reader = LastLogits(mask_BS)
    with router_seam(loaded.model, reader) as modes:
        loaded.model(input_ids=right_padded(rows).to(loaded.device), attention_mask=mask_BS, **options)
        return tuple(
            log_distribution(reader.logits_of[index], mode.score_calls, loaded.model).cpu()
            for index, mode in enumerate(modes)
        )


def log_distribution(logits_TC: Tensor, score_calls: Sequence[str], model: nn.Module) -> Tensor:
    """ln p [T, C] in float32 or better of a router that scores its logits so.

    Raises:
        UsageError: it makes scores in another way.
    """
    z_TC = logits_TC.to(torch.promote_types(logits_TC.dtype, torch.float32))
    if score_calls[:1] == ["softmax"]:
        log_score_TC = z_TC
    elif score_calls[:1] == ["sigmoid"]:
        log_score_TC = functional.logsigmoid(z_TC)
    elif score_calls[:2] == ["softplus", "sqrt"]:
        log_score_TC = torch.where(z_TC < SOFTPLUS_IS_EXP, z_TC, functional.softplus(z_TC).log()) / 2
    else:
        raise UsageError(
            f"a router of {type(model).__name__} makes no scores of its logits by softmax, sigmoid or the root of "
            "softplus, so its distribution is not known",
            hint="this model can be measured without its routers' distributions",
        )
    return log_score_TC - log_score_TC.logsumexp(-1, keepdim=True)


def kl_divergences(log_p_TC: Tensor, log_q_TC: Tensor) -> Tensor:
    """KL(p || q) of every token [T], in nats, differentiable.

    As a sum of p ln(p/q) - p + q, which adds up to the same, since p and q add up to 1: no term is negative, and where
    both are the same bits the divergence and its gradient are 0, exactly.
    """
    p_TC, q_TC = log_p_TC.exp(), log_q_TC.exp()
    return (p_TC * (log_p_TC - log_q_TC) - p_TC + q_TC).sum(-1)
