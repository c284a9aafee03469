"""The steps of `moe bench`.

Comes in: settings, a plan, and whom to tell of progress. Goes out: `Benchmark`. Always holds: nothing is written; every
row runs on equal weights, equal tokens and one device; the record says how the rows were placed in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import torch

from moe_cli.bench import arms
from moe_cli.bench.faults import failure_of
from moe_cli.bench.machine import describe_machine
from moe_cli.bench.model import build_model, describe_model, device_of
from moe_cli.bench.needs import check_room, fits_side_by_side
from moe_cli.bench.peak import peak_in_own_process
from moe_cli.bench.result import benchmark_rows_of, experts_dtype, names_of_rows, ratios_of, share_points
from moe_cli.bench.rounds import Outcome, free_memory, time_one_at_a_time, time_side_by_side
from moe_cli.bench.step import StepRow
from moe_cli.config import MoeConfig
from moe_cli.model.memory import available_bytes
from moe_cli.records import (
    BENCHMARK_SCHEMA_VERSION,
    Benchmark,
    BenchmarkedModel,
    BenchmarkPlan,
    Notice,
    Progress,
)
from moe_cli.version import __version__

Notify = Callable[[object], None]


def run(config: MoeConfig, plan: BenchmarkPlan, notify: Notify) -> Benchmark:
    """Time and weigh every row of the plan.

    Raises:
        UsageError: a model that cannot be built, loaded or trained.
        EnvironmentFaultError: a device that is not there.
        AssertionError: two rows computed their experts in different dtypes.
    """
    if config.model.threads is not None:
        torch.set_num_threads(config.model.threads)
    bench = arms.RowSettings(plan, config, device_of(config))
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
        measured=datetime.now(UTC).isoformat(timespec="seconds"),
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


def _look_at_model(bench: arms.RowSettings) -> BenchmarkedModel:
    """Random weights need not be made for it; a real model is loaded once, so that what is wrong with it shows here."""
    device = bench.device if bench.plan.model else torch.device("meta")
    found = describe_model(build_model(bench.plan, bench.config, device), bench.plan)
    free_memory(bench.device)
    return found


def _time(
    bench: arms.RowSettings, model: BenchmarkedModel, outcomes: Sequence[Outcome], together: bool, notify: Notify
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
        return arms.build_row(name, num_selected, bench)

    if together:
        time_side_by_side(outcomes, build, repeats, told)
        free_memory(bench.device)
        return 1
    return time_one_at_a_time(outcomes, build, repeats, bench.device, told)


def _weigh(bench: arms.RowSettings, outcomes: Sequence[Outcome], notify: Notify) -> None:
    measured = [outcome for outcome in outcomes if outcome.fault is None]
    for done, outcome in enumerate(measured):
        notify(Progress(task="weighing rows", done=done, total=len(measured)))
        selected = outcome.selected or bench.plan.selected
        try:
            found = peak_in_own_process(outcome.name, selected, bench.plan, bench.config)
        except Exception as error:
            if (fault := failure_of(error)) is None:
                raise
            notify(Notice(text=f"no peak memory of {outcome.name}: {fault.note}", warning=True))
        else:
            outcome.peak = found.peak_memory_bytes, found.peak_memory_of
    notify(Progress(task="weighing rows", done=len(measured), total=len(measured)))
