"""How many of the evaluated goals a run was trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from moe_cli.artifacts import Store
from moe_cli.artifacts.examples import examples_of
from moe_cli.data.goals import goals_trained_on, trained_goals
from moe_cli.evaluate.target import Target
from moe_cli.records import EvaluationItem, Notice


def count_trained_goals(
    target: Target, asked: Sequence[EvaluationItem], store: Store, notify: Callable[[object], None]
) -> tuple[int, int] | None:
    """How many evaluated goals the run was trained on; None for a bare model, or where its examples are not found."""
    examples = examples_of(target.training, store) if target.training else None
    if examples is None:
        return None
    held, evaluated = goals_trained_on(trained_goals(examples), asked)
    if held:
        text = f"{held} of the {evaluated} evaluated goals were trained on: these answers show what was taught"
        notify(Notice(text=text, warning=True))
    return held, evaluated
