"""Where the prompts come from: the sources that were named, or the built-in tiny language.

Comes in: the config. Goes out: pairs and benign prompts, and for each source what became of its rows. Always holds: a
real model without pairs is refused with the list of accepted formats; torch is not imported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Literal

from moe_cli.config import MoeConfig
from moe_cli.data import (
    Fault,
    Place,
    Reading,
    accepted_formats,
    digest_of,
    of_kind,
    read_each,
    read_templates,
    refuse_bad_rows,
)
from moe_cli.data.templates import TEMPLATE_FORMATS
from moe_cli.errors import UsageError
from moe_cli.prepare.batches import Composition, composition, refuse_too_few
from moe_cli.prepare.pairs import (
    Attacks,
    Paired,
    benign_of_entries,
    pairs_of_entries,
    refuse_goals_alone,
    wrapped_share,
)
from moe_cli.records import BadRow, BenignPrompt, DataPreview, OfferedCounts, PromptPair, SourceCount
from moe_cli.tiny import MODEL_NAME
from moe_cli.tiny.language import tiny_benign, tiny_pairs

DEFAULT_BENIGN_RATIO = 0.5


@dataclass(frozen=True, slots=True)
class Offered:
    """What the sources offer."""

    pairs: tuple[PromptPair, ...]  # in order of id
    benign: tuple[BenignPrompt, ...]  # in order of id
    sources: tuple[SourceCount, ...]  # in the order they were named
    refusal: UsageError | None  # why a run would not begin with this


def offered_by(config: MoeConfig) -> Offered:
    """Pairs and benign prompts of the configured sources; the tiny language's own where a tiny model has no sources.

    Raises:
        UsageError: a real model and no pairs, an unreadable source, too many bad rows, or no full batch.
    """
    offered = gathered(config)
    if offered.refusal is not None:
        raise offered.refusal
    return offered


def preview_of(config: MoeConfig) -> DataPreview:
    """What a dry run shows: the same reading, with the reason to refuse it in the place of an error."""
    try:
        offered = gathered(config)
        parts = composition_of(config, offered.benign)
    except UsageError as error:
        return DataPreview(sources=(), counts=None, refused=error.message)
    by_pairs = len(offered.pairs) // parts.num_pairs
    counts = OfferedCounts(
        num_pairs=len(offered.pairs),
        num_goals=len({pair.cluster for pair in offered.pairs}),
        num_benign=len(offered.benign),
        num_benign_attacked=sum(prompt.attack is not None for prompt in offered.benign),
        batch_size=config.prepare.batch_size,
        num_plain=parts.num_plain,
        num_benign_in_batch=parts.num_benign,
        num_attacked=parts.num_attacked,
        most_batches=min(by_pairs, len(offered.benign) // parts.num_benign) if parts.num_benign else by_pairs,
    )
    refused = None if offered.refusal is None else offered.refusal.message
    return DataPreview(sources=offered.sources, counts=counts, refused=refused)


def composition_of(config: MoeConfig, benign: Sequence[BenignPrompt]) -> Composition:
    """How many examples of each kind a batch holds; half of the safe share is benign where there are benign prompts."""
    settings = config.prepare
    wanted = settings.benign_ratio if settings.benign_ratio is not None else DEFAULT_BENIGN_RATIO * bool(benign)
    return composition(settings.batch_size, settings.safe_ratio, wanted)


def gathered(config: MoeConfig) -> Offered:
    """As `offered_by`, with the reason to refuse it beside what was read.

    Raises:
        UsageError: a source that cannot be read as a whole, or templates that are not there.
    """
    settings = config.prepare
    if not settings.pairs and config.model.name != MODEL_NAME:
        raise UsageError(f"no prompt pairs for {config.model.name}: --pairs FILE is missing", hint=accepted_formats())
    attacks = _attacks(config)
    goals = [of_kind(reading, "harmful") for reading in read_each(settings.pairs, settings.data_revision)]
    prompts = [of_kind(reading, "benign") for reading in read_each(settings.benign, settings.data_revision)]
    paired = pairs_of_entries(goals, attacks)
    benign, twice = benign_of_entries(prompts)
    pair_faults = _by_place([fault for reading in goals for fault in reading.faults], paired.faults)
    benign_faults = _by_place([fault for reading in prompts for fault in reading.faults], twice)
    offered = Offered(
        pairs=tuple(paired.pairs[name] for name in sorted(paired.pairs))[: settings.limit],
        benign=wrapped_share(benign[: settings.limit], settings.benign_attack, attacks),
        sources=(
            *(_count("pairs", reading, pair_faults) for reading in goals),
            *(_count("benign", reading, benign_faults) for reading in prompts),
            *_attack_count(settings.attack, attacks),
        ),
        refusal=None,
    )
    if not settings.pairs:
        offered = _with_tiny(offered, config, attacks)
    faults = list(dict.fromkeys((*pair_faults, *benign_faults)))
    return replace(offered, refusal=_refusal(config, offered, paired, faults))


def _refusal(config: MoeConfig, offered: Offered, paired: Paired, faults: Sequence[Fault]) -> UsageError | None:
    """Why a run would not begin: the first reason, as the error that says so."""
    settings = config.prepare
    try:
        refuse_goals_alone(paired)
        refuse_bad_rows(
            faults,
            settings.max_bad_rows,
            hint="moe prepare --dry-run lists them all, --max-bad-rows N leaves them out; " + accepted_formats(),
        )
        if settings.attack is not None and not paired.num_wrapped and not settings.benign_attack:
            raise UsageError(
                f"--attack {settings.attack} wraps nothing: no goal of --pairs lacks its attacked prompt",
                hint="leave --attack away, or wrap benign prompts with --benign-attack 0.5",
            )
        refuse_too_few(len(offered.pairs), len(offered.benign), composition_of(config, offered.benign))
    except UsageError as error:
        return error
    return None


def _attacks(config: MoeConfig) -> Attacks:
    settings = config.prepare
    if settings.attack is None:
        if settings.attack_per_goal or settings.benign_attack:
            option = "--attack-per-goal" if settings.attack_per_goal else "--benign-attack"
            raise UsageError(f"{option} draws from templates: --attack FILE is missing", hint=TEMPLATE_FORMATS)
        return Attacks()
    templates = read_templates(settings.attack)
    if (settings.attack_per_goal or 0) > len(templates):
        raise UsageError(
            f"--attack-per-goal {settings.attack_per_goal}, but {settings.attack} holds {len(templates)} templates",
            hint="lower it, or bring more templates",
        )
    return Attacks(templates, settings.attack_per_goal, config.seed)


def _with_tiny(offered: Offered, config: MoeConfig, attacks: Attacks) -> Offered:
    """The tiny language's own pairs, and beside them its own benign prompts where none were named."""
    settings = config.prepare
    pairs = tiny_pairs(settings.tiny_pairs, config.seed)[: settings.limit]
    if settings.benign:
        return replace(offered, pairs=pairs)
    benign = tiny_benign(settings.tiny_pairs, config.seed)[: settings.limit]
    return replace(offered, pairs=pairs, benign=wrapped_share(benign, settings.benign_attack, attacks))


def _by_place(*faults: Sequence[Fault]) -> tuple[Fault, ...]:
    """One fault for every bad row, in the order in which they were found."""
    first: dict[Place, Fault] = {}
    for fault in chain(*faults):
        first.setdefault(fault.place, fault)
    return tuple(first.values())


def _count(role: Literal["pairs", "benign"], reading: Reading, faults: Sequence[Fault]) -> SourceCount:
    bad = [fault for fault in faults if fault.place.source == reading.source.name]
    return SourceCount(
        role=role,
        name=reading.source.name,
        sha256=reading.sha256,
        format=reading.format.name,
        rows=reading.num_rows,
        used=reading.num_rows - sum(reading.skipped.values()) - len(bad),
        skipped=dict(sorted(reading.skipped.items())),
        bad_rows=tuple(BadRow(place=str(fault.place), reason=fault.reason) for fault in bad),
    )


def _attack_count(path: Path | None, attacks: Attacks) -> tuple[SourceCount, ...]:
    if path is None:
        return ()
    number = len(attacks.templates)
    return (
        SourceCount(
            role="attack",
            name=str(path),
            sha256=digest_of(path),
            format="templates",
            rows=number,
            used=number,
            skipped={},
            bad_rows=(),
        ),
    )
