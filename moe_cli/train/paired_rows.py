"""The rows of a fixed batch that the routers train on: pairs of a plain goal and its attacked form, and rows to keep.

A pair is two rows of one batch whose ids name the same pair of prompts; both have the same refusal as their target. An
attacked row whose plain form is in no row of its batch is in no pair.

Letters: B rows, S positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from moe_cli.errors import UsageError
from moe_cli.records import TrainingExample
from moe_cli.records.inputs import source_of_form
from moe_cli.train.dataset import FixedBatches, MicroBatch, micro_batches, part_of


@dataclass(frozen=True, slots=True)
class PairedRows:
    """One pair, as rows of its batch."""

    plain: int
    attacked: int


@dataclass(frozen=True, slots=True)
class PairedBatch:
    """The rows of one fixed batch, cut into forwards."""

    pairs: tuple[PairedRows, ...]
    plain: tuple[MicroBatch, ...]  # the plain rows of the pairs
    attacked: tuple[MicroBatch, ...]  # their attacked rows
    kept: tuple[MicroBatch, ...]  # all plain and benign rows
    num_kept_tokens: int  # of those, without padding

    @property
    def pair_of(self) -> dict[int, int]:
        """Attacked row -> index of its pair."""
        return {pair.attacked: index for index, pair in enumerate(self.pairs)}


def paired_batches(
    examples: Sequence[TrainingExample],
    batches: FixedBatches,
    *,
    max_padding: float,
    max_tokens: int | None,
    together: bool,
) -> tuple[PairedBatch, ...]:
    """The pairs of every batch; `together` puts all attacked rows of a batch into one forward.

    Raises:
        UsageError: no batch has a pair.
    """
    rows_of: dict[int, list[TrainingExample]] = {}
    for example in sorted(examples, key=lambda example: example.batch_idx):
        rows_of.setdefault(example.batch_idx, []).append(example)
    paired = tuple(
        _paired_batch(rows, batch["attention_mask"], max_padding, max_tokens, together)
        for rows, batch in zip(rows_of.values(), batches.batches, strict=True)
    )
    if not any(batch.pairs for batch in paired):
        raise UsageError(
            "no training batch holds both forms of a goal, so there is no routing to compare",
            hint="prepare with plain and attacked goals in every batch, or train without routers: "
            "--skip-router-training",
        )
    return paired


def _paired_batch(
    rows: Sequence[TrainingExample], mask_BS: Tensor, max_padding: float, max_tokens: int | None, together: bool
) -> PairedBatch:
    plain = {source_of_form(example.id): row for row, example in enumerate(rows) if example.kind == "refuse_plain"}
    pairs = tuple(
        PairedRows(plain[source], row)
        for row, example in enumerate(rows)
        if example.kind == "refuse_attacked" and (source := source_of_form(example.id)) in plain
    )
    for pair in pairs:
        if rows[pair.plain].messages[-1] != rows[pair.attacked].messages[-1]:
            raise UsageError(
                f"the two forms of {source_of_form(rows[pair.plain].id)} have different targets, so their tokens "
                "cannot be compared",
                hint="prepare again: both forms of a goal are given one refusal",
            )
    lengths = mask_BS.sum(1).tolist()

    def cut(of_rows: Sequence[int], *, limit: bool = True) -> tuple[MicroBatch, ...]:
        if not limit:
            return (MicroBatch(tuple(of_rows), max(lengths[row] for row in of_rows)),) if of_rows else ()
        groups = micro_batches([lengths[row] for row in of_rows], max_padding=max_padding, max_tokens=max_tokens)
        return tuple(MicroBatch(tuple(of_rows[row] for row in group.rows), group.width) for group in groups)

    kept = [row for row, example in enumerate(rows) if example.kind != "refuse_attacked"]
    return PairedBatch(
        pairs=pairs,
        plain=cut(sorted({pair.plain for pair in pairs})) if pairs else (),
        attacked=cut([pair.attacked for pair in pairs], limit=not together) if pairs else (),
        kept=cut(kept) if kept else (),
        num_kept_tokens=sum(lengths[row] for row in kept),
    )


def rows_of_part(batch: dict[str, Tensor], cut: MicroBatch) -> dict[str, Tensor]:
    """The rows of one forward, and their indices in the batch as `rows`."""
    return {**part_of(batch, cut), "rows": torch.tensor(cut.rows)}
