"""What the page of a run's model says, read from the run, its prepare run and its evaluations, each by its digest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from moe_cli.artifacts import FinishedRun, Store, layout
from moe_cli.artifacts.changes import require_unchanged_run
from moe_cli.codec import decode
from moe_cli.experts import experts_of, read_delta
from moe_cli.model.base_files import license_of
from moe_cli.records import CardFacts, EvaluationSummary, PrepareSummary, SourceCount, TrainingSummary
from moe_cli.version import __version__


def facts_of_run(run: FinishedRun, store: Store, holds: Literal["model", "delta"]) -> CardFacts:
    """The facts of a training run as they are today; evaluations of other weights, or of a server's, are left out.

    Raises:
        ArtifactError: a file of the run, of its prepare run or of an evaluation is damaged.
    """
    metadata = run.file(layout.METADATA)
    training = decode(TrainingSummary, metadata.read_bytes(), source=str(metadata))
    trained = training.trained_fingerprint
    found = [one for one in _evaluations(run, store) if one[1].model and one[1].model.fingerprint == trained]
    return CardFacts(
        holds=holds,
        base=training.base,
        license=license_of(run.path / layout.FINAL_MODEL),
        training=training,
        experts=experts_of(read_delta(run.file(layout.DELTA))[1]) if run.manifest.kind == "selective" else (),
        sources=_sources(run, store),
        evaluations=tuple(summary for _, summary in sorted(found, key=lambda each: each[0], reverse=True)),
        version=__version__,
    )


def _evaluations(run: FinishedRun, store: Store) -> Iterator[tuple[str, EvaluationSummary]]:
    """When each complete evaluation of the run ended, and its summary."""
    for manifest in sorted((run.path / layout.EVALUATIONS).glob(f"*/{layout.MANIFEST}")):
        evaluated = require_unchanged_run(manifest.parent, store, "evaluation")
        file = evaluated.file(layout.EVALUATION_SUMMARY)
        yield (
            evaluated.manifest.finished,
            decode(EvaluationSummary, file.read_bytes(), source=str(file)).with_plain_goals_apart,
        )


def _sources(run: FinishedRun, store: Store) -> tuple[SourceCount, ...] | None:
    """The sources of its examples; None where its prepare run is not registered any more."""
    prepared = store.with_digest(run.manifest.parents["prepare"], "prepare")
    if prepared is None:
        return None
    file = prepared.file(layout.PREPARE_SUMMARY)
    return decode(PrepareSummary, file.read_bytes(), source=str(file)).sources
