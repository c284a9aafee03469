"""`moe bench prepare`: what the whole of `moe prepare` costs, prompt by prompt and batched, and what recording adds."""

from __future__ import annotations

from typing import Literal

from moe_cli.records.answering import AnswerSettings
from moe_cli.records.benchmark import BenchmarkedModel, Machine, Spread
from moe_cli.records.record import record

PREPARE_BENCHMARK_SCHEMA_VERSION = 1

PrepareWay = Literal["one_at_a_time", "file_order", "by_length"]


@record
class PrepareRow:
    """The whole stage with its prompts answered in one way."""

    name: PrepareWay
    batch_size: int  # 64; most prompts answered at once
    seconds: tuple[float, ...]  # of the whole stage, one per repeat, in order
    time: Spread  # of `seconds`
    answering: Spread  # seconds of answering alone
    routing: Spread  # seconds of counting the routing alone
    tokens_per_second: float  # answer tokens, at the median of answering
    speedup: Spread  # the whole stage one at a time divided by this, repeat by repeat
    answering_speedup: Spread  # the same of answering alone
    same_answers: tuple[int, int]  # (1000, 1000); token for token those of one at a time, in every repeat


@record
class RecordingCost:
    """The forward of a replay with the routing recorded, beside the same forward without."""

    rows: int  # 64
    positions: int  # 33; tokens of the longest row
    forward: Spread  # seconds; on the CPU of processor time
    recorded: Spread  # the same, from `watch` to the counts on the CPU
    ratio: Spread  # recorded / forward, repeat by repeat


@record
class PrepareBenchmark:
    """What `moe bench prepare` found; the document of `--json`."""

    schema_version: int
    moe: str  # "0.1.0"
    measured: str  # ISO 8601, UTC
    seed: int
    machine: Machine
    model_name: str  # "tiny"
    model: BenchmarkedModel
    num_prompts: int  # 1002; answered in every row
    num_pairs_counted: int  # 328; replayed in every row
    num_answer_tokens: int  # 12873
    answering: AnswerSettings  # of the last row
    rows: tuple[PrepareRow, ...]
    recording: RecordingCost
