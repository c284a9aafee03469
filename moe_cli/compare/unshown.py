"""What else was evaluated and trained: runs that could have been compared in the place of those that are.

Whoever evaluates ten times, or trains five seeds, and shows the best one finds what is not there. The registry knows,
also of runs whose directories are gone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from moe_cli.artifacts import Store, finished_run
from moe_cli.artifacts.registry import state_of
from moe_cli.compare.sources import ComparedRun
from moe_cli.compare.wording import format_interval, join_words
from moe_cli.records import RunRecord
from moe_cli.records.comparison import Unshown


def find_unshown_runs(sources: Sequence[ComparedRun], store: Store) -> Unshown:
    """Evaluations of the weights that are compared, and runs trained on the same preparations, that are not shown."""
    shown = {digest for source in sources for digest in source.digests.values()}
    others = [record for record in store.records() if record.manifest_digest not in shown]
    roots = _Roots(store.records("prepare"))
    preparations = {roots.of(source.training.prepared) for source in sources if source.training}
    runs = [
        record
        for record in others
        if record.kind in ("selective", "baseline") and roots.of(record.parents.get("prepare")) in preparations
    ]
    return Unshown(
        evaluations=sum(record.kind == "evaluation" and _is_of(record, sources) for record in others),
        runs=len(runs),
        seeds=tuple(sorted({seed for record in runs for seed in _seed(record)})),
    )


def describe_unshown_runs(unshown: Unshown | None) -> Iterator[str]:
    """How many there are, and of which seeds."""
    if unshown is None:
        return
    parts = []
    if unshown.evaluations:
        parts.append(f"{_number(unshown.evaluations, 'other evaluation')} of these weights")
    if unshown.runs:
        seeds = f" (seed{'s' * (len(unshown.seeds) > 1)} {format_interval(unshown.seeds)})" if unshown.seeds else ""
        parts.append(f"{_number(unshown.runs, 'other trained run')} of this preparation{seeds}")
    if parts:
        verb = "is" if unshown.evaluations + unshown.runs == 1 else "are"
        yield f"{join_words(parts)} {verb} not shown: where the best of several is shown, it looks better than it is."


def _number(num: int, what: str) -> str:
    return f"{num} {what}{'s' * (num > 1)}"


def _is_of(record: RunRecord, sources: Sequence[ComparedRun]) -> bool:
    """Whether an evaluation is of a run that is compared, or of a bare model with these weights."""
    if "run" in record.parents:
        return record.parents["run"] in {source.digests.get("run") for source in sources}
    bare = [source.column.evaluation for source in sources if source.training is None]
    return record.base_fingerprint in {found.model.fingerprint for found in bare if found and found.model}


def _seed(record: RunRecord) -> Iterator[int]:
    if state_of(record) == "complete":
        yield finished_run(Path(record.path)).manifest.seed


class _Roots:
    """The prepare run that a selection was made from, through any number of `moe select`."""

    def __init__(self, prepared: Sequence[RunRecord]) -> None:
        self._parent = {record.manifest_digest: record.parents.get("prepare") for record in prepared}

    def of(self, digest: str | None) -> str | None:
        while digest is not None and (parent := self._parent.get(digest)) is not None:
            digest = parent
        return digest
