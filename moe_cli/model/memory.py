"""Memory of this process and its device, as the system reports it; each figure says what it measures.

On GPUs a peak is torch's peak of allocated bytes since `start_peak`, summed over the GPUs. On the CPU it is the largest
resident set of the process: since `start_peak` where the system can reset it (Linux), else since the process began.
Apple's GPU records no peak: the bytes that its driver has allocated at the end are used instead, and labelled so.
"""

from __future__ import annotations

import gc
import sys
from pathlib import Path

import psutil
import torch

STATUS = Path("/proc/self/status")
CLEAR_REFS = Path("/proc/self/clear_refs")
RESET_PEAK = "5"  # proc(5): resets the peak resident set
PROCESS = "process (resident set)"
WHOLE_PROCESS = "process since it began (resident set)"
APPLE_GPU = "mps (given out by the driver, at the end)"


def free_memory() -> None:
    """Give back the memory that nothing refers to any more, that of a GPU included."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()


def start_peak(device: torch.device) -> None:
    """Start measuring a peak."""
    if device.type == "cuda":
        for card in range(torch.cuda.device_count()):
            torch.cuda.reset_peak_memory_stats(card)
    elif device.type == "mps":
        torch.mps.empty_cache()  # the driver keeps what was ever used, until it is told not to
    elif CLEAR_REFS.exists():
        CLEAR_REFS.write_text(RESET_PEAK)


def peak_bytes(device: torch.device) -> tuple[int, str]:
    """Peak in bytes since `start_peak`, and what it measures."""
    if device.type == "cuda":
        cards = range(torch.cuda.device_count())
        what = f"{device} (allocated)" if len(cards) == 1 else f"{len(cards)} cards together (allocated)"
        return sum(torch.cuda.max_memory_allocated(card) for card in cards), what
    if device.type == "mps":
        return torch.mps.driver_allocated_memory(), APPLE_GPU
    return peak_resident_set()


def peak_resident_set() -> tuple[int, str]:
    """The largest resident set of this process in bytes, and since when.

    Linux: VmHWM of proc(5), in KiB. Windows: the peak working set. Elsewhere ru_maxrss of getrusage(2): bytes on macOS,
    KiB on the others.
    """
    if STATUS.exists():
        line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024, PROCESS if CLEAR_REFS.exists() else WHOLE_PROCESS
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset), WHOLE_PROCESS
    import resource  # not on Windows

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit, WHOLE_PROCESS


def available_bytes(device: torch.device) -> int:
    """Bytes that could still be allocated."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    return int(psutil.virtual_memory().available)


def total_bytes(device: torch.device) -> tuple[int, ...]:
    """Bytes of every card that a model on `device` lies on, or of the memory of this machine."""
    if device.type == "cuda":
        cards = range(torch.cuda.device_count()) if device.index is None else (device.index,)
        return tuple(int(torch.cuda.get_device_properties(card).total_memory) for card in cards)
    if device.type == "mps":
        return (int(torch.mps.recommended_max_memory()),)
    return (int(psutil.virtual_memory().total),)
