"""The steps of `moe bench evaluate`.

Comes in: settings, and prompts or how many to draw. Goes out: `EvaluateBenchmark`. Always holds: every row answers the
same prompts with one loaded model, greedily; the rows take turns; whether they gave the same answers is counted, not
assumed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal, get_args

import torch

from moe_cli.bench.drawn_lengths import WHAT, drawn_prompts, ending_at
from moe_cli.bench.fixed_batches import Answer, FixedBatches
from moe_cli.bench.machine import machine
from moe_cli.bench.recorded import known
from moe_cli.bench.rounds import wait_for
from moe_cli.bench.spread import ratio, spread
from moe_cli.bench.turns import described_loaded, same_answers, turns
from moe_cli.bench.ways import in_file_order
from moe_cli.config import MoeConfig
from moe_cli.model.chat import encode_prompt
from moe_cli.model.engine import Engine, Prompt
from moe_cli.model.generate import TransformersEngine, greedy
from moe_cli.model.load import LoadedModel, load_model
from moe_cli.records import (
    EVALUATE_BENCHMARK_SCHEMA_VERSION,
    EvaluateBenchmark,
    EvaluateRow,
    EvaluateWay,
    Progress,
)
from moe_cli.version import __version__

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
        measured=datetime.now(UTC).isoformat(timespec="seconds"),
        seed=config.seed,
        machine=machine(loaded.device),
        model_name=config.model.name,
        model=described_loaded(loaded),
        prompts=asked.what,
        clock=clock,
        max_new_tokens=config.evaluate.max_new_tokens,
        num_prompts=len(answers),
        num_answer_tokens=sum(map(len, answers.values())),
        prompt_tokens=known(spread([len(encode_prompt(loaded.tokenizer, one.messages)) for one in asked.prompts])),
        answer_tokens=known(spread([len(ids) for ids in answers.values()])),
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
    wait_for(loaded.device)
    started = now()
    answers = dict(_answers(loaded, way, prompts, config))
    wait_for(loaded.device)
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
    time_of_row = known(spread(found.seconds))
    return EvaluateRow(
        name=way,
        batch_size=config.evaluate.batch_size,
        batch_tokens=_most_tokens(way, config),
        seconds=tuple(found.seconds),
        time=time_of_row,
        tokens_per_second=sum(map(len, found.answers[0].values())) / time_of_row.median,
        speedup=known(ratio(fixed.seconds, found.seconds)),
        same_answers=same_answers(fixed.answers[0], found.answers),
    )


def _most_tokens(way: EvaluateWay, config: MoeConfig) -> int | None:
    return config.evaluate.batch_tokens if way == "by_length" else None


def _clock(device: torch.device) -> Clock:
    """One thread's processor time, which other processes add less to; else what a clock on the wall shows."""
    return "processor time" if device.type == "cpu" and torch.get_num_threads() == 1 else "wall clock"
