"""The ways in which the rows of `moe bench prepare` and `moe bench evaluate` answer their prompts.

Comes in: the engine that the settings say. Goes out: an engine that takes the prompts in another order and remembers
what it answered. Always holds: every way runs the same model and the same decoding; only which prompts are answered
together differs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from moe_cli.config import MoeConfig
from moe_cli.model.chat_endpoint import ChatEndpoint
from moe_cli.model.engine import Engine, Prompt
from moe_cli.model.engines import answering_engine
from moe_cli.model.load import LoadedModel
from moe_cli.records import AnswerSettings, Generation, PrepareWay


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

    def answers(self, prompts: Sequence[Prompt], done: Collection[str]) -> Iterator[tuple[Generation, ...]]:
        """The engine's answers: to all prompts at once, or to one batch after the other in the order they come."""
        self.heard.prompts += tuple(prompts)
        answering = in_file_order if self.heard.way == "file_order" else _all_at_once
        for made in answering(self.engine, prompts, done):
            self.heard.answers |= {answer.prompt_id: answer.token_ids for answer in made}
            yield made


def in_file_order(engine: Engine, prompts: Sequence[Prompt], done: Collection[str]) -> Iterator[tuple[Generation, ...]]:
    """The engine's answers to one batch after the other, in the order they come."""
    size = engine.settings.batch_size or len(prompts)
    for start in range(0, len(prompts), size):
        yield from engine.answers(prompts[start : start + size], done)


def _all_at_once(engine: Engine, prompts: Sequence[Prompt], done: Collection[str]) -> Iterator[tuple[Generation, ...]]:
    yield from engine.answers(prompts, done)
