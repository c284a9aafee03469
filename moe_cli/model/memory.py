"""Memory of a process and its device, from the system's own accounting.

Comes in: a device. Goes out: bytes, and what they are of. Always holds: a peak on cards is torch's peak of allocated
bytes since `start_peak`, summed over the cards; on the CPU it is the peak resident set of the whole process (reset at
`start_peak` where the kernel allows it).
"""

from __future__ import annotations

import resource
from pathlib import Path

import torch

STATUS = Path("/proc/self/status")
CLEAR_REFS = Path("/proc/self/clear_refs")
MEMORY_INFO = Path("/proc/meminfo")
RESET_PEAK = "5"  # proc(5): resets the peak resident set


def start_peak(device: torch.device) -> None:
    """Begin a measurement."""
    if device.type == "cuda":
        for card in range(torch.cuda.device_count()):
            torch.cuda.reset_peak_memory_stats(card)
    elif CLEAR_REFS.exists():
        CLEAR_REFS.write_text(RESET_PEAK)


def peak_bytes(device: torch.device) -> tuple[int, str]:
    """Peak since `start_peak`, and what it is the peak of."""
    if device.type == "cuda":
        cards = range(torch.cuda.device_count())
        what = f"{device} (allocated)" if len(cards) == 1 else f"{len(cards)} cards together (allocated)"
        return sum(torch.cuda.max_memory_allocated(card) for card in cards), what
    if STATUS.exists():
        return _kibibytes(STATUS, "VmHWM"), "process (resident set)"
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, "process (resident set)"


def available_bytes(device: torch.device) -> int | None:
    """What could still be allocated; None where the system does not tell."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    return _kibibytes(MEMORY_INFO, "MemAvailable") if MEMORY_INFO.exists() else None


def _kibibytes(file: Path, field: str) -> int:
    line = next(line for line in file.read_text().splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024
