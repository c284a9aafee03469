"""What the prepare run found, in counts.

Comes in: the rows, the batches and their composition. Goes out: `PrepareSummary`. Always holds: rates are over all
pairs that were offered, not over the kept ones. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from moe_cli.prepare.batches import BatchPlan, Composition
from moe_cli.prepare.filtering import COMPLIED, drop_reasons
from moe_cli.prepare.refusals import Refusals
from moe_cli.records import AnsweredPrompt, AnswerSettings, ModelIdentity, PrepareSummary, SourceCount

SCORED = ("full_refusal", *COMPLIED)  # degenerate answers and missing verdicts are neither


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
    *,
    seconds_generate: float | None,
    seconds_routing: float,
) -> PrepareSummary:
    """Counts of what was offered, kept, dropped, batched and left over."""
    safe, unsafe, benign = ([row for row in rows if row.side == side] for side in ("safe", "unsafe", "benign"))
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
        plain_refused=_part([row.label == "full_refusal" for row in safe if row.label in SCORED]),
        attacked_complied=_part([row.label in COMPLIED for row in unsafe if row.label in SCORED]),
        seconds_generate=seconds_generate,
        seconds_routing=seconds_routing,
        warnings=tuple(_warnings(parts, used)),
    )


def _part(outcomes: Sequence[bool]) -> tuple[int, int]:
    return sum(outcomes), len(outcomes)


def _warnings(parts: Composition, targets: set[str]) -> Iterator[str]:
    if parts.num_benign == 0:
        yield "every target is a refusal, so the model may learn to refuse everything: bring --benign prompts"
    if len(targets) == 1:
        yield "all refusal targets are the same string, which may become the answer to everything"
