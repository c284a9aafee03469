"""How many of the evaluated goals a run was trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from moe_cli.artifacts import Store
from moe_cli.artifacts.examples import examples_of
from moe_cli.data.contamination import BY_WORDS, goals_trained_on, trained_goals
from moe_cli.evaluate.target import EvaluationTarget
from moe_cli.records import EvaluationItem, Notice


def count_trained_goals(
    target: EvaluationTarget, asked: Sequence[EvaluationItem], store: Store, notify: Callable[[object], None]
) -> tuple[int, int] | None:
    """How many evaluated goals the run was trained on; None for a bare model, or where its examples are not found."""
    found = examples_of(target.training, store) if target.training else None
    if found is None:
        if target.training is not None:
            why = "its prepare run is not registered here, or its examples are gone or changed"
            notify(Notice(text=f"how many of the evaluated goals were trained on is not known: {why}", warning=True))
        return None
    held, evaluated = goals_trained_on(trained_goals(found.examples, found.plain_forms), asked)
    if held:
        count = f"{held} of the {evaluated} evaluated goals were trained on ({BY_WORDS})"
        notify(Notice(text=f"{count}: these answers show what was taught", warning=True))
    return held, evaluated
