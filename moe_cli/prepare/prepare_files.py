"""Every file of a prepare run: counts, evidence, masks, selection, pictures, and pickles for older scripts.

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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, cast

import matplotlib as mpl
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from moe_cli.artifacts import layout
from moe_cli.artifacts.files import atomic_file, naming_file, write_array, write_atomic
from moe_cli.characters import escape_unsafe
from moe_cli.codec import encode, encode_lines
from moe_cli.errors import ArtifactError
from moe_cli.prepare.ranking import Floats
from moe_cli.prepare.selection_evidence import SelectionResult
from moe_cli.records import (
    REGIONS,
    SIDES,
    AnsweredPrompt,
    HarmlessCounts,
    Message,
    PrepareSummary,
    RiskDifferences,
    RoutingCounts,
    Selection,
    TrainingExample,
)

MARK_POINTS = 3.0  # side of the square around a selected expert
# N pairs, S sides, R regions, L expert layers, E experts of each, B batches, M harmless prompts (in as many forms)
ARRAYS = {
    "layers": ("i", "L"),
    "top_k": ("i", ""),
    "pair_ids": ("U", "N"),
    "clusters": ("U", "N"),
    "routed": ("i", "NSRLE"),
    "seen": ("i", "NSR"),
    "gates": ("f", "NSRLE"),
    "gradients": ("f", "BLE"),
    "crossed": ("i", "NSLE"),
    "harmless_ids": ("U", "M"),
    "harmless_clusters": ("U", "M"),
    "harmless_routed": ("i", "MSLE"),
    "harmless_seen": ("i", "M"),
}
NEEDED = {"layers", "top_k", "pair_ids", "clusters", "routed", "seen", "gates"}
KINDS = {"i": "whole numbers", "f": "fractions", "U": "texts"}
HINT = "run moe prepare again: the file was written by another version of moe, or changed by hand"
PROTOCOL = 4


def draw_pictures(path: Path, risk: RiskDifferences, selection: Selection) -> None:
    """Write `risk_diff_{model}.png` and `.svg` into the directory `path`."""
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


def write_counts(path: Path, counts: RoutingCounts) -> None:
    """Write `routing`: integer counts and router weights per pair, side and region, and the optional measurements."""
    arrays: dict[str, NDArray[np.generic]] = {
        "layers": np.array(counts.layers, dtype=np.int64),
        "top_k": np.array(-1 if counts.top_k is None else counts.top_k, dtype=np.int64),
        "pair_ids": np.array(counts.pair_ids),
        "clusters": np.array(counts.clusters),
        "routed": counts.routed,
        "seen": counts.seen,
        "gates": counts.gates,
    }
    if counts.gradients is not None:
        arrays["gradients"] = counts.gradients
    if counts.crossed is not None:
        arrays["crossed"] = counts.crossed
    if (harmless := counts.harmless) is not None:
        arrays["harmless_ids"] = np.array(harmless.prompt_ids, dtype=np.str_)
        arrays["harmless_clusters"] = np.array(harmless.clusters, dtype=np.str_)
        arrays["harmless_routed"], arrays["harmless_seen"] = harmless.routed, harmless.seen
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def read_counts(path: Path) -> RoutingCounts:
    """Read what `write_counts` wrote.

    Raises:
        ArtifactError: an array is missing, has another type or shape, or holds a value that is no count or weight.
    """
    with naming_file(path, hint=HINT), np.load(path, allow_pickle=False) as stored:
        arrays = dict(stored)
        _refuse_inconsistent_arrays(path, arrays)
        return RoutingCounts(
            layers=tuple(arrays["layers"].tolist()),
            top_k=None if int(arrays["top_k"]) < 0 else int(arrays["top_k"]),
            pair_ids=tuple(arrays["pair_ids"].tolist()),
            clusters=tuple(arrays["clusters"].tolist()),
            routed=arrays["routed"],
            seen=arrays["seen"],
            gates=arrays["gates"],
            gradients=arrays.get("gradients"),
            crossed=arrays.get("crossed"),
            harmless=_harmless(arrays),
        )


def _refuse_inconsistent_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Refuse arrays that are not of one run: each axis must have the same size in all of them."""
    if missing := NEEDED - set(arrays):
        raise ArtifactError(f"{path} lacks {', '.join(sorted(missing))}", hint=HINT)
    sizes = {"S": 2, "R": 3}
    for name, (kind, axes) in ARRAYS.items():
        if (array := arrays.get(name)) is None:
            continue
        fits = array.dtype.kind == kind and array.ndim == len(axes)
        if not fits or any(sizes.setdefault(axis, size) != size for axis, size in zip(axes, array.shape, strict=True)):
            expected = f"{KINDS[kind]} [{', '.join(str(sizes.get(axis, axis)) for axis in axes)}]"
            raise ArtifactError(f"{path}: {name} is {array.dtype} {list(array.shape)}, not {expected}", hint=HINT)
        if kind != "U" and name != "top_k" and not (np.isfinite(array).all() and (array >= 0).all()):
            raise ArtifactError(f"{path}: {name} holds a value that is negative or no finite number", hint=HINT)
    layers = arrays["layers"].tolist()
    if layers != sorted(set(layers)):
        raise ArtifactError(f"{path}: layers are not in order, each once", hint=HINT)
    seen, harmless_seen = arrays["seen"], arrays.get("harmless_seen", np.zeros(0))
    for name, tokens in (("routed", seen), ("crossed", seen[:, ::-1, 0]), ("harmless_routed", harmless_seen)):
        if (
            name in arrays
            and (arrays[name] > tokens.reshape(tokens.shape + (1,) * (arrays[name].ndim - tokens.ndim))).any()
        ):
            raise ArtifactError(f"{path}: {name} counts more tokens than were seen", hint=HINT)


def _harmless(arrays: Mapping[str, NDArray[Any]]) -> HarmlessCounts | None:
    if "harmless_routed" not in arrays:
        return None
    return HarmlessCounts(
        prompt_ids=tuple(arrays["harmless_ids"].tolist()),
        clusters=tuple(arrays["harmless_clusters"].tolist()),
        routed=arrays["harmless_routed"],
        seen=arrays["harmless_seen"],
    )


def write_risk(path: Path, result: SelectionResult) -> None:
    """`risk_diff`: one row per (batch, layer, expert); the aggregate of the run has a null batch."""
    risk, masks, parts = result.risk, result.masks, result.parts
    nothing = np.full(risk.pooled.shape, np.nan)
    nothing_in_batches = np.full(risk.per_batch.shape, np.nan)
    num_batches, num_layers, num_experts = risk.per_batch.shape
    batch, layer, expert = (axis.ravel() for axis in np.indices((num_batches + 1, num_layers, num_experts)))
    table = {
        "batch": pa.array(batch, mask=batch == num_batches),
        "layer": np.array(risk.layers)[layer],
        "expert": expert,
        "risk_diff": _column(risk.per_batch, risk.pooled),
        "risk_diff_mean": _of_run(risk, risk.mean),
        "lower": _column(risk.batch_lower, risk.lower),
        "upper": _column(risk.batch_upper, risk.upper),
        "p_value": _of_run(risk, risk.p_value),
        "q_value": _of_run(risk, risk.q_value),
        "stability": _of_run(risk, risk.stability),
        "text": _column(
            nothing_in_batches if parts.text_of_batches is None else parts.text_of_batches,
            nothing if parts.text is None else parts.text,
        ),
        "wrapper": _of_run(risk, nothing if parts.wrapper is None else parts.wrapper),
        "harm": _of_run(risk, nothing if parts.harm is None else parts.harm),
        "selected": np.concatenate([masks.ravel(), masks.any(0).ravel()]),
    }
    with atomic_file(path) as temporary, temporary.open("wb") as file:  # pyarrow takes a name with a colon for a URI
        pq.write_table(pa.table(table), file)


def _column(of_batches: Floats, of_run: Floats) -> NDArray[np.float64]:
    """A column with all batches and then the run; undefined is null."""
    values = np.concatenate([of_batches.ravel(), of_run.ravel()])
    return cast(NDArray[np.float64], pa.array(values, mask=np.isnan(values)))


def _of_run(risk: RiskDifferences, values_LE: Floats) -> NDArray[np.float64]:
    return _column(np.full(risk.per_batch.shape, np.nan), values_LE)


ANSWER, SAFE, UNSAFE = REGIONS.index("answer"), SIDES.index("safe"), SIDES.index("unsafe")


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
    routed_SLE = counts.routed[:, :, ANSWER].sum(0)
    seen_S = counts.seen[:, :, ANSWER].sum(0)
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
    write_atomic(path / layout.training_examples(name), encode_lines(examples))
    write_selection(path, name, result)
    write_atomic(path / layout.PREPARE_SUMMARY, encode(summary, indent=True))


def _write_answers(path: Path, rows: Sequence[AnsweredPrompt]) -> None:
    """Write `batch_outputs`: every prompt, its answer, whether it was kept and why not."""
    columns = [field.name for field in fields(AnsweredPrompt) if field.name != "messages"]
    table: dict[str, list[object]] = {name: [getattr(row, name) for row in rows] for name in columns}
    table["messages"] = [[{"role": m.role, "content": m.content} for m in row.messages] for row in rows]
    with atomic_file(path) as temporary, temporary.open("wb") as file:  # pyarrow takes a name with a colon for a URI
        pq.write_table(pa.table(table), file)
