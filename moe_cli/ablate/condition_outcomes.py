"""The outcomes of every condition on the same items, and what they say about the set of experts.

A harmful item counts if every condition has a verdict for it; how many do not is reported. Its outcome is one of four:
harmful, refused in full, degenerate, or neither of these.

Letters: X conditions (untouched, selected, control sets, single experts), N harmful items, M benign items.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from moe_cli.ablate.conditions import Condition, Conditions
from moe_cli.ablate.specificity import effect_estimate, effect_p, mean_changes
from moe_cli.errors import UnscoredError
from moe_cli.records import ConditionOutcomes, EvaluationRecord, ExpertEffect, Rate
from moe_cli.records.ablation import AblationSide
from moe_cli.stats.clusters import Floats
from moe_cli.stats.control_sets import coverage_of, overlap_with_selected
from moe_cli.stats.proportions import rate_of
from moe_cli.stats.significance import holm

Outcome = Literal["harmful", "refused", "neither", "degenerate"]
Records = Sequence[EvaluationRecord]


def outcome_of(record: EvaluationRecord) -> Outcome | None:
    """The outcome of a harmful item; None where the verdict is missing."""
    if record.is_degenerate:
        return "degenerate"
    if record.is_unscored:
        return None
    if record.attack_succeeded:
        return "harmful"
    return "refused" if record.refused else "neither"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConditionTable:
    """Outcomes of all conditions."""

    outcomes_XN: NDArray[np.str_]  # of the items that every condition has a verdict for
    clusters_N: tuple[str, ...]
    num_unscored: int
    correct_XM: Floats | None  # 1: the expected answer; benign items with one
    clusters_M: tuple[str, ...]
    degenerate_XA: Floats  # of all answers
    clusters_A: tuple[str, ...]
    side: AblationSide

    @property
    def num_items(self) -> int:
        """Harmful items with a verdict in every condition."""
        return int(self.outcomes_XN.shape[1])

    @property
    def num_goals(self) -> int:
        """Their goals."""
        return len(set(self.clusters_N))

    def share_at_first(self) -> float:
        """The share of items that are harmful (side safe: refused) while nothing is taken away."""
        return float(self._events()[0].mean())

    def changes(self) -> Floats:
        """[X, N]: 1 where an item is no longer harmful (side safe: refused), -1 where it became so."""
        event_XN = self._events()
        change_XN: Floats = event_XN[:1] - event_XN
        return change_XN

    def _events(self) -> Floats:
        event_XN: Floats = (self.outcomes_XN == ("harmful" if self.side == "unsafe" else "refused")).astype(np.float64)
        return event_XN

    def repairs(self) -> Floats:
        """[X, N]: 1 where an item is now refused in full (side safe: harmful), -1 where it no longer is."""
        event_XN = (self.outcomes_XN == ("refused" if self.side == "unsafe" else "harmful")).astype(np.float64)
        change_XN: Floats = event_XN - event_XN[:1]
        return change_XN


def outcomes_of_conditions(
    harmful_X: Sequence[Records], benign_X: Sequence[Records], side: AblationSide
) -> ConditionTable:
    """The outcomes of the records of every condition, which are of the same items in the same order.

    Raises:
        UnscoredError: no harmful item has a verdict in every condition.
    """
    outcomes = [[outcome_of(record) for record in records] for records in harmful_X]
    kept = [place for place in range(len(harmful_X[0])) if all(row[place] is not None for row in outcomes)]
    if not kept:
        raise UnscoredError(
            f"none of the {len(harmful_X[0])} harmful items has a verdict in every condition",
            hint="look at the verdicts of the judge, or ask another one: --judge",
        )
    expected = [place for place, record in enumerate(benign_X[0]) if record.item.expected is not None]
    answered_X = [[*harmful, *benign] for harmful, benign in zip(harmful_X, benign_X, strict=True)]
    return ConditionTable(
        outcomes_XN=np.array([[row[place] for place in kept] for row in outcomes], dtype=np.str_),
        clusters_N=tuple(harmful_X[0][place].item.cluster for place in kept),
        num_unscored=len(harmful_X[0]) - len(kept),
        correct_XM=_values([[row[place] for place in expected] for row in benign_X], lambda record: record.is_right)
        if expected
        else None,
        clusters_M=tuple(benign_X[0][place].item.cluster for place in expected),
        degenerate_XA=_values(answered_X, lambda record: record.is_degenerate is True),
        clusters_A=tuple(record.item.cluster for record in answered_X[0]),
        side=side,
    )


def _values(records_X: Sequence[Records], of: Callable[[EvaluationRecord], bool]) -> Floats:
    return np.array([[of(record) for record in records] for records in records_X], dtype=np.float64)


def condition_outcomes(
    conditions: Conditions, table: ConditionTable, benign_X: Sequence[Records], losses_X: Sequence[float | None]
) -> tuple[ConditionOutcomes, ...]:
    """What every condition did, in order."""
    effects_X, repairs_X = mean_changes(table.changes()), mean_changes(table.repairs())
    return tuple(
        ConditionOutcomes(
            name=condition.name,
            num_experts=len(condition.experts),
            coverage=coverage_of(condition.set_LE, conditions.use_LE),
            overlap=overlap_with_selected(condition.set_LE, conditions.selected.set_LE),
            harmful=_count(table, place, "harmful"),
            refused=_count(table, place, "refused"),
            neither=_count(table, place, "neither"),
            degenerate=_count(table, place, "degenerate"),
            correct=_rate(
                [record for record in benign_X[place] if record.item.expected is not None], lambda one: one.is_right
            ),
            over_refused=_rate(benign_X[place], lambda one: one.refused),
            benign_degenerate=_rate(benign_X[place], lambda one: one.is_degenerate),
            text_loss=losses_X[place],
            effect=effects_X[place],
            repair=repairs_X[place],
        )
        for place, condition in enumerate(conditions.all)
    )


def _count(table: ConditionTable, place: int, outcome: Outcome) -> int:
    return int((table.outcomes_XN[place] == outcome).sum())


def _rate(records: Records, of: Callable[[EvaluationRecord], bool | None]) -> Rate | None:
    return rate_of([(record.item.cluster, of(record)) for record in records]) if records else None


def single_effects(
    singles: Sequence[Condition], outcomes: Sequence[ConditionOutcomes], table: ConditionTable
) -> tuple[ExpertEffect, ...]:
    """The effect of each expert alone, largest first; `outcomes` are those of the singles."""
    changes_XN = table.changes()[len(table.outcomes_XN) - len(singles) :]
    p_values = holm([effect_p(changes_N, table.clusters_N) for changes_N in changes_XN])
    effects = [
        ExpertEffect(
            expert=condition.experts[0],
            effect=effect_estimate(changes_N, table.clusters_N),
            p_adjusted=p_value,
            repair=outcome.repair,
            coverage=outcome.coverage or 0.0,
        )
        for condition, outcome, changes_N, p_value in zip(singles, outcomes, changes_XN, p_values, strict=True)
    ]
    return tuple(sorted(effects, key=lambda one: (-one.effect.value, one.expert)))
