"""An ablation for the terminal, 80 columns wide, and as Markdown: `ablation.md`. Computes nothing.

Every share stands with its count; of the control sets the terminal shows the range, the other forms show each, and who
judged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from rich.console import Group, RenderableType

from moe_cli.records import Ablation, ConditionOutcomes, Estimate, Rate
from moe_cli.views.judge_tables import deciding_texts
from moe_cli.views.table import CellRow, NarrowColumn, ReportTable, as_markdown, as_rich, cell_rows_of
from moe_cli.views.text import NOTHING, count_of, markdown_text, percent_text, safe_text

CONDITIONS = "What the model does without experts"
MEASURED = {  # of the two sides: what an effect, and what a repair, is a change in
    "unsafe": ("harmful answers that go", "full refusals that come"),
    "safe": ("refusals of plain goals that go", "harmful answers that come"),
}

ITEMS = {"unsafe": "Attacks", "safe": "Goals that are asked plainly"}


def verdict_sentence(ablation: Ablation) -> str:
    """The verdict with its reason."""
    which = "the selected experts" if ablation.side == "unsafe" else "the experts of plain refusals"
    num = str(ablation.selected.num_experts)
    routed = f"{num}; routers decide as in the model as it is" if ablation.intervention.without_router_effects else num
    return f"Taking {which} away ({routed}): {ablation.verdict}. {_sentence(ablation.reason)}"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def ablated_view(ablation: Ablation) -> RenderableType:
    """Conditions, findings and single experts, then the verdict and what to mind."""
    return Group(
        as_rich(condition_table(ablation, each_control=False)),
        as_rich(ablation_findings(ablation)),
        *([as_rich(expert_table(ablation))] if ablation.each else []),
        *(safe_text(f"note: {warning}") for warning in ablation.warnings),
        safe_text(verdict_sentence(ablation)),
    )


def ablated_markdown(ablation: Ablation) -> str:
    """The whole ablation as Markdown."""
    return "\n\n".join(_parts(ablation)) + "\n"


def _parts(ablation: Ablation) -> Iterator[str]:
    yield "# Ablation of experts"
    yield markdown_text(verdict_sentence(ablation))
    if ablation.warnings:
        yield "\n".join(f"- {markdown_text(warning)}" for warning in ablation.warnings)
    for table in ablation_tables(ablation):
        yield as_markdown(table)


def ablation_tables(ablation: Ablation) -> tuple[ReportTable, ...]:
    """The tables of Markdown and of the report."""
    tables = (ablation_findings(ablation), condition_table(ablation, each_control=True))
    return (*tables, expert_table(ablation)) if ablation.each else tables


def condition_table(ablation: Ablation, *, each_control: bool) -> ReportTable:
    """The four outcomes of harmful items and what benign ones show, by condition."""
    controls = ablation.controls
    shown = controls if each_control else ()
    rows = [_condition_cells(one, ablation.num_items) for one in (ablation.untouched, ablation.selected, *shown)]
    if not each_control:
        rows.append(_range_cells(controls, ablation.num_items))
    head = (
        *("taken away", "experts", "of choices", "of selected", "harmful", "refused", "neither", "degenerate"),
        *("effect", "repair", "right answers", "over-refused", "degenerate benign", "text loss"),
    )
    numbers = [NarrowColumn(name, left=False) for name in ("harmful", "refused", "neither", "degen.")]
    right = NarrowColumn("right", left=False)
    choices = NarrowColumn("choices", left=False)
    narrow = (NarrowColumn(head[0]), None, choices, None, *numbers, None, None, right, None, None, None)
    everywhere = "" if ablation.intervention.tokens == "all" else ", the experts taken away at every token of the texts"
    note = (
        f"{ITEMS[ablation.side]}: {ablation.num_items} of {ablation.num_goals} goals, each in one of four classes. "
        "Of choices: share of the answers' choices that the experts had. Of selected: share of the selected experts "
        f"among them. Effect and repair in points, text loss in nats a token{everywhere}."
    )
    judges = (f"Judge: {text}." for text in deciding_texts(ablation.judges)) if each_control else ()
    return ReportTable(CONDITIONS, head, cell_rows_of(rows), notes=(note, *judges), borders=False, narrow=narrow)


def _condition_cells(one: ConditionOutcomes, num_items: int) -> tuple[str, ...]:
    name = "nothing" if one.name == "untouched" else one.name
    return (
        name,
        str(one.num_experts),
        percent_text(one.coverage),
        percent_text(one.overlap),
        *(count_of(number, num_items) for number in (one.harmful, one.refused, one.neither, one.degenerate)),
        f"{100 * one.effect:+.1f}",
        f"{100 * one.repair:+.1f}",
        *(NOTHING if rate is None else count_of(rate.k, rate.n) for rate in _benign_rates(one)),
        NOTHING if one.text_loss is None else f"{one.text_loss:.3f}",
    )


def _benign_rates(one: ConditionOutcomes) -> tuple[Rate | None, ...]:
    return one.correct, one.over_refused, one.benign_degenerate


def _range_cells(controls: Sequence[ConditionOutcomes], num_items: int) -> tuple[str, ...]:
    """The control sets from the lowest to the highest value."""

    def between(of: Callable[[ConditionOutcomes], float | None], form: str) -> str:
        values = [value for one in controls if (value := of(one)) is not None]
        return f"{min(values):{form}} to {max(values):{form}}" if values else NOTHING

    percent = ".0%"
    return (
        f"{len(controls)} control sets",
        between(lambda one: one.num_experts, "d"),
        between(lambda one: one.coverage, percent),
        between(lambda one: one.overlap, percent),
        between(lambda one: one.harmful / num_items, percent),
        between(lambda one: one.refused / num_items, percent),
        between(lambda one: one.neither / num_items, percent),
        between(lambda one: one.degenerate / num_items, percent),
        between(lambda one: 100 * one.effect, "+.0f"),
        between(lambda one: 100 * one.repair, "+.0f"),
        between(lambda one: one.correct.rate if one.correct else None, percent),
        between(lambda one: one.over_refused.rate if one.over_refused else None, percent),
        between(lambda one: one.benign_degenerate.rate if one.benign_degenerate else None, percent),
        between(lambda one: one.text_loss, ".3f"),
    )


def ablation_findings(ablation: Ablation) -> ReportTable:
    """What taking the experts away does beyond the control sets."""
    effect, repair = MEASURED[ablation.side]
    num = len(ablation.controls)
    rows = (
        (f"effect: {effect}", *_difference(ablation.effect)),
        (f"repair: {repair}", *_difference(ablation.repair)),
        (f"effect of {num} control sets, mean and spread", _mean(ablation.control_effect, ablation.control_spread), ""),
        ("effect beyond them", *_difference(ablation.specific)),
        (*_rank(ablation), ""),
        ("right answers lost beyond them", *_difference(ablation.harm_to_benign)),
        ("degenerate answers beyond them", *_difference(ablation.more_degenerate)),
        ("effect of their own if no other has one, at most", *_largest_own(ablation)),
        ("in so many control sets is one of them", percent_text(ablation.most_shared), ""),
        ("effect beyond them that would be found", _bare_points(ablation.detectable), ""),
    )
    note = "Points, with 95 % intervals over goals; beyond the control sets over goals and control sets. n: goals."
    return ReportTable("Findings", ("", "points", "n"), cell_rows_of(rows), notes=(note,), borders=False)


def _rank(ablation: Ablation) -> tuple[str, str]:
    """The p of the rank that the verdict rests on, with the end from which it is counted."""
    ranked = "from the other end" if ablation.verdict == "opposite" else "among them"
    return f"p of its rank {ranked} (least possible)", f"{ablation.deciding_p:.3g} ({ablation.least_p:.3g})"


def _largest_own(ablation: Ablation) -> tuple[str, str]:
    """The bound with its n."""
    bound = ablation.largest_own
    return _bare_points(bound), NOTHING if bound is None else str(ablation.specific.n)


def _bare_points(value: float | None) -> str:
    return NOTHING if value is None else f"{100 * value:.1f}"


def _mean(mean: float, spread: float) -> str:
    return f"{100 * mean:.1f} ± {100 * spread:.1f}"


def _difference(one: Estimate | None) -> tuple[str, str]:
    """The points of a difference, and its n."""
    return _points(one), NOTHING if one is None else str(one.n)


def _points(one: Estimate | None) -> str:
    if one is None:
        return NOTHING
    if one.lower is None or one.upper is None:
        return f"{100 * one.value:+.1f}"
    return f"{100 * one.value:+.1f} [{100 * one.lower:+.1f}, {100 * one.upper:+.1f}]"


def expert_table(ablation: Ablation) -> ReportTable:
    """Every expert of the set taken away alone."""
    rows = tuple(
        CellRow(
            (
                f"layer {one.expert.layer} expert {one.expert.index}",
                *_difference(one.effect),
                f"{one.p_adjusted:.2g}",
                f"{100 * one.repair:+.1f}",
                percent_text(one.coverage),
            )
        )
        for one in ablation.each
    )
    note = "Points, with 95 % intervals over n goals; p: exact sign-flip test of goals, Holm's correction over the set."
    head = ("taken away alone", "effect", "n", "p", "repair", "of choices")
    return ReportTable("Single experts", head, rows, notes=(note,), borders=False)
