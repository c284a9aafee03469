"""What each run cost, as bars that begin at zero.

Comes in: the series of a comparison. Goes out: a group of bars for every measure. Always holds: every bar has its
number beside it; what is not known says so and has no bar; each measure has its own scale.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from moe_cli.records import RunColumn
from moe_cli.views.numbers import bytes_text, seconds_text
from moe_cli.views.report.drawing import Drawing, line, rect
from moe_cli.views.report.series import Series

BAR_HEIGHT = 18
UNKNOWN = "not measured"
NONE = "none"  # an arm that trains everything has no experts apart


@dataclass(frozen=True, slots=True)
class Bar:
    """One run."""

    name: str
    number: str
    strip: Drawing | None  # None: not known


@dataclass(frozen=True, slots=True)
class BarGroup:
    """One measure."""

    name: str
    bars: tuple[Bar, ...]


Value = Callable[[RunColumn], float | None]
Text = Callable[[float], str]

# Name, value, its text, and what stands where there is none.
MEASURES: tuple[tuple[str, Value, Text, str], ...] = (
    ("trainable share", lambda column: column.trainable_ratio, lambda share: f"{100 * share:.3f} %", UNKNOWN),
    ("training time", lambda column: column.seconds_training, seconds_text, UNKNOWN),
    ("peak memory of the training", lambda column: column.peak_memory_bytes, bytes_text, UNKNOWN),
    ("size of final_model/", lambda column: column.final_model_bytes, bytes_text, UNKNOWN),
    ("size of the trained experts alone", lambda column: column.delta_bytes, bytes_text, NONE),
)


def cost_bars(series: Sequence[Series]) -> tuple[BarGroup, ...]:
    """Every measure that is known of a run that was trained; empty where no run was."""
    runs = [(one, column) for one in series for column in one.columns if column.trainable_params is not None]
    groups = []
    for name, value, text, none in MEASURES:
        known = [found for _, column in runs if (found := value(column)) is not None]
        if known:
            bars = (
                _bar(one, column, found, max(known), text(found))
                if (found := value(column)) is not None
                else Bar(column.name, none, None)
                for one, column in runs
            )
            groups.append(BarGroup(name, tuple(bars)))
    return tuple(groups)


def _bar(series: Series, column: RunColumn, value: float, most: float, number: str) -> Bar:
    width = value / most if most else 0.0
    marks = (rect(0.0, 3, width, BAR_HEIGHT - 6, f"bar {series.style}"), line(0.0, 0, 0.0, BAR_HEIGHT, "axis"))
    return Bar(column.name, number, Drawing(column.name, f"{number}.", BAR_HEIGHT, marks))
