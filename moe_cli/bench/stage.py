"""The steps of `moe bench`: measure every row of the plan and compare the rows.

Every row runs on equal weights, equal tokens and one device, and the record says how the rows were placed in memory.
What was not measured is None. All rows must have computed their experts in one dtype. Nothing is written here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from moe_cli.artifacts.run_directory import now_in_utc
from moe_cli.bench import arm_rows
from moe_cli.bench.arm_rows import check_room, failure_of, fits_side_by_side, params_of_selected
from moe_cli.bench.bench_model import build_model, describe_model, device_of
from moe_cli.bench.machine import describe_machine
from moe_cli.bench.step import StepRow
from moe_cli.bench.timing import (
    Outcome,
    faster_floor,
    peak_in_own_process,
    ratio_of,
    spread_of,
    time_one_at_a_time,
    time_side_by_side,
)
from moe_cli.config import MoeConfig
from moe_cli.model.memory import available_bytes, free_memory
from moe_cli.records import (
    BENCHMARK_SCHEMA_VERSION,
    Benchmark,
    BenchmarkedModel,
    BenchmarkPlan,
    BenchmarkRow,
    Notice,
    Progress,
    RatioOfRows,
    SharePoint,
)
from moe_cli.records.manifest import Notify
from moe_cli.version import __version__

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
    """Name and selected experts per layer of every row: the arms, then what the sweep needs in addition."""
    arm_rows: dict[str, int | None] = {arm: plan.selected if arm in SELECTING else None for arm in plan.arms}
    sweep = {row_of_share(share, plan): share or plan.selected for share in plan.shares}
    return list((arm_rows | {name: share for name, share in sweep.items() if name not in arm_rows}).items())


def row_of_share(share: int, plan: BenchmarkPlan) -> str:
    """The row whose figures belong to a share: the forward for 0, the selective arm for its own number of experts."""
    if share == 0:
        return "forward_moe"
    return "selective" if share == plan.selected else f"selective_{share}"


def benchmark_rows_of(outcomes: Sequence[Outcome], tokens: int) -> tuple[tuple[BenchmarkRow, ...], str | None]:
    """The rows of a benchmark, and the name of the faster floor."""
    seconds: Mapping[str, Sequence[float]] = {outcome.name: outcome.seconds for outcome in outcomes}
    floor = faster_floor(seconds)
    return tuple(_row(outcome, seconds, floor, tokens) for outcome in outcomes), floor


def ratios_of(rows: Sequence[BenchmarkRow]) -> tuple[RatioOfRows, ...]:
    """The times of our rows relative to what they replace."""
    seconds = {row.name: row.seconds for row in rows}
    ratios = [(row, other, ratio_of(seconds.get(row, ()), seconds.get(other))) for row, other in PAIRS]
    return tuple(RatioOfRows(row=row, reference=other, ratio=value) for row, other, value in ratios if value)


def share_points(plan: BenchmarkPlan, model: BenchmarkedModel, rows: Sequence[BenchmarkRow]) -> tuple[SharePoint, ...]:
    """The sweep over selected experts per layer."""
    named = {row.name: row for row in rows}
    return tuple(
        SharePoint(
            selected=share,
            row=row_of_share(share, plan),
            share_of_parameters=params_of_selected(model, share) / model.total_params,
            to_full=named[row_of_share(share, plan)].to_full,
        )
        for share in plan.shares
    )


def experts_dtype(rows: Sequence[BenchmarkRow]) -> str | None:
    """The dtype in which all rows computed their experts; None where no row was measured.

    Raises:
        AssertionError: rows differ, so that their times cannot be compared.
    """
    dtypes = {row.name: row.experts_dtype for row in rows if row.experts_dtype is not None}
    if len(set(dtypes.values())) > 1:
        raise AssertionError(f"the rows computed their experts in different dtypes: {dtypes}")
    return next(iter(dtypes.values()), None)


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


def run(config: MoeConfig, plan: BenchmarkPlan, notify: Notify) -> Benchmark:
    """Measure time and memory of every row of the plan.

    Raises:
        UsageError: a model that cannot be built, loaded or trained.
        EnvironmentFaultError: a device that is not there.
        AssertionError: two rows computed their experts in different dtypes.
    """
    if config.model.threads is not None:
        torch.set_num_threads(config.model.threads)
    bench = arm_rows.RowSettings(plan, config, device_of(config))
    model = _look_at_model(bench)
    outcomes = [Outcome(name, selected) for name, selected in names_of_rows(plan)]
    together = bench.device.type == "cpu" and fits_side_by_side(
        [(one.name, one.selected or 0) for one in outcomes], model, available_bytes(bench.device)
    )
    num_rounds = _time(bench, model, outcomes, together, notify)
    if plan.memory and bench.device.type == "cpu":
        _weigh(bench, outcomes, notify)
    tokens = plan.rows * plan.length
    rows, floor = benchmark_rows_of(outcomes, tokens)
    return Benchmark(
        schema_version=BENCHMARK_SCHEMA_VERSION,
        moe=__version__,
        measured=now_in_utc("seconds"),
        plan=plan,
        seed=config.seed,
        machine=describe_machine(bench.device),
        model=model,
        placement="side by side" if together else "one at a time",
        num_rounds=num_rounds,
        tokens_per_step=tokens,
        experts_dtype=experts_dtype(rows),
        faster_floor=floor,
        rows=rows,
        ratios=ratios_of(rows),
        shares=share_points(plan, model, rows),
    )


def _look_at_model(bench: arm_rows.RowSettings) -> BenchmarkedModel:
    """Describe the model before it is measured.

    Random weights are not made for it. A real model is loaded once, so that what is wrong with it shows here.
    """
    device = bench.device if bench.plan.model else torch.device("meta")
    described = describe_model(build_model(bench.plan, bench.config, device), bench.plan)
    free_memory()
    return described


def _time(
    bench: arm_rows.RowSettings, model: BenchmarkedModel, outcomes: Sequence[Outcome], together: bool, notify: Notify
) -> int:
    repeats, done = bench.plan.repeats, 0
    total = len(outcomes) * (repeats + together)

    def told() -> None:
        nonlocal done
        done += 1
        notify(Progress(task="timing steps", done=done, total=total))

    def build(name: str, selected: int | None) -> StepRow:
        num_selected = selected or bench.plan.selected
        check_room(name, num_selected, model, available_bytes(bench.device))
        return arm_rows.build_row(name, num_selected, bench)

    if together:
        time_side_by_side(outcomes, build, repeats, told)
        free_memory()
        return 1
    return time_one_at_a_time(outcomes, build, repeats, bench.device, told)


def _weigh(bench: arm_rows.RowSettings, outcomes: Sequence[Outcome], notify: Notify) -> None:
    measured = [outcome for outcome in outcomes if outcome.fault is None]
    for done, outcome in enumerate(measured):
        notify(Progress(task="weighing rows", done=done, total=len(measured)))
        selected = outcome.selected or bench.plan.selected
        try:
            peak = peak_in_own_process(outcome.name, selected, bench.plan, bench.config)
        except Exception as error:
            if (fault := failure_of(error)) is None:
                raise
            notify(Notice(text=f"no peak memory of {outcome.name}: {fault.note}", warning=True))
        else:
            outcome.peak = peak.peak_memory_bytes, peak.peak_memory_of
    notify(Progress(task="weighing rows", done=len(measured), total=len(measured)))
