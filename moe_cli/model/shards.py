"""The files that the index of a checkpoint names: they lie beside it."""

from __future__ import annotations

from pathlib import Path

from moe_cli.codec import parse_json
from moe_cli.errors import ArtifactError
from moe_cli.records.names import directory_name

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
HINT = "fetch or save the checkpoint again"


def shards_of(directory: Path) -> tuple[str, ...] | None:
    """The files of safetensors that transformers reads, the whole one before those of an index; None: it has neither.

    Raises:
        ArtifactError: the index names a file outside of the directory, or is none.
    """
    if (directory / WEIGHTS).is_file():
        return (WEIGHTS,)
    index = directory / INDEX
    if not index.is_file():
        return None
    content = parse_json(index.read_bytes(), source=str(index), hint=HINT)
    named = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(named, dict):
        raise ArtifactError(f"{index} has no weight_map", hint=HINT)
    return tuple(sorted({_shard(str(name), index) for name in named.values()}))


def _shard(name: str, index: Path) -> str:
    try:
        return directory_name(name)
    except ValueError:
        raise ArtifactError(f"{index} names weights that are not beside it: {name[:80]!r}", hint=HINT) from None
