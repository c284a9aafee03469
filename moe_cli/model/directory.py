"""Where the files of a model are, what they hold, and which of them are copied into a final model.

Files that transformers reads beside the weights are at the top of a checkpoint, except for further chat templates. All
of these are copied byte for byte; weights in any format, code, data sets and the README of the base are not.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePath
from typing import Any

from huggingface_hub import metadata_load, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import HTTPError, LocalEntryNotFoundError  # type: ignore[attr-defined]
from safetensors import safe_open
from yaml import YAMLError

from moe_cli.codec import parse_json
from moe_cli.errors import ArtifactError, EnvironmentFaultError, UsageError, first_line
from moe_cli.records import License, ModelIdentity
from moe_cli.records.record import directory_name
from moe_cli.tiny import CHECKPOINT_PATH, MODEL_NAME

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
HINT = "fetch or save the checkpoint again"
CONFIG = "config.json"
PAGE = "README.md"  # of the base; a final model has its own
LICENSE_KEYS = ("license", "license_name", "license_link")
WEIGHT_FILES = (
    *("*.safetensors", "*.bin", "*.pt", "*.pth", "*.pkl", "*.pickle", "*.ckpt", "*.npz"),
    *("*.gguf", "*.ggml", "*.onnx", "*.onnx_data*", "*.h5", "*.msgpack", "*.ot", "*.tflite", "*.mlmodel", "*.engine"),
    *("*.index.json", "adapter_config.json"),  # they belong to weights
)
CODE = ("*.py", "*.pyc", "*.so", "*.sh", "*.ipynb")  # never run here, so never handed on
DATA = ("*.jsonl", "*.csv", "*.tsv", "*.parquet", "*.arrow", "*.log")  # of nobody's model; they may hold prompts
TEMPLATES = "additional_chat_templates"

Json = dict[str, Any]  # a config of transformers, which may hold anything


def model_directory(name: str) -> Path | None:
    """The local directory of a model name, or None for a hub name.

    Raises:
        UsageError: the name is a path, or something is there, and it is no directory.
    """
    if name == MODEL_NAME:
        return CHECKPOINT_PATH
    path = Path(os.path.expanduser(name))
    if path.is_dir():
        return path
    if path.exists():
        raise UsageError(f"{path} is no directory, and a model has one", hint="name the directory of its files")
    if not name or path.is_absolute() or name.startswith(("./", "../", "~")) or name.count("/") > 1:
        raise UsageError(f"there is no directory {name}", hint="check the path, or name a hub model as owner/name")
    return None


def is_unreachable(name: str, error: BaseException) -> EnvironmentFaultError | None:
    """The error about `name`, "the model x", if the hub could not be reached; None if loading failed otherwise."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, LocalEntryNotFoundError):
        cause = cause.__cause__ or cause.__context__
    if cause is None:
        return None
    return EnvironmentFaultError(
        f"{name} is not on this machine, and the hub cannot be reached",
        hint="check the path or the name, or fetch it once where there is a network: its cache is HF_HOME",
    )


def shards_of(directory: Path) -> tuple[str, ...] | None:
    """The safetensors files that transformers reads: a single file, else those of the index; None if it has neither.

    Raises:
        ArtifactError: the index names a file outside of the directory, or is damaged.
    """
    if (directory / WEIGHTS).is_file():
        return (WEIGHTS,)
    index = directory / INDEX
    if not index.is_file():
        return None
    content = parse_json(index.read_bytes(), source=str(index), hint=HINT)
    weight_map = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(weight_map, dict):
        raise ArtifactError(f"{index} has no weight_map", hint=HINT)
    return tuple(sorted({_shard(str(name), index) for name in weight_map.values()}))


def _shard(name: str, index: Path) -> str:
    try:
        return directory_name(name)
    except ValueError:
        raise ArtifactError(f"{index} names weights that are not beside it: {name[:80]!r}", hint=HINT) from None


def base_directory(identity: ModelIdentity) -> Path:
    """The directory of the base: a local one, or the snapshot of its revision in the hub's cache.

    Files of a hub model that are not in the cache, such as its licence, are downloaded if the hub can be reached.

    Raises:
        EnvironmentFaultError: a hub model is no longer in the cache and cannot be downloaded.
        UsageError: the local directory is gone.
    """
    place = model_directory(identity.place)
    if place is not None:
        return place
    left_out = [*WEIGHT_FILES, *CODE, *DATA]
    try:
        return Path(snapshot_download(identity.name, revision=identity.revision, ignore_patterns=left_out))
    except (OSError, HTTPError) as error:  # offline, or closed by now; what was loaded lies in the cache
        cached = try_to_load_from_cache(identity.name, CONFIG, revision=identity.revision)
        if isinstance(cached, str):
            return Path(cached).parent
        reason = first_line(error)
        raise EnvironmentFaultError(
            f"the files of {identity.name} are not in the cache of the hub: {reason}",
            hint="fetch the model again, or name a directory that holds it",
        ) from error


def license_of(directory: Path) -> License:
    """The licence in the header of a checkpoint's README; empty if there is none that can be read."""
    try:
        header = metadata_load(directory / PAGE) or {}
    except (OSError, ValueError, YAMLError):
        header = {}
    fields = {key: value if isinstance(value := header.get(key), str) else None for key in LICENSE_KEYS}
    return License(**fields)


def copy_base_files(base: Path, directory: Path) -> None:
    """Copy the files that a final model takes from its base: contents, never links."""
    for name in kept_files(base):
        target = directory / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(base / name, target)


def kept_files(base: Path) -> Iterator[PurePath]:
    """Names of the files that a final model takes from its base, relative to it, sorted, without hidden ones."""
    places = [place for place in (base, base / TEMPLATES) if place.is_dir()]
    for path in sorted(path for place in places for path in place.iterdir() if path.is_file()):
        name = path.name.lower()
        other = path == base / PAGE or any(fnmatch(name, pattern) for pattern in (*WEIGHT_FILES, *CODE, *DATA))
        if not other and not name.startswith("."):
            yield path.relative_to(base)


def read_json(path: Path) -> Json:
    """Read a JSON file of transformers, which may contain an infinity."""
    content: Json = json.loads(path.read_text(encoding="utf-8"))
    return content


def write_json(path: Path, content: Json) -> None:
    """Write a JSON file as transformers does."""
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseWeights:
    """The weight files of the base; no weights are read."""

    files: dict[str, tuple[str, ...]]  # name of a file -> names of its tensors
    shapes: dict[str, tuple[int, ...]]  # of every tensor


def stored_weights(base: Path) -> BaseWeights | None:
    """The files that transformers reads, a single file before an index; None if it finds them under other names."""
    names = shards_of(base)
    if names is None or not all((base / name).is_file() for name in names):
        return None
    files: dict[str, tuple[str, ...]] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for name in names:
        with safe_open(base / name, framework="pt") as file:
            files[name] = tuple(file.keys())
            shapes |= {key: tuple(file.get_slice(key).get_shape()) for key in files[name]}
    return BaseWeights(files=files, shapes=shapes)
