"""Where the files of a base model lie, and which of them a final model takes over as they are.

What transformers reads beside the weights lies at the top of a checkpoint, but for further chat templates: from there
everything is taken over, byte for byte, but weights in any format, code, data sets and the page of the base.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path, PurePath

from huggingface_hub import metadata_load, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]
from yaml import YAMLError

from moe_cli.errors import EnvironmentFaultError
from moe_cli.model.directory import model_directory
from moe_cli.records import License, ModelIdentity

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


def base_directory(identity: ModelIdentity) -> Path:
    """The directory that holds the base: a local one, or its snapshot in the hub's cache at the revision it has.

    What of a hub model is not in the cache, such as its licence, is fetched where the hub can be asked.

    Raises:
        EnvironmentFaultError: a hub model is not in the cache any more and cannot be fetched.
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
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise EnvironmentFaultError(
            f"the files of {identity.name} are not in the cache of the hub: {reason}",
            hint="fetch the model again, or name a directory that holds it",
        ) from error


def license_of(directory: Path) -> License:
    """The licence that the page of a checkpoint names in its header; nothing where there is none that can be read."""
    try:
        header = metadata_load(directory / PAGE) or {}
    except (OSError, ValueError, YAMLError):
        header = {}
    named = {key: value if isinstance(value := header.get(key), str) else None for key in LICENSE_KEYS}
    return License(**named)


def copy_base_files(base: Path, directory: Path) -> None:
    """Copy what a final model takes over from its base: contents, never links."""
    for name in kept_files(base):
        target = directory / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(base / name, target)


def kept_files(base: Path) -> Iterator[PurePath]:
    """Names of the files that a final model takes over, relative to the base, in order; hidden ones are left out."""
    places = [place for place in (base, base / TEMPLATES) if place.is_dir()]
    for path in sorted(path for place in places for path in place.iterdir() if path.is_file()):
        name = path.name.lower()
        other = path == base / PAGE or any(fnmatch(name, pattern) for pattern in (*WEIGHT_FILES, *CODE, *DATA))
        if not other and not name.startswith("."):
            yield path.relative_to(base)
