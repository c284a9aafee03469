"""The whole of `moe prepare` timed: prompt by prompt, in fixed batches, and as it runs.

    python -m tests.studies.prepare_benchmark --threads 1 --prompts 1000 --repeats 3 --markdown

By default the model is the tiny one with its own prompts; `--model-name M --set prepare.pairs=[FILE]` is any other.
Every row runs the whole stage on the same prompts, in a directory that is removed. The rows take turns, and it is
counted how many of their answers are equal.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Protocol, get_args

from rich.console import RenderableType

from moe_cli.artifacts import Store
from moe_cli.artifacts.run_directory import now_in_utc
from moe_cli.bench.machine import describe_machine
from moe_cli.bench.timing import ratio_of, spread_of
from moe_cli.cli.boundary import catch_errors
from moe_cli.config import MoeConfig
from moe_cli.model.chat import encode_prompt
from moe_cli.model.engines import EngineOf
from moe_cli.model.load import LoadedModel
from moe_cli.model.memory import free_memory
from moe_cli.model.token_rows import length_batches
from moe_cli.prepare import stage
from moe_cli.records import PrepareSummary, Progress
from moe_cli.records.benchmark import BenchmarkedModel, Machine, Spread
from moe_cli.records.inputs import AnswerSettings
from moe_cli.records.record import record
from moe_cli.version import __version__
from moe_cli.views.text import count_of
from tests.studies.stage_benchmarks import (
    Cells,
    Drawn,
    Heard,
    PrepareWay,
    RecordingCost,
    Side,
    benchmarking,
    described_loaded,
    known,
    machine_text,
    model_text,
    on_page,
    on_terminal,
    ratio_text,
    recording_cost,
    same_answers,
    show,
    turns,
)

PREPARE_BENCHMARK_SCHEMA_VERSION = 1


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


WAYS: tuple[PrepareWay, ...] = get_args(PrepareWay)
FORWARDS_PER_REPEAT = 40  # of the recording, whose cost is small beside the noise
QUESTIONS_PER_PAIR = 3  # its two forms, and a benign prompt

Notify = Callable[[object], None]


class Prepared(Protocol):
    """What the stage gives back."""

    @property
    def summary(self) -> PrepareSummary:
        """Its counts and times."""
        ...


class PrepareStage(Protocol):
    """`moe prepare`."""

    def __call__(self, config: MoeConfig, store: Store, notify: Notify, *, engine_of: EngineOf) -> Prepared:
        """Run it."""
        ...


@dataclass(slots=True)
class _Measured:
    """The repeats of one row."""

    seconds: list[float] = field(default_factory=list)
    summaries: list[PrepareSummary] = field(default_factory=list)
    heard: list[Heard] = field(default_factory=list)

    @property
    def answering(self) -> list[float]:
        """Seconds of answering, one per repeat."""
        return [summary.seconds_generate or 0.0 for summary in self.summaries]

    @property
    def routing(self) -> list[float]:
        """Seconds of counting the routing, one per repeat."""
        return [summary.seconds_routing for summary in self.summaries]


def run(config: MoeConfig, num_prompts: int, repeats: int, notify: Notify, prepare: PrepareStage) -> PrepareBenchmark:
    """Time the whole stage in every way, and what recording adds to a forward.

    Raises:
        MoeError: as the stage does.
    """
    measured = {way: _Measured() for way in WAYS}
    loaded: LoadedModel | None = None
    with TemporaryDirectory(prefix="moe-bench-") as place:
        for done, (number, way) in enumerate(turns(WAYS, repeats), start=1):
            loaded = None  # two models may not fit into memory
            free_memory()
            loaded = _run_once(config, way, num_prompts, Path(place) / f"{way}-{number}", prepare, measured[way])
            notify(Progress(task="preparing", done=done, total=repeats * len(WAYS)))
    if loaded is None:
        raise ValueError("at least one repeat is needed")
    heard, summary = measured["by_length"].heard[-1], measured["by_length"].summaries[-1]
    return PrepareBenchmark(
        schema_version=PREPARE_BENCHMARK_SCHEMA_VERSION,
        moe=__version__,
        measured=now_in_utc("seconds"),
        seed=config.seed,
        machine=describe_machine(loaded.device),
        model_name=config.model.name,
        model=described_loaded(loaded),
        num_prompts=len(heard.answers),
        num_pairs_counted=summary.num_kept - summary.num_pairs_left_over,
        num_answer_tokens=sum(map(len, heard.answers.values())),
        answering=summary.answering,
        rows=tuple(_row(way, measured) for way in WAYS),
        recording=recording_cost(loaded, _replayed(loaded, heard, config), repeats=repeats * FORWARDS_PER_REPEAT),
    )


def _run_once(
    config: MoeConfig, way: PrepareWay, num_prompts: int, place: Path, prepare: PrepareStage, row: _Measured
) -> LoadedModel:
    """One repeat of a row; the model that it loaded."""
    pairs = ceil(num_prompts / QUESTIONS_PER_PAIR)
    changed: dict[str, object] = {"output_dir": place, "tiny_pairs": pairs, "limit": pairs, "engine": "transformers"}
    changed["extra_replays"] = False
    if way == "one_at_a_time":
        changed["generation_batch_size"] = 1
    settings = config.model_copy(update={"prepare": config.prepare.model_copy(update=changed)})
    heard = Heard(way)
    started = time.perf_counter()
    made = prepare(settings, Store(place.with_name("registry")), lambda record: None, engine_of=heard.engine_of)
    row.seconds.append(time.perf_counter() - started)
    row.summaries.append(made.summary)
    row.heard.append(heard)
    if heard.loaded is None:
        raise AssertionError("the stage did not ask for an engine")
    loaded, heard.loaded = heard.loaded, None
    return loaded


def _row(way: PrepareWay, measured: Mapping[PrepareWay, _Measured]) -> PrepareRow:
    found, alone = measured[way], measured["one_at_a_time"]
    return PrepareRow(
        name=way,
        batch_size=found.summaries[0].answering.batch_size or 1,
        seconds=tuple(found.seconds),
        time=known(spread_of(found.seconds)),
        answering=known(spread_of(found.answering)),
        routing=known(spread_of(found.routing)),
        tokens_per_second=sum(map(len, found.heard[0].answers.values())) / median(found.answering),
        speedup=known(ratio_of(alone.seconds, found.seconds)),
        answering_speedup=known(ratio_of(alone.answering, found.answering)),
        same_answers=same_answers(alone.heard[0].answers, [heard.answers for heard in found.heard]),
    )


def _replayed(loaded: LoadedModel, heard: Heard, config: MoeConfig) -> list[Side]:
    """The rows of the batch of median length."""
    rows = []
    for prompt in heard.prompts:
        ids = encode_prompt(loaded.tokenizer, prompt.messages)
        rows.append((ids + heard.answers[prompt.id], len(ids)))
    settings = config.prepare
    batches = length_batches(
        [len(ids) for ids, _ in rows], max_rows=settings.generation_batch_size, max_tokens=settings.generation_tokens
    )
    return [rows[place] for place in batches[len(batches) // 2]]


LABELS: dict[PrepareWay, str] = {
    "one_at_a_time": "one at a time",
    "file_order": "in file order",
    "by_length": "by length",
}
HEAD = ("prompts answered", "stage, s", "answering, s", "routing, s", "tokens/s", "same answers")
RATIO_HEAD = ("one at a time / ...", "stage", "answering")
LEGEND = (
    "Seconds are medians; ratios are medians [quartiles] of the ratios of the same repeat. "
    "Same answers: token for token those of one at a time, in every repeat."
)
MS = 1000  # in a second


def prepare_bench_view(benchmark: PrepareBenchmark) -> RenderableType:
    """What was measured, on what, and the tables."""
    return on_terminal(headlines(benchmark), _tables(benchmark), [recording_text(benchmark), LEGEND])


def prepare_bench_markdown(benchmark: PrepareBenchmark) -> str:
    """The same as `prepare_bench_view`, for a page."""
    return on_page(headlines(benchmark), _tables(benchmark), [recording_text(benchmark), LEGEND])


def headlines(benchmark: PrepareBenchmark) -> list[str]:
    """Model, prompts and machine."""
    how = benchmark.answering
    return [
        model_text(benchmark.model_name, benchmark.model),
        f"{benchmark.num_prompts} prompts => {benchmark.num_answer_tokens:,} answer tokens; "
        f"{benchmark.num_pairs_counted} pairs replayed; {len(benchmark.rows[0].seconds)} repeats",
        f"batches of at most {how.batch_size} prompts and {how.batch_tokens} tokens",
        machine_text(benchmark.machine),
    ]


def recording_text(benchmark: PrepareBenchmark) -> str:
    """What recording adds."""
    found = benchmark.recording
    return (
        f"recording the routing: forward of {found.rows} x {found.positions} tokens "
        f"{MS * found.forward.median:.1f} ms, recorded {MS * found.recorded.median:.1f} ms, "
        f"ratio {ratio_text(found.ratio, 3)} (n {found.ratio.n})"
    )


def _tables(benchmark: PrepareBenchmark) -> list[Drawn]:
    return [(HEAD, [_cells(row) for row in benchmark.rows]), (RATIO_HEAD, _ratios(benchmark))]


def _cells(row: PrepareRow) -> Cells:
    return (
        _label(row),
        f"{row.time.median:.1f}",
        f"{row.answering.median:.1f}",
        f"{row.routing.median:.2f}",
        f"{row.tokens_per_second:,.0f}",
        count_of(*row.same_answers),
    )


def _ratios(benchmark: PrepareBenchmark) -> list[Cells]:
    return [
        (_label(row), ratio_text(row.speedup, 1), ratio_text(row.answering_speedup, 1)) for row in benchmark.rows[1:]
    ]


def _label(row: PrepareRow) -> str:
    return f"{LABELS[row.name]} ({row.batch_size})"


@catch_errors
def main() -> None:
    """Time the stage as the command line says, and print what was found."""
    asked = benchmarking(__doc__, num_prompts=1000)
    show(
        asked,
        run(asked.config, asked.num_prompts, asked.repeats, asked.notify, stage.run),
        prepare_bench_view,
        prepare_bench_markdown,
    )


if __name__ == "__main__":
    main()
