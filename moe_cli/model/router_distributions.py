"""The distribution of every router over its experts, from its logits: of every token, or of the last one of a row.

p = s / sum s, where s are the scores that the router itself makes of its logits: softmax, sigmoid, or the root of
softplus, before a correction bias, grouping and top-k. A softmax over the chosen experts alone is taken as one over
all. Logarithms are in float32, in nats. A class that is no expert (a token that skips them) counts as one.

Letters: B rows, S positions, T = B x S tokens, C classes of a router (E or E + 1), L expert layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from inspect import signature

import torch
from torch import Tensor, nn
from torch.nn import functional

from moe_cli.errors import UsageError
from moe_cli.model.load import LoadedModel
from moe_cli.model.router_seam import router_seam
from moe_cli.model.token_rows import LOGITS_TO_KEEP, attention_mask, right_padded

SOFTPLUS_IS_EXP = -20.0  # below it softplus(z) is e^z to all digits of a float32


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
