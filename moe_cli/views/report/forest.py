"""The differences of every pair as a forest plot: a strip for each measure.

Comes in: `Comparison`. Goes out: rows with their strip and their numbers. Always holds: no difference without its
interval and n; the band of the margin and the line of no difference run through every strip; the pairs of trained arms
share one axis, those with an untrained model another.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from moe_cli.records import Comparison, PairComparison, PairedDifference
from moe_cli.views.compared_pairs import ordered, p_cell, verdict_text
from moe_cli.views.numbers import goals_text
from moe_cli.views.report.drawing import (
    Drawing,
    Mark,
    Scale,
    draw_label,
    line,
    minus,
    rect,
    shape,
    signed,
    tick_text,
    ticks,
)

HEIGHT = 46
AXIS_HEIGHT = 22
INSET = 0.02  # of the width at both ends


@dataclass(frozen=True, slots=True)
class ForestRow:
    """One difference."""

    name: str
    numbers: str  # "-12.3 [-20.0, -4.5]"
    note: str  # "n 800 (200 goals), p 0.003"
    verdict: str
    style: str  # class name of the verdict
    strip: Drawing


@dataclass(frozen=True, slots=True)
class Forest:
    """One pair."""

    a: str
    b: str
    primary: tuple[ForestRow, ...]
    exploratory: tuple[ForestRow, ...]
    axis: Drawing


def forests(comparison: Comparison) -> tuple[Forest, ...]:
    """Every pair with a difference, those of two trained arms first."""
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
    untrained = {column.name for column in comparison.columns if column.training_mode == "base"}
    return [pair for pair in comparison.pairs if bool({pair.a, pair.b} & untrained) == with_untrained]


def difference_text(found: PairedDifference) -> str:
    """`-12.3 [-20.0, -4.5]`, in points."""
    return f"{signed(100 * found.difference, 1)} [{signed(100 * found.lower, 1)}, {signed(100 * found.upper, 1)}]"


def verdict_style(found: PairedDifference) -> str:
    """The class name of a verdict."""
    return f"v-{found.verdict.replace(' ', '-')}"


def _scale(pairs: Sequence[PairComparison], margin: float) -> Scale:
    """One axis, in points, for all these pairs; it holds every interval, the margin and no difference."""
    found = [one for pair in pairs for one in pair.differences]
    bounds = [bound for one in found for bound in (one.lower, one.upper)] + [-margin, margin]
    low, high = 100 * min(bounds), 100 * max(bounds)
    space = 0.04 * (high - low)
    return Scale(low - space, high + space, INSET, 1 - INSET)


def _forest(pair: PairComparison, comparison: Comparison, scale: Scale) -> Forest:
    primary, others = ordered(pair)
    ground = tuple(_ground(comparison.margin, scale))
    return Forest(
        a=pair.a,
        b=pair.b,
        primary=tuple(_row(found, pair, scale, ground) for found in primary),
        exploratory=tuple(_row(found, pair, scale, ground) for found in others),
        axis=_axis(comparison, scale),
    )


def _ground(margin: float, scale: Scale) -> Iterator[Mark]:
    yield rect(scale(-100 * margin), 0, scale(100 * margin) - scale(-100 * margin), HEIGHT, "band")
    for tick in ticks(scale.low, scale.high):
        yield line(scale(tick), 0, scale(tick), HEIGHT, "grid")
    yield line(scale(0), 0, scale(0), HEIGHT, "zero")


def _row(found: PairedDifference, pair: PairComparison, scale: Scale, ground: tuple[Mark, ...]) -> ForestRow:
    middle = HEIGHT / 2
    style = verdict_style(found)
    size = 1 if found.primary else 0  # a square stands for the primary family, a disc for what is exploratory
    marks = (
        line(scale(100 * found.lower), middle, scale(100 * found.upper), middle, f"interval {style}"),
        shape(scale(100 * found.difference), middle, size, f"sign {style}"),
    )
    goals = goals_text(found.n, found.effective_clusters)
    note = f"n {found.n}{f' ({goals} goals)' if goals else ''}, p {p_cell(found, found.p_adjusted, 2)}"
    words = (
        f"{found.metric}: {pair.b} minus {pair.a} is {difference_text(found)} points, {note}: {verdict_text(found)}."
    )
    strip = Drawing(found.metric, words, HEIGHT, (*ground, *marks))
    return ForestRow(found.metric, difference_text(found), note, verdict_text(found), style, strip)


def _axis(comparison: Comparison, scale: Scale) -> Drawing:
    places = ticks(scale.low, scale.high)
    marks = [line(scale.start, 0, scale.end, 0, "axis")]
    marks += [draw_label(scale(tick), 15, tick_text(tick, places), "middle") for tick in places]
    margin = minus(f"{100 * comparison.margin:g}")
    words = (
        f"From {signed(scale.low, 0)} to {signed(scale.high, 0)} points; within {margin} points is within the margin."
    )
    return Drawing("Axis of the differences", words, AXIS_HEIGHT, tuple(marks))
