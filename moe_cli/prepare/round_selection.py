"""How the experts of the rounds of a training are selected anew on the model as trained so far, and by what.

`replay`: the prepare run's answers go through the model, and its rule is applied to the new counts. `answers`: the
model answers anew, and what the filters of the prepare run keep is counted. `gradient`: as `replay`, but experts are
ranked by the gradients of the refusals. Batches and budget are always those of the prepare run.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from moe_cli.artifacts import FinishedRun
from moe_cli.model.load import LoadedModel
from moe_cli.prepare.answered_selection import answered_selection, refuse_other_filters
from moe_cli.prepare.replayed_selection import (
    gradient_selection,
    refuse_fixed_selection,
    refuse_unmeasurable,
    replayed_selection,
)
from moe_cli.records import Expert, RoundSelection
from moe_cli.records.manifest import Notify
from moe_cli.records.training import Reselection

Select = Callable[[LoadedModel, FinishedRun, Collection[Expert], Notify], RoundSelection]


@dataclass(frozen=True, slots=True)
class RoundSelector:
    """What a training selects its experts anew with."""

    refuse: Callable[[FinishedRun], None]  # a prepare run whose selection cannot be made anew in this way
    select: Select  # for the model as it is; also given the experts of earlier rounds


SELECTORS: Mapping[Reselection, RoundSelector] = {
    "replay": RoundSelector(refuse_fixed_selection, replayed_selection),
    "answers": RoundSelector(refuse_other_filters, answered_selection),
    "gradient": RoundSelector(refuse_unmeasurable, gradient_selection),
}


def round_selector(way: Reselection) -> RoundSelector | None:
    """What selects anew in this way; None where nothing is selected anew."""
    return SELECTORS.get(way)
