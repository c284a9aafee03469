"""Rows of similar length together, as many as a budget of tokens allows. Pure.

Comes in: the lengths of rows. Goes out: batches of their positions. Always holds: every row is in one batch; the
longest rows come first, so that what does not fit into memory fails at once; a row longer than the budget is a batch
alone.
"""

from __future__ import annotations

from collections.abc import Sequence


def length_batches(lengths: Sequence[int], *, max_rows: int, max_tokens: int | None) -> list[list[int]]:
    """Positions of rows, batch by batch: at most `max_rows`, and rows x longest row at most `max_tokens`."""
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    batches: list[list[int]] = []
    for row in order:
        longest = lengths[batches[-1][0]] if batches else 0
        full = not batches or len(batches[-1]) == max_rows
        if full or (max_tokens is not None and (len(batches[-1]) + 1) * longest > max_tokens):
            batches.append([])
        batches[-1].append(row)
    return batches
