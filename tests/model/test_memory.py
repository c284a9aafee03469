"""Memory is in bytes on every system, and is called what it is."""

import os
import subprocess
import sys
from types import SimpleNamespace

import psutil
import pytest
import torch

from moe_cli.model import memory
from moe_cli.ranks import num_cores

CPU = torch.device("cpu")
HALF_GIB = 1 << 29

MEASURED = """
import sys, torch
from pathlib import Path
from moe_cli.model import memory
system = memory.STATUS
if sys.argv[1] == "getrusage":
    memory.STATUS = Path("/nothing")
else:
    memory.start_peak(torch.device("cpu"))
held = torch.ones(1 << 27)  # 512 MiB
del held
peak, what = memory.peak_resident_set()
high = next(int(line.split()[1]) for line in system.read_text().splitlines() if line.startswith("VmHWM"))
print(peak, 1024 * high, what, sep="|")
"""


@pytest.mark.parametrize(("source", "name"), [("VmHWM", memory.PROCESS), ("getrusage", memory.WHOLE_PROCESS)])
@pytest.mark.skipif(not memory.CLEAR_REFS.exists(), reason="reads Linux's own account")
def test_both_sources_give_the_peak_in_bytes_with_what_was_given_back(source, name):
    done = subprocess.run([sys.executable, "-c", MEASURED, source], capture_output=True, text=True, check=True)
    peak, high, what = done.stdout.strip().split("|")
    assert what == name
    assert int(peak) > HALF_GIB
    # A process that was forked from a larger one keeps that one's peak in `getrusage`.
    assert int(peak) == pytest.approx(int(high), rel=0.02) or (source == "getrusage" and int(peak) > int(high))


@pytest.mark.parametrize(("system", "unit"), [("darwin", 1), ("freebsd14", 1024)])
def test_the_unit_of_getrusage_is_bytes_on_macos_and_kib_elsewhere(monkeypatch, tmp_path, system, unit):
    usage = SimpleNamespace(RUSAGE_SELF=0, getrusage=lambda who: SimpleNamespace(ru_maxrss=3_000_000))
    monkeypatch.setitem(sys.modules, "resource", usage)
    monkeypatch.setattr(memory, "STATUS", tmp_path / "none")
    monkeypatch.setattr(memory.sys, "platform", system)
    assert memory.peak_resident_set() == (3_000_000 * unit, "process since it began (resident set)")


def test_windows_has_its_own_peak(monkeypatch, tmp_path):
    process = SimpleNamespace(memory_info=lambda: SimpleNamespace(peak_wset=123))
    monkeypatch.setattr(memory, "STATUS", tmp_path / "none")
    monkeypatch.setattr(memory.sys, "platform", "win32")
    monkeypatch.setattr(memory.psutil, "Process", lambda: process)
    assert memory.peak_bytes(CPU) == (123, memory.WHOLE_PROCESS)


def test_the_figure_of_apples_gpu_is_not_called_a_peak_of_allocations(monkeypatch):
    given_back = []
    monkeypatch.setattr(torch.mps, "empty_cache", lambda: given_back.append(True))
    monkeypatch.setattr(torch.mps, "driver_allocated_memory", lambda: 7 << 20)
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 9 << 20)
    device = torch.device("mps")
    memory.start_peak(device)
    assert given_back == [True]
    assert memory.peak_bytes(device) == (7 << 20, "mps (given out by the driver, at the end)")
    assert memory.available_bytes(device) == 2 << 20


def test_what_is_available_and_how_many_cores_are_the_systems_own(monkeypatch):
    assert 0 < memory.available_bytes(CPU) < psutil.virtual_memory().total
    assert 1 <= num_cores() <= psutil.cpu_count()
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)  # as on macOS
    assert num_cores() == psutil.cpu_count()
