"""The peak memory of one row, measured in a process of its own, for the CPU.

The peak is that of two steps (the second one has the optimizer's moments) and includes the interpreter and its
libraries, which are the same for every row. A process that the system killed is reported as that; any other failure
is a bug.
"""

from __future__ import annotations

import subprocess
import sys

import torch

from moe_cli.bench.arm_rows import RowSettings, build_row
from moe_cli.bench.memory_estimate import NoRoomError
from moe_cli.bench.timing import time_rows
from moe_cli.codec import decode, encode
from moe_cli.config import MoeConfig
from moe_cli.model.memory import peak_bytes, start_peak
from moe_cli.records import BenchmarkPlan, RowPeak

NUM_STEPS = 2


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
