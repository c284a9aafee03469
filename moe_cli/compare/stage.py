"""`moe compare`: is the comparison fair, and is the difference real?

Comes in: two or more runs. Goes out: a `Comparison` on disk. Always holds: the fairness gate comes before any number;
each pair of runs is compared on the same items; without evaluations cost and parameters are compared, and the missing
command is named. Starts without torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from moe_cli.artifacts import Store, layout, open_run
from moe_cli.artifacts.files import write_whole
from moe_cli.artifacts.runs import kind_in
from moe_cli.codec import encode
from moe_cli.compare.conclusion import conclusion
from moe_cli.compare.fairness import fairness_checks
from moe_cli.compare.paired import pair_comparison
from moe_cli.compare.sources import Source, read_sources
from moe_cli.config import MoeConfig
from moe_cli.errors import UsageError
from moe_cli.records import Comparison, Notice, PairComparison


@dataclass(frozen=True, slots=True)
class Compared:
    """What `moe compare` made."""

    path: Path
    comparison: Comparison


def run(words: Sequence[str], config: MoeConfig, store: Store, notify: Callable[[object], None]) -> Compared:
    """Compare the runs, each pair of them.

    Raises:
        UsageError: fewer than two runs.
        ArtifactError: nothing to compare, damaged files, or different items.
    """
    if len(words) < 2:
        raise UsageError(f"{len(words)} run to compare", hint="name two or more: moe compare OUT_A OUT_B")
    sources = read_sources(words, config.compare.evaluation)
    for source in sources:
        if source.records is None:
            notify(
                Notice(text=f"{source.column.path} is not evaluated: moe evaluate {source.column.path}", warning=True)
            )
    comparison = compare(sources, config.compare.margin)
    output = _free_directory(config.compare.output_dir)
    with open_run(output, "comparison", config, resume=False) as writer:
        write_whole(output / layout.COMPARISON, encode(comparison, indent=True))
        for place, source in enumerate(sources, start=1):
            writer.parents |= {f"{role} {place}": digest for role, digest in source.digests.items()}
        store.add(writer, base_fingerprint=None, model_name=None, device="none")
    return Compared(output, comparison)


def _free_directory(wanted: Path) -> Path:
    """`wanted`, or with the first number that no complete comparison has taken."""
    number, path = 1, wanted
    while kind_in(path) == "comparison":
        number += 1
        path = layout.beside(wanted, f"_{number}")
    return path


def compare(sources: Sequence[Source], margin: float) -> Comparison:
    """The gate, then each pair of sources, then the conclusion. Pure."""
    columns = tuple(source.column for source in sources)
    fairness = fairness_checks(columns, [source.training for source in sources])
    pairs = tuple(pair for a, b in combinations(sources, 2) if (pair := _pair(a, b, margin)) is not None)
    return Comparison(
        columns=columns,
        fairness=fairness,
        pairs=pairs,
        margin=margin,
        conclusion=conclusion(columns, fairness, pairs, margin),
    )


def _pair(a: Source, b: Source, margin: float) -> PairComparison | None:
    if a.records is None or b.records is None:
        return None
    return pair_comparison(a.column.name, a.records, b.column.name, b.records, margin=margin)
