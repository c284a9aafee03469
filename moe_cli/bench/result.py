"""Outcomes of rows to the record of a benchmark. Pure.

Comes in: outcomes. Goes out: `BenchmarkRow`, `SharePoint`. Always holds: what was not measured is None; all rows
computed their experts in one dtype, or nothing is written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from moe_cli.bench.needs import selected_params
from moe_cli.bench.rounds import Outcome
from moe_cli.bench.spread import faster_floor, ratio_of, spread_of
from moe_cli.records import BenchmarkedModel, BenchmarkPlan, BenchmarkRow, RatioOfRows, SharePoint

FULL = "full_grouped_mm"
PAIRS = (
    ("forward_moe", "forward_library"),
    ("floor_moe", "floor_library"),
    ("selective", "floor_library"),
    ("selective", "floor_moe"),
    ("selective", "full_grouped_mm"),
    ("selective", "full_eager"),
    ("selective", "zeroed_gradients"),
    ("selective", "lora"),
)
SELECTING = ("selective", "zeroed_gradients", "forward_moe")


def names_of_rows(plan: BenchmarkPlan) -> list[tuple[str, int | None]]:
    """Name and selected experts per layer of every row: the arms, then what the sweep needs beside them."""
    arms: dict[str, int | None] = {arm: plan.selected if arm in SELECTING else None for arm in plan.arms}
    sweep = {row_of_share(share, plan): share or plan.selected for share in plan.shares}
    return list((arms | {name: share for name, share in sweep.items() if name not in arms}).items())


def row_of_share(share: int, plan: BenchmarkPlan) -> str:
    """The row whose figures are those of a share: the forward for 0, the selective arm for its own number."""
    if share == 0:
        return "forward_moe"
    return "selective" if share == plan.selected else f"selective_{share}"


def benchmark_rows_of(outcomes: Sequence[Outcome], tokens: int) -> tuple[tuple[BenchmarkRow, ...], str | None]:
    """The rows of a benchmark, and the faster floor."""
    seconds: Mapping[str, Sequence[float]] = {outcome.name: outcome.seconds for outcome in outcomes}
    floor = faster_floor(seconds)
    return tuple(_row(outcome, seconds, floor, tokens) for outcome in outcomes), floor


def ratios_of(rows: Sequence[BenchmarkRow]) -> tuple[RatioOfRows, ...]:
    """How the rows of ours compare with what they replace."""
    seconds = {row.name: row.seconds for row in rows}
    found = [(row, other, ratio_of(seconds.get(row, ()), seconds.get(other))) for row, other in PAIRS]
    return tuple(RatioOfRows(row=row, reference=other, ratio=value) for row, other, value in found if value)


def share_points(plan: BenchmarkPlan, model: BenchmarkedModel, rows: Sequence[BenchmarkRow]) -> tuple[SharePoint, ...]:
    """The sweep over selected experts per layer."""
    named = {row.name: row for row in rows}
    return tuple(
        SharePoint(
            selected=share,
            row=row_of_share(share, plan),
            share_of_parameters=selected_params(model, share) / model.total_params,
            to_full=named[row_of_share(share, plan)].to_full,
        )
        for share in plan.shares
    )


def experts_dtype(rows: Sequence[BenchmarkRow]) -> str | None:
    """The dtype that the experts of every row computed in; None where no row was measured.

    Raises:
        AssertionError: rows differ, so that their times cannot be compared.
    """
    found = {row.name: row.experts_dtype for row in rows if row.experts_dtype is not None}
    if len(set(found.values())) > 1:
        raise AssertionError(f"the rows computed their experts in different dtypes: {found}")
    return next(iter(found.values()), None)


def _row(outcome: Outcome, seconds: Mapping[str, Sequence[float]], floor: str | None, tokens: int) -> BenchmarkRow:
    time = spread_of(outcome.seconds)
    peak, peak_of = outcome.peak or (None, None)
    return BenchmarkRow(
        name=outcome.name,
        selected=outcome.selected,
        status=outcome.fault.status if outcome.fault else "measured",
        note=outcome.fault.note if outcome.fault else None,
        seconds=tuple(outcome.seconds),
        time=time,
        tokens_per_second=tokens / time.median if time else None,
        to_full=ratio_of(outcome.seconds, seconds.get(FULL)),
        to_floor=ratio_of(outcome.seconds, seconds.get(floor or "")),
        bytes=outcome.bytes,
        peak_memory_bytes=peak,
        peak_memory_of=peak_of,
        experts_dtype=outcome.experts_dtype,
    )
