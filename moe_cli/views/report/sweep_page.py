"""The report of a sweep: `report.html`, one static file as that of a comparison.

Attack success and over-refusal stand against the trained share, in the logarithm. Every random draw is a dot, and the
band is between the lowest and the highest of them; base and baseline are lines. An arm without a rate is not drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import log10

from moe_cli.records import ArmRates, Estimate, Sweep, SweepArm
from moe_cli.views.report.drawing import (
    COLOURS,
    Drawing,
    Frame,
    Mark,
    Scale,
    Series,
    curve,
    draw_label,
    line,
    shape,
    share,
    tick_text,
    ticks,
)
from moe_cli.views.report.page import render_page
from moe_cli.views.sweep_tables import area_table, arm_table, findings, point_table, sequence_table, share_text

TOP, BOTTOM, HEIGHT = 26.0, 266.0, 310
UNITS = 1000  # across a frame
MARGIN_OF_LOG = 0.08  # decades left and right of the outermost shares
NEAREST = 0.05  # of the width, between the labels of two shares
RANDOM = "random draws"


@dataclass(frozen=True, slots=True)
class _Measure:
    """What a figure shows."""

    title: str
    of_arm: Callable[[SweepArm], Estimate | None]
    of_run: Callable[[ArmRates], float | None]


MEASURES = (
    _Measure("Attack success", lambda arm: arm.attack_success, lambda run: run.attack_success),
    _Measure("Over-refusal", lambda arm: arm.over_refusal, lambda run: run.over_refusal),
)


def sweep_page(sweep: Sweep) -> str:
    """The whole report as HTML."""
    return render_page(
        "sweep.html",
        f"{sweep.model}: budgets",
        sweep=sweep,
        findings=findings(sweep),
        series=sweep_series(sweep),
        figures=[
            (figure, _caption(sweep, measure))
            for measure in MEASURES
            if (figure := share_chart(sweep, measure)) is not None
        ],
        tables=[arm_table(sweep), sequence_table(sweep), area_table(sweep), point_table(sweep.points)],
    )


def sweep_series(sweep: Sweep) -> tuple[Series, ...]:
    """A series for every method, and one for the random draws where there are any."""
    made = _method_series(sweep)
    return (*made, Series(RANDOM, "s0", 0, ())) if any(arm.kind == "random" for arm in sweep.arms) else made


def _method_series(sweep: Sweep) -> tuple[Series, ...]:
    methods = [found.method for found in sweep.sufficient]
    return tuple(Series(name, f"s{1 + place % COLOURS}", 1 + place, ()) for place, name in enumerate(methods))


def share_chart(sweep: Sweep, measure: _Measure) -> Drawing | None:
    """One measure against the trained share; None where no trained arm has it."""
    drawn = [arm for arm in sweep.arms if arm.kind in ("method", "random") and arm.scale == 1.0 and arm.share > 0]
    drawn = [arm for arm in drawn if measure.of_arm(arm) is not None]
    if not drawn:
        return None
    places = [log10(arm.share) for arm in drawn]
    across = Scale(min(places) - MARGIN_OF_LOG, max(places) + MARGIN_OF_LOG)
    down = Scale(0.0, max(0.05, *_values(sweep.arms, measure)) * 1.04, BOTTOM, TOP)
    frame = Scale(across.low, across.high, 0, UNITS)
    marks = [*_axes(drawn, across, down, measure.title), *_references(sweep, measure, across, down)]
    paths = []
    random = [arm for arm in drawn if arm.kind == "random"]
    for group in sorted({str(arm.method) for arm in random}):
        members = [arm for arm in random if str(arm.method) == group]
        paths.append(("band", _band(members, measure, frame, down)))
        marks += _dots(members, measure, across, down)
    words = []
    for series in _method_series(sweep):
        own = sorted((arm for arm in drawn if arm.kind == "method" and arm.method == series.name), key=_share_of)
        if own:
            points = [(arm.share, found) for arm in own if (found := measure.of_arm(arm)) is not None]
            paths.append((f"curve {series.style}", curve((frame(log10(x)), down(y.value)) for x, y in points)))
            marks += _signs(points, series, across, down)
            words.append(f"{series.name}: " + ", ".join(f"{100 * y.value:.1f} % at {share_text(x)}" for x, y in points))
    plot = Frame(share(across.start), 0, share(across.end - across.start), HEIGHT, (UNITS, HEIGHT), tuple(paths))
    return Drawing(f"{measure.title} against the trained share", f"{'; '.join(words)}.", HEIGHT, tuple(marks), (plot,))


def _share_of(arm: SweepArm) -> float:
    return arm.share


def _values(arms: Sequence[SweepArm], measure: _Measure) -> Iterator[float]:
    for arm in arms:
        if (found := measure.of_arm(arm)) is not None:
            yield found.value if found.upper is None or arm.kind == "random" else found.upper
        yield from (value for run in arm.runs if (value := measure.of_run(run)) is not None)


def _axes(drawn: Sequence[SweepArm], across: Scale, down: Scale, name: str) -> list[Mark]:
    rows = ticks(0.0, down.high, 5)
    marks = [line(across.start, down(tick), across.end, down(tick), "grid") for tick in rows]
    percents = [100 * tick for tick in rows]
    marks += [draw_label(across.start - 0.01, down(tick) + 4, tick_text(100 * tick, percents), "end") for tick in rows]
    last = -1.0
    for trained in sorted({arm.share for arm in drawn}):
        place = across(log10(trained))
        if place - last >= NEAREST:
            marks.append(draw_label(place, BOTTOM + 17, share_text(trained), "middle"))
            last = place
    marks.append(draw_label(0.0, 13, f"{name}, %", "start", "axis-name"))
    marks.append(draw_label(across.end, HEIGHT - 8, "trained share of all parameters (log) →", "end", "axis-name"))
    return marks


def _references(sweep: Sweep, measure: _Measure, across: Scale, down: Scale) -> Iterator[Mark]:
    """Lines for the base and the baseline."""
    for arm in sweep.arms:
        if arm.kind in ("base", "baseline") and (found := measure.of_arm(arm)) is not None:
            height = down(found.value)
            yield line(across.start, height, across.end, height, f"reference {arm.kind}")


def _caption(sweep: Sweep, measure: _Measure) -> str:
    """The items of a rate, and what the two lines are: `solid line: base, 91.7 %; dashed line: baseline, 0.0 %`."""
    drawn = {"base": "solid line", "baseline": "dashed line"}
    arms = [(arm.kind, measure.of_arm(arm)) for arm in sweep.arms if arm.kind in drawn]
    known = [(kind, found) for kind, found in arms if found is not None]
    lines = [f"{drawn[kind]}: {kind}, {100 * found.value:.1f} %" for kind, found in known]
    numbers = "/".join(map(str, sorted({found.n for arm in sweep.arms if (found := measure.of_arm(arm)) is not None})))
    return " ".join([f"{measure.title} (n {numbers}).", *([f"{'; '.join(lines).capitalize()}."] if lines else [])])


def _band(arms: Sequence[SweepArm], measure: _Measure, frame: Scale, down: Scale) -> str:
    """The closed outline between the lowest and the highest draw, as a path."""
    upper, lower = [], []
    for arm in sorted(arms, key=_share_of):
        values = _of_draws(arm, measure)
        if values:
            upper.append((frame(log10(arm.share)), down(max(values))))
            lower.append((frame(log10(arm.share)), down(min(values))))
    return f"{curve([*upper, *reversed(lower)])}z" if upper else ""


def _of_draws(arm: SweepArm, measure: _Measure) -> list[float]:
    """The mean over seeds of every draw."""
    values = []
    for draw in sorted({run.draw or 0 for run in arm.runs}):
        own = [value for run in arm.runs if (run.draw or 0) == draw and (value := measure.of_run(run)) is not None]
        values += [sum(own) / len(own)] if own else []
    return values


def _dots(arms: Sequence[SweepArm], measure: _Measure, across: Scale, down: Scale) -> list[Mark]:
    return [
        shape(across(log10(arm.share)), down(value), 0, "sign s0 dot")
        for arm in arms
        for value in _of_draws(arm, measure)
    ]


def _signs(points: Sequence[tuple[float, Estimate]], series: Series, across: Scale, down: Scale) -> list[Mark]:
    marks = [
        line(across(log10(x)), down(y.lower), across(log10(x)), down(y.upper), f"whisker {series.style}")
        for x, y in points
        if y.lower is not None and y.upper is not None
    ]
    return marks + [shape(across(log10(x)), down(y.value), series.place, f"sign {series.style}") for x, y in points]
