"""Where the runs of a point lie, whether they are complete, and what they measured.

A point is found again through the registry by its digest, so that sweeps that share points share their runs. A run
counts only if its manifests are unchanged and its parents are this sweep's prepare run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from moe_cli.artifacts import FinishedRun, Store, finished_run, layout
from moe_cli.artifacts.directory_state import flat_settings
from moe_cli.artifacts.files import sha256_of
from moe_cli.artifacts.registry import require_unchanged_run, state_of
from moe_cli.codec import decode_lines
from moe_cli.config import MoeConfig
from moe_cli.data.source_names import is_local, kind_and_source
from moe_cli.errors import ArtifactError
from moe_cli.records import EvaluationRecord, EvaluationSummary, JudgeIdentity, TrainingSummary
from moe_cli.records.budget_sweep import PointResult, PointState, SweepPoint
from moe_cli.stats.metrics import METRICS
from moe_cli.stats.outcomes import RunItems, evaluated_items
from moe_cli.sweep.points import EVERYTHING, NO_BUDGET, evaluation_name, matched_to, point_digest

PRIMARY_METRICS = tuple(metric for metric in METRICS if metric.primary)
HINT = "moe runs list shows it; moe runs forget takes it out of the registry, and the sweep makes the point again"


@dataclass(frozen=True, slots=True, kw_only=True)
class PointPlace:
    """A point and the directories of its runs."""

    point: SweepPoint
    digest: str
    directory: Path  # "sweep/points/0123456789abcdef"
    selection: Path | None  # prepare run of its own; None: base, baseline
    training: Path | None  # None: base
    subject: str  # what is evaluated: the training run, or the model's name
    evaluation: Path

    @property
    def is_complete(self) -> bool:
        """Whether its evaluation is there, complete."""
        return is_complete(self.evaluation)


@dataclass(frozen=True, slots=True)
class MeasuredPoint:
    """A point with its figures, and its answers item by item where it is complete."""

    result: PointResult
    items: RunItems | None
    judges: tuple[JudgeIdentity, ...] = ()


def is_complete(run: Path) -> bool:
    """Whether a complete run is there."""
    return (run / layout.MANIFEST).is_file()


def is_interrupted(run: Path) -> bool:
    """Whether a run that was begun is there, and can be resumed."""
    return (run / layout.STARTED).is_file() and not is_complete(run)


def find_places(
    points: Sequence[SweepPoint], config: MoeConfig, source: FinishedRun, store: Store, output: Path
) -> tuple[PointPlace, ...]:
    """The place of every point: where a complete training run is registered under its digest, else below `output`."""
    settings = flat_settings(config)
    name = evaluation_name(settings, [sha256_of(path) for path in _files_of(config)])
    known = _registered_trainings(store)
    digests = {point: point_digest(point, settings, source.digest, config.seed) for point in points}
    return tuple(_place(point, digests, name, known, config, output) for point in points)


def _files_of(config: MoeConfig) -> Iterable[Path]:
    sources = [kind_and_source(source)[1] for source in config.evaluate.items]
    paths = [Path(source) for source in sources if is_local(source)]
    return (file for path in paths for file in (sorted(path.rglob("*")) if path.is_dir() else [path]) if file.is_file())


def _registered_trainings(store: Store) -> Mapping[str, Path]:
    """The directory of each point that has a complete training run, by digest; the oldest run counts."""
    known: dict[str, Path] = {}
    for record in store.records("selective", "baseline"):
        directory = Path(record.path).parent
        if directory.parent.name == layout.POINTS and directory.name not in known and state_of(record) == "complete":
            known[directory.name] = directory
    return known


def _place(
    point: SweepPoint,
    digests: Mapping[SweepPoint, str],
    name: str,
    known: Mapping[str, Path],
    config: MoeConfig,
    output: Path,
) -> PointPlace:
    whole = SweepPoint(
        kind=point.kind, method=point.method, draw=point.draw, budget=point.budget, seed=point.seed, scale=1.0
    )
    digest, of_training = digests[point], digests.get(whole, digests[point])
    here = output / layout.POINTS
    arm = "baseline" if point.kind == "baseline" else "selective"
    own = here / of_training
    trained_in = own if is_complete(own / arm) else known.get(of_training, own)
    training = None if point.kind == "base" else trained_in / arm
    subject = str(training or config.model.name)
    own_name = f"{name}-{digest}" if training is None or point.scale < 1 else name
    return PointPlace(
        point=point,
        digest=digest,
        directory=trained_in,
        selection=trained_in / "prepared" if point.kind in ("method", "random") else None,
        training=training,
        subject=subject,
        evaluation=layout.evaluation_directory(training, subject, own_name),
    )


def settings_of_point(place: PointPlace, config: MoeConfig, store: Store) -> MoeConfig:
    """The settings of a point's commands; nothing of them depends on the other points of the sweep."""
    point, default = place.point, MoeConfig()
    prepare = config.prepare.model_copy(update={"selection_file": None})
    if place.selection is not None:
        changes = {
            "method": "random" if point.kind == "random" else point.method,
            "matched_to": matched_to(str(point.method)),
            "budget": point.budget,
            "output_dir": place.selection,
        }
        prepare = prepare.model_copy(update=changes)
    train = {
        "prepared": place.selection,
        f"{'baseline' if point.kind == 'baseline' else 'selective'}_dir": place.training,
    }
    return config.model_copy(
        update={
            "seed": point.seed,
            "registry": store.registry.absolute(),
            "model": config.model.model_copy(update={"gpu": None}),
            "prepare": prepare,
            "train": config.train.model_copy(update={name: path for name, path in train.items() if path is not None}),
            "evaluate": config.evaluate.model_copy(update={"name": place.evaluation.name, "scale": point.scale}),
            "compare": default.compare,
            "ablate": default.ablate,
            "sweep": default.sweep,
        }
    )


def measure_point(place: PointPlace, source: FinishedRun, store: Store, failure: str | None) -> MeasuredPoint:
    """The point with its figures, read from its evaluation; `failure` says why it has none.

    Of a complete point the reason says whether too many of its answers have no verdict, whoever made it.

    Raises:
        ArtifactError: a run was made from another prepare run, or a file is damaged or changed.
    """
    if not place.is_complete:
        return MeasuredPoint(_result(place, "to do" if failure is None else "failed", failure), None)
    evaluated = require_unchanged_run(place.evaluation, store, "evaluation")
    training = _training(place, source, store, evaluated) if place.training is not None else None
    summary = evaluated.record(layout.EVALUATION_SUMMARY, EvaluationSummary).with_plain_goals_apart
    records = tuple(decode_lines(EvaluationRecord, evaluated.file(layout.RECORDS)))
    result = _result(place, "complete", _unscored(summary), training, summary)
    return MeasuredPoint(result, evaluated_items(str(place.evaluation), records, PRIMARY_METRICS), summary.judges)


def _unscored(summary: EvaluationSummary) -> str | None:
    """What makes its rates doubtful, if more answers of a kind have no verdict than were allowed."""
    counts = " and ".join(f"{num} of {of} {kind}" for kind, (num, of) in summary.overly_unscored.items())
    return f"{counts} answers have no verdict, more than the {summary.max_unscored:.1%} allowed" if counts else None


def _training(place: PointPlace, source: FinishedRun, store: Store, evaluated: FinishedRun) -> TrainingSummary:
    run = require_unchanged_run(Path(str(place.training)), store, "selective", "baseline")
    selection = None if place.selection is None else finished_run(place.selection, "prepare")
    prepared = source if selection is None else selection
    wrong = (
        run.manifest.parents.get("prepare") != prepared.digest
        or (selection is not None and selection.manifest.parents.get("prepare") != source.digest)
        or evaluated.manifest.parents.get("run") != run.digest
    )
    if wrong:
        raise ArtifactError(f"{run.path} or its evaluation was not made from {source.path}", hint=HINT)
    return run.record(layout.METADATA, TrainingSummary)


def _result(
    place: PointPlace,
    state: PointState,
    reason: str | None,
    training: TrainingSummary | None = None,
    summary: EvaluationSummary | None = None,
) -> PointResult:
    share = {"base": NO_BUDGET, "baseline": EVERYTHING}.get(place.point.kind)
    selected = training is not None and place.point.kind != "baseline"
    return PointResult(
        point=place.point,
        digest=place.digest,
        state=state,
        reason=reason,
        run=None if training is None else str(place.training),
        evaluation=None if summary is None else str(place.evaluation),
        num_experts=training.total_unique_unsafe_experts if training is not None and selected else None,
        trainable_ratio=training.trainable_ratio if training is not None else share,
        attack_success=summary.attack_success if summary else None,
        over_refusal=summary.over_refusal if summary else None,
        accuracy=summary.accuracy if summary else None,
        degenerate=summary.degenerate if summary else None,
        kl=summary.drift.kl_mean if summary and summary.drift else None,
        seconds_training=training.seconds_training if training is not None else None,
    )
