"""One phase in which the routers train: its targets, its loss, and how consistent the routing is.

The targets are computed once, when the phase begins, and never from a router that has moved since; only `current` and
`both` compute them in every step, `both` with a gradient. What the routers' drift is measured against (`keep`) is the
routers at the phase's start.

The loss is how far routing inside an attack is from routing of the plain goal, by the same answer:

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
from transformers import PreTrainedModel

from moe_cli.config import AlternatingConfig
from moe_cli.errors import UsageError
from moe_cli.experts.router_masters import RouterMasters
from moe_cli.model.chat import IGNORED
from moe_cli.model.router_seam import RouterLogits, RouterMode, kl_divergences, log_distribution, router_seam
from moe_cli.model.token_rows import LOGITS_TO_KEEP
from moe_cli.model.topology import expert_layers
from moe_cli.ranks import dealt, gathered
from moe_cli.records.training import ComparedRegion, Divergence
from moe_cli.train.dataset import FixedBatches, MicroBatch
from moe_cli.train.loop import evaluating
from moe_cli.train.open_step import finite_sum
from moe_cli.train.paired_rows import PairedBatch, rows_of_part

Rows = Mapping[str, Tensor]
Distributions = list[Tensor]  # of each pair of a batch: [Lambda, C], or token by token [t, Lambda, C]; logarithms
START = "start/"  # in a checkpoint: the routers at the start of the phase
TARGET = "target/"  # what they are trained to


class RouterPhase:
    """The loss of the routers in the phase that runs."""

    def __init__(
        self,
        model: PreTrainedModel,
        routers: RouterMasters,
        batches: FixedBatches,
        paired: Sequence[PairedBatch],
        settings: AlternatingConfig,
    ) -> None:
        self.model, self.routers, self.batches, self.paired, self.settings = model, routers, batches, paired, settings
        trained = set(routers.layers)
        self._places = [index for index, layer in enumerate(expert_layers(model)) if layer.layer in trained]
        self._device = model.get_input_embeddings().weight.device
        self.targets: dict[int, Distributions] = {}  # by batch
        self.start: dict[str, Tensor] = {}
        self.num_tokens = 0  # of forwards beside those that train, since they were last taken

    @property
    def num_pairs(self) -> int:
        """Pairs of all batches."""
        return sum(len(batch.pairs) for batch in self.paired)

    def read_targets(self) -> None:
        """Compute the targets of all pairs with the routers as they are now; several processes share the batches."""
        own = {batch: self._plain_distributions(batch) for batch in dealt(list(range(len(self.paired))))}
        self.targets = {batch: found for share in gathered(own) for batch, found in share.items()}

    def keep_start(self) -> None:
        """Keep the routers as they are now, to measure their drift against."""
        self.start = {name: master.detach().clone() for name, master in self.routers.parameters.items()}

    @torch.no_grad()
    def consistency(self, *, moving: bool = False) -> float:
        """L_cons of all pairs with the routers as they are now, in nats.

        A target stays where it was while plain goals move along with the attacked ones: `moving` reads them again.
        """
        sums: list[float] = []
        with evaluating(self.model):
            for batch in dealt(list(range(len(self.paired)))):
                target = self._plain_distributions(batch) if moving else self._target(batch)
                sums += [
                    float(self._consistency_sum(batch, self.rows_of(batch, cut), target))
                    for cut in self.paired[batch].attacked
                ]
        return finite_sum([value for share in gathered(sums) for value in share]) / self.num_pairs

    def consistency_loss(self, batch: int, rows: Rows) -> Tensor:
        """Sum over the pairs whose attacked rows these are of the divergence of each, mean over the layers, in nats."""
        with self.routers.learning():
            return self._consistency_sum(batch, rows, self._target(batch))

    def probe_loss(self) -> Tensor:
        """What the loss depends on in the first attacked rows; its gradient reaches every router, also at a target."""
        batch, paired = next((batch, paired) for batch, paired in enumerate(self.paired) if paired.pairs)
        return torch.stack([log_Q.mean() for log_Q in self._compared(self.rows_of(batch, paired.attacked[0]))]).sum()

    def keep_loss(self, rows: Rows) -> Tensor:
        """Sum over the tokens of KL(router at the start of the phase || now), mean over the layers, in nats."""
        with self.routers.learning():
            self.num_tokens += int(rows["attention_mask"].sum())
            with self.routers.computing_with(self.start):
                start_LBSC = [log_p_BSC.detach() for log_p_BSC in self._log_distributions(rows)]
            now_LBSC = self._log_distributions(rows)
        mask_BS = rows["attention_mask"].bool()
        sums = [
            divergence(start_BSC, now_BSC, "forward")[mask_BS.to(now_BSC.device)].sum().to(self._device)
            for start_BSC, now_BSC in zip(start_LBSC, now_LBSC, strict=True)
        ]
        return torch.stack(sums).mean()

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint inside the phase has to hold."""
        targets = {
            f"{TARGET}{batch}/{pair}": log_P.contiguous()
            for batch, found in self.targets.items()
            for pair, log_P in enumerate(found)
        }
        return targets | {f"{START}{name}": value for name, value in self.start.items()}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take what `tensors` gave before a stop."""
        self.start = {
            name.removeprefix(START): value.to(self.routers.parameters[name.removeprefix(START)].device)
            for name, value in tensors.items()
            if name.startswith(START)
        }
        self.targets = {}
        for name in sorted((n for n in tensors if n.startswith(TARGET)), key=_place):
            self.targets.setdefault(_place(name)[0], []).append(tensors[name].to(self._device))

    def _target(self, batch: int) -> Distributions:
        """What the attacked rows of a batch are compared with."""
        if self.settings.consistency_target == "both":
            return self._distributions_of_plain(batch)
        if self.settings.consistency_target == "current":
            return self._plain_distributions(batch)
        return self.targets.get(batch, [])  # a checkpoint has no entry for a batch without a pair

    def _consistency_sum(self, batch: int, rows: Rows, target: Distributions) -> Tensor:
        settings, paired = self.settings, self.paired[batch]
        attacked = self._compared(rows)
        pairs = [paired.pair_of[row] for row in rows["rows"].tolist()]
        log_P = [target[pair].to(self._device) for pair in pairs]
        if settings.consistency_over == "batch":
            mean_P, mean_Q = (mean_log_distribution(torch.stack(side)) for side in (log_P, attacked))
            return divergence(mean_P, mean_Q, settings.kl_type).mean() * len(pairs)
        each = [divergence(P, Q, settings.kl_type).mean() for P, Q in zip(log_P, attacked, strict=True)]
        return torch.stack(each).sum()

    @torch.no_grad()
    def _plain_distributions(self, batch: int) -> Distributions:
        """The distributions of the plain rows of a batch, to be compared with and not to be trained."""
        with evaluating(self.model):
            return self._distributions_of_plain(batch)

    def _distributions_of_plain(self, batch: int) -> Distributions:
        """The distributions of the plain rows of a batch, in the order of its pairs."""
        found: dict[int, Tensor] = {}
        for cut in self.paired[batch].plain:
            compared = self._compared(self.rows_of(batch, cut))
            found |= {row: log_P.cpu() for row, log_P in zip(cut.rows, compared, strict=True)}
        return [found[pair.plain] for pair in self.paired[batch].pairs]

    def rows_of(self, batch: int, cut: MicroBatch) -> Rows:
        """The rows of one forward, which is counted."""
        rows = rows_of_part(self.batches[batch], cut)
        self.num_tokens += int(rows["attention_mask"].sum())
        return {name: tensor.to(self._device) for name, tensor in rows.items()}

    def _compared(self, rows: Rows) -> Distributions:
        """What is compared of each row: [Lambda, C], the mean over its region; or [t, Lambda, C]."""
        log_p_LBSC = self._log_distributions(rows)
        inside_BS = region_of(rows["labels"], rows["attention_mask"], self.settings.consistency_at)
        compared = []
        for row, inside_S in enumerate(inside_BS):
            log_p_tLC = torch.stack([of[row][inside_S.to(of.device)].to(self._device) for of in log_p_LBSC], dim=1)
            compared.append(
                log_p_tLC if self.settings.consistency_over == "token" else mean_log_distribution(log_p_tLC)
            )
        return compared

    def _log_distributions(self, rows: Rows) -> list[Tensor]:
        return router_log_distributions(self.model, rows, self._places, self.settings.temperature)


def _place(name: str) -> tuple[int, int]:
    """Batch and pair of a target: `target/3/7`."""
    batch, pair = name.removeprefix(TARGET).split("/")
    return int(batch), int(pair)


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
    """Divergence of two distributions of routers by the setting `kl_type`, over the last dimension, in nats, [...].

    `forward` is KL(P || Q), `reverse` is KL(Q || P), `symmetric` is the mean of both.
    """
    if kind == "symmetric":
        return (divergence(log_P_C, log_Q_C, "forward") + divergence(log_P_C, log_Q_C, "reverse")) / 2
    return kl_divergences(log_P_C, log_Q_C) if kind == "forward" else kl_divergences(log_Q_C, log_P_C)
