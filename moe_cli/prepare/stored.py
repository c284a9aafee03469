"""What a selection is made of, on disk: counts as arrays, evidence as a table, masks, the selection and its pictures.

Comes in: records and arrays. Goes out: files in a run directory, and counts read back. Always holds: no NaN on disk
(undefined is null); pickles are neither written nor read; importing this imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from moe_cli.artifacts import layout
from moe_cli.artifacts.contents import naming_file
from moe_cli.artifacts.files import atomic_file, write_array, write_atomic
from moe_cli.codec import encode
from moe_cli.errors import ArtifactError
from moe_cli.prepare.evidence import SelectionResult
from moe_cli.prepare.picture import draw_pictures
from moe_cli.prepare.ranking import Floats
from moe_cli.records import HarmlessCounts, RiskDifferences, RoutingCounts

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


def write_selection(path: Path, model_name: str, found: SelectionResult) -> None:
    """Evidence, masks, selection and pictures, into the run directory `path`."""
    write_risk(path / layout.risk_table(model_name), found)
    write_array(path / layout.MASKS, found.masks)
    write_atomic(path / layout.SELECTION, encode(found.selection, indent=True))
    draw_pictures(path, found.risk, found.selection)


def write_counts(path: Path, counts: RoutingCounts) -> None:
    """`routing`: integer counts and router weights per pair, side and region; and what else was measured."""
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
    """What `write_counts` wrote.

    Raises:
        ArtifactError: an array is missing, has another type or shape, or holds what no count or weight can be.
    """
    with naming_file(path, hint=HINT), np.load(path, allow_pickle=False) as stored:
        arrays = dict(stored)
        _refuse_others(path, arrays)
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


def _refuse_others(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Refuse arrays that are not those of one run: each axis has one size in all of them."""
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


def write_risk(path: Path, found: SelectionResult) -> None:
    """`risk_diff`: one row per (batch, layer, expert); the aggregate of the run has a null batch."""
    risk, masks, parts = found.risk, found.masks, found.parts
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
    """A column of all batches and then the run; undefined is null."""
    values = np.concatenate([of_batches.ravel(), of_run.ravel()])
    return cast(NDArray[np.float64], pa.array(values, mask=np.isnan(values)))


def _of_run(risk: RiskDifferences, values_LE: Floats) -> NDArray[np.float64]:
    return _column(np.full(risk.per_batch.shape, np.nan), values_LE)
