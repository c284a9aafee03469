"""Forward passes of two models over the same texts, with their routing recorded.

Both models get the very same token ids, once. Recording the routing changes no logit. Where the models do not fit on
one device together they take turns on it, which changes no bit.

Letters: B texts of a batch, S positions, V vocabulary, N = B x S tokens, K top-k, L expert layers, E experts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from inspect import signature

import torch
from torch import Tensor

from moe_cli.model.chat import EncodedChat
from moe_cli.model.load import LoadedModel
from moe_cli.model.routing import record_routing
from moe_cli.model.token_rows import LOGITS_TO_KEEP, answer_mask, attention_mask, right_padded
from moe_cli.records import EvaluationItem

WAITING_VALUES = 1 << 31  # logits of the base that wait for the tuned model: 4 GiB in bfloat16


@dataclass(frozen=True, slots=True)
class ForwardRecord:
    """Logits and routing of one batch from one model."""

    logits_BSV: Tensor  # of the last positions, from the one before the first answer token on
    experts_BLE: Tensor  # int64, on the CPU
    chosen_LNK: tuple[Tensor, ...]  # id E: no expert

    def waiting(self) -> ForwardRecord:
        """The same record with its logits moved to host memory."""
        return replace(self, logits_BSV=self.logits_BSV.cpu())


Batch = Sequence[tuple[EvaluationItem, EncodedChat]]


def run_paired_forward(
    base: LoadedModel, tuned: LoadedModel, batches: Sequence[Batch]
) -> Iterator[tuple[Batch, ForwardRecord, ForwardRecord]]:
    """Forward records of both models for every batch.

    Where they do not fit on one device together (the base is then in host memory), they take turns on the tuned model's
    device: each reads a group of batches, and the logits of the base wait on the host instead.
    """
    if base.device == tuned.device:
        for batch in batches:
            yield batch, record_forward(base, _rows(batch)), record_forward(tuned, _rows(batch))
        return
    for group in rounds_of(base, tuned, batches):
        with base_in_place_of(tuned, base):
            of_base = [record_forward(base, _rows(batch)).waiting() for batch in group]
        for batch, waiting in zip(group, of_base, strict=True):
            yield batch, waiting, record_forward(tuned, _rows(batch))


def rounds_of(base: LoadedModel, tuned: LoadedModel, batches: Sequence[Batch]) -> Iterator[list[Batch]]:
    """The batches that one model reads before the other does: one, or as many as have room for their logits."""
    if base.device == tuned.device:
        yield from ([batch] for batch in batches)
        return
    vocabulary = base.model.config.get_text_config().vocab_size
    group: list[Batch] = []
    num_waiting = 0
    for batch in batches:
        num_logits = len(batch) * _num_kept(_rows(batch)) * vocabulary
        if group and num_waiting + num_logits > WAITING_VALUES:
            yield group
            group, num_waiting = [], 0
        group.append(batch)
        num_waiting += num_logits
    if group:
        yield group


@contextmanager
def base_in_place_of(tuned: LoadedModel, base: LoadedModel) -> Iterator[None]:
    """The base on the device of the tuned model, and that where the base was; swapped back also after an error.

    On one device both stay.
    """
    device, host = tuned.device, base.device
    if device == host:
        yield
        return
    try:
        tuned.model.to(host)
        base.model.to(device)
        yield
    finally:
        base.model.to(host)
        tuned.model.to(device)


def _rows(batch: Batch) -> list[EncodedChat]:
    return [row for _, row in batch]


@torch.inference_mode()
def record_forward(loaded: LoadedModel, rows: Sequence[EncodedChat]) -> ForwardRecord:
    """One forward over right-padded rows, its routing recorded."""
    ids = [row.token_ids for row in rows]
    input_ids, mask_BS = right_padded(ids).to(loaded.device), attention_mask(ids).to(loaded.device)
    options: dict[str, bool | int] = {"use_cache": False}
    if LOGITS_TO_KEEP in signature(loaded.model.forward).parameters:
        options[LOGITS_TO_KEEP] = _num_kept(rows)
    with record_routing(loaded.model, keep_choices=True) as recorder:
        recorder.watch(answers_of(rows).to(loaded.device)[None])
        logits_BSV = loaded.model(input_ids=input_ids, attention_mask=mask_BS, **options).logits
        return ForwardRecord(logits_BSV, recorder.counts()[:, 0], recorder.choices())


def _num_kept(rows: Sequence[EncodedChat]) -> int:
    """Number of last positions that hold every answer token and the one before the first."""
    return max(len(row.token_ids) for row in rows) - min(row.num_prompt for row in rows) + 1


def answers_of(rows: Sequence[EncodedChat]) -> Tensor:
    """bool [B, S]: mask of the answer tokens."""
    return answer_mask([(row.token_ids, row.num_prompt) for row in rows])
