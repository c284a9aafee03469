"""Where the numbers of a comparison come from: the run of every column, its evaluation, and the prepare run behind it.

Comes in: the sources of a comparison and the registry. Goes out: complete run directories, found by the digests of
their manifests. Always holds: a directory whose manifest is not the one that was compared is not taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from moe_cli.artifacts import FinishedRun, Store, finished_run, layout
from moe_cli.compare.sources import ComparedRun
from moe_cli.records.report import ReportOrigin


@dataclass(frozen=True, slots=True)
class RunProvenance:
    """The directories behind one column."""

    source: ComparedRun
    run: FinishedRun | None  # None: a bare model, or outcomes that were made elsewhere
    evaluation: FinishedRun | None  # None: not evaluated, or the directory is gone
    prepared: FinishedRun | None  # None: not trained, or the prepare run is not registered, gone or changed


def provenance_of(sources: Sequence[ComparedRun], store: Store) -> list[RunProvenance]:
    """The directories behind every column."""
    return [
        RunProvenance(
            source=source,
            run=_in(Path(source.column.path), source.digests.get("run")),
            evaluation=_in(_evaluation_path(source), source.digests.get("evaluation")),
            prepared=store.with_digest(source.training.prepared, "prepare") if source.training else None,
        )
        for source in sources
    ]


def report_provenance(found: Sequence[RunProvenance]) -> tuple[ReportOrigin, ...]:
    """One line for every directory, in the order of the columns; a prepare run stands once."""
    lines: dict[tuple[str, str], ReportOrigin] = {}
    for line in (line for origin in found for line in _lines(origin)):
        lines.setdefault((line.path, line.digest), line)
    return tuple(lines.values())


def _lines(origin: RunProvenance) -> Iterator[ReportOrigin]:
    named = (("prepare run", origin.prepared), ("training run", origin.run), ("evaluation", origin.evaluation))
    for what, run in named:
        if run is not None:
            yield ReportOrigin(
                run=origin.source.column.name,
                what=what,
                path=str(run.path),
                digest=run.digest,
                finished=run.manifest.finished,
                packages=run.manifest.packages,
            )


def _evaluation_path(source: ComparedRun) -> Path:
    """A bare model's evaluations lie below the working directory."""
    summary = source.column.evaluation
    run = Path(source.column.path) if source.training else None
    return layout.evaluation_directory(run, source.column.path, summary.name if summary else "")


def _in(path: Path, digest: str | None) -> FinishedRun | None:
    """The run in a directory if it is the one with this digest."""
    if digest is None or not (path / layout.MANIFEST).is_file():
        return None
    run = finished_run(path)
    return run if run.digest == digest else None
