"""Building blocks of the report's figures, and the colour and marker of each arm.

A position is a share of the width (0 to 1) across and pixels down; the template writes a `Drawing` as inline SVG. A
drawing states its finding in words. A mark is one of five plain elements with attributes of numbers and class names,
never of foreign text. Curves and cells lie in a frame, which is stretched.

An untrained model is grey. The colours differ for colour-blind eyes, too, and every arm has a shape beside its
colour.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from moe_cli.records import ComparedArm, Comparison, EvaluationSummary, RunColumn

LEFT, RIGHT = 0.09, 0.99  # of a plot with numbers at its left

Anchor = Literal["start", "middle", "end"]
SHAPES = (
    "M-5 0a5 5 0 1 0 10 0a5 5 0 1 0 -10 0z",  # disc
    "M-4.5 -4.5h9v9h-9z",  # square
    "M0 -6l6 6l-6 6l-6 -6z",  # diamond
    "M0 -6l5.5 10h-11z",  # triangle
    "M-2 -6h4v4h4v4h-4v4h-4v-4h-4v-4h4z",  # cross
)
COLOURS = 5  # after them they begin again, with other shapes


@dataclass(frozen=True, slots=True)
class Mark:
    """One SVG element."""

    tag: Literal["line", "rect", "text", "shape"]
    style: str  # class names
    attributes: tuple[tuple[str, str], ...]
    text: str = ""  # of a text; of a shape its path


@dataclass(frozen=True, slots=True)
class Frame:
    """A part of a drawing that is stretched to its size: paths in units of its own."""

    x: str
    y: float
    width: str
    height: float
    units: tuple[int, int]  # across and down
    paths: tuple[tuple[str, str], ...]  # class names, path


@dataclass(frozen=True, slots=True)
class Drawing:
    """One figure."""

    title: str
    words: str  # the finding in numbers, for who does not see it
    height: int
    marks: tuple[Mark, ...]
    frames: tuple[Frame, ...] = ()


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps values to positions: `low` to `start`, `high` to `end`."""

    low: float
    high: float
    start: float = LEFT
    end: float = RIGHT

    def __call__(self, value: float) -> float:
        """Position of a value; one outside the range is at its edge."""
        share = (min(max(value, self.low), self.high) - self.low) / ((self.high - self.low) or 1.0)
        return self.start + share * (self.end - self.start)


def share(place: float) -> str:
    """A share of the width as an attribute."""
    return f"{100 * place:.2f}%"


def line(x_1: float, y_1: float, x_2: float, y_2: float, style: str) -> Mark:
    """A line between two positions."""
    ends = (("x1", share(x_1)), ("y1", f"{y_1:.1f}"), ("x2", share(x_2)), ("y2", f"{y_2:.1f}"))
    return Mark("line", style, ends)


def rect(x: float, y: float, width: float, height: float, style: str) -> Mark:
    """A filled box."""
    sides = (("x", share(x)), ("y", f"{y:.1f}"), ("width", share(width)), ("height", f"{height:.1f}"))
    return Mark("rect", style, sides)


def draw_label(x: float, y: float, text: str, anchor: Anchor = "start", style: str = "tick") -> Mark:
    """A text; `y` is its baseline."""
    return Mark("text", style, (("x", share(x)), ("y", f"{y:.1f}"), ("text-anchor", anchor)), text)


def shape(x: float, y: float, place: int, style: str) -> Mark:
    """The marker of a series, centred at a position."""
    return Mark("shape", style, (("x", share(x)), ("y", f"{y:.1f}")), SHAPES[place % len(SHAPES)])


def curve(points: Iterable[tuple[float, float]]) -> str:
    """The SVG path of a line through points in the units of a frame."""
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers between two values, at most `most` of them (one more where both ends are round).

    `most` is 3 or more; then there is at least one, as the step is below the distance.
    """
    rough = (high - low) / most or 1.0
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(step for step in (power, 2 * power, 5 * power, 10 * power) if step >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [place * step for place in range(first, last + 1)]


def tick_text(value: float, among: Sequence[float]) -> str:
    """A tick with enough digits to tell it from its neighbours."""
    step = abs(among[1] - among[0]) if len(among) > 1 else abs(value) or 1.0
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    return minus(f"{value + 0.0:.{digits}f}" if abs(value) > step / 1e3 else "0")


def minus(text: str) -> str:
    """The number's text with a true minus sign."""
    return text.replace("-", "\N{MINUS SIGN}")


def signed(value: float, digits: int) -> str:
    """A number with its sign."""
    return minus(f"{value:+.{digits}f}")


@dataclass(frozen=True, slots=True)
class Series:
    """One arm as shown in the figures."""

    name: str
    style: str  # class name: "s0" for an untrained model
    place: int  # of its shape
    columns: tuple[RunColumn, ...]

    @property
    def shape(self) -> str:
        """The arm's marker, as a path."""
        return SHAPES[self.place % len(SHAPES)]

    @property
    def evaluations(self) -> Iterator[tuple[RunColumn, EvaluationSummary]]:
        """The evaluated runs of the arm."""
        return ((column, column.evaluation) for column in self.columns if column.evaluation is not None)


def series_of(comparison: Comparison) -> tuple[Series, ...]:
    """A series for every arm, in the order of the arms."""
    made: list[Series] = []
    for arm, columns in zip(comparison.arms, comparison.arm_columns, strict=True):
        trained = sum(arm_series.style != "s0" for arm_series in made)
        untrained = all(column.is_untrained for column in columns)
        style = "s0" if untrained else f"s{1 + trained % COLOURS}"
        made.append(Series(_named(arm), style, 0 if untrained else 1 + trained, columns))
    return tuple(made)


def _named(arm: ComparedArm) -> str:
    return arm.name if len(arm.runs) == 1 else f"{arm.name} ({len(arm.runs)} runs)"
