"""Answers to the harmful items with the router of the base, where that was asked for.

Comes in: both models and the items. Goes out: a `Rerouted`, or None where it was not asked for or nothing was trained.
Always holds: a router that the training left as it was answers nothing again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from moe_cli.config import MoeConfig
from moe_cli.evaluate.answers import answers_to
from moe_cli.evaluate.models import ModelPool
from moe_cli.evaluate.restored import base_router_of, changed_router_params
from moe_cli.evaluate.work import StageCache
from moe_cli.records import EvaluationItem, Generation, Notice


@dataclass(frozen=True, slots=True)
class BaseRouterAnswers:
    """What the model answers with the router of its base."""

    changed_params: int  # of the router, by the training
    items: tuple[EvaluationItem, ...]  # harmful; none where nothing changed
    answers: Mapping[str, Generation]


def answer_with_base_router(
    models: ModelPool, asked: Sequence[EvaluationItem], config: MoeConfig, work: StageCache
) -> BaseRouterAnswers | None:
    """Answer the harmful items once more.

    Raises:
        UsageError: the model has no router that is found.
    """
    if not config.evaluate.restore_router:
        return None
    if models.target.training is None:
        work.notify(Notice(text="router restoration: not measured, a bare model has its own router", warning=True))
        return None
    base = models.base()
    changed = changed_router_params(base, models.tuned())
    harmful = tuple(item for item in asked if item.kind == "harmful") if changed else ()
    if not harmful:
        return BaseRouterAnswers(changed, (), {})
    with base_router_of(base, models.tuned()) as rerouted:
        answers = answers_to(
            rerouted, harmful, config, work, label="generate with the base's router", task="answers, base router"
        )
    return BaseRouterAnswers(changed, harmful, answers)
