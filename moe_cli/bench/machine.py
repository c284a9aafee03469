"""The machine that figures belong to.

Comes in: a device. Goes out: `Machine`. Always holds: a package that is not installed is None, never left out.
"""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from moe_cli.model.memory import num_cores
from moe_cli.records import Machine

PACKAGES = ("torch", "transformers", "accelerate", "peft")
CPU_INFO = Path("/proc/cpuinfo")


def machine(device: torch.device) -> Machine:
    """What this process runs on."""
    card = torch.cuda.get_device_properties(device) if device.type == "cuda" else None
    return Machine(
        device=str(device),
        device_name=card.name if card else None,
        device_memory_bytes=card.total_memory if card else None,
        processor=_processor(),
        num_cores=num_cores(),
        num_threads=torch.get_num_threads(),
        python=platform.python_version(),
        packages={name: installed(name) for name in PACKAGES},
    )


def installed(package: str) -> str | None:
    """The version of a package; None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    lines = CPU_INFO.read_text().splitlines() if CPU_INFO.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
