"""Time and peak memory of every stage that needs no model, at 1,000, 10,000 and 100,000 pairs or items.

    python -m tests.studies.growth
    python -m tests.studies.growth --stage "prepare: null union" --sizes 1000 10000

Every measurement is a process of its own: the processor's seconds of the work, and the largest resident set during it,
less what the process held before the inputs were made. The exponent between two sizes is that of a power of n; n log n
has 1.12 and 1.10, and times below 2 seconds are not judged by it. A stage that would take longer than `--limit` seconds
is not run at that size. Set OMP_NUM_THREADS=1. Linux only.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import log, log10
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

from tests.studies.growth_stages import STAGES

SIZES = (1_000, 10_000, 100_000)
NOISE = 0.15  # of an exponent
SHORT = 2.0  # seconds; below it fixed costs and Python's collector of garbage outweigh what grows
MEGABYTE = 10**6
PATIENCE = 4  # times the limit, for inputs and work
FORKING = multiprocessing.get_context("fork")


@dataclass(frozen=True)
class Measurement:
    """One stage at one size."""

    seconds: float
    input_bytes: int  # held when the work begins
    peak_bytes: int


def measure_here(stage: str, num: int) -> Measurement:
    """Do the work in this process."""
    gc.collect()
    before = _resident("VmRSS")
    with TemporaryDirectory(prefix="moe-growth-") as place:
        work = STAGES[stage](num, Path(place))
        gc.collect()
        inputs = _resident("VmRSS") - before
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
        started = time.process_time()
        result = work()
        seconds = time.process_time() - started
        peak = _resident("VmHWM") - before
        del result
    return Measurement(seconds, inputs, peak)


def _resident(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def measure_in_child(stage: str, num: int, limit: float) -> Measurement | str:
    """The measurement, or why there is none."""
    here, there = FORKING.Pipe(duplex=False)
    child = FORKING.Process(target=lambda: there.send(measure_here(stage, num)))
    child.start()
    there.close()
    try:
        if here.poll(PATIENCE * limit):
            return cast(Measurement, here.recv())
        return f"over {PATIENCE * limit:.0f} s"
    except EOFError:
        return "failed"
    finally:
        child.kill()
        child.join()


def measure_sizes(stage: str, sizes: Sequence[int], limit: float) -> Iterator[Measurement | str]:
    """The stage at every size, as long as the time it would take is below the limit."""
    before: list[Measurement | str] = []
    for num in sizes:
        if (expected := _expected(before, sizes)) > limit:
            before.append(f"not run, about {expected:,.0f} s")
        else:
            before.append(measure_in_child(stage, num, limit))
        yield before[-1]


def _expected(before: Sequence[Measurement | str], sizes: Sequence[int]) -> float:
    known = [one for one in before if isinstance(one, Measurement)]
    if len(known) < len(before):
        return float("inf")
    if len(known) < 2 or known[-1].seconds < SHORT:
        return 0.0
    return known[-1].seconds * (sizes[len(known)] / sizes[len(known) - 1]) ** max(
        1.0, exponent(known[-2:], sizes[len(known) - 2 :])
    )


def exponent(pair: Sequence[Measurement], sizes: Sequence[int], field: str = "seconds") -> float:
    """The power of n with which a figure grows between two sizes."""
    first, second = (max(1e-4, getattr(one, field)) for one in pair)
    return log10(second / first) / log10(sizes[1] / sizes[0])


def grows_too_fast(pair: Sequence[Measurement], sizes: Sequence[int]) -> bool:
    """Whether time or memory grows faster than n log n, beyond the noise."""
    allowed = 1 + log10(log(sizes[1]) / log(sizes[0])) / log10(sizes[1] / sizes[0]) + NOISE
    slow = pair[1].seconds > SHORT and exponent(pair, sizes) > allowed
    large = pair[0].peak_bytes > 20 * MEGABYTE and exponent(pair, sizes, "peak_bytes") > allowed
    return slow or large


def main() -> None:
    """Print a row per stage."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--stage", action="append", help="only this one")
    options.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    options.add_argument("--limit", type=float, default=180.0, help="seconds, of one stage at one size")
    typed = options.parse_args()
    heads = [f"{num:,}: s | MB (inputs)" for num in typed.sizes]
    print(f"| stage | {' | '.join(heads)} | exponents |\n|{' --- |' * (2 + 2 * len(heads))}", flush=True)
    for stage in typed.stage or STAGES:
        print(_row(stage, list(measure_sizes(stage, typed.sizes, typed.limit)), typed.sizes), flush=True)


def _row(stage: str, measured: Sequence[Measurement | str], sizes: Sequence[int]) -> str:
    cells = [
        f"{one} | -"
        if isinstance(one, str)
        else f"{one.seconds:.2f} | {one.peak_bytes / MEGABYTE:,.0f} ({one.input_bytes / MEGABYTE:,.0f})"
        for one in measured
    ]
    exponents, notes = [], ""
    for place in range(1, len(measured)):
        pair = measured[place - 1 : place + 1]
        if all(isinstance(one, Measurement) for one in pair):
            of_pair = sizes[place - 1 : place + 1]
            exponents.append(f"{exponent(pair, of_pair):.2f}")
            notes = " **faster than n log n**" if grows_too_fast(pair, of_pair) else notes
    return f"| {stage} | {' | '.join(cells)} | {', '.join(exponents)}{notes} |"


if __name__ == "__main__":
    main()
