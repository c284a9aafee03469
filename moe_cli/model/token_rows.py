"""Rows of token ids: padded, in batches of similar length, and the loss over their answers.

Padding reaches to the longest row, and the mask is 0 exactly there; padded positions are never seen, so any id will do.
Every row is in one batch. The longest rows come first, so that an out-of-memory error comes at once; a row longer than
the budget is a batch of its own.

The loss is a sum over answer tokens, without prompt and padding, with the logarithm in float32. Logits that are not
needed are not computed where the family allows it.

Letters: B rows, S positions, A answer tokens of all rows, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from inspect import signature

import torch
from torch import Tensor, nn
from torch.nn import functional

from moe_cli.model.chat import IGNORED, EncodedChat

LOGITS_TO_KEEP = "logits_to_keep"  # of most families: how many logits at the end of a row are wanted


def right_padded(rows: Sequence[Sequence[int]], *, filler: int = 0) -> Tensor:
    """[B, S] of int64, padded with `filler` on the right."""
    longest = max(len(row) for row in rows)
    return torch.tensor([[*row, *[filler] * (longest - len(row))] for row in rows])


def attention_mask(rows: Sequence[Sequence[int]]) -> Tensor:
    """[B, S] of int64: 1 on the ids of a row, 0 after its end."""
    return right_padded([[1] * len(row) for row in rows])


def left_padded(rows: Sequence[Sequence[int]], *, filler: int) -> tuple[Tensor, Tensor]:
    """Ids and attention mask, each [B, S] of int64, padded with `filler` on the left."""
    longest = max(len(row) for row in rows)
    ids = [[*[filler] * (longest - len(row)), *row] for row in rows]
    mask = [[0] * (longest - len(row)) + [1] * len(row) for row in rows]
    return torch.tensor(ids), torch.tensor(mask)


def answer_mask(rows: Sequence[tuple[Sequence[int], int]]) -> Tensor:
    """bool [B, S]: the answers' ids of right-padded rows.

    Each row is the ids of prompt and answer, and how many of them are the prompt's.
    """
    inside_BS = attention_mask([ids for ids, _ in rows]).bool()
    prompts_B1 = torch.tensor([[num_prompt] for _, num_prompt in rows])
    return inside_BS & (torch.arange(inside_BS.shape[1])[None] >= prompts_B1)


def length_batches(lengths: Sequence[int], *, max_rows: int, max_tokens: int | None) -> list[list[int]]:
    """Indices of rows, batch by batch: at most `max_rows`, and rows x longest row at most `max_tokens`."""
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    batches: list[list[int]] = []
    for row in order:
        longest = lengths[batches[-1][0]] if batches else 0
        full = not batches or len(batches[-1]) == max_rows
        if full or (max_tokens is not None and (len(batches[-1]) + 1) * longest > max_tokens):
            batches.append([])
        batches[-1].append(row)
    return batches


def answered_rows(rows: Sequence[EncodedChat]) -> dict[str, Tensor]:
    """`input_ids`, `attention_mask` and `labels` [B, S], padded on the right to the longest row."""
    ids = [row.token_ids for row in rows]
    return {
        "input_ids": right_padded(ids),
        "attention_mask": attention_mask(ids),
        "labels": right_padded([row.labels for row in rows], filler=IGNORED),
    }


def num_answer_tokens(labels_BS: Tensor) -> int:
    """Number of tokens in the loss; the first token of a row has no prediction."""
    return int((labels_BS[:, 1:] != IGNORED).sum())


def loss_sum(model: nn.Module, rows: Mapping[str, Tensor]) -> Tensor:
    """Cross entropy summed over the answer tokens of some rows."""
    return answer_loss_sum(*answer_logits(model, rows))


def answer_logits(model: nn.Module, rows: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Logits [B, S', V] and labels [B, S'] of some rows, from before their first answer token on.

    S' is S where the family computes all logits whatever it is asked for.
    """
    labels_BS = rows["labels"]
    kwargs: dict[str, bool | int] = {"use_cache": False}
    if LOGITS_TO_KEEP in signature(getattr(model, "module", model).forward).parameters:
        first = int((labels_BS != IGNORED).any(0).nonzero()[0])
        kwargs[LOGITS_TO_KEEP] = labels_BS.shape[1] - first + 1  # each token is told by the logits before it
    logits_BSV: Tensor = model(input_ids=rows["input_ids"], attention_mask=rows["attention_mask"], **kwargs).logits
    return logits_BSV, labels_BS[:, -logits_BSV.shape[1] :]


def answer_loss_sum(logits_BSV: Tensor, labels_BS: Tensor) -> Tensor:
    """Cross entropy in float32, summed over the positions whose next token is an answer token."""
    answers_BS = labels_BS[:, 1:] != IGNORED
    return functional.cross_entropy(
        logits_BSV[:, :-1][answers_BS].float(), labels_BS[:, 1:][answers_BS], reduction="sum"
    )


@torch.no_grad()
def row_loss_sums(logits_BSV: Tensor, labels_BS: Tensor) -> Tensor:
    """[B] float32: the parts of `answer_loss_sum` that the rows have; nothing is learnt from them."""
    answers_BS = labels_BS[:, 1:] != IGNORED
    losses_BS = torch.zeros(answers_BS.shape, device=logits_BSV.device)
    logits_AV = logits_BSV[:, :-1][answers_BS].float()
    losses_BS[answers_BS] = functional.cross_entropy(logits_AV, labels_BS[:, 1:][answers_BS], reduction="none")
    return losses_BS.sum(1)
