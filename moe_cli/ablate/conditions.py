"""The conditions of an ablation: the model untouched, without the selected experts, without each control set.

A condition is known by its experts and the intervention, never by its name, so that equal ones are answered once. The
selected set of the side `unsafe` is the union of the prepare run. That of the side `safe` are the experts whose risk
difference is significantly below 0 (they are more active while plain goals are refused), at most as many.

Letters: L expert layers, E experts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from moe_cli.artifacts import FinishedRun, layout
from moe_cli.artifacts.files import naming_file
from moe_cli.config import MoeConfig
from moe_cli.errors import UsageError
from moe_cli.model.interventions import refuse_too_few_left
from moe_cli.records import Expert, Intervention, RoutingCounts, Selection
from moe_cli.records.ablation import AblationSide
from moe_cli.records.inputs import SIDES
from moe_cli.stats.control_sets import Bools, draw_control_sets
from moe_cli.stats.significance import LEVEL

UNTOUCHED, SELECTED = "untouched", "selected"


@dataclass(frozen=True, slots=True)
class Condition:
    """Experts that are taken away together."""

    name: str  # "control 7"
    set_LE: Bools
    experts: tuple[Expert, ...]

    def intervention(self, config: MoeConfig) -> Intervention:
        """What is done in this condition."""
        settings = config.ablate
        return Intervention(
            experts=self.experts,
            kind=settings.intervention,
            tokens=settings.tokens,
            without_router_effects=settings.without_router_effects,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """All conditions, and what they were drawn by."""

    use_LE: NDArray[np.int64]  # choices of answer tokens on the side that is ablated
    untouched: Condition
    selected: Condition
    controls: tuple[Condition, ...]
    singles: tuple[Condition, ...]  # of `--each`

    @property
    def all(self) -> tuple[Condition, ...]:
        """In the order in which they are answered."""
        return self.untouched, self.selected, *self.controls, *self.singles


def plan_conditions(selected: Sequence[Expert], counts: RoutingCounts, config: MoeConfig) -> Conditions:
    """The conditions for a set of experts; `counts` are those of the prepare run.

    Raises:
        UsageError: others are to be chosen, and in some layer fewer are left than a token was given.
    """
    use_LE = counts.routed[:, SIDES.index(config.ablate.side)].sum(0, dtype=np.int64)
    selected_LE = np.zeros(use_LE.shape, dtype=np.bool_)
    for expert in selected:
        selected_LE[counts.layers.index(expert.layer), expert.index] = True
    if config.ablate.intervention == "reroute":  # a control set takes as many away in every layer, a single one fewer
        for layer, num_masked, top_k in zip(counts.layers, selected_LE.sum(1).tolist(), _top_k(counts), strict=True):
            refuse_too_few_left(layer, selected_LE.shape[1], num_masked, top_k)
    sets = draw_control_sets(selected_LE, use_LE, num=config.ablate.controls, seed=config.seed)

    def condition(name: str, set_LE: Bools) -> Condition:
        experts = tuple(
            Expert(layer=counts.layers[layer], index=int(index)) for layer, index in np.argwhere(set_LE).tolist()
        )
        return Condition(name, set_LE, experts)

    singles = []
    for expert in selected if config.ablate.each else ():
        single_LE = np.zeros_like(selected_LE)
        single_LE[counts.layers.index(expert.layer), expert.index] = True
        singles.append(condition(f"layer {expert.layer} expert {expert.index}", single_LE))
    return Conditions(
        use_LE=use_LE,
        untouched=condition(UNTOUCHED, np.zeros_like(selected_LE)),
        selected=condition(SELECTED, selected_LE),
        controls=tuple(condition(f"control {number}", one) for number, one in enumerate(sets, start=1)),
        singles=tuple(singles),
    )


def _top_k(counts: RoutingCounts) -> list[int]:
    """How many experts a token was given in each layer, at most."""
    given_NSL = counts.routed.sum(-1, dtype=np.int64) / np.maximum(counts.seen, 1)[..., None]
    return [int(given) for given in np.ceil(given_NSL.max((0, 1))).tolist()]


def selected_experts(run: FinishedRun, selection: Selection, side: AblationSide) -> tuple[Expert, ...]:
    """The experts that the ablation is about.

    Raises:
        UsageError: there are none.
        ArtifactError: the table of risk differences is damaged.
    """
    experts = selection.union if side == "unsafe" else _safe_experts(run, selection)
    if not experts:
        what = (
            "selected no expert"
            if side == "unsafe"
            else f"has no expert with a risk difference below 0 and q < {LEVEL}"
        )
        raise UsageError(f"the prepare run {run.path} {what}", hint="choose another one: moe runs list")
    return experts


def _safe_experts(run: FinishedRun, selection: Selection) -> tuple[Expert, ...]:
    with naming_file(file := run.file(layout.risk_table(selection.base.name))):
        table = pq.read_table(file, columns=["batch", "layer", "expert", "risk_diff", "q_value"])
        pooled = table.filter(pc.is_null(table["batch"]))
        rows = zip(*(pooled[name].to_pylist() for name in ("risk_diff", "layer", "expert", "q_value")), strict=True)
        below = sorted(
            (risk, layer, expert)
            for risk, layer, expert, q_value in rows
            if risk is not None and risk < 0 and q_value is not None and q_value < LEVEL
        )
    chosen = below[: max(1, len(selection.union))]
    return tuple(sorted(Expert(layer=layer, index=expert) for _, layer, expert in chosen))
