"""What the benchmarks of whole stages share: their command line, rows that take turns, engines, and tables.

Every other repeat goes through the rows backwards, so that no row always follows the same one. All rows run the same
model and the same decoding; only which prompts are answered together differs. The cost of recording is measured with
two forwards that take turns; a recorded one ends when its counts are on the CPU. On the CPU it is processor time, which
other processes add less to. Terminal and page show the same cells.

Letters: R regions, B rows, S positions.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, TypeVar

import torch
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from torch import Tensor

from moe_cli.bench.timing import ratio_of, spread_of, synchronize
from moe_cli.characters import escape_unsafe
from moe_cli.cli.options import TypedSettings
from moe_cli.cli.session import Session, open_session, print_json
from moe_cli.codec import encode
from moe_cli.config import MoeConfig
from moe_cli.model.chat_endpoint import ChatEndpoint
from moe_cli.model.engine import Engine, Keep, Prompt, keep_nothing
from moe_cli.model.engines import answering_engine
from moe_cli.model.load import LoadedModel
from moe_cli.model.routing import RoutingRecorder, record_routing
from moe_cli.model.token_rows import answer_mask, attention_mask, right_padded
from moe_cli.records import AnswerSettings, BenchmarkedModel, Generation, Machine, Progress, Spread
from moe_cli.records.record import record
from moe_cli.tiny import MODEL_NAME
from moe_cli.views.console import stdout_console
from moe_cli.views.text import safe_text

PrepareWay = Literal["one_at_a_time", "file_order", "by_length"]
Row = TypeVar("Row", bound=str)
Made = TypeVar("Made")
Answers = Mapping[str, tuple[int, ...]]  # token ids by prompt id


@record
class RecordingCost:
    """The forward of a replay with the routing recorded, beside the same forward without."""

    rows: int  # 64
    positions: int  # 33; tokens of the longest row
    forward: Spread  # seconds; on the CPU of processor time
    recorded: Spread  # the same, from `watch` to the counts on the CPU
    ratio: Spread  # recorded / forward, repeat by repeat


@dataclass(frozen=True, slots=True)
class Benchmarking:
    """What the command line of a benchmark asks for."""

    session: Session
    num_prompts: int
    repeats: int
    markdown: bool

    @property
    def config(self) -> MoeConfig:
        """The resolved settings."""
        return self.session.config

    @staticmethod
    def notify(record: object) -> None:
        """One line for every run that is done."""
        if isinstance(record, Progress):
            print(f"{record.done} of {record.total}", file=sys.stderr, flush=True)


def benchmarking(description: str | None, num_prompts: int) -> Benchmarking:
    """Read the command line; `num_prompts` is how many are drawn where nothing else is said."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model-name", default=MODEL_NAME)
    parser.add_argument("--prompts", type=int, default=num_prompts)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--gpu")
    parser.add_argument("--set", action="append", dest="assignments", metavar="NAME=VALUE", help="any setting of moe")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--markdown", action="store_true", help="the tables for a page")
    typed = parser.parse_args()
    named = {"model.name": typed.model_name, "model.threads": typed.threads, "model.gpu": typed.gpu}
    settings = TypedSettings(
        values={setting: value for setting, value in named.items() if value is not None},
        config=None,
        assignments=tuple(typed.assignments or ()),
    )
    return Benchmarking(open_session(settings, json=typed.json), typed.prompts, typed.repeats, typed.markdown)


def show(asked: Benchmarking, made: Made, view: Callable[[Made], RenderableType], page: Callable[[Made], str]) -> None:
    """The result as a page, as a JSON document or as tables."""
    if asked.markdown:
        print(page(made))
    elif asked.session.json:
        print_json(encode(made, indent=True))
    else:
        stdout_console().print(view(made))


def turns(rows: Sequence[Row], repeats: int) -> Iterator[tuple[int, Row]]:
    """Number of the repeat and row, run by run."""
    for number in range(repeats):
        for row in rows if number % 2 == 0 else rows[::-1]:
            yield number, row


def same_answers(reference: Answers, repeats: Sequence[Answers]) -> tuple[int, int]:
    """How many answers are those of the reference in every repeat, and how many there are."""
    return sum(all(found[name] == ids for found in repeats) for name, ids in reference.items()), len(reference)


def described_loaded(loaded: LoadedModel) -> BenchmarkedModel:
    """What is known of the model."""
    identity = loaded.identity
    return BenchmarkedModel(
        architecture=identity.architecture,
        total_params=identity.total_params,
        expert_params=sum(layer.num_experts * layer.params_per_expert for layer in loaded.layers),
        layers=identity.layers,
        num_experts=identity.num_experts,
        top_k=identity.top_k,
        dtype=identity.dtype,
    )


@dataclass(slots=True)
class Heard:
    """What one run of the stage asked and answered."""

    way: PrepareWay
    loaded: LoadedModel | None = None
    prompts: tuple[Prompt, ...] = ()
    answers: dict[str, tuple[int, ...]] = field(default_factory=dict)  # token ids by prompt id

    def engine_of(self, config: MoeConfig, loaded: LoadedModel, endpoint: ChatEndpoint | None) -> Engine:
        """What the stage is given in the place of `answering_engine`."""
        self.loaded = loaded
        return HeardEngine(answering_engine(config, loaded, endpoint), self)


@dataclass(frozen=True, slots=True)
class HeardEngine:
    """The engine of a row."""

    engine: Engine
    heard: Heard

    @property
    def depends_on(self) -> tuple[object, ...]:
        """That of the engine."""
        return self.engine.depends_on

    @property
    def settings(self) -> AnswerSettings:
        """Those of the engine."""
        return self.engine.settings

    def answers(
        self, prompts: Sequence[Prompt], done: Collection[str] = (), keep: Keep = keep_nothing
    ) -> Iterator[tuple[Generation, ...]]:
        """The engine's answers: to all prompts at once, or to one batch after the other in the order they come."""
        self.heard.prompts += tuple(prompts)
        answering = in_file_order if self.heard.way == "file_order" else _all_at_once
        for made in answering(self.engine, prompts, done):
            self.heard.answers |= {answer.prompt_id: answer.token_ids for answer in made}
            keep(made)
            yield made


def in_file_order(engine: Engine, prompts: Sequence[Prompt], done: Collection[str]) -> Iterator[tuple[Generation, ...]]:
    """The engine's answers to one batch after the other, in the order they come."""
    size = engine.settings.batch_size or len(prompts)
    for start in range(0, len(prompts), size):
        yield from engine.answers(prompts[start : start + size], done)


def _all_at_once(engine: Engine, prompts: Sequence[Prompt], done: Collection[str]) -> Iterator[tuple[Generation, ...]]:
    yield from engine.answers(prompts, done)


Side = tuple[tuple[int, ...], int]  # ids of prompt + answer, and how many of them are the prompt


def recording_cost(loaded: LoadedModel, rows: Sequence[Side], *, repeats: int) -> RecordingCost:
    """Seconds of the forward with and without recording."""
    ids_BS = right_padded([ids for ids, _ in rows]).to(loaded.device)
    mask_BS = attention_mask([ids for ids, _ in rows]).to(loaded.device)
    regions_RBS = answer_mask(rows)[None].to(loaded.device)

    def forward() -> None:
        loaded.model(input_ids=ids_BS, attention_mask=mask_BS, use_cache=False, logits_to_keep=1)

    plain, watched = [], []
    with torch.inference_mode():
        for _ in range(repeats):
            plain.append(_seconds(forward, loaded.device))
            with record_routing(loaded.model) as recorder:
                watched.append(_seconds(partial(_recorded, recorder, regions_RBS, forward), loaded.device))
    return RecordingCost(
        rows=len(rows),
        positions=ids_BS.shape[1],
        forward=known(spread_of(plain)),
        recorded=known(spread_of(watched)),
        ratio=known(ratio_of(watched, plain)),
    )


def _recorded(recorder: RoutingRecorder, regions_RBS: Tensor, forward: Callable[[], None]) -> None:
    recorder.watch(regions_RBS)
    forward()
    recorder.counts()
    recorder.gates()


def _seconds(work: Callable[[], None], device: torch.device) -> float:
    """Of the second of two, so that what was done between the repeats does not count."""
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    work()
    synchronize(device)
    started = clock()
    work()
    synchronize(device)
    return clock() - started


def known(found: Spread | None) -> Spread:
    """A spread of at least one repeat.

    Raises:
        ValueError: there was none.
    """
    if found is None:
        raise ValueError("nothing was measured: at least one repeat is needed")
    return found


Cells = Sequence[str]
Drawn = tuple[Cells, Sequence[Cells]]  # head and rows


def on_terminal(lines: Sequence[str], tables: Sequence[Drawn], texts: Sequence[str]) -> RenderableType:
    """Lines on top, tables, and what is to be said below them."""
    return Group(*map(safe_text, lines), *(_drawn(*table) for table in tables), *map(Text, texts))


def on_page(lines: Sequence[str], tables: Sequence[Drawn], texts: Sequence[str]) -> str:
    """The same as Markdown."""
    written = [
        "\n".join("| " + " | ".join(map(escape_unsafe, cells)) + " |" for cells in (head, ["---"] * len(head), *rows))
        for head, rows in tables
    ]
    return "\n\n".join(["\n".join(f"- {escape_unsafe(line)}" for line in lines), *written, *texts])


def model_text(name: str, model: BenchmarkedModel) -> str:
    """The model in one line."""
    return (
        f"{name}: {model.total_params:,} parameters in {model.dtype}, {len(model.layers)} layers of "
        f"{model.num_experts} experts"
    )


def machine_text(machine: Machine) -> str:
    """The machine in one line."""
    packages = ", ".join(f"{name} {found or 'not installed'}" for name, found in machine.packages.items())
    device = machine.device_name or f"{machine.processor}, {machine.num_cores} cores"
    return f"{device}; threads: {machine.num_threads}; Python {machine.python}, {packages}"


def ratio_text(found: Spread, digits: int) -> str:
    """Median and quartiles."""
    return f"{found.median:.{digits}f} [{found.lower:.{digits}f}, {found.upper:.{digits}f}]"


def _drawn(head: Cells, rows: Sequence[Cells]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for place, name in enumerate(head):
        table.add_column(name, justify="right" if place else "left", no_wrap=place == 0)
    for cells in rows:
        table.add_row(*map(safe_text, cells))
    return table
