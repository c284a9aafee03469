"""Prompts from the sources named in the config, or from the built-in tiny language.

The rows of each source are counted by what became of them, and an unreadable source does not keep the others from being
read. A real model without pairs is refused. Imports no torch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Literal

from moe_cli.config import MoeConfig, PrepareConfig
from moe_cli.data import (
    Kind,
    Location,
    RowFault,
    SourceReading,
    column_map,
    digest_of_source,
    of_kind,
    read_source,
    read_templates,
    refuse_bad_rows,
    source_of,
)
from moe_cli.data.column_names import refuse_absent
from moe_cli.data.reading import SourceReader
from moe_cli.data.rows import EQUAL
from moe_cli.data.templates import TEMPLATE_FORMATS, read_refusals
from moe_cli.errors import MoeError, UsageError
from moe_cli.prepare.batches import Composition, composition, refuse_no_full_batch
from moe_cli.prepare.contrasts import refuse_unrecorded
from moe_cli.prepare.harmless import wraps
from moe_cli.prepare.pairs import (
    Attacks,
    PairedEntries,
    benign_of_entries,
    pairs_of_entries,
    refuse_goals_alone,
    wrapped_share,
)
from moe_cli.records import (
    BadRow,
    BenignPrompt,
    PromptPair,
    SourceCount,
    UnreadableSource,
)
from moe_cli.tiny import MODEL_NAME
from moe_cli.tiny.language import tiny_benign, tiny_pairs

DEFAULT_BENIGN_RATIO = 0.5


@dataclass(frozen=True, slots=True)
class PromptSources:
    """Everything read from the sources."""

    pairs: tuple[PromptPair, ...]  # in order of id
    benign: tuple[BenignPrompt, ...]  # in order of id
    sources: tuple[SourceCount, ...]  # in the order they were named
    unreadable: tuple[UnreadableSource, ...]
    refusals: tuple[str, ...] | None  # the targets that a file brings
    refusal: MoeError | None  # why a run would not begin with this


def offered_by(config: MoeConfig) -> PromptSources:
    """Pairs and benign prompts of the configured sources; the tiny language's own where a tiny model has no sources.

    Raises:
        UsageError: a real model and no pairs, an unreadable source, too many bad rows, or no full batch.
    """
    offered = gather_prompts(config)
    if offered.refusal is not None:
        raise offered.refusal
    return offered


def composition_of(config: MoeConfig, benign: Sequence[BenignPrompt]) -> Composition:
    """How many examples of each kind a batch holds; half of the safe share is benign where there are benign prompts."""
    settings = config.prepare
    benign_ratio = settings.benign_ratio if settings.benign_ratio is not None else DEFAULT_BENIGN_RATIO * bool(benign)
    return composition(settings.batch_size, settings.safe_ratio, benign_ratio)


def gather_prompts(config: MoeConfig) -> PromptSources:
    """Like `offered_by`, but an error is returned as `refusal` with what was read, not raised."""
    settings, reader = config.prepare, SourceReader()
    if not settings.pairs and config.model.name != MODEL_NAME:
        reader.errors.append(_no_pairs(config.model.name))
    attacks = _attacks(config, reader)
    refusals = _refusals(config, reader)
    goals = _readings("pairs", settings.pairs, "harmful", settings, reader)
    prompts = _readings("benign", settings.benign, "benign", settings, reader)
    if goals + prompts and not reader.errors:
        reader.check(lambda: refuse_absent(column_map(settings.map), [reading.columns for reading in goals + prompts]))
    paired = pairs_of_entries(goals, attacks)
    benign, repeated = benign_of_entries(prompts)
    pair_faults = _first_per_row([fault for reading in goals for fault in reading.faults], paired.faults)
    benign_faults = [fault for reading in prompts for fault in reading.faults]
    offered = PromptSources(
        pairs=tuple(paired.pairs[name] for name in sorted(paired.pairs))[: settings.limit],
        benign=wrapped_share(benign[: settings.limit], settings.benign_attack, attacks),
        sources=(
            *(_count("pairs", reading, pair_faults, paired.merged) for reading in goals),
            *(_count("benign", reading, benign_faults, repeated) for reading in prompts),
            *_whole_counts("attack", settings.attack, "templates", attacks.templates),
            *_whole_counts("refusals", settings.refusals, "refusals", refusals),
        ),
        unreadable=tuple(reader.unreadable),
        refusals=refusals or None,
        refusal=None,
    )
    if not settings.pairs and config.model.name == MODEL_NAME:
        offered = _with_tiny(offered, config, attacks)
    faults = list(dict.fromkeys((*pair_faults, *benign_faults)))
    return replace(offered, refusal=reader.refusal() or _refusal(config, offered, paired, faults))


def _readings(
    role: Literal["pairs", "benign"], names: Sequence[str], kind: Kind, settings: PrepareConfig, reader: SourceReader
) -> list[SourceReading]:
    """The readable sources of one option, in their order."""
    columns = column_map(settings.map)

    def reading_of(name: str) -> SourceReading:
        return of_kind(read_source(name, settings.data_revision, columns=columns), kind)

    readings = (reader.attempt(role, name, partial(reading_of, name)) for name in names)
    return [reading for reading in readings if reading is not None]


def _refusals(config: MoeConfig, reader: SourceReader) -> tuple[str, ...]:
    path = config.prepare.refusals
    if path is None or config.prepare.refusals_are_written:
        return ()
    return reader.attempt("refusals", str(path), lambda: read_refusals(path)) or ()


def _no_pairs(model: str) -> UsageError:
    return UsageError(
        f"no prompt pairs for {model}: --pairs FILE is missing",
        hint='rows such as {"goal": "...", "safe": "...", "unsafe": "..."}, or goals and --attack FILE; '
        "docs/guide.md shows every format",
    )


def _refusal(
    config: MoeConfig, offered: PromptSources, paired: PairedEntries, faults: Sequence[RowFault]
) -> UsageError | None:
    """The first reason why a run cannot begin, as an error; None: it can."""
    settings = config.prepare
    try:
        refuse_goals_alone(paired)
        refuse_bad_rows(
            faults, settings.max_bad_rows, hint="moe prepare --dry-run lists them all, --max-bad-rows N leaves them out"
        )
        if settings.attack is not None and not paired.num_wrapped and not settings.benign_attack:
            raise UsageError(
                f"--attack {settings.attack} wraps nothing: no goal of --pairs lacks its attacked prompt",
                hint="leave --attack away, or wrap benign prompts with --benign-attack 0.5",
            )
        parts = composition_of(config, offered.benign)
        refuse_no_full_batch(len(offered.pairs), len(offered.benign), parts)
        refuse_unrecorded(settings, wraps=wraps(offered.pairs, offered.benign if parts.num_benign else ()))
    except UsageError as error:
        return error
    return None


def _attacks(config: MoeConfig, reader: SourceReader) -> Attacks:
    """The templates, or none where they cannot be read or are not asked for."""
    settings = config.prepare
    if settings.attack is None:
        if settings.attack_per_goal or settings.benign_attack:
            option = "--attack-per-goal" if settings.attack_per_goal else "--benign-attack"
            reader.errors.append(
                UsageError(f"{option} draws from templates: --attack FILE is missing", hint=TEMPLATE_FORMATS)
            )
        return Attacks()
    path = settings.attack
    templates = reader.attempt("attack", str(path), lambda: read_templates(path))
    if templates is None:
        return Attacks()
    if (settings.attack_per_goal or 0) > len(templates):
        reader.errors.append(
            UsageError(
                f"--attack-per-goal {settings.attack_per_goal}, but {path} holds {len(templates)} templates",
                hint="lower it, or bring more templates",
            )
        )
        return Attacks(templates, None, config.seed)
    return Attacks(templates, settings.attack_per_goal, config.seed)


def _with_tiny(offered: PromptSources, config: MoeConfig, attacks: Attacks) -> PromptSources:
    """Add the tiny language's own pairs, and its own benign prompts where none were named."""
    settings = config.prepare
    pairs = tiny_pairs(settings.tiny_pairs, config.seed)[: settings.limit]
    if settings.benign:
        return replace(offered, pairs=pairs)
    benign = tiny_benign(settings.tiny_pairs, config.seed)[: settings.limit]
    return replace(offered, pairs=pairs, benign=wrapped_share(benign, settings.benign_attack, attacks))


def _first_per_row(*faults: Sequence[RowFault]) -> tuple[RowFault, ...]:
    """One fault for every bad row, in the order in which they were found."""
    first: dict[Location, RowFault] = {}
    for fault in chain(*faults):
        first.setdefault(fault.place, fault)
    return tuple(first.values())


def _count(
    role: Literal["pairs", "benign"],
    reading: SourceReading,
    faults: Sequence[RowFault],
    repeated: AbstractSet[Location],
) -> SourceCount:
    bad = [fault for fault in faults if _belongs_to(fault.place, reading)]
    equal = sum(_belongs_to(location, reading) for location in repeated - {fault.place for fault in bad})
    skipped: Mapping[str, int] = Counter({EQUAL: equal} if equal else {}) + Counter(reading.skipped)
    return SourceCount(
        role=role,
        name=reading.source.name,
        sha256=reading.sha256,
        format=reading.format_name,
        rows=reading.num_rows,
        used=reading.num_rows - sum(skipped.values()) - len(bad),
        skipped=dict(sorted(skipped.items())),
        bad_rows=tuple(BadRow(place=str(fault.place), reason=fault.reason) for fault in bad),
        unread=reading.unread,
    )


def _belongs_to(location: Location, reading: SourceReading) -> bool:
    """Whether a row is from this source: its file, or a file in its folder."""
    name = reading.source.name
    return location.source == name or location.source.startswith(f"{name.partition('#')[0]}/")


def _whole_counts(
    role: Literal["attack", "refusals"], path: Path | None, form: str, rows: Sequence[object]
) -> Sequence[SourceCount]:
    """Count of a source of which every row is used; none where it was not named, or could not be read."""
    if path is None or not rows:
        return ()
    source = source_of(str(path))
    local = source.kind in ("file", "folder", "repository")
    return (
        SourceCount(
            role=role,
            name=str(path),
            sha256=digest_of_source(Path(source.place)) if local else sha256(repr(rows).encode()).hexdigest(),
            format=form,
            rows=len(rows),
            used=len(rows),
            skipped={},
            bad_rows=(),
            unread=(),
        ),
    )
