"""The steps of `moe bench prepare`.

Comes in: settings, how many prompts and repeats, and the stage itself (a room never imports another). Goes out:
`PrepareBenchmark`. Always holds: every row runs the whole stage on the same prompts, in a directory that is removed;
the rows take turns; whether they gave the same answers is counted, not assumed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import ceil
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Protocol, get_args

from moe_cli.artifacts import Store
from moe_cli.bench.machine import machine
from moe_cli.bench.recorded import Row, known, recording_cost
from moe_cli.bench.rounds import free
from moe_cli.bench.spread import ratio, spread
from moe_cli.bench.turns import described_loaded, same_answers, turns
from moe_cli.bench.ways import Heard
from moe_cli.config import MoeConfig
from moe_cli.model.chat import encode_prompt
from moe_cli.model.engines import EngineOf
from moe_cli.model.length_batches import length_batches
from moe_cli.model.load import LoadedModel
from moe_cli.records import (
    PREPARE_BENCHMARK_SCHEMA_VERSION,
    PrepareBenchmark,
    PrepareRow,
    PrepareSummary,
    PrepareWay,
    Progress,
)
from moe_cli.version import __version__

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
            if loaded is not None:  # two models may not fit into memory
                device, loaded = loaded.device, None
                free(device)
            loaded = _run_once(config, way, num_prompts, Path(place) / f"{way}-{number}", prepare, measured[way])
            notify(Progress(task="preparing", done=done, total=repeats * len(WAYS)))
    if loaded is None:
        raise ValueError("at least one repeat is needed")
    heard, summary = measured["by_length"].heard[-1], measured["by_length"].summaries[-1]
    return PrepareBenchmark(
        schema_version=PREPARE_BENCHMARK_SCHEMA_VERSION,
        moe=__version__,
        measured=datetime.now(UTC).isoformat(timespec="seconds"),
        seed=config.seed,
        machine=machine(loaded.device),
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
        time=known(spread(found.seconds)),
        answering=known(spread(found.answering)),
        routing=known(spread(found.routing)),
        tokens_per_second=sum(map(len, found.heard[0].answers.values())) / median(found.answering),
        speedup=known(ratio(alone.seconds, found.seconds)),
        answering_speedup=known(ratio(alone.answering, found.answering)),
        same_answers=same_answers(alone.heard[0].answers, [heard.answers for heard in found.heard]),
    )


def _replayed(loaded: LoadedModel, heard: Heard, config: MoeConfig) -> list[Row]:
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
