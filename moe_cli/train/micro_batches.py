"""One fixed batch cut into forwards of rows of similar length, so that little is computed for padding.

Comes in: the lengths of a batch's rows. Goes out: `MicroBatch`es. Always holds: every row is in exactly one; their
gradients add up to the batch's, since the loss is a sum over answer tokens with one denominator; a forward is no larger
than it must be (the number of forwards is the smallest that keeps the limits). Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

NEGLIGIBLE = 256  # tokens


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Rows that one forward computes together."""

    rows: tuple[int, ...]  # (3, 0, 7); indices into the fixed batch, in its order
    width: int  # 412 tokens, the longest of them

    @property
    def num_computed(self) -> int:
        """Tokens of the forward, padding counted."""
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
        done = plans[-1]
        if done is not None and done.computed <= allowed:
            return tuple(MicroBatch(tuple(sorted(group)), lengths[group[0]]) for group in done.groups)
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
