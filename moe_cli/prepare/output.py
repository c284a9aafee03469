"""The prepare run's files: parquet and JSON for people and dataframes, npz and npy for arrays.

Comes in: records and arrays. Goes out: files in a run directory. Always holds: no NaN on disk (undefined is null);
pickles are neither written nor read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np
from datasets import Dataset

from moe_cli.artifacts import layout
from moe_cli.artifacts.files import whole_file, write_array, write_whole
from moe_cli.codec import encode, encode_lines
from moe_cli.prepare.evidence import Found
from moe_cli.prepare.risk import Floats
from moe_cli.records import AnsweredPrompt, PrepareSummary, RoutingCounts, TrainingExample


def write_prepared(
    path: Path,
    rows: Sequence[AnsweredPrompt],
    counts: RoutingCounts,
    found: Found,
    examples: Sequence[TrainingExample],
    summary: PrepareSummary,
) -> None:
    """Every file of a prepare run, into the directory `path`."""
    name = summary.base.name
    _write_answers(path / layout.batch_outputs(name), rows)
    _write_counts(path / layout.routing_counts(name), counts)
    _write_risk(path / layout.risk_table(name), found)
    write_array(path / layout.MASKS, found.masks)
    write_whole(path / layout.training_examples(name), encode_lines(examples))
    write_whole(path / layout.SELECTION, encode(found.selection, indent=True))
    write_whole(path / layout.PREPARE_SUMMARY, encode(summary, indent=True))


def _write_answers(path: Path, rows: Sequence[AnsweredPrompt]) -> None:
    """`batch_outputs`: every prompt, its answer, whether it was kept and why not."""
    columns = [field.name for field in fields(AnsweredPrompt) if field.name != "messages"]
    table: dict[str, list[object]] = {name: [getattr(row, name) for row in rows] for name in columns}
    table["messages"] = [[{"role": m.role, "content": m.content} for m in row.messages] for row in rows]
    _write_parquet(path, table)


def _write_risk(path: Path, found: Found) -> None:
    """`risk_diff`: one row per (batch, layer, expert); the aggregate of the run has a null batch."""
    risk, masks = found.risk, found.masks
    num_batches, num_layers, num_experts = risk.per_batch.shape
    batch, layer, expert = (axis.ravel() for axis in np.indices((num_batches, num_layers, num_experts)))
    size = num_layers * num_experts
    nothing = [None] * len(batch)
    table: dict[str, list[object]] = {
        "batch": [*batch.tolist(), *([None] * size)],
        "layer": [risk.layers[place] for place in (*layer, *layer[:size])],
        "expert": [*expert.tolist(), *expert[:size].tolist()],
        "risk_diff": [*_nullable(risk.per_batch), *_nullable(risk.pooled)],
        "risk_diff_mean": [*nothing, *_nullable(risk.mean)],
        "lower": [*nothing, *_nullable(risk.lower)],
        "upper": [*nothing, *_nullable(risk.upper)],
        "p_value": [*nothing, *_nullable(risk.p_value)],
        "q_value": [*nothing, *_nullable(risk.q_value)],
        "stability": [*nothing, *_nullable(found.stability)],
        "selected": [*masks.ravel().tolist(), *masks.any(0).ravel().tolist()],
    }
    _write_parquet(path, table)


def _write_counts(path: Path, counts: RoutingCounts) -> None:
    """`routing`: integer counts per pair, side and region."""
    with whole_file(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            layers=np.array(counts.layers, dtype=np.int64),
            top_k=np.array(counts.top_k, dtype=np.int64),
            pair_ids=np.array(counts.pair_ids),
            clusters=np.array(counts.clusters),
            routed=counts.routed,
            seen=counts.seen,
        )


def _nullable(values: Floats) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in values.ravel()]


def _write_parquet(path: Path, table: dict[str, list[object]]) -> None:
    with whole_file(path) as temporary:
        Dataset.from_dict(table).to_parquet(temporary)
