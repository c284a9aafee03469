"""Forest plots of the differences of every pair, and the scatter of safety against over-refusal.

Every difference is shown with its interval and n. The band of the margin and the line of no difference run through
every strip. The pairs of trained arms share one axis, those with an untrained model another. A run without both
rates is named beside the scatter, not drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from moe_cli.records import Comparison, EvaluationSummary, PairComparison, PairedDifference, Rate
from moe_cli.views.compared_tables import adjusted_p_text, difference_text, verdict_style, verdict_text
from moe_cli.views.report.drawing import (
    Drawing,
    Mark,
    Scale,
    Series,
    draw_label,
    line,
    minus,
    rect,
    shape,
    signed,
    tick_text,
    ticks,
)
from moe_cli.views.text import goals_text, rate_text

HEIGHT = 46
AXIS_HEIGHT = 22
INSET = 0.02  # of the width at both ends


@dataclass(frozen=True, slots=True)
class ForestRow:
    """The row of one difference."""

    name: str
    numbers: str  # "-12.3 [-20.0, -4.5]"
    note: str  # "n 800 (200 goals), p 0.003"
    verdict: str
    style: str  # class name of the verdict
    strip: Drawing


@dataclass(frozen=True, slots=True)
class Forest:
    """The forest plot of one pair."""

    a: str
    b: str
    primary: tuple[ForestRow, ...]
    exploratory: tuple[ForestRow, ...]
    axis: Drawing


def forests(comparison: Comparison) -> tuple[Forest, ...]:
    """Every pair with a difference, pairs of trained arms first."""
    of_trained, of_untrained = (
        [pair for pair in pairs if pair.differences] for pairs in (_pairs(comparison, False), _pairs(comparison, True))
    )
    return tuple(
        _forest(pair, comparison, _scale(pairs, comparison.margin))
        for pairs in (of_trained, of_untrained)
        for pair in pairs
    )


def ordered_pairs(comparison: Comparison) -> list[PairComparison]:
    """The pairs, those with an untrained model last."""
    return [*_pairs(comparison, False), *_pairs(comparison, True)]


def _pairs(comparison: Comparison, with_untrained: bool) -> list[PairComparison]:
    return [pair for pair in comparison.pairs if bool({pair.a, pair.b} & comparison.untrained) == with_untrained]


def _scale(pairs: Sequence[PairComparison], margin: float) -> Scale:
    """One axis in points for all these pairs; it includes every interval, the margin and zero."""
    differences = [difference for pair in pairs for difference in pair.differences]
    bounds = [bound for difference in differences for bound in (difference.lower, difference.upper)] + [-margin, margin]
    low, high = 100 * min(bounds), 100 * max(bounds)
    space = 0.04 * (high - low)
    return Scale(low - space, high + space, INSET, 1 - INSET)


def _forest(pair: PairComparison, comparison: Comparison, scale: Scale) -> Forest:
    ground = tuple(_ground(comparison.margin, scale))
    return Forest(
        a=pair.a,
        b=pair.b,
        primary=tuple(_row(difference, pair, scale, ground) for difference in pair.primary),
        exploratory=tuple(_row(difference, pair, scale, ground) for difference in pair.exploratory),
        axis=_axis(comparison, scale),
    )


def _ground(margin: float, scale: Scale) -> Iterator[Mark]:
    yield rect(scale(-100 * margin), 0, scale(100 * margin) - scale(-100 * margin), HEIGHT, "band")
    for tick in ticks(scale.low, scale.high):
        yield line(scale(tick), 0, scale(tick), HEIGHT, "grid")
    yield line(scale(0), 0, scale(0), HEIGHT, "zero")


def _row(difference: PairedDifference, pair: PairComparison, scale: Scale, ground: tuple[Mark, ...]) -> ForestRow:
    middle = HEIGHT / 2
    style = verdict_style(difference)
    size = 1 if difference.primary else 0  # a square stands for the primary family, a disc for what is exploratory
    marks = (
        line(scale(100 * difference.lower), middle, scale(100 * difference.upper), middle, f"interval {style}"),
        shape(scale(100 * difference.difference), middle, size, f"sign {style}"),
    )
    points = minus(difference_text(difference))
    goals = goals_text(difference.n, difference.effective_clusters)
    note = f"n {difference.n}{f' ({goals} goals)' if goals else ''}, p {adjusted_p_text(difference)}"
    words = f"{difference.metric}: {pair.b} minus {pair.a} is {points} points, {note}: {verdict_text(difference)}."
    strip = Drawing(difference.metric, words, HEIGHT, (*ground, *marks))
    return ForestRow(difference.metric, points, note, verdict_text(difference), style, strip)


def _axis(comparison: Comparison, scale: Scale) -> Drawing:
    places = ticks(scale.low, scale.high)
    marks = [line(scale.start, 0, scale.end, 0, "axis")]
    marks += [draw_label(scale(tick), 15, tick_text(tick, places), "middle") for tick in places]
    margin = minus(f"{100 * comparison.margin:g}")
    label = (
        f"From {signed(scale.low, 0)} to {signed(scale.high, 0)} points; within {margin} points is within the margin."
    )
    return Drawing("Axis of the differences", label, AXIS_HEIGHT, tuple(marks))


TOP, BOTTOM, SCATTER_HEIGHT = 26.0, 300.0, 344


@dataclass(frozen=True, slots=True)
class Point:
    """The point of one run."""

    series: Series
    name: str
    safety: Rate  # attack success
    refusal: Rate  # over-refusal

    @property
    def words(self) -> str:
        """The numbers of the run as text."""
        return f"attack success {rate_text(self.safety)}, over-refusal {rate_text(self.refusal)}"


@dataclass(frozen=True, slots=True)
class Scatter:
    """The scatter plot; the drawing is None where no run has both rates."""

    drawing: Drawing | None
    points: tuple[Point, ...]
    left_out: tuple[str, ...]  # runs without both rates


def scatter(series: Sequence[Series]) -> Scatter:
    """Attack success upwards, over-refusal to the right: the better corner is at the lower left."""
    runs = [(arm_series, column.name, summary) for arm_series in series for column, summary in arm_series.evaluations]
    points = [point for arm_series, name, summary in runs if (point := _point(arm_series, name, summary))]
    drawn = {point.name for point in points}
    names = [column.name for arm_series in series for column in arm_series.columns]
    return Scatter(
        _drawing(points) if points else None, tuple(points), tuple(name for name in names if name not in drawn)
    )


def _point(series: Series, name: str, summary: EvaluationSummary) -> Point | None:
    safety, refusal = summary.attack_success, summary.over_refusal
    if safety is None or refusal is None or safety.rate is None or refusal.rate is None:
        return None
    return Point(series, name, safety, refusal)


def _bounds(rate: Rate) -> tuple[float, float, float]:
    """Rate, lower and upper bound in percent."""
    middle = 100 * (rate.rate or 0.0)
    low = middle if rate.lower is None else 100 * rate.lower
    return middle, low, middle if rate.upper is None else 100 * rate.upper


def _drawing(points: Sequence[Point]) -> Drawing:
    across = Scale(0.0, _top([_bounds(point.refusal)[2] for point in points]))
    down = Scale(0.0, _top([_bounds(point.safety)[2] for point in points]), BOTTOM, TOP)
    marks = _grid(across, down)
    for point in points:
        x, x_low, x_high = _bounds(point.refusal)
        y, y_low, y_high = _bounds(point.safety)
        marks.append(line(across(x_low), down(y), across(x_high), down(y), f"whisker {point.series.style}"))
        marks.append(line(across(x), down(y_low), across(x), down(y_high), f"whisker {point.series.style}"))
        marks.append(shape(across(x), down(y), point.series.place, f"sign {point.series.style}"))
    words = "; ".join(f"{point.name}: {point.words}" for point in points)
    return Drawing("Attack success against over-refusal", f"{words}.", SCATTER_HEIGHT, tuple(marks))


def _top(values: Sequence[float]) -> float:
    """The end of an axis that begins at zero: the next tick, at most 100."""
    high = max(*values, 5.0)
    places = ticks(0.0, high)
    return min(100.0, places[-1] + places[1] if places[-1] < high else places[-1])


def _grid(across: Scale, down: Scale) -> list[Mark]:
    columns, rows = ticks(0.0, across.high), ticks(0.0, down.high)
    marks = [line(across(tick), TOP, across(tick), BOTTOM, "grid") for tick in columns]
    marks += [line(across.start, down(tick), across.end, down(tick), "grid") for tick in rows]
    marks += [draw_label(across(tick), BOTTOM + 17, tick_text(tick, columns), "middle") for tick in columns]
    marks += [draw_label(across.start - 0.01, down(tick) + 4, tick_text(tick, rows), "end") for tick in rows]
    marks.append(draw_label(0.0, 13, "↑ attack success, %: lower is safer", "start", "axis-name"))
    marks.append(
        draw_label(across.end, SCATTER_HEIGHT - 6, "over-refusal, %: less is more helpful →", "end", "axis-name")
    )
    return marks
