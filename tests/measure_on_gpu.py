"""Everything that only a CUDA card can tell, in one call.

    python -m tests.measure_on_gpu --output measured [RUN ...]

Comes in: a machine with a card. Goes out: on standard output the checks and Markdown tables; in the output folder one
JSON document of `moe bench` per run. Always holds: without a card nothing is measured and the exit code is 4; a check
that fails ends the script with exit code 1 after everything was printed.

The checks: slice gradients in bfloat16 equal the rows of the dense gradient; both arms take
`torch.nn.functional.grouped_mm` in bfloat16; a step waits for the card at most once per layer. The runs are the presets
of `moe bench`, with and without gradient checkpointing. With several cards both arms of the tiny model are trained by a
process on each, with copies of the weights and with shares, beside one process with as many batches per step; with one
card that is said to be not measured.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file

from moe_cli.artifacts.layout import FINAL_MODEL
from moe_cli.bench.arm_rows import RowSettings, build_row
from moe_cli.bench.bench_model import build_model, device_of, draw_selection
from moe_cli.bench.presets import plan_of
from moe_cli.bench.step import StepRow
from moe_cli.codec import decode
from moe_cli.config import ModelConfig, MoeConfig
from moe_cli.errors import ExitCode
from moe_cli.experts import attach
from moe_cli.experts.dense import KERNEL
from moe_cli.model.topology import expert_layers
from moe_cli.records import Benchmark, BenchmarkPlan, TrainingSummary
from moe_cli.views.benchmark_tables import bench_markdown

RUNS = {
    "olmoe": ("--preset", "olmoe-1b-7b", "--shares", "0,1,3,8"),
    "olmoe-checkpointing": ("--preset", "olmoe-1b-7b", "--checkpointing"),
    "qwen3": ("--preset", "qwen3-30b-a3b"),
    "qwen3-checkpointing": ("--preset", "qwen3-30b-a3b", "--checkpointing"),
}
REPEATS = 6
WARM_UP = 2  # steps before host synchronisations are counted
TOLERANCE = 0.02  # of the norm: bfloat16 has 8 bits
GIB = 2**30
WEIGHTS = f"{FINAL_MODEL}/model.safetensors"
LEFT = {"lora_rank": 16, "forward_tokens": 4096, "repeats": 1, "memory": False}
SYNCHRONISED = "called a synchronizing"  # torch's warning


@dataclass(frozen=True)
class Check:
    """One line of the table of checks; a goal is not reached by a bug, a check is."""

    what: str
    found: str
    passed: bool
    goal: bool = False


def main(words: Sequence[str] | None = None) -> int:
    """Check, run, print; the exit code."""
    options = _options(words)
    if not torch.cuda.is_available():
        print("error: torch sees no CUDA card, so nothing is measured", file=sys.stderr)
        return int(ExitCode.ENVIRONMENT)
    warnings.simplefilter("ignore", FutureWarning)
    checks = list(_checks())
    print(_checks_table(checks), flush=True)
    for name in options.runs or RUNS:
        checks += _run(name, options.output / f"{name}.json")
    print("\n## Several processes\n")
    if torch.cuda.device_count() > 1:
        with tempfile.TemporaryDirectory() as directory:
            parallel = list(several_processes(Path(directory), torch.cuda.device_count(), "cuda"))
        print(_checks_table(parallel), flush=True)
        checks += parallel
    else:
        print("not measured: there is one card")
    return int(not all(check.passed or check.goal for check in checks))


def _options(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.measure_on_gpu")
    parser.add_argument("--output", type=Path, default=Path("measured"), help="folder of the JSON documents")
    parser.add_argument("runs", nargs="*", help=f"some of {', '.join(RUNS)}; default: all of them")
    options = parser.parse_args(words)
    if unknown := set(options.runs) - set(RUNS):
        parser.error(f"there is no run {', '.join(sorted(unknown))}; choose from {', '.join(RUNS)}")
    return options


def _checks() -> Iterator[Check]:
    """What has to hold on a card, on four layers of the shape of OLMoE-1B-7B."""
    config = MoeConfig(model=ModelConfig(device="cuda"))
    yield _gradients(config)
    for checkpointing in (False, True):
        plan = plan_of("olmoe-1b-7b", LEFT | {"layers": 4, "rows": 4, "checkpointing": checkpointing})
        words = " with gradient checkpointing" if checkpointing else ""
        for name in ("selective", "full_grouped_mm"):
            row = build_row(name, plan.selected, RowSettings(plan, config, device_of(config)))
            yield _products(row, f"{name}{words}")
            yield _synchronisations(row, f"{name}{words}", plan)
            del row
            torch.cuda.empty_cache()


def _gradients(config: MoeConfig) -> Check:
    """The slices' gradients beside the rows of the dense gradient of the same model."""
    plan = plan_of("olmoe-1b-7b", LEFT | {"layers": 2, "rows": 4, "length": 128, "checkpointing": False})
    model = build_model(plan, config, device_of(config))
    model.set_experts_implementation(KERNEL)
    layers = expert_layers(model)
    ids_BS = torch.randint(3, 1000, (plan.rows, plan.length), device=model.device)
    model.requires_grad_(False)
    for layer in layers:
        layer.module.requires_grad_(True)
    model(input_ids=ids_BS, labels=ids_BS, use_cache=False).loss.backward()
    experts = draw_selection(layers, plan.selected)
    dense = {
        f"layers.{layer.layer}.experts.{expert.index}.{name}": layer.module.get_parameter(name).grad[expert.index]
        for layer in layers
        for expert in experts
        if expert.layer == layer.layer
        for name in layer.weights
    }
    with attach(model, experts) as slices:
        model(input_ids=ids_BS, labels=ids_BS, use_cache=False).loss.backward()
        errors = [
            float((master.grad - dense[name].float()).norm() / dense[name].float().norm())
            for name, master in slices.parameters.items()
        ]
    worst = max(errors)
    return Check(
        f"slice gradients are the dense rows in bfloat16, {len(errors)} slices",
        f"largest relative error {worst:.2g} (bar {TOLERANCE})",
        worst <= TOLERANCE,
    )


def _products(row: StepRow, name: str) -> Check:
    """Which grouped products a step takes."""
    seen: Counter[str] = Counter()
    kernel: Callable[..., torch.Tensor] = torch.nn.functional.grouped_mm

    def counted(*words: torch.Tensor, **more: torch.Tensor) -> torch.Tensor:
        seen[f"{str(words[0].dtype).removeprefix('torch.')} on {words[0].device.type}"] += 1
        return kernel(*words, **more)

    torch.nn.functional.grouped_mm = counted
    try:
        with row.during():
            row.step()
    finally:
        torch.nn.functional.grouped_mm = kernel
    return Check(f"{name}: calls of torch.nn.functional.grouped_mm", str(dict(seen)), set(seen) == {"bfloat16 on cuda"})


def _synchronisations(row: StepRow, name: str, plan: BenchmarkPlan) -> Check:
    """How often the host waits for the card in a step, and where."""
    with row.during():
        for _ in range(WARM_UP):
            row.step()
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("warn")
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                row.step()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    waits = [warning for warning in caught if SYNCHRONISED in str(warning.message)]
    places = Counter(f"{Path(warning.filename).name}:{warning.lineno}" for warning in waits)
    num_layers = plan.shape.layers if plan.shape else 0
    return Check(
        f"{name}: host synchronisations in a step of {num_layers} layers",
        f"{len(waits)} ({', '.join(f'{place} x {number}' for place, number in places.most_common())})",
        len(waits) <= num_layers,
        goal=True,
    )


def _run(name: str, path: Path) -> list[Check]:
    """One preset in a process of its own; its tables and goals are printed at once."""
    words = ["bench", *RUNS[name], "--repeats", str(REPEATS), "--device", "cuda", "--json", "-o", str(path)]
    done = subprocess.run([sys.executable, "-m", "moe_cli", *words], stdout=subprocess.DEVNULL, check=False)
    print(f"\n## moe {' '.join(words)}\n")
    if done.returncode:
        return [Check(name, f"exit code {done.returncode}", passed=False)]
    found = decode(Benchmark, path.read_bytes(), source=str(path))
    goals = list(_goals(name, found))
    print(bench_markdown(found), "\n", _checks_table(goals), sep="\n", flush=True)
    return goals


def several_processes(directory: Path, num_processes: int, device: str) -> Iterator[Check]:
    """Both arms of the tiny model by so many processes, beside one process with as many batches per step."""
    words = ("--model", "tiny", "--device", device, "--registry", str(directory / "registry"))
    _moe(directory, "prepare", *words, "-o", "prepared")
    for arm in ("selective", "baseline"):
        train = ("train", arm, *words, "--prepared", "prepared")
        alone = _trained(directory, *train, "-o", f"{arm}-alone", "--gradient-accumulation-steps", str(num_processes))
        for placement in ("replicated", "sharded"):
            output, processes = f"{arm}-{placement}", ("--nproc", str(num_processes))
            together = _trained(directory, *train, "-o", output, "--placement", placement, *processes)
            weights = [load_file(directory / run / WEIGHTS) for run in (f"{arm}-alone", output)]
            largest = max(float((weights[0][key] - weights[1][key]).abs().max()) for key in weights[0])
            yield Check(
                f"{arm}, {placement}: {num_processes} processes beside one, largest difference of a weight",
                f"{largest:.1e}; a step takes {_per_step(together):.3f} s, alone {_per_step(alone):.3f} s; peak "
                f"{together.peak_memory_bytes / 1e6:.0f} MB ({together.peak_memory_of}), alone "
                f"{alone.peak_memory_bytes / 1e6:.0f} MB; gradients added up in a step "
                f"{together.gradient_bytes / together.num_steps / 1e3:.0f} kB",
                largest <= 1e-5,
                goal=True,
            )


def _trained(directory: Path, *words: str) -> TrainingSummary:
    return decode(TrainingSummary, _moe(directory, *words), source="moe train")


def _moe(directory: Path, *words: str) -> bytes:
    command = [sys.executable, "-m", "moe_cli", *words, "--json"]
    return subprocess.run(command, cwd=directory, stdout=subprocess.PIPE, check=True).stdout


def _per_step(summary: TrainingSummary) -> float:
    return summary.seconds_training / summary.num_steps


def _goals(name: str, found: Benchmark) -> Iterator[Check]:
    """What the issue asks for on a card."""
    rows = {row.name: row for row in found.rows}
    selective, full = rows["selective"], rows.get("full_grouped_mm")
    peak = selective.peak_memory_bytes
    bars = {"olmoe": 28 * GIB, "olmoe-checkpointing": 20 * GIB}
    bar = bars.get(name, 140e9)
    yield Check(
        f"peak memory of selective, at most {bar / GIB:.1f} GiB",
        "not measured" if peak is None else f"{peak / GIB:.1f} GiB",
        peak is not None and peak <= bar,
        goal=True,
    )
    if full is None:
        return
    ratio = selective.to_full
    yield Check(
        "selective / full grouped_mm, at most 0.55",
        "not measured" if ratio is None else f"{ratio.median:.3f} [{ratio.lower:.3f}, {ratio.upper:.3f}]",
        ratio is not None and ratio.median <= 0.55,
        goal=True,
    )
    needed = full.peak_memory_bytes
    yield Check(
        "the baseline needs 80 GiB or more",
        full.note or "not measured" if needed is None else f"{needed / GIB:.1f} GiB",
        full.status == "out of memory" or (needed is not None and needed >= 80 * GIB),
        goal=True,
    )


def _checks_table(checks: Sequence[Check]) -> str:
    lines = [("check", "found", "reached"), ("---", "---", "---")]
    lines += [(check.what, check.found, "yes" if check.passed else "NO") for check in checks]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
