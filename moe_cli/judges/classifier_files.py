"""The files of a local classifier, and a digest of those that decide its output.

No weights are loaded for the digest. Two checkpoints that differ in a byte of weights, config, tokenizer or chat
template have different digests.
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

from huggingface_hub import snapshot_download

from moe_cli.artifacts.files import sha256_of
from moe_cli.codec import parse_json
from moe_cli.errors import ArtifactError, UsageError, first_line
from moe_cli.model.directory import INDEX, is_unreachable

HINT = "fetch the classifier again"
DECIDING = ("*.safetensors", "*.json", "*.model", "*.jinja")


def fetched(name: str, place: Path | None) -> Path:
    """The local directory of a classifier, downloaded from the hub if necessary.

    Raises:
        UsageError: it is not on the hub, or is gated.
        EnvironmentFaultError: the hub cannot be reached.
    """
    if place is not None:
        return place
    try:
        return Path(snapshot_download(name, allow_patterns=list(DECIDING)))
    except (OSError, ValueError) as error:
        if (offline := is_unreachable(f"the classifier {name}", error)) is not None:
            raise offline from error
        reason = first_line(error)
        raise UsageError(
            f"the classifier {name} cannot be fetched: {reason}",
            hint="name a local directory with config.json and safetensors; a gated model needs `hf auth login` first",
        ) from error


def files_digest(directory: Path) -> str:
    """sha256 over names and bytes of the files that decide the output.

    Raises:
        ArtifactError: as `refuse_incomplete`.
    """
    refuse_incomplete(directory)
    files = sorted({file for pattern in DECIDING for file in directory.glob(pattern) if file.is_file()})
    return sha256("\n".join(f"{file.name} {sha256_of(file)}" for file in files).encode()).hexdigest()


def refuse_incomplete(directory: Path) -> None:
    """Refuse a checkpoint without config or safetensors, or without some of the files in the index.

    Raises:
        ArtifactError: a file is missing, or config or index cannot be read.
    """
    model_type(directory)
    there = {file.name for file in directory.glob("*.safetensors") if file.is_file()}
    if not there:
        raise ArtifactError(f"{directory} holds no safetensors", hint=f"{HINT}; pickles are not read")
    index = directory / INDEX
    if not index.is_file():
        return
    document = parse_json(index.read_bytes(), source=str(index), hint=HINT)
    places = document.get("weight_map") if isinstance(document, dict) else None
    if not isinstance(places, dict):
        raise ArtifactError(f"{index} does not say where the weights are", hint=HINT)
    if missing := sorted({str(name) for name in places.values()} - there):
        raise ArtifactError(f"{directory} lacks {', '.join(missing[:3])} ({len(missing)} of its files)", hint=HINT)


def model_type(directory: Path) -> str:
    """The `model_type` in the checkpoint's config, such as `llama`.

    Raises:
        ArtifactError: there is no config, or no `model_type` in it.
    """
    file = directory / "config.json"
    if not file.is_file():
        raise ArtifactError(f"{directory} holds no config.json", hint=HINT)
    config = parse_json(file.read_bytes(), source=str(file), hint=HINT)
    kind = config.get("model_type") if isinstance(config, dict) else None
    if not isinstance(kind, str):
        raise ArtifactError(f"{file} does not say its model_type", hint=HINT)
    return kind
