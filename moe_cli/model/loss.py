"""What training minimises: cross entropy over the answer tokens.

Comes in: rows of prompt and answer. Goes out: their tensors and their loss, as a sum. Always holds: prompt and padding
are not in it; the logarithm is in float32; logits that nobody reads are not made where the family can do without them.

Letters: B rows, S positions, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from inspect import signature

from torch import Tensor, nn
from torch.nn import functional

from moe_cli.model.chat import EncodedChat
from moe_cli.model.padding import attention_mask, right_padded

IGNORED = -100  # label of what is not in the loss
LOGITS_TO_KEEP = "logits_to_keep"  # of most families: how many logits at the end of a row are wanted


def answered_rows(rows: Sequence[EncodedChat]) -> dict[str, Tensor]:
    """`input_ids`, `attention_mask` and `labels` [B, S], padded on the right to the longest row."""
    ids = [row.token_ids for row in rows]
    return {
        "input_ids": right_padded(ids),
        "attention_mask": attention_mask(ids),
        "labels": right_padded([row.labels for row in rows], filler=IGNORED),
    }


def num_answer_tokens(labels_BS: Tensor) -> int:
    """Tokens in the loss; the first position of a row is told by none before it."""
    return int((labels_BS[:, 1:] != IGNORED).sum())


def loss_sum(model: nn.Module, rows: Mapping[str, Tensor]) -> Tensor:
    """Cross entropy summed over the answer tokens of some rows.

    Logits are made from the first answer token on, where the family can do that.
    """
    labels_BS = rows["labels"]
    words: dict[str, bool | int] = {"use_cache": False}
    if LOGITS_TO_KEEP in signature(getattr(model, "module", model).forward).parameters:
        first = int((labels_BS != IGNORED).any(0).nonzero()[0])
        words[LOGITS_TO_KEEP] = labels_BS.shape[1] - first + 1  # each token is told by the logits before it
    logits_BSV: Tensor = model(input_ids=rows["input_ids"], attention_mask=rows["attention_mask"], **words).logits
    return answer_loss_sum(logits_BSV, labels_BS[:, -logits_BSV.shape[1] :])


def answer_loss_sum(logits_BSV: Tensor, labels_BS: Tensor) -> Tensor:
    """Cross entropy in float32, summed over the positions whose next token is an answer token."""
    answers_BS = labels_BS[:, 1:] != IGNORED
    return functional.cross_entropy(
        logits_BSV[:, :-1][answers_BS].float(), labels_BS[:, 1:][answers_BS], reduction="sum"
    )
