"""The answering of `moe evaluate` timed beside fixed batches of transformers alone.

    python -m tests.studies.evaluate_benchmark --threads 1 --markdown
    python -m tests.studies.evaluate_benchmark --threads 1 --set evaluate.tiny_items=60 --markdown

Without items it draws prompts, and lengths of answers, from distributions that it names. Every row answers the same
prompts with one loaded model, greedily. The rows take turns, and it is counted how many of their answers are equal.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from rich.console import RenderableType

from moe_cli.artifacts.run_directory import now_in_utc
from moe_cli.bench.machine import describe_machine
from moe_cli.bench.timing import ratio_of, spread_of, synchronize
from moe_cli.cli.boundary import catch_errors
from moe_cli.config import MoeConfig
from moe_cli.evaluate.evaluation_items import load_items
from moe_cli.model.chat import encode_prompt
from moe_cli.model.engine import Engine, Prompt
from moe_cli.model.engines import TransformersEngine, greedy
from moe_cli.model.load import LoadedModel, load_model
from moe_cli.records import Progress, Spread
from moe_cli.records.benchmark import BenchmarkedModel, Machine
from moe_cli.records.record import record
from moe_cli.version import __version__
from moe_cli.views.text import count_of
from tests.studies.drawn_lengths import WHAT, Answer, FixedBatches, drawn_prompts, ending_at
from tests.studies.stage_benchmarks import (
    Cells,
    Drawn,
    benchmarking,
    described_loaded,
    in_file_order,
    known,
    machine_text,
    model_text,
    on_page,
    on_terminal,
    ratio_text,
    same_answers,
    show,
    turns,
)

EVALUATE_BENCHMARK_SCHEMA_VERSION = 1

EvaluateWay = Literal["fixed", "file_order", "by_length"]


@record
class EvaluateRow:
    """All prompts, answered in one way."""

    name: EvaluateWay
    batch_size: int  # 32; most prompts answered at once
    batch_tokens: int | None  # 16384; most tokens at once; None: no limit
    seconds: tuple[float, ...]  # one per repeat, in order
    time: Spread  # of `seconds`
    tokens_per_second: float  # answer tokens, at the median
    speedup: Spread  # the fixed batches divided by this, repeat by repeat
    same_answers: tuple[int, int]  # (128, 128); token for token those of the fixed batches, in every repeat


@record
class EvaluateBenchmark:
    """What `moe bench evaluate` found; the document of `--json`."""

    schema_version: int
    moe: str  # "0.1.0"
    measured: str  # ISO 8601, UTC
    seed: int
    machine: Machine
    model_name: str  # "tiny"
    model: BenchmarkedModel
    prompts: str  # "lengths drawn: ..." or "the items of the evaluation"
    clock: Literal["processor time", "wall clock"]
    max_new_tokens: int  # 512
    num_prompts: int  # 128
    num_answer_tokens: int  # 15899
    prompt_tokens: Spread  # of a prompt
    answer_tokens: Spread  # of an answer
    rows: tuple[EvaluateRow, ...]


WAYS: tuple[EvaluateWay, ...] = get_args(EvaluateWay)
ITEMS = "the items of the evaluation"

Notify = Callable[[object], None]
Clock = Literal["processor time", "wall clock"]


@dataclass(frozen=True, slots=True)
class _Asked:
    """What every row answers."""

    what: str
    prompts: tuple[Prompt, ...]
    during: Callable[[], AbstractContextManager[None]]  # what holds while a row answers


@dataclass(slots=True)
class _Measured:
    """The repeats of one row."""

    seconds: list[float] = field(default_factory=list)
    answers: list[dict[str, tuple[int, ...]]] = field(default_factory=list)


def run(config: MoeConfig, prompts: Sequence[Prompt] | int, repeats: int, notify: Notify) -> EvaluateBenchmark:
    """Time the answering of these prompts, or of as many drawn ones, in every way.

    Raises:
        MoeError: the model cannot be loaded.
    """
    loaded = load_model(config.model)
    asked = _asked(loaded, prompts, config)
    clock = _clock(loaded.device)
    measured = {way: _Measured() for way in WAYS}
    for done, (_, way) in enumerate(turns(WAYS, repeats), start=1):
        with asked.during():
            _run_once(loaded, way, asked.prompts, config, clock, measured[way])
        notify(Progress(task="answering", done=done, total=repeats * len(WAYS)))
    answers = measured["fixed"].answers[0]
    return EvaluateBenchmark(
        schema_version=EVALUATE_BENCHMARK_SCHEMA_VERSION,
        moe=__version__,
        measured=now_in_utc("seconds"),
        seed=config.seed,
        machine=describe_machine(loaded.device),
        model_name=config.model.name,
        model=described_loaded(loaded),
        prompts=asked.what,
        clock=clock,
        max_new_tokens=config.evaluate.max_new_tokens,
        num_prompts=len(answers),
        num_answer_tokens=sum(map(len, answers.values())),
        prompt_tokens=known(spread_of([len(encode_prompt(loaded.tokenizer, one.messages)) for one in asked.prompts])),
        answer_tokens=known(spread_of([len(ids) for ids in answers.values()])),
        rows=tuple(_row(way, measured, config) for way in WAYS),
    )


def _asked(loaded: LoadedModel, prompts: Sequence[Prompt] | int, config: MoeConfig) -> _Asked:
    if not isinstance(prompts, int):
        return _Asked(ITEMS, tuple(prompts), nullcontext)
    drawn = drawn_prompts(loaded, prompts, config.seed, config.evaluate.max_new_tokens)
    return _Asked(WHAT, drawn.prompts, lambda: ending_at(loaded, drawn))


def _run_once(
    loaded: LoadedModel, way: EvaluateWay, prompts: Sequence[Prompt], config: MoeConfig, clock: Clock, row: _Measured
) -> None:
    now = time.process_time if clock == "processor time" else time.perf_counter
    synchronize(loaded.device)
    started = now()
    answers = dict(_answers(loaded, way, prompts, config))
    synchronize(loaded.device)
    row.seconds.append(now() - started)
    row.answers.append(answers)


def _answers(loaded: LoadedModel, way: EvaluateWay, prompts: Sequence[Prompt], config: MoeConfig) -> Iterator[Answer]:
    settings = config.evaluate
    if way == "fixed":
        yield from FixedBatches(loaded, settings.batch_size, settings.max_new_tokens).answers(prompts)
        return
    engine: Engine = TransformersEngine(
        loaded,
        greedy(
            max_new_tokens=settings.max_new_tokens,
            batch_size=settings.batch_size,
            batch_tokens=_most_tokens(way, config),
        ),
    )
    batches = in_file_order(engine, prompts, ()) if way == "file_order" else engine.answers(prompts, ())
    yield from ((answer.prompt_id, answer.token_ids) for batch in batches for answer in batch)


def _row(way: EvaluateWay, measured: Mapping[EvaluateWay, _Measured], config: MoeConfig) -> EvaluateRow:
    found, fixed = measured[way], measured["fixed"]
    time_of_row = known(spread_of(found.seconds))
    return EvaluateRow(
        name=way,
        batch_size=config.evaluate.batch_size,
        batch_tokens=_most_tokens(way, config),
        seconds=tuple(found.seconds),
        time=time_of_row,
        tokens_per_second=sum(map(len, found.answers[0].values())) / time_of_row.median,
        speedup=known(ratio_of(fixed.seconds, found.seconds)),
        same_answers=same_answers(fixed.answers[0], found.answers),
    )


def _most_tokens(way: EvaluateWay, config: MoeConfig) -> int | None:
    return config.evaluate.batch_tokens if way == "by_length" else None


def _clock(device: torch.device) -> Clock:
    """One thread's processor time, which other processes add less to; else what a clock on the wall shows."""
    return "processor time" if device.type == "cpu" and torch.get_num_threads() == 1 else "wall clock"


LABELS: dict[EvaluateWay, str] = {
    "fixed": "fixed batches",
    "file_order": "in file order",
    "by_length": "by length",
}
HEAD = ("prompts answered", "seconds", "tokens/s", "x fixed batches", "same answers")


def evaluate_bench_view(benchmark: EvaluateBenchmark) -> RenderableType:
    """What was measured, on what, and the table."""
    return on_terminal(headlines(benchmark), _tables(benchmark), [_legend(benchmark)])


def evaluate_bench_markdown(benchmark: EvaluateBenchmark) -> str:
    """The same as `evaluate_bench_view`, for a page."""
    return on_page(headlines(benchmark), _tables(benchmark), [_legend(benchmark)])


def headlines(benchmark: EvaluateBenchmark) -> list[str]:
    """Model, prompts and machine."""
    return [
        model_text(benchmark.model_name, benchmark.model),
        f"{benchmark.num_prompts} prompts => {benchmark.num_answer_tokens:,} answer tokens; "
        f"{len(benchmark.rows[0].seconds)} repeats",
        f"prompts of {_lengths(benchmark.prompt_tokens)} tokens, answers of {_lengths(benchmark.answer_tokens)} "
        f"(median [quartiles], least-most), at most {benchmark.max_new_tokens}",
        benchmark.prompts,
        machine_text(benchmark.machine),
    ]


def _tables(benchmark: EvaluateBenchmark) -> list[Drawn]:
    return [(HEAD, [_cells(row) for row in benchmark.rows])]


def _cells(row: EvaluateRow) -> Cells:
    return (
        f"{LABELS[row.name]} ({row.batch_size})",
        f"{row.time.median:.2f}",
        f"{row.tokens_per_second:,.0f}",
        ratio_text(row.speedup, 2),
        count_of(*row.same_answers),
    )


def _lengths(found: Spread) -> str:
    return f"{ratio_text(found, 0)}, {found.least:.0f}-{found.most:.0f}"


def _legend(benchmark: EvaluateBenchmark) -> str:
    budget = benchmark.rows[-1].batch_tokens
    return (
        f"Seconds are medians of {benchmark.clock}; ratios are medians [quartiles] of the ratios of the same repeat. "
        "Fixed batches: one call of transformers' generate for each, in file order. In file order: the same batches, "
        "which answers leave when they have ended. By length: what moe evaluate does, longest first, at most "
        f"{budget:,} tokens at once. Same answers: token for token those of the fixed batches, in every repeat."
    )


@catch_errors
def main() -> None:
    """Time the answering as the command line says, and print what was found."""
    asked = benchmarking(__doc__, num_prompts=128)
    settings = asked.config.evaluate
    prompts: int | list[Prompt] = asked.num_prompts
    if settings.items or "tiny_items" in settings.model_fields_set:
        items = load_items(settings, asked.config.model.name)
        prompts = [Prompt(item.id, item.messages) for item in items if item.kind != "text"]
    made = run(asked.config, prompts, asked.repeats, asked.notify)
    show(asked, made, evaluate_bench_view, evaluate_bench_markdown)


if __name__ == "__main__":
    main()
