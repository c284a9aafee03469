"""The harmless texts of an ablation: the loss on them under each intervention, and what experts give on average."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from moe_cli.ablate.conditions import Conditions
from moe_cli.config import MoeConfig
from moe_cli.errors import UsageError
from moe_cli.evaluate.cache import StageCache
from moe_cli.model.chat import EncodedChat, encode_answered
from moe_cli.model.interventions import mean_outputs, without_experts
from moe_cli.model.load import LoadedModel
from moe_cli.model.token_rows import answered_rows, length_batches, loss_sum, num_answer_tokens
from moe_cli.ranks import on_first
from moe_cli.records import EvaluationItem, Intervention, TextLoss
from moe_cli.rounds import in_rounds


def encoded_texts(loaded: LoadedModel, texts: Sequence[EvaluationItem]) -> list[EncodedChat]:
    """The token ids of the text items."""
    return [encode_answered(loaded.tokenizer, item.messages) for item in texts]


def mean_outputs_of(
    loaded: LoadedModel, conditions: Conditions, rows: Sequence[EncodedChat], config: MoeConfig
) -> tuple[Tensor, ...] | None:
    """The mean outputs of all experts that some condition takes away, on the text items.

    Raises:
        UsageError: there are no text items.
    """
    if config.ablate.intervention != "mean":
        return None
    if not rows:
        raise UsageError(
            "the intervention `mean` needs harmless texts, and the items hold none", hint="add text items to --items"
        )
    experts = sorted({expert for condition in conditions.all for expert in condition.experts})
    return mean_outputs(loaded, [row.token_ids for row in rows], experts)


class TextLosses:
    """The loss on the text items under an intervention; a journal keeps those that are measured.

    Several processes share out the texts, and all get the loss.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        rows: Sequence[EncodedChat],
        means_LEH: tuple[Tensor, ...] | None,
        config: MoeConfig,
        work: StageCache,
    ) -> None:
        self._loaded, self._rows, self._means_LEH = loaded, rows, means_LEH
        self._settings = config.evaluate
        whose = loaded.depends_on, [row.token_ids for row in rows], [row.labels for row in rows]
        self._journal = on_first(lambda: work.journal("drift", "text losses", TextLoss, *whose, file="losses"))
        self._known = on_first(lambda: {record.intervention: record for record in self._journal.records()})

    def of(self, intervention: Intervention) -> float | None:
        """Nats for each token; the intervention is on every token of a text. None: there are no text items."""
        if not self._rows:
            return None
        if intervention.digest not in self._known:
            with without_experts(self._loaded, replace(intervention, tokens="all"), self._means_LEH):
                losses = self._losses()
            self._known[intervention.digest] = on_first(lambda: self._record(intervention, losses))
        known = self._known[intervention.digest]
        return known.loss / known.num_tokens

    def _record(self, intervention: Intervention, losses: Sequence[float]) -> TextLoss:
        num_tokens = sum(num_answer_tokens(answered_rows([row])["labels"]) for row in self._rows)
        record = TextLoss(intervention=intervention.digest, loss=sum(losses, 0.0), num_tokens=num_tokens)
        self._journal.append([record])
        return record

    def _losses(self) -> list[float]:
        """The loss of each batch of texts, on the first process; of several each reads its share."""
        places = length_batches(
            [len(row.token_ids) for row in self._rows],
            max_rows=self._settings.batch_size,
            max_tokens=self._settings.batch_tokens,
        )
        return [loss for in_round in in_rounds(places, self._loss_of) for loss in in_round]

    def _loss_of(self, batch: Sequence[int]) -> float:
        rows = answered_rows([self._rows[place] for place in batch])
        on_device = {name: tensor.to(self._loaded.device) for name, tensor in rows.items()}
        with torch.inference_mode():
            return float(loss_sum(self._loaded.model, on_device))
