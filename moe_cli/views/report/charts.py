"""Line charts and bars of the report: loss, routing drift, and what each run cost.

A point of a long curve is the mean of equally many steps, and the figure says of how many. Every bar has its number
beside it, and each measure has its own scale. No point or bar is drawn where nothing was measured; what is not known
says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from moe_cli.records import Estimate, EvaluationSummary, LossCurve, RunColumn
from moe_cli.views.report.drawing import (
    Drawing,
    Frame,
    Mark,
    Scale,
    Series,
    curve,
    draw_label,
    line,
    rect,
    shape,
    share,
    tick_text,
    ticks,
)
from moe_cli.views.text import bytes_text, optional_text, seconds_text

TOP, BOTTOM, HEIGHT = 26.0, 236.0, 280
MOST_POINTS = 300
UNITS = 1000  # across a frame

Points = tuple[tuple[float, float], ...]
BAR_HEIGHT = 18
UNKNOWN = "not measured"
NONE = "none"  # an arm that trains everything has no experts apart
LayerValues = tuple[float, Sequence[tuple[int, Estimate]]]  # the mean over the layers, and the value of each layer
Value = Callable[[RunColumn], float | None]
Text = Callable[[float], str]


@dataclass(frozen=True, slots=True)
class Line:
    """One curve of a chart."""

    name: str
    series: Series
    points: Points
    signs: Points = ()  # places that carry the sign of the series
    bars: tuple[tuple[float, float, float], ...] = ()  # place, lower, upper


def loss_chart(curves: Sequence[LossCurve], series: Sequence[Series]) -> Drawing | None:
    """The loss of every step and of the held-out batches; None where no curve is known."""
    of_run = {column.name: one for one in series for column in one.columns}
    lines = [
        Line(found.run, of_run[found.run], thinned(found), tuple((float(step), loss) for step, loss in found.held_out))
        for found in curves
        if found.run in of_run and found.steps
    ]
    return chart(lines, "Training loss", "step", "loss, nats", "; ".join(map(_loss_words, curves))) if lines else None


def steps_per_point(curves: Sequence[LossCurve]) -> int:
    """How many steps each point of the longest curve averages."""
    return max((_per_point(found) for found in curves), default=1)


def thinned(found: LossCurve) -> Points:
    """The curve averaged to at most `MOST_POINTS` points."""
    per = _per_point(found)
    parts = [slice(first, first + per) for first in range(0, len(found.steps), per)]
    return tuple(
        (sum(found.steps[part]) / len(found.steps[part]), sum(found.losses[part]) / len(found.losses[part]))
        for part in parts
    )


def _per_point(loss_curve: LossCurve) -> int:
    return -(-len(loss_curve.steps) // MOST_POINTS) or 1


def _loss_words(loss_curve: LossCurve) -> str:
    if not loss_curve.steps:
        return f"{loss_curve.run}: no step"
    held_out = (
        f", held out {optional_text(loss_curve.held_out[-1][1], 4)} after step {loss_curve.held_out[-1][0]}"
        if loss_curve.held_out
        else ""
    )
    return (
        f"{loss_curve.run}: from {optional_text(loss_curve.losses[0], 4)}"
        f" to {optional_text(loss_curve.losses[-1], 4)} in {len(loss_curve.steps)} steps{held_out}"
    )


def layer_chart(series: Sequence[Series]) -> Drawing | None:
    """The Jensen-Shannon divergence of the routing by layer; None where no run has it."""

    def drift_of(summary: EvaluationSummary) -> LayerValues | None:
        drift = summary.routing_drift
        js = drift and drift.js_without_noise
        return (js.value, [(layer.layer, layer.js) for layer in drift.layers]) if drift and js else None

    return _layer_lines(series, drift_of, "Routing drift per layer", "JS, nats")


def prompt_chart(series: Sequence[Series]) -> Drawing | None:
    """The KL divergence of the routers at the end of harmful prompts by layer; None where no run has it."""

    def drift_of(summary: EvaluationSummary) -> LayerValues | None:
        drift = summary.prompt_drift
        if drift is None or drift.kl is None:
            return None
        return drift.kl.value, [(layer.layer, layer.kl) for layer in drift.layers if layer.kl is not None]

    return _layer_lines(series, drift_of, "Router drift at harmful prompts per layer", "KL, nats")


def _layer_lines(
    series: Sequence[Series], drift_of: Callable[[EvaluationSummary], LayerValues | None], title: str, y_name: str
) -> Drawing | None:
    """A line for every run that has a drift by layer."""
    lines, words = [], []
    for arm_series in series:
        for column, summary in arm_series.evaluations:
            drift = drift_of(summary)
            if drift is None or not drift[1]:
                continue
            mean, layers = drift
            points = tuple((float(layer), value.value) for layer, value in layers)
            bars = tuple(
                (float(layer), value.lower, value.upper)
                for layer, value in layers
                if value.lower is not None and value.upper is not None
            )
            lines.append(Line(column.name, arm_series, points, points, bars))
            most_layer, most = max(layers, key=lambda layer: layer[1].value)
            words.append(f"{column.name}: mean {mean:.5f}, most {most.value:.5f} at layer {most_layer}")
    return chart(lines, title, "layer", y_name, "; ".join(words)) if lines else None


def chart(lines: Sequence[Line], title: str, x_name: str, y_name: str, words: str) -> Drawing:
    """A chart of lines on one pair of axes; the vertical axis begins at zero."""
    places = [x for drawn_line in lines for x, _ in (*drawn_line.points, *drawn_line.signs)]
    values = [y for drawn_line in lines for _, y in (*drawn_line.points, *drawn_line.signs)] + [
        bar[2] for drawn_line in lines for bar in drawn_line.bars
    ]
    across = Scale(min(places), max(places))
    down = Scale(0.0, max(*values, 1e-9) * 1.04, BOTTOM, TOP)
    frame = Scale(across.low, across.high, 0, UNITS)
    marks = _axes(across, down, x_name, y_name)
    for drawn_line in lines:
        marks += [
            line(across(x), down(low), across(x), down(high), f"whisker {drawn_line.series.style}")
            for x, low, high in drawn_line.bars
        ]
        marks += [
            shape(across(x), down(y), drawn_line.series.place, f"sign {drawn_line.series.style}")
            for x, y in drawn_line.signs
        ]
    paths = tuple(
        (f"curve {drawn_line.series.style}", curve((frame(x), down(y)) for x, y in drawn_line.points))
        for drawn_line in lines
    )
    plot = Frame(share(across.start), 0, share(across.end - across.start), HEIGHT, (UNITS, HEIGHT), paths)
    return Drawing(title, f"{words}.", HEIGHT, tuple(marks), (plot,))


def _axes(across: Scale, down: Scale, x_name: str, y_name: str) -> list[Mark]:
    columns, rows = ticks(across.low, across.high), ticks(0.0, down.high, 5)
    columns = [tick for tick in columns if tick == round(tick)]  # steps and layers are whole
    marks = [line(across.start, down(tick), across.end, down(tick), "grid") for tick in rows]
    marks += [draw_label(across.start - 0.01, down(tick) + 4, tick_text(tick, rows), "end") for tick in rows]
    marks += [draw_label(across(tick), BOTTOM + 17, tick_text(tick, columns), "middle") for tick in columns]
    marks.append(draw_label(0.0, 13, y_name, "start", "axis-name"))
    marks.append(draw_label(across.end, HEIGHT - 8, f"{x_name} →", "end", "axis-name"))
    return marks


@dataclass(frozen=True, slots=True)
class Bar:
    """The bar of one run."""

    name: str
    number: str
    strip: Drawing | None  # None: not known


@dataclass(frozen=True, slots=True)
class BarGroup:
    """The bars of one measure."""

    name: str
    bars: tuple[Bar, ...]


# Name, value, its text, and what stands where there is none.
MEASURES: tuple[tuple[str, Value, Text, str], ...] = (
    ("trainable share", lambda column: column.trainable_ratio, lambda share: f"{100 * share:.3f} %", UNKNOWN),
    ("training time", lambda column: column.seconds_training, seconds_text, UNKNOWN),
    ("peak memory of the training", lambda column: column.peak_memory_bytes, bytes_text, UNKNOWN),
    ("size of final_model/", lambda column: column.final_model_bytes, bytes_text, UNKNOWN),
    ("size of what trained alone", lambda column: column.delta_bytes, bytes_text, NONE),
)


def cost_bars(series: Sequence[Series]) -> tuple[BarGroup, ...]:
    """Bars for every measure that is known of a trained run; empty where no run was trained."""
    runs = [
        (arm_series, column)
        for arm_series in series
        for column in arm_series.columns
        if column.trainable_params is not None
    ]
    groups = []
    for name, value, text, none in MEASURES:
        known = [found for _, column in runs if (found := value(column)) is not None]
        if known:
            bars = (
                _bar(arm_series, column, found, max(known), text(found))
                if (found := value(column)) is not None
                else Bar(column.name, none, None)
                for arm_series, column in runs
            )
            groups.append(BarGroup(name, tuple(bars)))
    return tuple(groups)


def _bar(series: Series, column: RunColumn, value: float, most: float, number: str) -> Bar:
    width = value / most if most else 0.0
    marks = (rect(0.0, 3, width, BAR_HEIGHT - 6, f"bar {series.style}"), line(0.0, 0, 0.0, BAR_HEIGHT, "axis"))
    return Bar(column.name, number, Drawing(column.name, f"{number}.", BAR_HEIGHT, marks))
