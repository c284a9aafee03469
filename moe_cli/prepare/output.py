"""Every file of a prepare run.

Comes in: records. Goes out: files in a run directory. Always holds: pickles are neither written nor read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from moe_cli.artifacts import layout
from moe_cli.artifacts.files import atomic_file, write_atomic
from moe_cli.codec import encode, encode_lines
from moe_cli.prepare.evidence import SelectionResult
from moe_cli.prepare.stored import write_counts, write_selection
from moe_cli.records import AnsweredPrompt, PrepareSummary, RoutingCounts, TrainingExample


def write_prepared(
    path: Path,
    rows: Sequence[AnsweredPrompt],
    counts: RoutingCounts,
    found: SelectionResult,
    examples: Sequence[TrainingExample],
    summary: PrepareSummary,
) -> None:
    """Every file of a prepare run, into the directory `path`."""
    name = summary.base.name
    _write_answers(path / layout.batch_outputs(name), rows)
    write_counts(path / layout.routing_counts(name), counts)
    write_atomic(path / layout.training_examples(name), encode_lines(examples))
    write_selection(path, name, found)
    write_atomic(path / layout.PREPARE_SUMMARY, encode(summary, indent=True))


def _write_answers(path: Path, rows: Sequence[AnsweredPrompt]) -> None:
    """`batch_outputs`: every prompt, its answer, whether it was kept and why not."""
    columns = [field.name for field in fields(AnsweredPrompt) if field.name != "messages"]
    table: dict[str, list[object]] = {name: [getattr(row, name) for row in rows] for name in columns}
    table["messages"] = [[{"role": m.role, "content": m.content} for m in row.messages] for row in rows]
    with atomic_file(path) as temporary, temporary.open("wb") as file:  # pyarrow takes a name with a colon for a URI
        pq.write_table(pa.table(table), file)
