"""What the program runs on, as a report of a fault needs it."""

from __future__ import annotations

from moe_cli.records.record import record


@record
class ComputeDevice:
    """A device that a model can run on."""

    name: str  # "cpu", "cuda:0" or "mps"
    model: str | None  # "NVIDIA H200"; None: not told
    memory_bytes: int | None  # in all; None: not told
    expert_kernels: dict[str, str]  # {"bfloat16": "grouped_mm", "float32": "loop"}; by dtype of the experts


@record
class Environment:
    """What `moe env` prints. Holds no value that could be a secret."""

    moe: str  # "0.1.0"
    python: str  # "3.11.9"
    system: str  # "Linux-6.8.0-x86_64-with-glibc2.39"
    processor: str  # "AMD EPYC 7763 64-Core Processor"
    num_cores: int  # 2; that this process may use
    num_threads: int  # 1; of torch
    memory_bytes: int
    available_bytes: int
    devices: tuple[ComputeDevice, ...]
    packages: dict[str, str | None]  # {"torch": "2.13.0", "peft": None}; None: not installed
    registry: str  # absolute path
    num_runs: int  # registered there
    variables: dict[str, str | None]  # {"MOE_SEED": "7", "HF_TOKEN": None}; None: set, its value is not shown
