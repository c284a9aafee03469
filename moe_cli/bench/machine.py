"""Describes the machine and environment for benchmarks and fault reports. A package that is not installed is None."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil
import torch

from moe_cli.experts.grouped_products import kernel_of
from moe_cli.model.memory import available_bytes
from moe_cli.ranks import num_cores
from moe_cli.records import ComputeDevice, Environment, Machine
from moe_cli.version import __version__

PACKAGES = ("torch", "transformers", "accelerate", "peft")
DEPENDENCIES = (  # what pyproject.toml names
    "torch",
    "transformers",
    "accelerate",
    "backports.zstd",
    "datasets",
    "filelock",
    "fsspec",
    "httpx2",
    "huggingface_hub",
    "jinja2",
    "matplotlib",
    "numpy",
    "orjson",
    "psutil",
    "py3langid",
    "pyarrow",
    "pydantic",
    "pyyaml",
    "rich",
    "ruamel.yaml",
    "safetensors",
    "scipy",
    "typer",
    "lm-eval",
    "peft",
    "ray",
    "tensorboard",
)
DTYPES = (torch.bfloat16, torch.float32)
CPU_INFO = Path("/proc/cpuinfo")


def describe_machine(device: torch.device) -> Machine:
    """The machine that this process runs on."""
    card = torch.cuda.get_device_properties(device) if device.type == "cuda" else None
    return Machine(
        device=str(device),
        device_name=card.name if card else None,
        device_memory_bytes=card.total_memory if card else None,
        processor=_processor(),
        num_cores=num_cores(),
        num_threads=torch.get_num_threads(),
        python=platform.python_version(),
        packages={name: installed_version(name) for name in PACKAGES},
    )


def describe_environment(registry: Path, variables: dict[str, str | None]) -> Environment:
    """Versions and devices of this environment; `variables` are the environment variables that may be shown."""
    return Environment(
        moe=__version__,
        python=platform.python_version(),
        system=platform.platform(),
        processor=_processor(),
        num_cores=num_cores(),
        num_threads=torch.get_num_threads(),
        memory_bytes=psutil.virtual_memory().total,
        available_bytes=available_bytes(torch.device("cpu")),
        devices=tuple(_compute_device(device) for device in _devices()),
        packages={name: installed_version(name) for name in DEPENDENCIES},
        registry=str(registry.absolute()),
        num_runs=len(list(registry.glob("*.json"))),
        variables=variables,
    )


def installed_version(package: str) -> str | None:
    """The version of a package; None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _devices() -> list[torch.device]:
    cards = [torch.device("cuda", card) for card in range(torch.cuda.device_count())]
    apple = [torch.device("mps")] if torch.backends.mps.is_available() else []
    return [torch.device("cpu"), *cards, *apple]


def _compute_device(device: torch.device) -> ComputeDevice:
    card = torch.cuda.get_device_properties(device) if device.type == "cuda" else None
    return ComputeDevice(
        name=str(device),
        model=card.name if card else None,
        memory_bytes=card.total_memory if card else None,
        expert_kernels={str(dtype).removeprefix("torch."): kernel_of(device, dtype) for dtype in DTYPES},
    )


def _processor() -> str:
    lines = CPU_INFO.read_text().splitlines() if CPU_INFO.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
