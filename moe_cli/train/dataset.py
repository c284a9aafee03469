"""Fixed batches as a dataset that the Trainer steps through, each cut into forwards of similar rows.

A batch is used whole and unchanged. The order of batches depends on (seed, epoch) alone, so both arms and every resumed
run see the same one.

Every row of a batch is in exactly one forward (`MicroBatch`). Their gradients add up to the batch's, since the loss is
a sum over answer tokens with one denominator; so the cut changes no update. The number of forwards is the smallest that
keeps the limits. Padding reaches the longest row, no further, and is never in the loss.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from math import ceil

import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler
from transformers import PreTrainedTokenizerBase

from moe_cli.model.chat import EncodedChat, encode_answered
from moe_cli.model.token_rows import answered_rows
from moe_cli.ranks import dealt, num_ranks
from moe_cli.records import TrainingExample

NEGLIGIBLE = 256  # tokens
NO_BATCH = -1  # index of the batch of a process for which none is left in an epoch
ROWS = ("input_ids", "attention_mask", "labels")  # what a batch holds per row
TURNS = "turns"  # and where answers of several turns train: which answer of its conversation a row learns


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Rows that go through the model in one forward."""

    rows: tuple[int, ...]  # (3, 0, 7); indices into the fixed batch, in its order
    width: int  # 412 tokens, the longest of them

    @property
    def num_computed(self) -> int:
        """Tokens of the forward, padding included."""
        return len(self.rows) * self.width


@dataclass(frozen=True, slots=True)
class _Plan:
    computed: int
    groups: tuple[tuple[int, ...], ...]


def micro_batches(
    lengths: Sequence[int], *, max_padding: float, max_tokens: int | None, negligible: int = NEGLIGIBLE
) -> tuple[MicroBatch, ...]:
    """The fewest forwards whose padding is at most `max_padding` of the useful tokens, with the least padding.

    Padding of `NEGLIGIBLE` tokens is always allowed: a forward costs more than that, whatever it computes.
    No forward computes more than `max_tokens` tokens, unless a single row is longer. Optimal: in order of length the
    groups are runs of neighbours, found by dynamic programming over the number of forwards and the rows placed.
    """
    order = sorted(range(len(lengths)), key=lambda row: (-lengths[row], row))
    allowed = sum(lengths) + max(sum(lengths) * max_padding, negligible)
    plans: list[_Plan | None] = [_Plan(0, ())] + [None] * len(order)  # for each number of rows placed
    for _ in order:
        plans = [_with_one_more(plans, placed, order, lengths, max_tokens) for placed in range(len(order) + 1)]
        complete = plans[-1]
        if complete is not None and complete.computed <= allowed:
            return tuple(MicroBatch(tuple(sorted(group)), lengths[group[0]]) for group in complete.groups)
    raise AssertionError("one row a forward needs no padding")


def _with_one_more(
    plans: Sequence[_Plan | None], placed: int, order: Sequence[int], lengths: Sequence[int], max_tokens: int | None
) -> _Plan | None:
    """The cheapest way to place the first `placed` rows when one more forward is allowed than in `plans`."""
    best: tuple[int, int] | None = None  # tokens computed, and where the last group starts
    for start in reversed(range(placed)):  # the group grows, and what it computes with it
        cost = (placed - start) * lengths[order[start]]
        if max_tokens is not None and cost > max_tokens and placed - start > 1:
            break
        before = plans[start]
        if before is not None and (best is None or before.computed + cost <= best[0]):
            best = before.computed + cost, start
    if best is None:
        return None
    computed, start = best
    before = plans[start]
    return _Plan(computed, (*(before.groups if before else ()), tuple(order[start:placed])))


class FixedBatches(Dataset[dict[str, Tensor]]):
    """Dataset of batches: padded `input_ids`, `attention_mask`, `labels` [rows, S] and `batch_index` [] of each.

    Where the answers are of several turns of their conversations, each batch holds `turns` [rows], too.
    `cuts[b]` says which rows of batch b go through the model together. The batch NO_BATCH has no row.
    """

    def __init__(
        self, rows_of_batches: Sequence[Sequence[EncodedChat]], *, max_padding: float, max_tokens: int | None
    ) -> None:
        self.batches = [
            {**answered_rows(rows), "batch_index": torch.tensor(index)} for index, rows in enumerate(rows_of_batches)
        ]
        if len({row.turn for rows in rows_of_batches for row in rows}) > 1:
            for batch, rows in zip(self.batches, rows_of_batches, strict=True):
                batch[TURNS] = torch.tensor([row.turn for row in rows])
        nothing = torch.zeros(0, 2, dtype=torch.long)
        self.empty = {**dict.fromkeys(ROWS, nothing), "batch_index": torch.tensor(NO_BATCH)}
        self.num_rows = sum(map(len, rows_of_batches))
        self.num_cut = sum(row.cut for rows in rows_of_batches for row in rows)
        self.cuts = [
            micro_batches([len(row.token_ids) for row in rows], max_padding=max_padding, max_tokens=max_tokens)
            for rows in rows_of_batches
        ]

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return self.empty if index == NO_BATCH else self.batches[index]


class EpochOrder(Sampler[list[int]]):
    """Yields one batch index at a time, as a list of one, in the order of the epoch, `order_of(epoch)`.

    Of several processes each gets every n-th; those that have one less than the first end with NO_BATCH.
    """

    batch_size = 1
    drop_last = False

    def __init__(self, num_batches: int, order_of: Callable[[int], list[int]]) -> None:
        self.num_batches, self.order_of, self.epoch = num_batches, order_of, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the Trainer at the start of every epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return ceil(self.num_batches / num_ranks())

    def __iter__(self) -> Iterator[list[int]]:
        share = dealt(self.order_of(self.epoch))
        return iter([[index] for index in share + [NO_BATCH] * (len(self) - len(share))])


def encode_batches(
    tokenizer: PreTrainedTokenizerBase, examples: Sequence[TrainingExample], max_length: int
) -> list[list[EncodedChat]]:
    """Token ids of all examples, by batch, in the order of the batch indices.

    Raises:
        UsageError: an answer is empty or longer than `max_length`.
    """
    batches: dict[int, list[EncodedChat]] = defaultdict(list)
    for example in sorted(examples, key=lambda example: example.batch_idx):
        batches[example.batch_idx].append(encode_answered(tokenizer, example.messages, max_length=max_length))
    return list(batches.values())


def part_of(batch: Mapping[str, Tensor], cut: MicroBatch) -> dict[str, Tensor]:
    """The rows of one micro-batch, without the padding that only longer rows need."""
    rows_B = torch.tensor(cut.rows, device=batch["input_ids"].device)
    part = {name: batch[name].index_select(0, rows_B)[:, : cut.width] for name in ROWS}
    return part if TURNS not in batch else {**part, TURNS: batch[TURNS].index_select(0, rows_B)}


def epoch_order(num_batches: int, seed: int, epoch: int) -> list[int]:
    """The order of the batches in one epoch."""
    return drawn_order(num_batches, f"batches {seed} {epoch}")


def drawn_order(num_batches: int, seed: str) -> list[int]:
    """The batches in an order drawn from `seed`."""
    order = list(range(num_batches))
    random.Random(seed).shuffle(order)
    return order


def schedule_digest(num_batches: int, seed: int, num_epochs: int) -> str:
    """sha256 over the order of batches of all epochs."""
    orders = [epoch_order(num_batches, seed, epoch) for epoch in range(num_epochs)]
    return sha256(repr(orders).encode()).hexdigest()
