"""The report of an ablation: `report.html`, one static file as that of a comparison.

The four outcomes stand as bars, one for each of: nothing taken away, the selected experts, every control set. Below
them every control set is a dot on a line of effects, with the selected set and its interval.
"""

from __future__ import annotations

from moe_cli.records import Ablation, ConditionOutcomes, Estimate
from moe_cli.views.ablated import ITEMS, MEASURED, ablation_tables, verdict_sentence
from moe_cli.views.report.drawing import Drawing, Mark, Scale, draw_label, line, rect, shape, tick_text, ticks
from moe_cli.views.report.page import render_page

OUTCOMES = (("harmful", "s1"), ("neither", "s2"), ("degenerate", "s3"), ("refused", "s0"))
BAR, GAP, THIN = 18.0, 6.0, 5.0
NAMES = 0.17  # of the width, for the names of the bars
ROW = 46.0


def ablation_page(ablation: Ablation) -> str:
    """The whole report as HTML."""
    effect, repair = MEASURED[ablation.side]
    return render_page(
        "ablation.html",
        f"{ablation.model.name}: experts taken away",
        ablation=ablation,
        verdict=verdict_sentence(ablation),
        outcomes=OUTCOMES,
        items=ITEMS[ablation.side],
        bars=outcome_chart(ablation),
        effects=effect_chart(ablation),
        effect=effect,
        repair=repair,
        tables=ablation_tables(ablation),
    )


def outcome_chart(ablation: Ablation) -> Drawing:
    """The shares of the four outcomes by condition, control sets thin and in order of their harm."""
    across = Scale(0.0, 1.0, NAMES, 0.99)
    marks: list[Mark] = []
    y = 8.0
    wide = ((ablation.untouched, "nothing"), (ablation.selected, "selected experts"))
    for condition, name in wide:
        marks += [*_bar(condition, ablation.num_items, across, y, BAR), draw_label(0.0, y + 13, name)]
        y += BAR + GAP
    controls = sorted(ablation.controls, key=lambda one: (-one.harmful, -one.degenerate))
    marks.append(draw_label(0.0, y + 13, f"{len(controls)} control sets"))
    for condition in controls:
        marks += _bar(condition, ablation.num_items, across, y, THIN - 1)
        y += THIN
    percents = [100 * tick for tick in ticks(0.0, 1.0, 5)]
    marks += [draw_label(across(one / 100), y + 16, tick_text(one, percents), "middle") for one in percents]
    marks.append(draw_label(0.99, y + 34, "share of items, %", "end", "axis-name"))
    words = f"nothing: {_words(ablation.untouched)}; selected experts: {_words(ablation.selected)}."
    return Drawing(f"{ITEMS[ablation.side]}: outcomes", words, int(y + 40), tuple(marks))


def _words(one: ConditionOutcomes) -> str:
    return f"{one.harmful} harmful, {one.neither} neither, {one.degenerate} degenerate, {one.refused} refused"


def _bar(one: ConditionOutcomes, num_items: int, across: Scale, y: float, height: float) -> list[Mark]:
    numbers = {"harmful": one.harmful, "neither": one.neither, "degenerate": one.degenerate, "refused": one.refused}
    marks, start = [], 0
    for name, style in OUTCOMES:
        end = start + numbers[name]
        left, right = across(start / num_items), across(end / num_items)
        if end > start:
            marks.append(rect(left, y, right - left, height, f"bar {style}"))
        start = end
    return marks


def effect_chart(ablation: Ablation) -> Drawing:
    """Effect and repair of every control set as dots, of the selected set with its interval."""
    rows = (
        ("effect", ablation.effect, [one.effect for one in ablation.controls]),
        ("repair", ablation.repair, [one.repair for one in ablation.controls]),
    )
    values = [0.0]
    for _, estimate, controls in rows:
        values += [estimate.value, *controls, *(end for end in (estimate.lower, estimate.upper) if end is not None)]
    across = Scale(min(values) - 0.02, max(values) + 0.02, NAMES, 0.99)
    bottom = 10 + ROW * len(rows)
    places = ticks(across.low, across.high)
    percents = [100 * place for place in places]
    marks = [line(across(place), 4, across(place), bottom, "grid") for place in places]
    marks += [draw_label(across(place), bottom + 16, tick_text(100 * place, percents), "middle") for place in places]
    marks += [line(across(0), 4, across(0), bottom, "reference base")]
    for number, (name, estimate, controls) in enumerate(rows):
        y = 12 + ROW * (number + 0.5)
        marks += [draw_label(0.0, y + 4, name)]
        marks += [shape(across(value), y + 9, 0, "sign s0 dot") for value in controls]
        marks += _selected(estimate, across, y - 9)
    marks.append(draw_label(0.99, bottom + 34, "points", "end", "axis-name"))
    words = "; ".join(f"{name} of the selected experts {100 * one.value:.1f} points" for name, one, _ in rows)
    return Drawing("Effect and repair beside the control sets", f"{words}.", int(bottom + 40), tuple(marks))


def _selected(one: Estimate, across: Scale, y: float) -> list[Mark]:
    marks = [shape(across(one.value), y, 2, "sign s1")]
    if one.lower is not None and one.upper is not None:
        marks.insert(0, line(across(one.lower), y, across(one.upper), y, "whisker s1"))
    return marks
