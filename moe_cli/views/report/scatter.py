"""Safety against over-refusal: every evaluated run as a point with the intervals of both its rates.

Comes in: the series of a comparison. Goes out: a drawing and what stands in its legend. Always holds: a run without
both rates is named beside the figure, not drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from moe_cli.records import EvaluationSummary, Rate
from moe_cli.views.numbers import rate_text
from moe_cli.views.report.drawing import Drawing, Mark, Scale, draw_label, line, shape, tick_text, ticks
from moe_cli.views.report.series import Series

TOP, BOTTOM, SCATTER_HEIGHT = 26.0, 300.0, 344


@dataclass(frozen=True, slots=True)
class Point:
    """One run."""

    series: Series
    name: str
    safety: Rate  # attack success
    refusal: Rate  # over-refusal

    @property
    def words(self) -> str:
        """Its numbers."""
        return f"attack success {rate_text(self.safety)}, over-refusal {rate_text(self.refusal)}"


@dataclass(frozen=True, slots=True)
class Scatter:
    """The figure; None where no run has both rates."""

    drawing: Drawing | None
    points: tuple[Point, ...]
    left_out: tuple[str, ...]  # runs without both rates


def scatter(series: Sequence[Series]) -> Scatter:
    """Attack success upwards, over-refusal to the right: the better corner is at the lower left."""
    runs = [(one, column.name, summary) for one in series for column, summary in one.evaluations]
    found = [point for one, name, summary in runs if (point := _point(one, name, summary))]
    drawn = {point.name for point in found}
    names = [column.name for one in series for column in one.columns]
    return Scatter(_drawing(found) if found else None, tuple(found), tuple(name for name in names if name not in drawn))


def _point(series: Series, name: str, summary: EvaluationSummary) -> Point | None:
    safety, refusal = summary.attack_success, summary.over_refusal
    if safety is None or refusal is None or safety.rate is None or refusal.rate is None:
        return None
    return Point(series, name, safety, refusal)


def _bounds(rate: Rate) -> tuple[float, float, float]:
    """Rate, lower and upper in percent."""
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
