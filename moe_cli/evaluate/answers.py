"""The model's own answers to the items of an evaluation.

An answer is never generated twice: those of this evaluation, or of an earlier one with the same weights and settings,
are reused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from moe_cli.config import MoeConfig
from moe_cli.evaluate.cache import StageCache
from moe_cli.model.answering import answer_in_batches, depends_on
from moe_cli.model.engine import Prompt
from moe_cli.model.engines import TransformersEngine, greedy
from moe_cli.model.load import LoadedModel
from moe_cli.ranks import on_first
from moe_cli.records import AnswerSettings, EvaluationItem, Generation, ModelIdentity


def answers_to(
    loaded: LoadedModel,
    items: Sequence[EvaluationItem],
    config: MoeConfig,
    work: StageCache,
    *,
    label: str = "generate",
    task: str = "answers",
) -> dict[str, Generation]:
    """An answer to every item."""
    engine = TransformersEngine(loaded, answer_settings(config))
    prompts = [Prompt(item.id, item.messages) for item in items]
    journal = on_first(lambda: work.journal("generate", label, Generation, *depends_on(engine, prompts)))
    return answer_in_batches(engine, prompts, journal, notify=work.notify, task=task)


def answer_settings(config: MoeConfig) -> AnswerSettings:
    """All settings that an answer depends on, beside the weights and the prompt."""
    settings = config.evaluate
    likeliest = greedy(
        max_new_tokens=settings.max_new_tokens, batch_size=settings.batch_size, batch_tokens=settings.batch_tokens
    )
    if settings.temperature == 0:
        return likeliest
    return replace(
        likeliest,
        decoding="sampling",
        temperature=settings.temperature,
        top_p=settings.sampling_top_p,
        seed=config.seed,
    )


def generation_settings(config: MoeConfig, model: ModelIdentity) -> dict[str, str | int | float | bool | None]:
    """The answer settings for the summary, with dtype and threads, which can also change bits."""
    settings = answer_settings(config)
    return {
        "decoding": settings.decoding,
        "temperature": settings.temperature,
        "top_p": settings.top_p,
        "seed": settings.seed,
        "max_new_tokens": settings.max_new_tokens,
        "batch_size": settings.batch_size,
        "batch_tokens": settings.batch_tokens,
        "dtype": model.dtype,
        "num_threads": torch.get_num_threads(),
    }
