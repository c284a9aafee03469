"""`moe bench`: what is timed, on which machine, and the cost of one optimizer step of each arm there."""

from __future__ import annotations

from typing import Literal

from moe_cli.records.record import record

BENCHMARK_SCHEMA_VERSION = 1

BenchmarkArm = Literal[
    "forward_library",
    "forward_moe",
    "floor_library",
    "floor_moe",
    "selective",
    "full_grouped_mm",
    "full_eager",
    "zeroed_gradients",
    "lora",
]
BenchmarkDtype = Literal["float32", "bfloat16"]
BenchmarkFamily = Literal["olmoe", "qwen3_moe"]


@record
class ModelShape:
    """A model with random weights."""

    family: BenchmarkFamily
    hidden: int  # 384
    width: int  # 256; of one expert
    layers: int  # 3
    experts: int  # 64 in each layer
    top_k: int  # 8
    vocabulary: int  # 2048
    heads: int  # 6; of attention
    kv_heads: int  # 6
    head_dim: int  # 64


@record
class BenchmarkPlan:
    """What is measured: everything that the figures depend on, except the machine."""

    preset: str  # "issue"
    model: str | None  # name of a real model; None: random weights of `shape`
    shape: ModelShape | None  # None for a real model
    dtype: BenchmarkDtype | None  # of the weights; None: the real model's own
    rows: int  # 16; in the batch of a step
    length: int  # 48; tokens in a row, the second half of them is the answer
    selected: int  # 3; experts selected in every layer
    arms: tuple[BenchmarkArm, ...]
    shares: tuple[int, ...]  # 0 1 3 8 16 64; selected experts per layer of the sweep
    lora_rank: int  # 16
    forward_tokens: int  # 4096; most tokens of one forward: a step may have several
    checkpointing: bool
    repeats: int  # 10; without the one to warm up
    memory: bool  # on the CPU: a fresh process for the peak of every row


@record
class Machine:
    """The machine of a measurement."""

    device: str  # "cpu" or "cuda:0"
    device_name: str | None  # "NVIDIA H200"; None on the CPU
    device_memory_bytes: int | None
    processor: str  # "AMD EPYC 7763 64-Core Processor"
    num_cores: int  # 2; that this process may use
    num_threads: int  # 1
    python: str  # "3.11.9"
    packages: dict[str, str | None]  # {"torch": "2.13.0", "peft": None}; None: not installed


@record
class BenchmarkedModel:
    """The model that was measured."""

    architecture: str  # "OlmoeForCausalLM"
    total_params: int  # 60044160
    expert_params: int  # 56623104; in all experts
    layers: tuple[int, ...]  # the expert layers
    num_experts: int  # 64
    top_k: int | None  # 8
    dtype: str  # "float32"; of its weights


@record
class Spread:
    """Repeated measurements of the same quantity."""

    median: float
    lower: float  # quartile
    upper: float  # quartile
    least: float
    most: float
    n: int  # 10


@record
class StepBytes:
    """Bytes that one step keeps, counted from the tensors after a step."""

    trained_params: int  # 2654208; given to the optimizer
    gradients: int  # bytes
    moments: int
    masters: int  # of the parameters that the optimizer moves
    step_counters: int  # of the optimizer; no part of the other three
    saved_for_backward: int | None  # each storage once, without parameters; None where nothing is differentiated
    saved_by_loss: int | None = None  # of these, what the loss over the logits adds; None of earlier versions, too


@record
class BenchmarkRow:
    """One row: an arm, or the selective step with another number of experts."""

    name: str  # "selective", "selective_8"
    selected: int | None  # 3 per layer; None where no selection is involved
    status: Literal["measured", "not measured", "out of memory"]
    note: str | None  # why not, with the figure
    seconds: tuple[float, ...]  # one per repeat, in order
    time: Spread | None  # of `seconds`
    tokens_per_second: float | None  # at the median
    to_full: Spread | None  # time divided by full_grouped_mm's of the same repeat
    to_floor: Spread | None  # time divided by the faster floor's of the same repeat
    bytes: StepBytes | None
    peak_memory_bytes: int | None
    peak_memory_of: str | None  # "cuda (allocated)"
    experts_dtype: str | None  # of the grouped products of a forward; None where there are none


@record
class RatioOfRows:
    """The time of one row divided by that of another, repeat by repeat."""

    row: str  # "selective"
    reference: str  # "zeroed_gradients"
    ratio: Spread


@record
class SharePoint:
    """One point of the sweep over selected experts per layer."""

    selected: int  # 8 of 64; 0 is the forward alone
    row: str  # "selective_8": whose figures these are
    share_of_parameters: float  # 0.118; selected parameters / all
    to_full: Spread | None


@record
class Benchmark:
    """The result of `moe bench`; the document of `--json`."""

    schema_version: int
    moe: str  # "0.1.0"
    measured: str  # ISO 8601, UTC
    plan: BenchmarkPlan
    seed: int
    machine: Machine
    model: BenchmarkedModel
    placement: Literal[
        "side by side", "one at a time"
    ]  # all rows in memory together, or each built anew in every round
    num_rounds: int  # 1 where the rows are side by side: then each repeat runs every row once
    tokens_per_step: int  # 768
    experts_dtype: str | None  # the same in every row
    faster_floor: str | None  # "floor_moe"
    rows: tuple[BenchmarkRow, ...]
    ratios: tuple[RatioOfRows, ...]  # of the rows that were measured
    shares: tuple[SharePoint, ...]


@record
class RowPeak:
    """Memory peak of one row, measured in a separate process."""

    peak_memory_bytes: int
    peak_memory_of: str  # "process (resident set)"
