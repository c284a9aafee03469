"""What the report of a comparison shows beside the comparison: expert maps, loss curves, flips, provenance.

Run directories are found in the registry by the digests of their manifests; a directory whose manifest is not the
one that was compared is not used. Files are read only if their digests match. What cannot be found is left out and
named, never drawn as zero; an undefined value is None. Starts without torch.

Letters of shapes: B batches, L expert layers, E experts of a layer.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from moe_cli.artifacts import FinishedRun, Store, finished_run, layout
from moe_cli.artifacts.files import naming_file
from moe_cli.codec import decode_lines
from moe_cli.compare.compared_runs import ComparedRun
from moe_cli.compare.comparison_texts import worst_flips
from moe_cli.records.comparison import ComparedArm, Comparison
from moe_cli.records.drift import DriftItem
from moe_cli.records.preparation import Selection
from moe_cli.records.report import ExpertMap, LossCurve, ReportData, ReportOrigin
from moe_cli.records.training import StepRecord
from moe_cli.stats.clusters import Floats
from moe_cli.version import __version__

Values = tuple[tuple[float | None, ...], ...]


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
            evaluation=_evaluation_of(source),
            prepared=store.with_digest(source.training.prepared, "prepare") if source.training else None,
        )
        for source in sources
    ]


def report_provenance(runs: Sequence[RunProvenance]) -> tuple[ReportOrigin, ...]:
    """One line for every directory, in the order of the columns; a prepare run is listed once."""
    lines: dict[tuple[str, str], ReportOrigin] = {}
    for line in (line for origin in runs for line in _lines(origin)):
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


def _evaluation_of(source: ComparedRun) -> FinishedRun | None:
    """The evaluation of a column, if there is one; those of a bare model lie below the working directory."""
    summary = source.column.evaluation
    if summary is None:
        return None
    run = Path(source.column.path) if source.training else None
    return _in(layout.evaluation_directory(run, source.column.path, summary.name), source.digests.get("evaluation"))


def _in(path: Path, digest: str | None) -> FinishedRun | None:
    """The run in a directory, if its manifest has this digest."""
    if digest is None or not (path / layout.MANIFEST).is_file():
        return None
    run = finished_run(path)
    return run if run.digest == digest else None


@dataclass(frozen=True, slots=True)
class Maps:
    """The maps that could be drawn, and sentences about those that could not."""

    maps: tuple[ExpertMap, ...]
    missing: tuple[str, ...]


def expert_maps(arms: Sequence[ComparedArm], runs: Sequence[RunProvenance]) -> Maps:
    """The maps of every prepare run behind the arms, then the routing drift of every trained arm."""
    trained = [origin for origin in runs if origin.source.training is not None]
    prepared = {origin.prepared.digest: origin for origin in trained if origin.prepared is not None}
    maps: list[ExpertMap | str] = []
    for place, origin in enumerate(prepared.values(), start=1):
        run = cast(FinishedRun, origin.prepared)
        shape = len(origin.source.column.layers), origin.source.column.num_experts or 0
        maps += _prepared_maps(run, origin.source.column.layers, shape, f" {place}" if len(prepared) > 1 else "")
    if trained and not prepared:
        maps.append("risk difference and selection: the prepare run is not in the registry, gone or changed")
    maps += [_drift_map(arm, [origin for origin in trained if origin.source.column.name in arm.runs]) for arm in arms]
    return Maps(
        tuple(each for each in maps if isinstance(each, ExpertMap)),
        tuple(each for each in maps if isinstance(each, str) and each),
    )


def _prepared_maps(
    run: FinishedRun, layers: tuple[int, ...], shape: tuple[int, int], number: str
) -> Iterator[ExpertMap | str]:
    table = layout.risk_table(run.manifest.model_name or "")
    if table in run.manifest.files:
        selection = _selection(run)
        yield ExpertMap(
            kind="risk",
            name=f"risk difference{number}",
            what="share of answer tokens routed to the expert, complying inside attacks minus refusing plain goals",
            layers=layers,
            values=_risk(run, table, layers, shape),
            parts=None if selection is None else selection.parts,
            separation=None if selection is None else selection.separation,
            no_separation=None if selection is None else selection.no_separation,
        )
    else:
        yield f"risk difference{number}: {run.path} has no {table}"
    if layout.MASKS in run.manifest.files:
        with naming_file(file := run.file(layout.MASKS)):
            masks_BLE = np.load(file, allow_pickle=False)
            if masks_BLE.dtype != np.bool_ or masks_BLE.shape[1:] != shape:
                raise ValueError(f"it is {masks_BLE.dtype} {masks_BLE.shape}, not bool of batches and {shape}")
            num_selected_LE = masks_BLE.sum(0).astype(np.float64)
            values = _rows(num_selected_LE)
        yield ExpertMap(
            kind="selection",
            name=f"selection{number}",
            what=f"batches, of {len(masks_BLE)}, that selected the expert",
            layers=layers,
            values=values,
        )
    else:
        yield f"selection{number}: {run.path} has no {layout.MASKS}"


def _selection(run: FinishedRun) -> Selection | None:
    """The selection with its evidence; None where the run has no such file."""
    return run.record(layout.SELECTION, Selection) if layout.SELECTION in run.manifest.files else None


def _risk(run: FinishedRun, table: str, layers: tuple[int, ...], shape: tuple[int, int]) -> Values:
    """The risk difference over the whole run [L][E]: the rows without a batch."""
    import pyarrow.compute as pc  # here, as every other command starts without it
    import pyarrow.parquet as pq

    path = run.file(table)
    with naming_file(path), path.open("rb") as file:
        rows = pq.read_table(file, columns=["batch", "layer", "expert", "risk_diff"])
        rows = rows.filter(pc.is_null(rows["batch"]))
        experts = rows["expert"].to_numpy()
        values_LE = np.full(shape, np.nan)
        place = {layer: row for row, layer in enumerate(layers)}
        at = [place[layer] for layer in rows["layer"].to_pylist()]
        values_LE[at, experts] = rows["risk_diff"].cast("float64").to_numpy()
        if len(rows) != values_LE.size or (experts < 0).any() or (np.abs(values_LE) > 1).any():
            raise ValueError("it has not one risk difference from -1 to 1 for every expert")
        return _rows(values_LE)


def _drift_map(arm: ComparedArm, runs: Sequence[RunProvenance]) -> ExpertMap | str:
    """The mean drift over the arm's runs; a sentence where a run has none, nothing for an untrained arm."""
    if not runs:
        return ""
    moved = [_moved(origin.evaluation) for origin in runs]
    if any(each is None for each in moved):
        return f"routing drift of {arm.name}: not measured in all of its evaluations"
    return ExpertMap(
        kind="drift",
        name=f"routing drift: {arm.name}",
        what="share of a layer's choices, trained minus base",
        layers=runs[0].source.column.layers,
        values=_rows(np.mean([each for each in moved if each is not None], axis=0)),
    )


def _moved(evaluation: FinishedRun | None) -> Floats | None:
    """Change of each expert's share of its layer's choices, trained minus base [L, E]; None if not recorded."""
    if evaluation is None or layout.DRIFT not in evaluation.manifest.files:
        return None
    items = decode_lines(DriftItem, evaluation.file(layout.DRIFT))
    first = next(items, None)
    if first is None or not first.experts_base:
        return None
    base_LE, tuned_LE = np.array([first.experts_base, first.experts_tuned], dtype=np.float64)
    for item in items:
        base_LE = np.sum([base_LE, item.experts_base], axis=0)
        tuned_LE = np.sum([tuned_LE, item.experts_tuned], axis=0)
    moved_LE: Floats = _shares(tuned_LE) - _shares(base_LE)
    return moved_LE


def _shares(counts_LE: Floats) -> Floats:
    """Each expert's share of its layer's choices; undefined where a layer has none."""
    totals_L1 = counts_LE.sum(1, keepdims=True)
    shares_LE: Floats = np.full_like(counts_LE, np.nan)
    np.divide(counts_LE, totals_L1, out=shares_LE, where=totals_L1 > 0)
    return shares_LE


def _rows(values_LE: Floats) -> Values:
    return tuple(tuple(None if np.isnan(value) else float(value) for value in row) for row in values_LE)


def collect_report_data(
    comparison: Comparison, sources: Sequence[ComparedRun], store: Store, *, made: str, num_texts: int
) -> ReportData:
    """Everything that the report needs; `num_texts` worst flips of every measure and suite of each pair.

    Raises:
        ArtifactError: a file that is there is damaged.
    """
    runs = provenance_of(sources, store)
    maps = expert_maps(comparison.arms, runs)
    curves = [_curve(origin) for origin in runs if origin.source.training is not None]
    return ReportData(
        version=__version__,
        made=made,
        redacted=False,
        maps=maps.maps,
        curves=tuple(curve for curve in curves if isinstance(curve, LossCurve)),
        texts=worst_flips(comparison, sources, num_texts),
        origins=report_provenance(runs),
        missing_maps=maps.missing,
        missing_curves=tuple(curve for curve in curves if isinstance(curve, str)),
    )


def _curve(origin: RunProvenance) -> LossCurve | str:
    """The loss of every step on the answers; a sentence where the run has no steps recorded."""
    name, run, training = origin.source.column.name, origin.run, origin.source.training
    if run is None or training is None or layout.STEPS not in run.manifest.files:
        return f"loss of {name}: its directory has no {layout.STEPS}"
    steps = [step for step in decode_lines(StepRecord, run.file(layout.STEPS)) if step.phase != "router"]
    done = [step.step for step in steps]  # with gaps where the routers trained
    return LossCurve(
        run=name,
        steps=tuple(range(1, len(steps) + 1)),
        losses=tuple(step.loss for step in steps),
        held_out=tuple((bisect_right(done, record.step), record.loss) for record in training.validation),
        turns=training.turns,
    )
