"""`moe prepare --dry-run`: reads the data as a run would, and reports what would stop it. Imports no torch."""

from __future__ import annotations

from moe_cli.config import MoeConfig
from moe_cli.errors import MoeError, UsageError
from moe_cli.judges.catalog import judges_of
from moe_cli.model.chat_endpoint import endpoint_of
from moe_cli.prepare.filtering import refuse_no_judge_of_refusals
from moe_cli.prepare.harmless import most_extra_replays
from moe_cli.prepare.prompt_sources import composition_of, gather_prompts
from moe_cli.prepare.selection_file import refuse_unreadable_selection
from moe_cli.records import SIDES, DataPreview, OfferedCounts


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
        endpoint_of(config)
    except MoeError as error:
        return error
    return None
