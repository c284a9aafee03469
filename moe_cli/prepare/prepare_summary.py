"""The counts of a prepare run: its summary, and what its dry run (`--dry-run`) counts before any model is loaded.

Rates are over all pairs that were offered, not over the kept ones. The dry run reads the data as a run would, and
reports what would stop it. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from moe_cli.config import MoeConfig
from moe_cli.errors import MoeError, UsageError
from moe_cli.judges.catalog import judges_of
from moe_cli.model.chat_endpoint import endpoint_of_prepare
from moe_cli.prepare.batches import BatchPlan, Composition
from moe_cli.prepare.filtering import (
    Jury,
    batched_all_the_same,
    drop_reasons,
    has_complied,
    is_unscored,
    refuse_no_judge_of_refusals,
)
from moe_cli.prepare.harmless import most_extra_replays
from moe_cli.prepare.prompt_sources import composition_of, gather_prompts
from moe_cli.prepare.refusals import Refusals
from moe_cli.prepare.selection_file import refuse_unreadable_selection
from moe_cli.records import (
    SIDES,
    AnsweredPrompt,
    AnswerSettings,
    DataPreview,
    ModelIdentity,
    OfferedCounts,
    PrepareSummary,
    SourceCount,
)
from moe_cli.records.judging import refused_in_full

EXACT = ("float32", "float64")  # in which no answer depends on its batch
LEAST_PROMPT = 2  # tokens that a training row must leave to its prompt
MANY = 0.1  # share of a side's answers without a verdict that is worth a warning


def with_batches(rows: Sequence[AnsweredPrompt], plans: Sequence[BatchPlan]) -> list[AnsweredPrompt]:
    """The rows with the index of the batch each is in; None where its pair was dropped or left over."""
    of_pair = {pair.id: index for index, plan in enumerate(plans) for pair in plan.pairs}
    of_benign = {prompt.id: index for index, plan in enumerate(plans) for prompt in plan.benign}
    return [replace(row, batch=(of_benign if row.side == "benign" else of_pair).get(row.source_id)) for row in rows]


def prepare_summary(
    base: ModelIdentity,
    sources: Sequence[SourceCount],
    answering: AnswerSettings,
    rows: Sequence[AnsweredPrompt],
    plans: Sequence[BatchPlan],
    parts: Composition,
    refusals: Refusals,
    jury: Jury,
    *,
    config: MoeConfig,
    num_answers_kept: int,
    seconds_generate: float | None,
    seconds_routing: float,
) -> PrepareSummary:
    """Counts of what was offered, kept, dropped, batched and left over.

    `num_answers_kept` are those taken over from another token limit.
    """
    safe, unsafe, benign = ([row for row in rows if row.side == side] for side in ("safe", "unsafe", "benign"))
    sides = {
        name: rows_of_side
        for name, rows_of_side in (("plain", safe), ("attacked", unsafe), ("benign", benign))
        if rows_of_side
    }
    unscored = {
        name: _count_true([is_unscored(row, by_harm=jury.by_harm) for row in rows_of_side])
        for name, rows_of_side in sides.items()
    }
    kept = [row for row in safe if row.kept]
    batched = [row.source_id for row in kept if row.batch is not None]
    used = {refusals.targets[pair.id] for plan in plans for pair in plan.pairs}
    num_safe = parts.num_plain + parts.num_benign
    return PrepareSummary(
        base=base,
        sources=tuple(sources),
        answering=answering,
        num_pairs=len(safe),
        num_kept=len(kept),
        drop_reasons=drop_reasons(rows),
        num_benign=len(benign),
        num_benign_kept=sum(row.kept for row in benign),
        num_batches=len(plans),
        num_pairs_left_over=len(kept) - len(batched),
        batch_size=num_safe + parts.num_attacked,
        num_plain=parts.num_plain,
        num_benign_in_batch=parts.num_benign,
        num_attacked=parts.num_attacked,
        distinct_targets=len(used),
        own_refusals=refusals.num_own,
        written_refusals=len(refusals.written.refusals),
        unwritten_refusals=refusals.written.unused,
        plain_refused=_count_true([refused_in_full(row.label) for row in safe]),
        attacked_complied=_count_true([has_complied(row, by_harm=jury.by_harm) for row in unsafe]),
        seconds_generate=seconds_generate,
        seconds_routing=seconds_routing,
        warnings=(
            *_warnings(parts, used),
            *_kept_all_the_same(*batched_all_the_same(rows, by_harm=jury.by_harm)),
            *_missing_verdicts(unscored),
            *_long_targets(benign, config.train.max_length),
            *_other_batches(base, answering, num_answers_kept),
        ),
        judges=jury.side_judges(benign=bool(benign)),
        unscored=unscored,
        cut_off={name: _count_true([not row.finished for row in rows_of_side]) for name, rows_of_side in sides.items()},
        benign_max_new_tokens=config.prepare.benign_limit if benign else None,
        num_answers_kept=num_answers_kept,
    )


def _count_true(outcomes: Sequence[bool | None]) -> tuple[int, int]:
    """Number of true outcomes, and of known ones."""
    known = [outcome for outcome in outcomes if outcome is not None]
    return sum(known), len(known)


def _kept_all_the_same(number: int, pairs: int) -> Iterator[str]:
    if number:
        yield (
            f"of {number} of the {pairs} pairs in batches the plain form was not refused in full or the attacked one "
            "not complied with (--keep-all): what is said of refusals and of compliance holds of the others alone"
        )


def _missing_verdicts(unscored: Mapping[str, tuple[int, int]]) -> Iterator[str]:
    for side, (number, answers) in unscored.items():
        if number > MANY * answers:
            yield f"{number} of {answers} {side} answers have no verdict: another --judge may tell more"


def _long_targets(benign: Sequence[AnsweredPrompt], max_length: int) -> Iterator[str]:
    """Training cuts the prompt of a long row, and fails where the answer leaves no room for it."""
    if number := sum(row.kept and row.num_answer_tokens > max_length - LEAST_PROMPT for row in benign):
        yield f"{number} benign answers leave no room for a prompt in a row: train with a larger train.max_length"


def _other_batches(base: ModelIdentity, answering: AnswerSettings, number: int) -> Iterator[str]:
    if number and answering.engine == "transformers" and base.dtype not in EXACT:
        yield (
            f"{number} answers were made in the batches of another token limit: in {base.dtype} some may differ from "
            "those of a run that began with this one"
        )


def _warnings(parts: Composition, targets: set[str]) -> Iterator[str]:
    if parts.num_benign == 0:
        yield "every target is a refusal, so the model may learn to refuse everything: bring --benign prompts"
    if len(targets) == 1:
        yield "all refusal targets are the same string, which may become the answer to everything"


def preview_of(config: MoeConfig) -> tuple[DataPreview, MoeError | None]:
    """What a dry run shows, and the error with which a run would end."""
    offered = gather_prompts(config)
    try:
        parts = composition_of(config, offered.benign)
    except UsageError as error:
        return DataPreview(
            sources=offered.sources, unreadable=offered.unreadable, counts=None, refused=error.message
        ), error
    refusal = offered.refusal or _unready(config)
    refused = None if refusal is None else refusal.message
    by_pairs = len(offered.pairs) // parts.num_pairs
    most_batches = min(by_pairs, len(offered.benign) // parts.num_benign) if parts.num_benign else by_pairs
    benign = offered.benign if parts.num_benign else ()
    num_batched = most_batches * parts.num_pairs
    num_extra = most_extra_replays(offered.pairs, benign, num_batched) if config.prepare.extra_replays else 0
    counts = OfferedCounts(
        num_pairs=len(offered.pairs),
        num_goals=len({pair.cluster for pair in offered.pairs}),
        num_benign=len(offered.benign),
        num_benign_attacked=sum(prompt.attack is not None for prompt in offered.benign),
        batch_size=config.prepare.batch_size,
        num_plain=parts.num_plain,
        num_benign_in_batch=parts.num_benign,
        num_attacked=parts.num_attacked,
        most_batches=most_batches,
        num_replays=len(SIDES) * num_batched + num_extra,
        num_extra_replays=num_extra,
    )
    shown_counts = None if offered.unreadable else counts
    preview = DataPreview(sources=offered.sources, unreadable=offered.unreadable, counts=shown_counts, refused=refused)
    return preview, refusal


def _unready(config: MoeConfig) -> MoeError | None:
    """The error of a selection file, unusable judges or a missing endpoint; neither of these is asked anything."""
    try:
        refuse_unreadable_selection(config.prepare.selection_file)
        refuse_no_judge_of_refusals(judges_of(config.prepare.judges, config.judge))
        endpoint_of_prepare(config)
    except MoeError as error:
        return error
    return None
