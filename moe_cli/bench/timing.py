"""Times rows side by side or one at a time, weighs each in a process of its own, and divides and compares the times.

The first step of a row after it was built is never counted. Every other repeat goes through the rows backwards, so
that no row always follows the same one. Two rows are divided repeat by repeat, so that a machine that is slow for a
while is slow for both. A row that fails says why and the others go on, but a bug ends the run.

Side by side, each repeat runs every row once. One at a time, for models that do not fit beside each other and on
GPUs (where the peak of a row is its own only if nothing else is there), each round builds every row anew and runs
its share of the repeats.

The peak is that of two steps (the second one has the optimizer's moments) and includes the interpreter and its
libraries, which are the same for every row. A process that the system killed is reported as that; any other failure
is a bug.
"""

from __future__ import annotations

import gc
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median, quantiles

import torch

from moe_cli.bench.arm_rows import Failure, NoRoomError, RowSettings, build_row, failure_of
from moe_cli.bench.step import StepRow, step_bytes
from moe_cli.codec import decode, encode
from moe_cli.config import MoeConfig
from moe_cli.model.memory import free_memory, peak_bytes, start_peak
from moe_cli.records import BenchmarkPlan, RowPeak, Spread, StepBytes

FLOORS = ("floor_library", "floor_moe")
ROUNDS = 3
Builder = Callable[[str, int | None], StepRow]
Told = Callable[[], None]  # one step is done
NUM_STEPS = 2


def spread_of(values: Sequence[float]) -> Spread | None:
    """Median, quartiles (inclusive method) and extremes; None if there are no values."""
    if not values:
        return None
    lower, _, upper = quantiles(values, n=4, method="inclusive") if len(values) > 1 else (values[0],) * 3
    return Spread(median=median(values), lower=lower, upper=upper, least=min(values), most=max(values), n=len(values))


def ratio_of(seconds: Sequence[float], reference: Sequence[float] | None) -> Spread | None:
    """`seconds` divided by `reference`, repeat by repeat; None where either has no figures."""
    if not seconds or not reference:
        return None
    return spread_of([value / other for value, other in zip(seconds, reference, strict=True)])


def faster_floor(seconds: Mapping[str, Sequence[float]]) -> str | None:
    """The floor (the least that could be run for a step) whose median time is smaller; None if neither was timed."""
    measured = [name for name in FLOORS if seconds.get(name)]
    return min(measured, key=lambda name: median(seconds[name])) if measured else None


@dataclass(slots=True)
class Outcome:
    """The measurements of one row so far."""

    name: str
    selected: int | None
    seconds: list[float] = field(default_factory=list)
    bytes: StepBytes | None = None
    experts_dtype: str | None = None
    peak: tuple[int, str] | None = None
    fault: Failure | None = None


def time_side_by_side(outcomes: Sequence[Outcome], build: Builder, repeats: int, told: Told) -> None:
    """Build all rows, step them in turns, and measure their bytes."""
    rows: dict[str, StepRow] = {}
    for outcome in outcomes:
        with _Faults(outcome):
            rows[outcome.name] = build(outcome.name, outcome.selected)
    for repeat in range(repeats + 1):
        for outcome in outcomes if repeat % 2 else reversed(outcomes):
            if outcome.fault is None:
                with _Faults(outcome):
                    seconds = time_rows(rows[outcome.name])
                    outcome.seconds += [seconds] if repeat else []
            if outcome.fault is not None:
                rows.pop(outcome.name, None)
            told()
    for outcome in outcomes:
        if outcome.fault is None:
            with _Faults(outcome):
                outcome.bytes, outcome.experts_dtype = step_bytes(rows[outcome.name])


def time_one_at_a_time(
    outcomes: Sequence[Outcome], build: Builder, repeats: int, device: torch.device, told: Told
) -> int:
    """Build, step and drop the rows in turns; returns the number of rounds."""
    shares = [len(range(repeats)[number::ROUNDS]) for number in range(min(ROUNDS, repeats))]
    for number, share in enumerate(shares):
        for outcome in outcomes if number % 2 == 0 else reversed(outcomes):
            if outcome.fault is None:
                with _Faults(outcome):
                    _one_turn(outcome, build, share, device, weigh=number == 0)
            for _ in range(share):
                told()
            free_memory()
    return len(shares)


def time_rows(row: StepRow) -> float:
    """Seconds of one step, from an idle device to an idle device, with Python's garbage collector off."""
    device = row.batch.ids_BS.device
    with row.during():
        synchronize(device)
        gc.disable()
        try:
            start = time.perf_counter()
            row.step()
            synchronize(device)
            return time.perf_counter() - start
        finally:
            gc.enable()


def _one_turn(outcome: Outcome, build: Builder, share: int, device: torch.device, *, weigh: bool) -> None:
    row = build(outcome.name, outcome.selected)
    start_peak(device)
    time_rows(row)
    outcome.seconds += [time_rows(row) for _ in range(share)]
    if weigh:
        outcome.peak = peak_bytes(device) if device.type != "cpu" else None
        outcome.bytes, outcome.experts_dtype = step_bytes(row)


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


class _Faults:
    """A block whose known failures are stored in the outcome; the seconds that it had are dropped."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        fault = failure_of(error) if isinstance(error, Exception) else None
        if fault is None:
            return False
        self.outcome.fault = fault
        self.outcome.seconds.clear()
        return True


def peak_in_own_process(name: str, selected: int, plan: BenchmarkPlan, config: MoeConfig) -> RowPeak:
    """Run `python -m moe_cli.bench` for one row.

    Raises:
        NoRoomError: the system ended the process.
    """
    argv = [sys.executable, "-m", "moe_cli.bench", name, str(selected), str(torch.get_num_threads())]
    stdin = encode(plan) + b"\n" + config.model_dump_json().encode()
    process = subprocess.run(argv, input=stdin, capture_output=True, check=False)
    if process.returncode < 0:
        raise NoRoomError(f"signal {-process.returncode} ended the process that measured the peak memory")
    if process.returncode:
        raise AssertionError(f"the process of {name} failed:\n{process.stderr.decode(errors='replace')}")
    return decode(RowPeak, process.stdout, source=" ".join(argv[1:]))


def peak_here(name: str, selected: int, bench: RowSettings) -> RowPeak:
    """Peak memory of this process over two steps of a row."""
    row = build_row(name, selected, bench)
    start_peak(bench.device)
    for _ in range(NUM_STEPS):
        time_rows(row)
    peak, source = peak_bytes(bench.device)
    return RowPeak(peak_memory_bytes=peak, peak_memory_of=source)
