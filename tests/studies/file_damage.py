"""Damages of one file: other content under its name, chosen at random by what kind of file it is.

Every function writes the file anew and says what it did; `structures` are those after which no regular file is there.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import save_file

Damage = Callable[[Path, random.Random], str]

DEEP = "[" * 100_000
VALUES: tuple[object, ...] = (
    *(None, True, -1, 0, 3, 2**63, 10**40, 1.5, 1e308, float("nan"), float("inf"), float("-inf")),
    *("abc", "", "\ud800", "a\0b", "../../x", "x" * 5000, [], {}, [1], {"a": 1}, [[[[]]]] * 3),
)
CONTENTS = (b"", b"[]", b"{}", b"null", b"1", b'"a"', b"NaN", b"\0", b"\xff\xfe", b"\x80\x04]\x94.", DEEP.encode())
DTYPES = (np.float64, np.int8, np.str_, np.complex128, object, np.bool_)
TORCH_DTYPES = (torch.float32, torch.float16, torch.float64, torch.int64, torch.uint8, torch.bool)


def kind_of(file: Path) -> str:
    """What a file is, by its ending; hidden journals are JSON lines, too."""
    return file.suffix.removeprefix(".") or "text"


def damage(file: Path, chance: random.Random) -> str:
    """Other content of the same kind, or bytes of no kind; what was done."""
    special = OF_KIND.get(kind_of(file), ())
    options = (*special, *special, *special, _bytes) if special else (_bytes,)
    return chance.choice(options)(file, chance)


def structure(file: Path, chance: random.Random) -> str:
    """Something else than a regular file in its place, or nothing."""
    what = chance.choice(("gone", "directory", "dangling link", "loop", "FIFO", "link out"))
    file.unlink()
    if what == "directory":
        file.mkdir()
    elif what == "FIFO":
        os.mkfifo(file)
    elif what != "gone":
        file.symlink_to({"loop": file.name, "dangling link": "nowhere", "link out": "/etc/hostname"}[what])
    return what


def _bytes(file: Path, chance: random.Random) -> str:
    whole = file.read_bytes()
    place = chance.randrange(len(whole) + 1)
    changes = {
        "empty": b"",
        "half": whole[: len(whole) // 2],
        "without its end": whole[:-1],
        "NUL inside": whole[:place] + b"\0" + whole[place:],
        "no UTF-8 inside": whole[:place] + b"\xff" + whole[place:],
        "a bit flipped": _flipped(whole, place, chance),
        "mark of order before": b"\xef\xbb\xbf" + whole,
        "twice": whole + whole,
        "other content": chance.choice(CONTENTS),
    }
    what = chance.choice(list(changes))
    file.write_bytes(changes[what])
    return what


def _flipped(whole: bytes, place: int, chance: random.Random) -> bytes:
    place = min(place, len(whole) - 1)
    return whole[:place] + bytes([whole[place] ^ 1 << chance.randrange(8)]) + whole[place + 1 :] if whole else whole


def _json(file: Path, chance: random.Random) -> str:
    tree = json.loads(file.read_text())
    what = _change(tree, chance)
    file.write_text(json.dumps(tree))
    return what


def _lines(file: Path, chance: random.Random) -> str:
    lines = file.read_text().splitlines()
    if not lines:
        return _bytes(file, chance)
    number = chance.randrange(len(lines))
    match chance.choice(("value", "value", "value", "gone", "twice", "moved", "of another", "deep")):
        case "value":
            tree = json.loads(lines[number])
            what = _change(tree, chance) if isinstance(tree, (dict, list)) else "null"
            lines[number] = json.dumps(tree) if isinstance(tree, (dict, list)) else "null"
        case "gone":
            what = f"line {number} gone"
            del lines[number]
        case "twice":
            what = f"line {number} twice"
            lines.insert(number, lines[number])
        case "moved":
            what = f"line {number} last"
            lines.append(lines.pop(number))
        case "deep":
            what, lines[number] = f"line {number} deep", DEEP
        case _:
            what, lines[number] = f"line {number} of another record", '{"id": "1", "prompt": "zorp"}'
    file.write_text("".join(f"{line}\n" for line in lines))
    return what


def _key_twice(file: Path, chance: random.Random) -> str:
    text = file.read_text()
    tree = json.loads(text)
    if not isinstance(tree, dict) or not tree:
        return _bytes(file, chance)
    key = chance.choice(list(tree))
    file.write_text(text.replace("{", f"{{{json.dumps(key)}: {json.dumps(chance.choice(VALUES))}, ", 1))
    return f"{key} twice"


def _yaml(file: Path, chance: random.Random) -> str:
    tree = yaml.safe_load(file.read_text())
    what = _change(tree, chance)
    file.write_text(yaml.dump(tree, allow_unicode=False))
    return what


def _change(tree: Any, chance: random.Random) -> str:
    """Another value, a key less or a key more, somewhere in it."""
    path: list[str] = []
    while True:
        if not tree:
            return "nothing"
        key = chance.choice(list(tree)) if isinstance(tree, dict) else chance.randrange(len(tree))
        path.append(str(key))
        below = tree[key]
        if not isinstance(below, (dict, list)) or not below or chance.random() < 0.25:
            break
        tree = below
    kind = chance.random()
    if kind < 0.15:
        del tree[key]
        return f"{'.'.join(path)} removed"
    if kind < 0.25 and isinstance(tree, dict):
        tree[chance.choice(("zorp", "", "\0", "../x"))] = chance.choice(VALUES)
        return f"a key more beside {'.'.join(path)}"
    tree[key] = _near(below, chance) if kind < 0.4 else chance.choice(VALUES)
    return f"{'.'.join(path)} = {repr(tree[key])[:60]}"


def _near(value: object, chance: random.Random) -> object:
    """Another value of the same type: what types alone do not tell."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return chance.choice((value + 1, -value - 1, value * 1000, 0, 2**62))
    if isinstance(value, float):
        return chance.choice((-value, value * 1e300, 0.0, value + 1))
    if isinstance(value, str):
        return chance.choice((value + "x", value[:-1], value.swapcase(), value * 2))
    if isinstance(value, list):
        return chance.choice((value * 2, value[:-1], value[::-1], [value]))
    return value


def _parquet(file: Path, chance: random.Random) -> str:
    table = pq.read_table(file)
    name = chance.choice(table.column_names)
    place, column = table.column_names.index(name), table.column(name)
    made = {
        "dropped": lambda: table.drop_columns([name]),
        "renamed": lambda: table.rename_columns([f"{c}x" if c == name else c for c in table.column_names]),
        "texts": lambda: table.set_column(place, name, pa.array([str(value) for value in column.to_pylist()])),
        "lists": lambda: table.set_column(place, name, pa.array([[1, 2]] * len(table))),
        "nulls": lambda: table.set_column(place, name, pa.nulls(len(table), column.type)),
        "untyped nulls": lambda: table.set_column(place, name, pa.nulls(len(table))),
        "NaN": lambda: table.set_column(place, name, pa.array([float("nan")] * len(table))),
        "infinity": lambda: table.set_column(place, name, pa.array([float("inf")] * len(table))),
        "huge": lambda: table.set_column(place, name, pa.array([2**62] * len(table))),
        "negative": lambda: table.set_column(place, name, pa.array([-1] * len(table))),
        "twice": lambda: table.append_column(name, column),
        "no rows": lambda: table.slice(0, 0),
        "half the rows": lambda: table.slice(0, len(table) // 2),
        "rows twice": lambda: pa.concat_tables([table, table]),
        "no columns": lambda: table.select([]),
    }
    what = chance.choice([*made, "damaged pages"])
    if what == "damaged pages":
        content = bytearray(file.read_bytes())
        start = chance.randrange(4, max(5, len(content) // 2))
        content[start : start + 16] = bytes(chance.randrange(256) for _ in range(16))
        file.write_bytes(bytes(content))
    else:
        pq.write_table(made[what](), file)
    return f"{name}: {what}"


def _arrays(file: Path, chance: random.Random) -> str:
    with np.load(file, allow_pickle=False) as stored:
        arrays = dict(stored)
    name = chance.choice(list(arrays))
    match chance.choice(("gone", "renamed", "more", "value", "value", "value", "value")):
        case "gone":
            what = "gone"
            del arrays[name]
        case "renamed":
            what, arrays[f"{name}x"] = "renamed", arrays.pop(name)
        case "more":
            what, arrays["zorp"] = "another beside it", np.arange(3)
        case _:
            what, arrays[name] = _other_array(arrays[name], chance)
    np.savez(file, **arrays)
    return f"{name}: {what}"


def _array(file: Path, chance: random.Random) -> str:
    what, array = _other_array(np.load(file, allow_pickle=False), chance)
    np.save(file, array, allow_pickle=True)
    return what


def _other_array(array: np.ndarray, chance: random.Random) -> tuple[str, np.ndarray]:
    floats = array.astype(np.float64) if array.dtype.kind in "biuf" else np.zeros(array.shape)
    filled = floats.copy()
    filled.reshape(-1)[chance.randrange(filled.size) if filled.size else slice(0)] = chance.choice(
        (np.nan, np.inf, -np.inf)
    )
    changes: dict[str, Callable[[], np.ndarray]] = {
        "another dtype": lambda: (floats if array.dtype.kind not in "biuf" else array).astype(chance.choice(DTYPES)),
        "not finite": lambda: filled,
        "without its last": lambda: array[..., :-1] if array.ndim else array,
        "without its first": lambda: array[1:] if array.ndim else array,
        "no entries": lambda: array[:0] if array.ndim else array.reshape(1)[:0],
        "another axis": lambda: array[None],
        "turned": lambda: array.T,
        "one number": lambda: np.array(3),
        "negative": lambda: (-1 - floats).astype(array.dtype) if array.dtype.kind in "iuf" else floats - 1,
        "huge": lambda: np.full(array.shape, 2**62),
        "zeros": lambda: np.zeros_like(array),
        "pickled": lambda: np.array([{"a": 1}], dtype=object),
    }
    what = chance.choice(list(changes))
    return what, changes[what]()


def _tensors(file: Path, chance: random.Random) -> str:
    with safe_open(file, framework="pt") as stored:
        tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
        metadata = stored.metadata()
    if not tensors:
        return _header(file, chance)
    name = chance.choice(sorted(tensors))
    tensor = tensors[name]
    changes = {
        "renamed": lambda: {f"{name}x": tensors.pop(name)},
        "gone": lambda: tensors.pop(name) is None or {},
        "another beside it": lambda: {"zorp": torch.zeros(3)},
        "another dtype": lambda: {name: tensor.to(chance.choice(TORCH_DTYPES))},
        "another shape": lambda: {name: tensor.reshape(-1)[:1].clone()},
        "another axis": lambda: {name: tensor[None].clone()},
        "no entries": lambda: {name: tensor.reshape(-1)[:0].clone()},
        "not finite": lambda: {name: _not_finite(tensor, chance)},
        "zeros": lambda: {name: torch.zeros_like(tensor)},
        "other metadata": dict,
    }
    what = chance.choice(list(changes))
    made = changes[what]()
    if what == "other metadata":
        metadata = chance.choice(({}, None, {"format": "x"}, {**(metadata or {}), "base": "{}"}))
    save_file({**tensors, **made}, file, metadata=metadata)
    return f"{name}: {what}"


def _not_finite(tensor: torch.Tensor, chance: random.Random) -> torch.Tensor:
    changed = tensor.clone() if tensor.is_floating_point() else tensor.float()
    changed.reshape(-1)[chance.randrange(changed.numel()) if changed.numel() else slice(0)] = chance.choice(
        (float("nan"), float("inf"))
    )
    return changed


def _header(file: Path, chance: random.Random) -> str:
    content = bytearray(file.read_bytes())
    what = chance.choice(("header of garbage", "header of no end", "header of depth"))
    if what == "header of garbage":
        content[8:40] = bytes(chance.randrange(256) for _ in range(32))
    elif what == "header of no end":
        content[:8] = (2**62).to_bytes(8, "little")
    else:
        content = bytearray(len(DEEP).to_bytes(8, "little") + DEEP.encode())
    file.write_bytes(bytes(content))
    return what


def copy_back(original: Path, file: Path) -> None:
    """The original in the place of whatever is there."""
    if file.is_dir() and not file.is_symlink():
        shutil.rmtree(file)
    else:
        file.unlink(missing_ok=True)
    shutil.copy2(original, file)


OF_KIND: dict[str, tuple[Damage, ...]] = {
    "json": (_json, _json, _json, _key_twice),
    "jsonl": (_lines,),
    "yaml": (_yaml,),
    "parquet": (_parquet,),
    "npz": (_arrays,),
    "npy": (_array,),
    "safetensors": (_tensors, _tensors, _header),
}
