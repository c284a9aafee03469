"""The loss of a router phase: how far routing inside an attack is from routing of the plain goal, by the same answer.

    p[l,t,:] = s(z[l,t,:] / tau) / sum s        s: what the router itself makes scores by; in float32, by logarithms
    P[i,l] = mean over t in R(anchor i) of p_target[l,t]        Q[i,l] = mean over t in R(adversarial i) of p[l,t]
    L_cons = 1/N 1/Lambda sum_i sum_l KL(P[i,l] || Q[i,l])      in nats, summed over experts

The anchor of pair i is its plain form with the refusal, its adversarial row the attacked form with the same refusal
(after RASA, arXiv 2602.04448, whose published loss averages logits over padding and divides by the number of experts).

Letters: N pairs, Lambda layers, B rows, S positions, t tokens of the region R of one row, C classes of a router.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from inspect import signature

import torch
from torch import Tensor, nn

from moe_cli.errors import UsageError
from moe_cli.model.chat import IGNORED
from moe_cli.model.router_distributions import RouterLogits, kl_divergences, log_distribution
from moe_cli.model.router_seam import RouterMode, router_seam
from moe_cli.model.token_rows import LOGITS_TO_KEEP
from moe_cli.records.training import ComparedRegion, Divergence


def router_log_distributions(
    model: nn.Module, rows: Mapping[str, Tensor], layers: Sequence[int], temperature: float
) -> list[Tensor]:
    """ln p [B, S, C] of the routers of these expert layers (by their place) for every token, in float32.

    Raises:
        UsageError: a router whose logits or scores are not understood.
    """
    kwargs: dict[str, bool | int] = {"use_cache": False}
    if LOGITS_TO_KEEP in signature(model.forward).parameters:
        kwargs[LOGITS_TO_KEEP] = 1
    reader = RouterLogits()
    with router_seam(model, reader) as modes:
        model(input_ids=rows["input_ids"], attention_mask=rows["attention_mask"], **kwargs)
    shape = rows["input_ids"].shape
    return [_of_tokens(reader.of_layer[place], modes[place], model, shape, temperature) for place in layers]


def _of_tokens(logits_TC: Tensor, mode: RouterMode, model: nn.Module, shape: torch.Size, temperature: float) -> Tensor:
    precise = torch.promote_types(logits_TC.dtype, torch.float32)
    logits_BSC = logits_TC.to(precise).reshape(*shape, logits_TC.shape[-1])
    return log_distribution(logits_BSC / temperature, mode.score_calls, model)


def region_of(labels_BS: Tensor, mask_BS: Tensor, region: ComparedRegion) -> Tensor:
    """bool [B, S]: the tokens that are compared.

    `answer` are the tokens of the target, `last_prompt` is the token before the first of them, `all` has every token
    but padding.

    Raises:
        UsageError: a row has none.
    """
    answers_BS = labels_BS != IGNORED
    if region == "all":
        inside_BS = mask_BS.bool()
    elif region == "answer":
        inside_BS = answers_BS
    else:
        first_B = answers_BS.float().argmax(1)  # of equal values the first
        inside_BS = torch.zeros_like(answers_BS)
        rows_B = torch.arange(len(first_B), device=first_B.device)
        inside_BS[rows_B, (first_B - 1).clamp(min=0)] = answers_BS.any(1) & (first_B > 0)
    if not bool(inside_BS.any(1).all()):
        raise UsageError(
            f"a training row has no token of the region `{region}`, so its routing cannot be compared",
            hint="prepare with refusal targets that are not empty, or compare another region: --consistency-at all",
        )
    return inside_BS


def mean_log_distribution(log_p_tC: Tensor) -> Tensor:
    """ln of the mean distribution of some tokens, [..., C] of [t, ..., C]."""
    return log_p_tC.logsumexp(0) - math.log(len(log_p_tC))


def divergence(log_P_C: Tensor, log_Q_C: Tensor, kind: Divergence) -> Tensor:
    """Divergence of distributions over the last dimension, in nats, [...].

    `forward` is KL(P || Q), `reverse` is KL(Q || P), `symmetric` is the mean of both.
    """
    if kind == "symmetric":
        return (divergence(log_P_C, log_Q_C, "forward") + divergence(log_P_C, log_Q_C, "reverse")) / 2
    return kl_divergences(log_P_C, log_Q_C) if kind == "forward" else kl_divergences(log_Q_C, log_P_C)
