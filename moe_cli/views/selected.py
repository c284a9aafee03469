"""Formats a selection of experts with its evidence for the terminal. Computes nothing; readable without colour."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Group, RenderableType
from rich.text import Text

from moe_cli.records import ExpertEvidence, PartOfRisk, RankedTable, RiskParts, Selection, Separation
from moe_cli.views.table import ReportTable, as_rich, cell_rows_of
from moe_cli.views.text import NOTHING, count_of, estimate_text, optional_text, safe_text

MOST_EVIDENCE_ROWS = 12
MOST_RANKED_ROWS = 20
MAP_WIDTH = 64  # columns of the heat map
SHADES = "▁▂▃▄▅▆▇█"  # part of a column's experts that is selected, up to all of them
CANDIDATE, EMPTY = "-", "·"
RANKED_BY = {"text": "text part", "prompt": "prompt part", "did": "less wrapper"}  # methods by a part, and its head
RESAMPLED = ("risk_diff", *RANKED_BY, "stability")  # the methods whose rule the stability is of
NOT_MEASURED = "what of the risk difference is the text of the answers was not measured (prepare.extra_replays)"
NOT_HELD_OUT = "an earlier version did not measure it"
NO_HARMLESS = "neither the wrapper alone nor the harm was measured: no harmless prompt stood plain and inside an attack"
HARM = "harm, with all else in which harmful and harmless compliance inside attacks differ,"


def selected_view(selection: Selection) -> RenderableType:
    """Where the selected experts are, their evidence, the union against chance and other methods, and warnings."""
    warnings = [safe_text(f"warning: {text}", style="yellow") for text in selection.warnings]
    overlaps = [as_rich(_overlap_table(selection))] if selection.overlaps else []
    parts = [Text(parts_text(selection.parts))] if selection.union else []
    turns = [as_rich(turn_table(selection))] if selection.turns else []
    held_out = Text(separation_text(selection.separation, selection.no_separation))
    texts = (*parts, _batches_text(selection), _union_text(selection), held_out)
    return Group(_map_view(selection), as_rich(_evidence_table(selection)), *overlaps, *turns, *texts, *warnings)


def next_text(selection: Selection, place: object, train: str) -> str:
    """The next command for the last line: `train`, or how a union above the budget can be trained; empty if none."""
    if not selection.union:
        return ""
    if selection.budget is None or selection.trainable_ratio <= selection.budget:
        return f"; next: {train}"
    enough = math.ceil(1e4 * selection.trainable_ratio) / 1e4
    lower = "" if selection.top_p is None else f", or with a --top-p below {selection.top_p:g}"
    return (
        f"; the union is above the budget of {selection.budget:.2%} and is not trained; "
        f"next: moe select {place} --budget {enough:.2%} -o NEW{lower}"
    )


def _map_view(selection: Selection) -> RenderableType:
    """One line a layer, with one column for each expert or for a few neighbours."""
    size = selection.base.num_experts
    bucket = -(-size // MAP_WIDTH)
    union, candidates = (
        Counter((expert.layer, expert.index // bucket) for expert in experts)
        for experts in (selection.union, selection.candidates)
    )
    chosen, offered = (
        Counter(expert.layer for expert in experts) for experts in (selection.union, selection.candidates)
    )
    wide = max((len(str(layer)) for layer in selection.base.layers), default=1)
    lines = [
        f"{layer:>{wide}} "
        + "".join(_shade(union[layer, b], candidates[layer, b], bucket) for b in range(-(-size // bucket)))
        + f" {chosen[layer]}/{offered[layer]}"
        for layer in selection.base.layers
    ]
    column = "an expert" if bucket == 1 else f"{bucket} experts (the higher, the more of them)"
    return Group(
        safe_text(f"Selected experts ({selection.method})", style="italic"),
        Text("\n".join(lines), overflow="crop", no_wrap=True),
        Text(f"a column is {column}: █ selected, - a candidate that no batch selected"),
        Text(
            f"at the end selected/candidates; in all {len(selection.union)}/{len(selection.candidates)} "
            f"of {selection.num_experts_total} experts"
        ),
    )


def _shade(selected: int, candidates: int, bucket: int) -> str:
    if selected:
        return SHADES[min(len(SHADES), -(-selected * len(SHADES) // bucket)) - 1]
    return CANDIDATE if candidates else EMPTY


def _evidence_table(selection: Selection) -> ReportTable:
    head = ("expert", RANKED_BY.get(selection.method, "risk difference"), "95 % interval", "q", "stability", "batches")
    strongest = sorted(selection.evidence, key=lambda evidence: -(_ranked(evidence) or 0.0))
    rows = [tuple(_evidence_cells(evidence, selection)) for evidence in strongest[:MOST_EVIDENCE_ROWS]]
    more = len(strongest) - len(rows)
    notes = (f"{more} more in selection.json",) if more else ()
    return ReportTable("Evidence for the selected experts", head, cell_rows_of(rows), notes, empty="none")


def _evidence_cells(evidence: ExpertEvidence, selection: Selection) -> Iterator[str]:
    yield f"{evidence.expert.layer}.{evidence.expert.index}"
    yield optional_text(_ranked(evidence), 3)
    yield f"[{optional_text(evidence.lower, 3)}, {optional_text(evidence.upper, 3)}]"
    yield NOTHING if evidence.q_value is None else f"{evidence.q_value:.2g}"
    stability = evidence.stability if selection.method in RESAMPLED else None
    yield NOTHING if stability is None else f"{100 * stability:.0f} %"
    yield count_of(evidence.num_batches, len(selection.batches))


def _ranked(evidence: ExpertEvidence) -> float | None:
    """The value that the interval, q and stability belong to."""
    return evidence.risk_diff if evidence.ranked_by is None else evidence.ranked_by


def parts_text(found: RiskParts | None) -> str:
    """The components of the selected experts' risk difference, with intervals, or why they are not known."""
    if found is None:
        return NOT_MEASURED
    selected = f"of the {found.num_experts} selected experts"
    if found.text.share is None:
        return f"the risk difference {selected}, summed, is {found.risk_diff:.3f} and may be 0: it has no parts to show"
    return (
        f"of the risk difference {selected} {_share_text(found.text)} is the text of the answers, "
        f"{_share_text(found.prompt)} the prompts; {_harmless_text(found)}"
    )


def _harmless_text(parts: RiskParts) -> str:
    """What is measured against harmless prompts, and how many goals and harmless prompts the evidence is from."""
    if parts.wrapper is None:
        return f"{NO_HARMLESS} ({parts.num_goals} goals)"
    harm = "was not measured" if parts.harm is None else f"makes {_share_text(parts.harm)}"
    return (
        f"the wrapper alone makes {_share_text(parts.wrapper)}; {HARM} {harm} "
        f"({parts.num_goals} goals and {parts.num_harmless} harmless prompts)"
    )


def _share_text(part: PartOfRisk) -> str:
    """`89 % [88, 90]`."""
    if part.share is None or part.lower is None or part.upper is None:
        return NOTHING
    share, lower, upper = (round(100 * value) for value in (part.share, part.lower, part.upper))
    return f"{share} % [{lower}, {upper}]"


def turn_table(selection: Selection) -> ReportTable:
    """The summed risk difference of the selected experts by the turn that answers the attack."""
    rows = [
        (
            str(found.turn),
            optional_text(found.risk_diff, 3),
            f"[{optional_text(found.lower, 3)}, {optional_text(found.upper, 3)}]",
            f"{found.num_pairs} ({found.num_goals})",
            f"{found.num_tokens:,}",
        )
        for found in selection.turns
    ]
    head = ("answer no.", "risk difference, summed", "95 % interval", "pairs (goals)", "tokens")
    note = "Pairs of different turns hold different goals: a difference between rows is of these, too."
    title = "The selected experts by the turn of the conversation that answers the attack"
    return ReportTable(title, head, cell_rows_of(rows), (note,))


def _overlap_table(selection: Selection) -> ReportTable:
    rows = [
        (
            other.method,
            str(other.num_candidates),
            str(other.union_size),
            count_of(other.num_shared, other.union_size),
            optional_text(other.jaccard, 2),
        )
        for other in selection.overlaps
    ]
    head = ("method", "candidates", "union", "in this union too", "Jaccard")
    return ReportTable("Other methods on the same counts", head, cell_rows_of(rows))


def _batches_text(selection: Selection) -> Text:
    """How many candidates each batch selects, which must be alike for a control and its selection."""
    sizes = [len(batch) for batch in selection.batches]
    num_candidates = len(selection.candidates)
    if all(size == num_candidates for size in sizes):
        return Text(f"batches: each of the {len(sizes)} selects all {num_candidates} candidates")
    mean = sum(sizes) / max(1, len(sizes))
    return Text(
        f"batches: each of the {len(sizes)} selects its own part of the {num_candidates} candidates, {mean:.1f} on "
        f"average ({min(sizes)} to {max(sizes)})"
    )


def _union_text(selection: Selection) -> Text:
    null = selection.null_union
    noise = (
        f"the same rule selects {optional_text(null.mean, 1)} [{null.lower:.0f}, {null.upper:.0f}] with the sides"
        " swapped at random"
        if null is not None
        else "no null union: this rule cannot be repeated on swapped sides"
    )
    return Text(
        f"union: {len(selection.union)} experts, {selection.trainable_params:,} parameters, "
        f"{100 * selection.trainable_ratio:.2f} % of all; {noise}; {selection.num_significant} of "
        f"{selection.num_experts_total} experts are more active while complying inside attacks with q < 0.05"
    )


def separation_text(found: Separation | None, why_not: str | None) -> str:
    """How well experts selected from half of the goals tell the sides of the others apart, beside random ones."""
    if found is None:
        return f"no AUROC on held-out goals: {why_not or NOT_HELD_OUT}"
    return (
        f"held-out goals: the same rule selects {found.num_experts} experts ({found.num_shared} of this union) from "
        f"{found.num_goals_selecting} goals, and on others their share of an answer's choices tells compliance inside "
        f"attacks from refusals of plain goals with AUROC {estimate_text(found.auroc)}; {found.num_control_sets} sets "
        f"of random experts, as many of each layer and use, with {found.control_mean:.3f} "
        f"[{found.control_lower:.3f}, {found.control_upper:.3f}]: p = {found.p_value:.2g}"
    )


def draws_view(paths: Sequence[Path], selections: Sequence[Selection]) -> RenderableType:
    """A row for every random draw, with its overlap with the selection by risk difference."""
    head = ("run", "seed", "experts", "of all parameters", "in the union of risk_diff, too")
    rows = [_draw_cells(path, selection) for path, selection in zip(paths, selections, strict=True)]
    table = as_rich(ReportTable("Random draws", head, cell_rows_of(rows)))
    return Group(table, *([_batches_text(selections[0])] if selections else []))


def _draw_cells(path: Path, selection: Selection) -> tuple[str, ...]:
    shared = [other.num_shared for other in selection.overlaps if other.method == "risk_diff"]
    size = len(selection.union)
    return (
        str(path),
        str(selection.seed),
        str(size),
        f"{100 * selection.trainable_ratio:.2f} %",
        count_of(shared[0], size) if shared else NOTHING,
    )


def draws_done(paths: Sequence[Path]) -> str:
    """What was written, what to run next, and what so many draws can show."""
    wrote = f"wrote {paths[0]}" if len(paths) == 1 else f"wrote {paths[0]} to {paths[-1]}"
    return (
        f"{wrote}; with {len(paths)} no p is below {1 / (1 + len(paths)):.2g}; next, for each: "
        f"moe train selective --prepared {paths[0]}"
    )


def ranked_view(table: RankedTable) -> RenderableType:
    """The top of a published table by its score, compared with what the file itself says."""
    rows = [
        (
            str(rank),
            f"{row.expert.layer}.{row.expert.index}",
            optional_text(row.score, 6),
            optional_text(row.published, 6),
            "yes" if row.selected else "no",
        )
        for rank, row in enumerate(table.rows[:MOST_RANKED_ROWS], start=1)
    ]
    more = len(table.rows) - len(rows)
    ranked = ReportTable(
        title=f"Ranked by {table.kind}: {table.source}",
        head=("rank", "expert", table.kind, "published", "selected"),
        rows=cell_rows_of(rows),
        notes=(f"{more} more with --json, or in the file after -o",) if more else (),
    )
    return Group(as_rich(ranked), *_ranked_lines(table))


def _ranked_lines(table: RankedTable) -> Iterator[RenderableType]:
    yield safe_text(
        f"selected: {table.num_selected} of {len(table.rows)} experts in {table.num_layers} layers, by {table.rule}"
    )
    if undefined := sum(row.score is None for row in table.rows):
        yield Text(f"undefined: {undefined} experts, because a side has no token; they are never selected")
    if table.largest_deviation is not None:
        yield Text(f"published values: largest deviation {table.largest_deviation:.2e} over {table.num_compared} rows")
    if table.num_equal is not None:
        yield Text(f"published experts: exactly the selected ones in {table.num_equal} of {table.num_compared} layers")
