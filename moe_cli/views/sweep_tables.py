"""The tables of a sweep and its findings in sentences, for the terminal, Markdown and the report. Computes nothing.

A rate stands with its interval and n, a finding with what it was tested against and how.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from moe_cli.records import (
    BudgetTest,
    Estimate,
    PointResult,
    SelectionValue,
    SufficientBudget,
    Sweep,
    SweepArm,
    SweepPoint,
)
from moe_cli.stats.significance import LEVEL
from moe_cli.views.judge_tables import deciding_texts
from moe_cli.views.table import CellRow, NarrowColumn, ReportTable, cell_rows_of
from moe_cli.views.text import NOTHING, estimate_text, optional_text, percent_text, rate_text, seconds_text

ARM_NOTE = (
    "Rates in %, with 95 % intervals over goals and runs (of single points: Wilson's), means over runs (seeds, "
    "and draws of random experts); of several suites the mean of suites."
)


def share_text(share: float) -> str:
    """`5 %`, `0.25 %`."""
    return f"{100 * share:.3g} %"


def arm_table(sweep: Sweep) -> ReportTable:
    """The arms, with their rates and whether they are on the frontier."""
    head = ("arm", "share", "experts", "runs", "attack success", "over-refusal", "correct", "KL", "n", "frontier")
    return ReportTable(
        "Methods and budgets",
        head,
        tuple(CellRow(_arm_cells(arm)) for arm in sweep.arms),
        notes=(f"{ARM_NOTE} n, items that were scored in every run: {_ns(sweep.arms)}.",),
        borders=False,
        narrow=(
            NarrowColumn("arm"),
            NarrowColumn("share", left=False),
            NarrowColumn("experts", left=False),
            None,
            NarrowColumn("attack success", left=False),
            NarrowColumn("over-refusal", left=False),
            None,
            None,
            None,
            NarrowColumn("frontier"),
        ),
    )


def _arm_cells(arm: SweepArm) -> tuple[str, ...]:
    return (
        arm.name,
        share_text(arm.share),
        "all" if arm.kind == "baseline" else optional_text(arm.num_experts, 0 if _is_whole(arm.num_experts) else 1),
        str(len(arm.runs)),
        _rate(arm.attack_success),
        _rate(arm.over_refusal),
        _rate(arm.accuracy),
        NOTHING if arm.kl is None else f"{arm.kl:.2g}",
        _ns([arm]),
        "on" if arm.beaten_by is None else "off",
    )


def _ns(arms: Sequence[SweepArm]) -> str:
    """The numbers of items behind the rates: `60/90`."""
    found = (rate for arm in arms for rate in (arm.attack_success, arm.over_refusal, arm.accuracy) if rate)
    return "/".join(map(str, sorted({rate.n for rate in found}))) or NOTHING


def _is_whole(number: float | None) -> bool:
    return number is None or number == round(number)


def _rate(found: Estimate | None) -> str:
    if found is None:
        return NOTHING
    return f"{100 * found.value:.1f} [{_bound(found.lower)}, {_bound(found.upper)}]"


def _bound(bound: float | None) -> str:
    return NOTHING if bound is None else f"{100 * bound:.1f}"


def sweep_findings(sweep: Sweep) -> ReportTable:
    """The smallest sufficient budget and the value of the selection, method by method."""
    rows = []
    for sufficient, value in zip(sweep.sufficient, sweep.values, strict=True):
        rows.append(
            (
                sufficient.method,
                NOTHING if sufficient.budget is None else share_text(sufficient.budget),
                _points(value.value, value.lower, value.upper),
                NOTHING if value.p_value is None else f"{value.p_value:.3g}",
                NOTHING if value.least_p is None else f"{value.least_p:.3g}",
            )
        )
    return ReportTable(
        "Findings",
        ("method", "smallest sufficient budget", "V, points", "p", "least p"),
        cell_rows_of(rows),
        notes=findings(sweep),
        borders=False,
    )


def findings(sweep: Sweep) -> tuple[str, ...]:
    """What the sweep shows, in sentences."""
    return tuple(_findings(sweep))


def _findings(sweep: Sweep) -> Iterator[str]:
    for sufficient, value in zip(sweep.sufficient, sweep.values, strict=True):
        yield _sufficient_text(sufficient, sweep.margin)
        yield _value_text(value, sweep.budgets)
    yield _frontier_text(sweep)
    if broken := [arm for arm in sweep.arms if (arm.degenerate or 0.0) > sweep.margin]:
        named = ", ".join(f"{arm.name} {percent_text(arm.degenerate)}" for arm in broken)
        yield (
            f"Broken answers, which count as neither harmful nor refused, are more than the margin of: {named}. Low "
            "rates of such arms are no repair."
        )
    if unscored := [point for point in sweep.points if point.is_overly_unscored]:
        complete = sum(point.state == "complete" for point in sweep.points)
        yield (
            f"{len(unscored)} of {complete} complete points have too many answers without a verdict, which no rate "
            f"counts; the first: {unscored[0].reason}."
        )
    yield from (f"Judge: {text}." for text in deciding_texts(sweep.judges))
    if len(sweep.sufficient) > 1:
        yield "Each method has a sequence and a p of its own: the level holds for each of them, not for all together."
    if len(sweep.seeds) == 1:
        yield f"One seed ({sweep.seeds[0]}): no interval here holds how much another seed would change."
    if failed := [point for point in sweep.points if point.state != "complete"]:
        yield f"{len(failed)} of {len(sweep.points)} points are missing; the first: {failed[0].reason or 'not made'}."


def _sufficient_text(found: SufficientBudget, margin: float) -> str:
    tested = f"Tested against the baseline with a margin of {100 * margin:g} points for attack success and over-refusal"
    order = ", ".join(share_text(test.budget) for test in found.tests)
    how = f"{tested}, from the largest budget down ({order}), an order that was fixed before any result."
    if not found.tests:
        return f"{found.method}: the smallest sufficient budget was not tested: {found.untested}."
    last = found.tests[-1]
    stopped = f" The sequence ended there: {found.untested}." if found.untested else ""
    if found.budget is None:
        largest = f"not even the largest budget, {_budget_text(last)}, is shown to be sufficient"
        return f"{found.method}: {largest}: {_test_text(last)}. {how}{stopped}"
    passed = next(test for test in found.tests if test.budget == found.budget)
    failed = "" if last.sufficient else f" {_budget_text(last)} is not shown to be: {_test_text(last)}."
    return (
        f"{found.method}: the smallest sufficient budget is {_budget_text(passed)}: {_test_text(passed)}.{failed} "
        f"{how}{stopped}"
    )


def _budget_text(test: BudgetTest) -> str:
    """`60 % (22.3 % trained)`: a budget may have room for more experts than are selected."""
    budget, trained = share_text(test.budget), share_text(test.share)
    return budget if budget == trained else f"{budget} ({trained} trained)"


def _test_text(test: BudgetTest) -> str:
    """`attack success +0.3 points, at most +1.7; over-refusal -1.0, at most +0.4`."""
    measured = (("attack success", test.attack_success), ("over-refusal", test.over_refusal))
    return "; ".join(
        f"{name} {100 * found.value:+.1f} points, at most {_signed(found.upper)} (n {found.n})"
        for name, found in measured
    )


def _signed(bound: float | None) -> str:
    return NOTHING if bound is None else f"{100 * bound:+.1f}"


def _value_text(value: SelectionValue, budgets: Sequence[float]) -> str:
    missing = [share_text(budget) for budget in budgets if budget not in value.budgets]
    partial = f" Budgets that lack a point are left out: {', '.join(missing)}." if missing else ""
    if value.value is None or value.p_value is None or value.least_p is None:
        return f"{value.method}: what the selection is worth is not known: {value.unknown}."
    draws = len(value.draw_areas)
    plural = "" if draws == 1 else "s"
    with_interval = _points(value.value, value.lower, value.upper)
    least = f"no p below {value.least_p:.2g} is possible"
    rank = f"p = {value.p_value:.2g} by rank among {draws} random draw{plural}, and {least}"
    more = f" ({LEVEL:g} takes {round(1 / LEVEL) - 1} draws)" if value.least_p > LEVEL else ""
    side = "more" if value.value >= 0 else "less"
    left = f" Draws without all points are left out: {', '.join(map(str, value.left_out))}." if value.left_out else ""
    return (
        f"{value.method}: V = {with_interval} points (n {value.clusters} goals): over the budgets, random experts "
        f"leave {abs(100 * value.value):.1f} points {side} attack success; {rank}{more}.{partial}{left}"
    )


def _frontier_text(sweep: Sweep) -> str:
    rates = {"attack success": [arm.attack_success for arm in sweep.arms]}
    rates |= {
        "over-refusal": [arm.over_refusal for arm in sweep.arms],
        "accuracy": [arm.accuracy for arm in sweep.arms],
    }
    missing = " or ".join(name for name, of_arms in rates.items() if None in of_arms)
    without = f" Arms that lack {missing} are compared without it." if missing else ""
    off = [f"{arm.name} (by {arm.beaten_by})" for arm in sweep.arms if arm.beaten_by is not None]
    beaten = f"beaten by an arm of no larger share: {', '.join(off)}" if off else "no arm is shown to be off it"
    return f"Frontier: {beaten}. What cannot be told apart stays on it.{without}"


def _points(value: float | None, lower: float | None, upper: float | None) -> str:
    if value is None:
        return NOTHING
    interval = "" if lower is None or upper is None else f" [{100 * lower:.1f}, {100 * upper:.1f}]"
    return f"{100 * value:+.1f}{interval}"


def sequence_table(sweep: Sweep) -> ReportTable:
    """Every test of the fixed sequences, in order."""
    rows = [
        (
            test.arm,
            share_text(test.share),
            _points(test.attack_success.value, test.attack_success.lower, test.attack_success.upper),
            _points(test.over_refusal.value, test.over_refusal.lower, test.over_refusal.upper),
            "yes" if test.sufficient else "no",
        )
        for found in sweep.sufficient
        for test in found.tests
    ]
    return ReportTable(
        "Tests against the baseline, in order",
        ("arm", "share", "attack success, points", "over-refusal, points", "sufficient"),
        cell_rows_of(rows),
        empty="nothing was tested",
    )


def area_table(sweep: Sweep) -> ReportTable:
    """The areas that the p of a selection is the rank of."""
    rows = []
    for value in sweep.values:
        if value.area is not None:
            areas = sorted([(value.area, value.method), *((area, "random") for area in value.draw_areas)])
            rows += [(value.method, name, f"{100 * area:.2f}") for area, name in areas]
    return ReportTable(
        "Mean attack success over the budgets, lowest first",
        ("ranking of", "curve", "attack success, %"),
        cell_rows_of(rows),
    )


def point_table(points: Sequence[PointResult]) -> ReportTable:
    """Every point with what became of it."""
    return ReportTable(
        "Points",
        ("point", "draw", "budget", "seed", "state", "share", "attack success", "over-refusal", "KL", "training"),
        tuple(CellRow(_point_cells(one)) for one in points),
        notes=("Rates over all answers of a point together; those of an arm are the mean of suites, one vote each.",),
    )


def point_name(point: SweepPoint) -> str:
    """`risk_diff`, `risk_diff x 0.5`, `random`, `random as gradient`, `baseline`."""
    name = point.kind if point.kind in ("base", "baseline") else str(point.method)
    if point.kind == "random":
        name = "random" if point.method == "risk_diff" else f"random as {point.method}"
    return name + (f" x {point.scale:g}" if point.scale < 1 else "")


def _point_cells(one: PointResult) -> tuple[str, ...]:
    point = one.point
    return (
        point_name(point),
        NOTHING if point.draw is None else str(point.draw),
        share_text(point.budget),
        str(point.seed),
        one.state if one.reason is None else f"{one.state}: {one.reason}",
        NOTHING if one.trainable_ratio is None else percent_text(one.trainable_ratio),
        rate_text(one.attack_success),
        rate_text(one.over_refusal),
        estimate_text(one.kl, ".2g"),
        seconds_text(one.seconds_training),
    )
