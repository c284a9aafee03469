"""Heat maps of experts: layers downwards, experts across, one cell for every value.

The maps of one kind share one scale. White (dark theme: black) is no difference, and an undefined value has a colour
of its own. The largest values are also named in words.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from moe_cli.records import ExpertMap
from moe_cli.views.report.drawing import Drawing, Frame, Mark, draw_label, rect, share, signed, ticks
from moe_cli.views.selected import parts_text, separation_text

STEPS = 5  # colours on either side of zero
NAMED = 5  # largest values in words
TOP, MOST_HEIGHT = 4, 420
MANY = 32  # experts that need the whole width


@dataclass(frozen=True, slots=True)
class Swatch:
    """One colour of a legend, or the text at an end of a scale."""

    style: str | None
    text: str


@dataclass(frozen=True, slots=True)
class HeatMap:
    """One map with its legend."""

    name: str
    what: str
    wide: bool
    drawing: Drawing
    swatches: tuple[Swatch, ...]
    largest: str


def heat_maps(maps: Sequence[ExpertMap]) -> tuple[HeatMap, ...]:
    """All maps, those of one kind on one scale."""
    bounds: defaultdict[str, float] = defaultdict(float)
    for expert_map in maps:
        known = [abs(value) for row in expert_map.values for value in row if value is not None]
        bounds[expert_map.kind] = max([bounds[expert_map.kind], *known])
    return tuple(_heat_map(expert_map, bounds[expert_map.kind] or 1.0) for expert_map in maps)


def _heat_map(expert_map: ExpertMap, bound: float) -> HeatMap:
    num_experts = max((len(row) for row in expert_map.values), default=0)
    cell = max(5.0, min(20.0, MOST_HEIGHT / max(1, len(expert_map.layers))))
    height = cell * len(expert_map.layers)
    frame = Frame(
        share(0.08),
        TOP,
        share(0.92),
        height,
        (max(1, num_experts), max(1, len(expert_map.layers))),
        _cells(expert_map, bound),
    )
    largest = _largest(expert_map)
    what = "; ".join((expert_map.what, *_evidence_texts(expert_map)))
    words = f"{expert_map.what}, {len(expert_map.layers)} layers of {num_experts} experts; largest: {largest}."
    edge = rect(0.08, TOP, 0.92, height, "edge")
    marks = (edge, *_layer_names(expert_map, cell), *_expert_names(num_experts, TOP + height + 15))
    drawing = Drawing(expert_map.name, words, round(TOP + height + 22), marks, (frame,))
    return HeatMap(expert_map.name, what, num_experts > MANY, drawing, tuple(_swatches(expert_map, bound)), largest)


def _evidence_texts(expert_map: ExpertMap) -> Iterator[str]:
    """What the selected experts' risk differences are made of, and what they tell of other goals."""
    if expert_map.kind == "risk":
        yield parts_text(expert_map.parts)
        yield separation_text(expert_map.separation, expert_map.no_separation)


def _cells(expert_map: ExpertMap, bound: float) -> tuple[tuple[str, str], ...]:
    """One path for every colour; neighbouring cells of one colour are merged into one box."""
    paths: defaultdict[str, list[str]] = defaultdict(list)
    for y, row in enumerate(expert_map.values):
        styles = [_style(expert_map, value, bound) for value in row]
        first = 0
        for x in range(1, len(styles) + 1):
            if x == len(styles) or styles[x] != styles[first]:
                paths[styles[first]].append(f"M{first} {y}h{x - first}v1h-{x - first}z")
                first = x
    return tuple((style, "".join(boxes)) for style, boxes in sorted(paths.items()))


def _style(expert_map: ExpertMap, value: float | None, bound: float) -> str:
    if value is None:
        return "undefined"
    if expert_map.kind == "selection":
        return f"c{-int(-STEPS * value // bound)}"  # only an expert that was never selected has the first colour
    step = round(STEPS * value / bound)
    return f"{'n' if step < 0 else 'p'}{abs(step)}"


def _largest(expert_map: ExpertMap) -> str:
    """The values furthest from zero, with their layers and experts."""
    known = [
        (abs(value), -layer, -expert, value)
        for layer, row in zip(expert_map.layers, expert_map.values, strict=True)
        for expert, value in enumerate(row)
        if value
    ]
    top = sorted(known, reverse=True)[:NAMED]
    return (
        "; ".join(f"layer {-y} expert {-x}: {_value(expert_map, value)}" for _, y, x, value in top) or "none but zero"
    )


def _value(expert_map: ExpertMap, value: float) -> str:
    return f"{value:g}" if expert_map.kind == "selection" else signed(value, 3)


def _swatches(expert_map: ExpertMap, bound: float) -> Iterator[Swatch]:
    yield from _counted(bound) if expert_map.kind == "selection" else _diverging(bound)
    if any(value is None for row in expert_map.values for value in row):
        yield Swatch("undefined", "undefined")


def _counted(bound: float) -> Iterator[Swatch]:
    yield Swatch("c0", "0")
    for step in range(1, STEPS + 1):
        low, high = int((step - 1) * bound / STEPS) + 1, int(step * bound / STEPS)
        if low <= high:
            yield Swatch(f"c{step}", f"{low}" if low == high else f"{low}–{high}")


def _diverging(bound: float) -> Iterator[Swatch]:
    yield Swatch(None, signed(-bound, 3))
    for step in range(-STEPS, STEPS + 1):
        yield Swatch(f"{'n' if step < 0 else 'p'}{abs(step)}", "")
    yield Swatch(None, signed(bound, 3))


def _layer_names(expert_map: ExpertMap, cell: float) -> Iterator[Mark]:
    every = max(1, round(14 / cell + 0.49))
    for row, layer in enumerate(expert_map.layers):
        if row % every == 0:
            yield draw_label(0.07, TOP + (row + 0.5) * cell + 4, str(layer), "end")


def _expert_names(num_experts: int, y: float) -> Iterator[Mark]:
    for tick in ticks(0, max(1, num_experts - 1), 8):
        if tick == round(tick) and tick < num_experts:
            yield draw_label(0.08 + 0.92 * (tick + 0.5) / num_experts, y, f"{tick:.0f}", "middle")
