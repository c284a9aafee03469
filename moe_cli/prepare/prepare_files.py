"""Every file of a prepare run: evidence, masks, selection, pictures, and pickles for older scripts.

No NaN is written (undefined is null), and importing this imports no torch. In the pictures white is no difference and
grey is undefined; the same input gives the same bytes; no window is opened and no global state of matplotlib changes.

The pickles (`batch_outputs_{model}.pkl`, `risk_diff_{model}.pkl`, `sft_dataset_{model}.pkl`) are written by
`write_pickles` alone and never read. Each is a list of dicts of text, numbers, booleans, None and lists, in protocol 4,
so that loading one imports nothing; `pandas.DataFrame(rows)` makes a table of it.
"""

from __future__ import annotations

import pickle
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from moe_cli.artifacts import layout
from moe_cli.artifacts.files import atomic_file, write_array, write_atomic
from moe_cli.characters import escape_unsafe
from moe_cli.codec import encode, lines_of_records
from moe_cli.prepare.ranking import Floats
from moe_cli.prepare.routing_file import write_counts
from moe_cli.prepare.selection_evidence import SelectionResult
from moe_cli.records import (
    SIDES,
    AnsweredPrompt,
    Message,
    PrepareSummary,
    RiskDifferences,
    RoutingCounts,
    Selection,
    TrainingExample,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MARK_POINTS = 3.0  # side of the square around a selected expert
PROTOCOL = 4
GROUP = 1 << 20  # rows that are in memory at once; the row groups of pyarrow


def draw_pictures(path: Path, risk: RiskDifferences, selection: Selection) -> None:
    """Write `risk_diff_{model}.png` and `.svg` into the directory `path`."""
    import matplotlib as mpl  # here, as it takes long and most commands draw nothing

    png, svg = layout.risk_pictures(selection.base.name)
    with mpl.rc_context({"svg.hashsalt": "moe", "svg.fonttype": "none"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # of a name; the SVG holds it as text
        figure = risk_figure(risk, selection)
        with atomic_file(path / png) as temporary:
            figure.savefig(temporary, format="png", metadata={"Software": None})
        with atomic_file(path / svg) as temporary:
            figure.savefig(temporary, format="svg", metadata={"Date": None, "Creator": None})


def risk_figure(risk: RiskDifferences, selection: Selection) -> Figure:
    """Heat map of the risk differences: layers from top to bottom, experts from left to right."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    num_layers, num_experts = risk.pooled.shape
    figure = Figure(figsize=(3 + num_experts / 10, max(2.6, 1.2 + num_layers / 6)), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    axes.set_facecolor("0.8")
    bound = float(np.nanmax(np.abs(risk.pooled), initial=0.0)) or 1.0
    image = axes.imshow(risk.pooled, cmap="RdBu_r", vmin=-bound, vmax=bound, aspect="auto", interpolation="nearest")
    figure.colorbar(image, ax=axes, label="risk difference (unsafe - safe)")
    rows = [risk.layers.index(expert.layer) for expert in selection.union]
    columns = [expert.index for expert in selection.union]
    axes.scatter(columns, rows, marker="s", s=MARK_POINTS**2, facecolors="none", edgecolors="black", linewidths=0.7)
    every = max(1, num_layers // 24)
    axes.set_yticks(range(0, num_layers, every), [str(layer) for layer in risk.layers[::every]])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins="auto"))
    axes.set_xlabel("expert")
    axes.set_ylabel("layer")
    model = escape_unsafe(selection.base.name).replace("$", r"\$")  # a name, never mathematics
    axes.set_title(f"{model}: {len(selection.union)} selected by {selection.method}", fontsize="medium")
    return figure


def write_selection(path: Path, model_name: str, result: SelectionResult) -> None:
    """Write evidence, masks, selection and pictures into the run directory `path`."""
    write_risk(path / layout.risk_table(model_name), result)
    write_array(path / layout.MASKS, result.masks)
    write_atomic(path / layout.SELECTION, encode(result.selection, indent=True))
    draw_pictures(path, result.risk, result.selection)


def write_risk(path: Path, result: SelectionResult) -> None:
    """`risk_diff`: one row per (batch, layer, expert); the aggregate of the run has a null batch."""
    num_rows = result.risk.per_batch.size + result.risk.pooled.size
    blocks = (_risk_rows(result, start, min(start + GROUP, num_rows)) for start in range(0, num_rows, GROUP))
    with atomic_file(path) as temporary, temporary.open("wb") as file:  # pyarrow takes a name with a colon for a URI
        first = next(blocks)
        with pq.ParquetWriter(file, first.schema) as writer:
            for block in chain([first], blocks):
                writer.write_table(block)


def _risk_rows(result: SelectionResult, start: int, stop: int) -> pa.Table:
    """The rows from `start` to `stop` of the table; undefined is null."""
    risk, masks, parts = result.risk, result.masks, result.parts
    num_batches, num_layers, num_experts = risk.per_batch.shape
    row = np.arange(start, stop)
    batch = row // (num_layers * num_experts)

    def column(of_batches: Floats | None, of_run: Floats | None) -> pa.Array:
        values = np.full(len(row), np.nan)
        for of, first in ((of_batches, 0), (of_run, risk.per_batch.size)):
            if of is not None:
                low, high = max(start, first), min(stop, first + of.size)
                values[low - start : max(low, high) - start] = of.reshape(-1)[low - first : max(low, high) - first]
        return pa.array(values, mask=np.isnan(values))

    return pa.table(
        {
            "batch": pa.array(batch, mask=batch == num_batches),
            "layer": np.array(risk.layers)[row // num_experts % num_layers],
            "expert": row % num_experts,
            "risk_diff": column(risk.per_batch, risk.pooled),
            "risk_diff_mean": column(None, risk.mean),
            "lower": column(risk.batch_lower, risk.lower),
            "upper": column(risk.batch_upper, risk.upper),
            "p_value": column(None, risk.p_value),
            "q_value": column(None, risk.q_value),
            "stability": column(None, risk.stability),
            "text": column(parts.text_of_batches, parts.text),
            "wrapper": column(None, parts.wrapper),
            "harm": column(None, parts.harm),
            "selected": _selected(masks, start, stop),
        }
    )


def _selected(masks_BLE: NDArray[np.bool_], start: int, stop: int) -> NDArray[np.bool_]:
    """Rows from `start` to `stop` of the masks of the batches and then of the union."""
    num = masks_BLE.size
    of_run = masks_BLE.any(0).ravel()[max(0, start - num) : max(0, stop - num)]
    return np.concatenate([masks_BLE.reshape(-1)[start:stop], of_run])


SAFE, UNSAFE = SIDES.index("safe"), SIDES.index("unsafe")


def write_pickles(
    path: Path,
    model_name: str,
    rows: Sequence[AnsweredPrompt],
    counts: RoutingCounts,
    masks_BLE: NDArray[np.bool_],
    examples: Sequence[TrainingExample],
) -> None:
    """Write all three pickles into the directory `path`."""
    _write(path / layout.batch_outputs(model_name), [_as_dict(row) for row in rows])
    _write(path / layout.risk_table(model_name), list(_expert_rows(counts, np.asarray(masks_BLE.any(axis=0)))))
    _write(path / layout.training_examples(model_name), [_as_dict(example) for example in examples])


def _write(path: Path, rows: Sequence[dict[str, object]]) -> None:
    write_atomic(layout.pickle_of(path), pickle.dumps(list(rows), protocol=PROTOCOL))


def _as_dict(row: AnsweredPrompt | TrainingExample) -> dict[str, object]:
    """The fields of a record; messages as dicts of `role` and `content`."""
    return {field.name: _value(getattr(row, field.name)) for field in fields(row)}


def _value(value: object) -> object:
    if isinstance(value, tuple):
        return [_value(turn) for turn in value]
    if isinstance(value, Message):
        return {name: _value(text) for name, text in asdict(value).items()}
    return sys.intern(value) if isinstance(value, str) else value  # a pickle tells equal texts from the same text


def _expert_rows(counts: RoutingCounts, union_LE: NDArray[np.bool_]) -> Iterator[dict[str, object]]:
    """Per expert: answer tokens routed to it and not (a1, d1: unsafe side; a2, d2: safe side), and the difference."""
    routed_SLE = counts.routed.sum(0, dtype=np.int64)
    seen_S = counts.seen.sum(0)
    for (layer_index, expert), selected in np.ndenumerate(union_LE):
        a1, a2 = (int(routed_SLE[side, layer_index, expert]) for side in (UNSAFE, SAFE))
        n1, n2 = (int(seen_S[side]) for side in (UNSAFE, SAFE))
        yield {
            "layer": counts.layers[layer_index],
            "expert": int(expert),
            "a1": a1,
            "d1": n1 - a1,
            "a2": a2,
            "d2": n2 - a2,
            "risk_diff": a1 / n1 - a2 / n2 if n1 and n2 else None,
            "selected": bool(selected),
        }


def write_prepared(
    path: Path,
    rows: Sequence[AnsweredPrompt],
    counts: RoutingCounts,
    result: SelectionResult,
    examples: Sequence[TrainingExample],
    summary: PrepareSummary,
) -> None:
    """Write every file of a prepare run into the directory `path`."""
    name = summary.base.name
    _write_answers(path / layout.batch_outputs(name), rows)
    write_counts(path / layout.routing_counts(name), counts)
    write_atomic(path / layout.training_examples(name), lines_of_records(examples))
    write_selection(path, name, result)
    write_atomic(path / layout.PREPARE_SUMMARY, encode(summary, indent=True))


def _write_answers(path: Path, rows: Sequence[AnsweredPrompt]) -> None:
    """Write `batch_outputs`: every prompt, its answer, whether it was kept and why not."""
    columns = [field.name for field in fields(AnsweredPrompt) if field.name != "messages"]
    table: dict[str, list[object]] = {name: [getattr(row, name) for row in rows] for name in columns}
    table["messages"] = [[{"role": m.role, "content": m.content} for m in row.messages] for row in rows]
    with atomic_file(path) as temporary, temporary.open("wb") as file:  # pyarrow takes a name with a colon for a URI
        pq.write_table(pa.table(table), file)
