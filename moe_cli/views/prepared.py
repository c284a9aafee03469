"""Formats a prepare run for the terminal. Computes nothing."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType

from moe_cli.records import AnswerSettings, PrepareSummary, Selection
from moe_cli.views.judge_tables import trust_text
from moe_cli.views.selected import selected_view
from moe_cli.views.source_tables import sources_table
from moe_cli.views.table import facts_view
from moe_cli.views.text import NOTHING, count_of, safe_text, seconds_text


def prepared_view(summary: PrepareSummary, selection: Selection) -> RenderableType:
    """Sources, data, warnings about the data, and the selection with its evidence."""
    warnings = [safe_text(f"warning: {text}", style="yellow") for text in summary.warnings]
    sources = [sources_table(summary.sources)] if summary.sources else []
    return Group(
        *sources,
        facts_view("Data", _data_facts(summary)),
        *_judge_texts(summary),
        *warnings,
        selected_view(selection),
    )


def _data_facts(summary: PrepareSummary) -> Iterator[tuple[str, str]]:
    yield "pairs kept", count_of(summary.num_kept, summary.num_pairs)
    for reason, number in summary.drop_reasons.items():
        yield "  dropped", f"{number}: {reason}"
    yield "plain goals refused in full", _judged(summary.plain_refused, summary, "plain forms")
    yield "attacked goals complied with", _judged(summary.attacked_complied, summary, "attacked forms")
    yield "benign prompts kept", count_of(summary.num_benign_kept, summary.num_benign)
    for name, counts in (("answers without a verdict", summary.unscored), ("answers cut off", summary.cut_off)):
        if counts and any(part for part, _ in counts.values()):
            yield name, ", ".join(f"{count_of(*found)} {side}" for side, found in counts.items())
    if summary.num_answers_kept:
        yield "answers of another token limit", str(summary.num_answers_kept)
    batch = f"{summary.num_plain} plain + {summary.num_benign_in_batch} benign + {summary.num_attacked} attacked"
    yield "batches", f"{summary.num_batches} of {summary.batch_size} = {batch}"
    yield "pairs left over", str(summary.num_pairs_left_over)
    yield "different refusal targets", f"{summary.distinct_targets}, {summary.own_refusals} pairs in own words"
    if summary.written_refusals or summary.unwritten_refusals:
        yield "  written by the endpoint", str(summary.written_refusals)
    for reason, number in summary.unwritten_refusals.items():
        yield "  not used", f"{number}: {reason}"
    for how in _answering(summary.answering):
        yield "answers", how
    yield "answering / routing", f"{seconds_text(summary.seconds_generate)} / {seconds_text(summary.seconds_routing)}"


def _answering(how: AnswerSettings) -> Iterator[str]:
    """Notes about how the answers were made, where that is unusual."""
    if how.base_url is not None:
        yield f"of {how.api_model} at {how.base_url}, replayed from their text"
    if how.decoding == "sampling":
        yield f"sampled: temperature {how.temperature:g}, top-p {how.top_p:g}, seed {how.seed}"


def _judged(counts: tuple[int, int], summary: PrepareSummary, what: str) -> str:
    deciding = [one.judge.name for one in summary.judges if any(kind.startswith(what) for kind in one.decides)]
    return f"{count_of(*counts)}, by {', '.join(deciding) or NOTHING}"


def _judge_texts(summary: PrepareSummary) -> Iterator[RenderableType]:
    """A line for each judge: what it decides, and how far it can be trusted."""
    for one in summary.judges:
        judge, decided = one.judge, ", ".join(one.decides)
        decides = f"decides {decided}" if decided else "decides nothing here and was not asked"
        yield safe_text(f"judge: {trust_text(judge, decides)}")
