"""The routing counts of a prepare run on disk, written and read a few pairs at a time.

Counts have 32 bits, and one that these do not hold is an error, never another number. Earlier versions stored 64 bits,
and the tokens of the prompt and its last one beside those of the answer: of such a file the answers are read.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from moe_cli.artifacts.files import atomic_file, naming_file
from moe_cli.errors import ArtifactError
from moe_cli.records import HarmlessCounts, ReasoningCounts, RoutingCounts

# N pairs, S sides, L expert layers, E experts of each, B batches, M harmless prompts (in as many forms)
ARRAYS = {
    "layers": ("i", "L"),
    "top_k": ("i", ""),
    "pair_ids": ("U", "N"),
    "clusters": ("U", "N"),
    "routed": ("i", "NSLE"),
    "seen": ("i", "NS"),
    "gates": ("f", "NSLE"),
    "gradients": ("f", "BLE"),
    "crossed": ("i", "NSLE"),
    "harmless_ids": ("U", "M"),
    "harmless_clusters": ("U", "M"),
    "harmless_routed": ("i", "MSLE"),
    "harmless_seen": ("i", "M"),
    "reasoning_routed": ("i", "NSLE"),
    "reasoning_seen": ("i", "NS"),
    "reasoning_gates": ("f", "NSLE"),
    "reasoning_crossed": ("i", "NSLE"),
    "reasoning_harmless": ("i", "MSLE"),
    "reasoning_harmless_seen": ("i", "M"),
    "turns": ("i", "NS"),
}
NEEDED = {"layers", "top_k", "pair_ids", "clusters", "routed", "seen", "gates"}
OF_REASONING = ("reasoning_routed", "reasoning_seen", "reasoning_gates")  # all of them, or none
LARGE = (
    *("routed", "gates", "crossed", "harmless_routed"),
    *("reasoning_routed", "reasoning_gates", "reasoning_crossed", "reasoning_harmless"),
)
KINDS = {"i": "whole numbers", "f": "fractions", "U": "texts"}
HINT = "run moe prepare again: the file was written by another version of moe, or changed by hand"
MOST = np.iinfo(np.int32).max  # tokens of one answer
WITH_REGIONS = {"routed": "NSRLE", "seen": "NSR", "gates": "NSRLE"}  # of earlier versions
NUM_REGIONS, ANSWER = 3, 0
BLOCK_BYTES = 1 << 24


def write_counts(path: Path, counts: RoutingCounts) -> None:
    """Write `routing`: counts and router weights per pair and side, and the optional measurements."""
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
    if counts.turns is not None:
        arrays["turns"] = counts.turns
    if (reasoning := counts.reasoning) is not None:
        arrays |= {
            "reasoning_routed": reasoning.routed,
            "reasoning_seen": reasoning.seen,
            "reasoning_gates": reasoning.gates,
        }
        if reasoning.crossed is not None:
            arrays["reasoning_crossed"] = reasoning.crossed
        if reasoning.harmless is not None and reasoning.harmless_seen is not None:
            arrays["reasoning_harmless"], arrays["reasoning_harmless_seen"] = (
                reasoning.harmless,
                reasoning.harmless_seen,
            )
    with atomic_file(path) as temporary, ZipFile(temporary, "w", compression=ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            with archive.open(_member(name), "w", force_zip64=True) as file:
                npy.write_array(file, array, allow_pickle=False)


@dataclass(frozen=True, slots=True)
class _Header:
    """What an array is, before its values are read."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def read_counts(path: Path) -> RoutingCounts:
    """Read the counts of the answers that `write_counts` wrote.

    Raises:
        ArtifactError: an array is missing, has another type or shape, or holds a value that is no count or weight.
    """
    with naming_file(path, hint=HINT), ZipFile(path) as archive:
        headers = _headers(archive)
        _refuse_inconsistent_arrays(path, headers)
        arrays = {
            name: _small_array(path, archive, name, header) for name, header in headers.items() if name not in LARGE
        }
        _refuse_inconsistent_values(path, arrays)
        tokens = {
            "routed": arrays["seen"],
            "crossed": arrays["seen"][:, ::-1],
            "harmless_routed": arrays.get("harmless_seen"),
            "reasoning_routed": arrays.get("reasoning_seen"),
            "reasoning_crossed": arrays["reasoning_seen"][:, ::-1] if "reasoning_seen" in arrays else None,
            "reasoning_harmless": arrays.get("reasoning_harmless_seen"),
        }
        for name in [name for name in LARGE if name in headers]:
            arrays[name] = _large_array(path, archive, name, headers[name], tokens.get(name))
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
            reasoning=_reasoning(arrays),
            turns=arrays.get("turns"),
        )


def _member(name: str) -> str:
    return f"{name}.npy"


def _headers(archive: ZipFile) -> dict[str, _Header]:
    """The header of every known array that is there."""
    headers = {}
    for name in ARRAYS.keys() & {member.removesuffix(".npy") for member in archive.namelist()}:
        with archive.open(_member(name)) as file:
            headers[name] = _read_header(file)
    return {name: headers[name] for name in ARRAYS if name in headers}


def _read_header(file: IO[bytes]) -> _Header:
    read = npy.read_array_header_1_0 if npy.read_magic(file) == (1, 0) else npy.read_array_header_2_0
    shape, is_transposed, dtype = read(file)
    if is_transposed or dtype.hasobject:
        raise ValueError("an array is transposed, or holds objects")
    return _Header(shape, dtype)


def _refuse_inconsistent_arrays(path: Path, headers: Mapping[str, _Header]) -> None:
    """Refuse arrays that are not of one run: each axis must have the same size in all of them."""
    if missing := NEEDED - set(headers):
        raise ArtifactError(f"{path} lacks {', '.join(sorted(missing))}", hint=HINT)
    if 0 < sum(name in headers for name in OF_REASONING) < len(OF_REASONING):
        raise ArtifactError(f"{path} holds only a part of the counts of reasoning", hint=HINT)
    sizes = {"S": 2, "R": NUM_REGIONS}
    for name, header in headers.items():
        kind, axes = ARRAYS[name]
        if _has_regions(name, header):
            axes = WITH_REGIONS[name]
        fits = header.dtype.kind == kind and len(header.shape) == len(axes)
        if not fits or any(sizes.setdefault(axis, size) != size for axis, size in zip(axes, header.shape, strict=True)):
            expected = f"{KINDS[kind]} [{', '.join(str(sizes.get(axis, axis)) for axis in axes)}]"
            raise ArtifactError(f"{path}: {name} is {header.dtype} {list(header.shape)}, not {expected}", hint=HINT)


def _has_regions(name: str, header: _Header) -> bool:
    """Whether an earlier version wrote the array."""
    return name in WITH_REGIONS and len(header.shape) == len(WITH_REGIONS[name])


def _small_array(path: Path, archive: ZipFile, name: str, header: _Header) -> NDArray[Any]:
    with archive.open(_member(name)) as file:
        array: NDArray[Any] = npy.read_array(file, allow_pickle=False)
    if _has_regions(name, header):
        array = array[:, :, ANSWER]
    if array.dtype.kind != "U" and name != "top_k":
        _refuse_no_amounts(path, name, array)
    return array


def _refuse_inconsistent_values(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    layers = arrays["layers"].tolist()
    if layers != sorted(set(layers)):
        raise ArtifactError(f"{path}: layers are not in order, each once", hint=HINT)
    if "turns" in arrays and (arrays["turns"] < 1).any():
        raise ArtifactError(f"{path}: turns are not counted from 1", hint=HINT)
    for name in ("seen", "harmless_seen"):
        if name in arrays and (arrays[name] > MOST).any():
            raise ArtifactError(f"{path}: {name} counts more tokens than one answer can have", hint=HINT)
    for name, whole in (
        ("reasoning_seen", arrays["seen"]),
        ("reasoning_harmless_seen", arrays.get("harmless_seen")),
    ):
        if name in arrays and (whole is None or (arrays[name] > whole).any()):
            raise ArtifactError(f"{path}: {name} counts more tokens than the answers have", hint=HINT)


def _large_array(
    path: Path, archive: ZipFile, name: str, header: _Header, tokens: NDArray[np.int64] | None
) -> NDArray[Any]:
    """A large array, whose values are checked; `tokens` are those that could be counted."""
    has_regions = _has_regions(name, header)
    shape = (*header.shape[:2], *header.shape[3:]) if has_regions else header.shape
    kept = np.empty(shape, dtype=np.int32 if header.dtype.kind == "i" else np.float64)
    for rows, stored in _blocks(archive, name, header):
        block = stored[:, :, ANSWER] if has_regions else stored
        _refuse_no_amounts(path, name, block)
        if tokens is not None:
            most = tokens[rows]
            if (block > most.reshape(most.shape + (1,) * (block.ndim - most.ndim))).any():
                raise ArtifactError(f"{path}: {name} counts more tokens than were seen", hint=HINT)
        kept[rows] = block
    return kept


def _blocks(archive: ZipFile, name: str, header: _Header) -> Iterator[tuple[slice, NDArray[Any]]]:
    """The array a few rows at a time, with their places."""
    row_bytes = math.prod(header.shape[1:]) * header.dtype.itemsize
    step = max(1, BLOCK_BYTES // max(1, row_bytes))
    with archive.open(_member(name)) as file:
        _read_header(file)
        for start in range(0, header.shape[0], step):
            rows = slice(start, min(start + step, header.shape[0]))
            block = np.frombuffer(file.read((rows.stop - rows.start) * row_bytes), dtype=header.dtype)
            yield rows, block.reshape(-1, *header.shape[1:])


def _refuse_no_amounts(path: Path, name: str, array: NDArray[Any]) -> None:
    if not (np.isfinite(array).all() and (array >= 0).all()):
        raise ArtifactError(f"{path}: {name} holds a value that is negative or no finite number", hint=HINT)


def _harmless(arrays: Mapping[str, NDArray[Any]]) -> HarmlessCounts | None:
    if "harmless_routed" not in arrays:
        return None
    return HarmlessCounts(
        prompt_ids=tuple(arrays["harmless_ids"].tolist()),
        clusters=tuple(arrays["harmless_clusters"].tolist()),
        routed=arrays["harmless_routed"],
        seen=arrays["harmless_seen"],
    )


def _reasoning(arrays: Mapping[str, NDArray[Any]]) -> ReasoningCounts | None:
    if "reasoning_routed" not in arrays:
        return None
    return ReasoningCounts(
        routed=arrays["reasoning_routed"],
        seen=arrays["reasoning_seen"],
        gates=arrays["reasoning_gates"],
        crossed=arrays.get("reasoning_crossed"),
        harmless=arrays.get("reasoning_harmless"),
        harmless_seen=arrays.get("reasoning_harmless_seen"),
    )
