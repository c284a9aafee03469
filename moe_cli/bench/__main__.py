"""`python -m moe_cli.bench ROW SELECTED THREADS`: measures the peak memory of one row; started by `timing.py`.

Reads the plan from the first line of standard input and the settings from the second; writes one `RowPeak` to
standard output.
"""

from __future__ import annotations

import sys

import torch

from moe_cli.bench.arm_rows import RowSettings
from moe_cli.bench.bench_model import device_of
from moe_cli.bench.timing import peak_here
from moe_cli.codec import decode, encode
from moe_cli.config import MoeConfig
from moe_cli.records import BenchmarkPlan


def main() -> None:
    """Measure the row given on the command line."""
    name, selected, threads = sys.argv[1:]
    plan, config = sys.stdin.buffer.read().split(b"\n")
    torch.set_num_threads(int(threads))
    settings = MoeConfig.model_validate_json(config)
    bench = RowSettings(decode(BenchmarkPlan, plan, source="standard input"), settings, device_of(settings))
    print(encode(peak_here(name, int(selected), bench)).decode())


if __name__ == "__main__":
    main()
