"""Base conversations as padded tensors: tokens, which of them are padding, and which the loss counts.

Conversations and a tokenizer come in, batches in their order of training go out. Only answer tokens, the end of turn
included, are labels; everything else is -100. Rows of similar length share a batch, so little is padding.

Shapes: B rows, S tokens.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from moe_cli.tiny.base import Conversation

IGNORED = -100
BATCHES_PER_WINDOW = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One conversation as tokens."""

    tokens: tuple[int, ...]
    labels: tuple[int, ...]  # the token itself inside the answer, -100 elsewhere


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Rows padded on the right to their longest."""

    tokens: Tensor  # [B, S]
    attention: Tensor  # [B, S]; 1 for a token, 0 for padding
    labels: Tensor  # [B, S]


def training_rows(conversations: Sequence[Conversation], tokenizer: PreTrainedTokenizerFast) -> tuple[Row, ...]:
    """Every conversation through the chat template, with its answer marked by it."""
    encoded = tokenizer.apply_chat_template(
        [[{"role": message.role, "content": message.content} for message in messages] for messages in conversations],
        return_dict=True,
        return_assistant_tokens_mask=True,
    )
    pairs = zip(encoded["input_ids"], encoded["assistant_masks"], strict=True)
    return tuple(Row(tokens=tuple(tokens), labels=_labels(tokens, mask)) for tokens, mask in pairs)


def _labels(tokens: Sequence[int], inside_answer: Sequence[int]) -> tuple[int, ...]:
    return tuple(token if inside else IGNORED for token, inside in zip(tokens, inside_answer, strict=True))


def epoch_batches(rows: Sequence[Row], batch_size: int, padding: int, seed: str) -> Iterator[Batch]:
    """All rows once, in an order that depends on the seed alone; an incomplete last batch is left out."""
    generator = Random(seed)
    order = generator.sample(range(len(rows)), len(rows))
    window = batch_size * BATCHES_PER_WINDOW
    for start in range(0, len(order), window):
        by_length = sorted(order[start : start + window], key=lambda number: len(rows[number].tokens))
        groups = [by_length[i : i + batch_size] for i in range(0, len(by_length) - batch_size + 1, batch_size)]
        generator.shuffle(groups)
        for group in groups:
            yield _padded([rows[number] for number in group], padding)


def _padded(rows: Sequence[Row], padding: int) -> Batch:
    longest = max(len(row.tokens) for row in rows)
    gaps = [longest - len(row.tokens) for row in rows]
    return Batch(
        tokens=torch.tensor([row.tokens + (padding,) * gap for row, gap in zip(rows, gaps, strict=True)]),
        attention=torch.tensor([(1,) * (longest - gap) + (0,) * gap for gap in gaps]),
        labels=torch.tensor([row.labels + (IGNORED,) * gap for row, gap in zip(rows, gaps, strict=True)]),
    )
