"""What the program runs on, as lines to paste into a report."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table

from moe_cli.records import ComputeDevice, Environment
from moe_cli.views.numbers import NOTHING, bytes_text
from moe_cli.views.safe import safe_text

NOT_SHOWN = "(set; not shown)"


def environment_view(found: Environment) -> Table:
    """One line per fact."""
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in _facts(found):
        table.add_row(safe_text(name), safe_text(value))
    return table


def _facts(found: Environment) -> Iterator[tuple[str, str]]:
    yield "moe", found.moe
    yield "python", f"{found.python} on {found.system}"
    yield "processor", f"{found.processor}, {found.num_cores} cores, {found.num_threads} threads of torch"
    yield "memory", f"{bytes_text(found.memory_bytes)}, {bytes_text(found.available_bytes)} available"
    for device in found.devices:
        yield f"device {device.name}", _device_text(device)
    yield "packages", ", ".join(f"{name} {version}" for name, version in found.packages.items() if version is not None)
    yield "not installed", ", ".join(name for name, version in found.packages.items() if version is None) or NOTHING
    yield "registry", f"{found.registry}, {found.num_runs} runs"
    for name, value in found.variables.items():
        yield name, NOT_SHOWN if value is None else value


def _device_text(device: ComputeDevice) -> str:
    memory = None if device.memory_bytes is None else bytes_text(device.memory_bytes)
    kernels = ", ".join(f"{dtype} {kernel}" for dtype, kernel in device.expert_kernels.items())
    return "; ".join(part for part in (device.model, memory, f"experts' products: {kernels}") if part is not None)
