"""Names of sources that a user types: a file, a folder, or a data set on the hub with a pinned revision.

Local paths come before the hub. A hub name without a revision is refused, as its rows could change; pickles are refused
without being read; a name that is clearly a path is never looked up on the hub.

    pairs.csv    artifact.json#jailbreaks    folder#train    owner/name@1a2b3c4    owner/name:config@1a2b3c4#train
    hf://datasets/owner/name@1a2b3c4/data/train.csv
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Literal

from moe_cli.errors import UsageError
from moe_cli.records.inputs import ItemKind

ACCEPTED = "docs/guide.md shows every format; moe prepare --pairs FILE --dry-run shows what a file is read as"
PICKLES = {".pkl", ".pickle", ".pt", ".pth", ".bin"}
FOLDER_MARKS = ("dataset_info.json", "dataset_dict.json")
HUB_NAME = re.compile(r"(?P<name>[\w.-]+/[\w.-]+)(:(?P<config>[\w.-]+))?(@(?P<revision>[^#@]+))?")
KINDS: dict[str, ItemKind] = {"harmful": "harmful", "benign": "benign", "text": "text"}
MOVING = {"main", "master", "HEAD"}  # branches
HUB_PREFIX = "hf://datasets/"
FOLDED_PREFIX = "hf:/datasets/"  # as `Path` writes it
HUB_FILE = re.compile(r"(?P<name>[\w.-]+/[\w.-]+)(@(?P<revision>[^/#@]+))?/(?P<path>[^#]+)")
FILE_ENDINGS = {
    *(".arrow", ".bz2", ".csv", ".gz", ".json", ".jsonl", ".md", ".ndjson", ".parquet", ".tsv", ".txt", ".xz", ".yaml"),
    *(".yml", ".zip", ".zst"),
}


@dataclass(frozen=True, slots=True)
class NamedSource:
    """A parsed name of a source of rows."""

    name: str  # as it was typed
    kind: Literal["file", "folder", "repository", "hub", "remote"]
    place: str  # the path, or owner/name, or the address of a file on the hub
    config: str | None = None  # of a hub data set
    revision: str | None = None  # of a hub data set
    split: str | None = None  # of a folder or hub data set; of a JSON object, which of its lists
    accepted: str = ACCEPTED  # what a hint says where nothing can be read


def source_of(named: str, revision: str | None = None, *, accepted: str | None = None) -> NamedSource:
    """The source that a user named.

    `revision` is for hub names without one of their own. `accepted` replaces the names in a hint where the source is
    not that of `--pairs` or `--benign`.

    Raises:
        UsageError: there is no such source, or it is a pickle, an empty folder, or a hub name without a revision.
    """
    if not named.strip():
        raise UsageError(f"there is no file {named!r}", hint="name a file, a folder, or owner/name@COMMIT on the hub")
    if named.startswith(FOLDED_PREFIX):
        named = HUB_PREFIX + named.removeprefix(FOLDED_PREFIX)
    whole = Path(os.path.expanduser(named))
    place, _, split = (named, "", "") if whole.exists() else named.partition("#")
    path = Path(os.path.expanduser(place))
    if path.suffix.lower() in PICKLES and not path.is_dir():
        raise UsageError(
            f"{path} looks like a pickle, which could run code when it is read",
            hint="export it as JSON",
        )
    if path.is_file():
        source = NamedSource(named, "file", str(path), split=split or None)
    elif path.is_dir():
        source = _folder(named, path, split or None)
    elif path.exists():
        raise UsageError(f"{path} is a pipe or a device, and no file", hint="write what it gives into a file")
    elif named.startswith(HUB_PREFIX):
        source = _remote(named, place.removeprefix(HUB_PREFIX), split or None, revision, accepted)
    else:
        source = _on_the_hub(named, place, split or None, revision, accepted)
    return source if accepted is None else replace(source, accepted=accepted)


def kind_and_source(source: str) -> tuple[ItemKind | None, str]:
    """The kind in front of a source (`harmful=FILE`) and the source; None if no kind is given."""
    kind, equals, name = source.partition("=")
    if equals and kind in KINDS and not Path(source).exists():
        return KINDS[kind], name
    return None, source


def is_local(source: str) -> bool:
    """Whether the name is that of a local file or folder."""
    return any(Path(os.path.expanduser(place)).exists() for place in (source, source.partition("#")[0]))


def _folder(source: str, path: Path, split: str | None) -> NamedSource:
    """A folder written by `datasets`, or one with data files."""
    saved = any((path / mark).is_file() for mark in FOLDER_MARKS)
    if not saved and not any(file.is_file() for file in path.rglob("*")):
        raise UsageError(f"the folder {path} holds no file", hint="name a file, or a folder with data files")
    return NamedSource(source, "folder" if saved else "repository", str(path), split=split)


def _remote(source: str, place: str, split: str | None, revision: str | None, accepted: str | None) -> NamedSource:
    """A file on the hub, or a whole data set by its address there."""
    match = HUB_FILE.fullmatch(place)
    if match is None:
        return _on_the_hub(source, place, split, revision, accepted)
    pinned = _pinned(f"{HUB_PREFIX}{match['name']}", match["revision"] or revision, accepted)
    return NamedSource(
        source, "remote", f"{HUB_PREFIX}{match['name']}@{pinned}/{match['path']}", revision=pinned, split=split
    )


def _on_the_hub(source: str, place: str, split: str | None, revision: str | None, accepted: str | None) -> NamedSource:
    match = HUB_NAME.fullmatch(place)
    if match is None or _is_plainly_a_path(place):
        raise UsageError(f"there is no file {place}", hint="check the path")
    pinned = _pinned(place, match["revision"] or revision, accepted)
    return NamedSource(source, "hub", match["name"], config=match["config"], revision=pinned, split=split)


def _pinned(place: str, revision: str | None, accepted: str | None) -> str:
    """The revision, which has to be a commit or a tag."""
    if revision is None:
        option = ", or --data-revision COMMIT" if accepted is None else ""
        raise UsageError(
            f"there is no file {place}, and as a name on the hub it needs a revision",
            hint=f"{place}@COMMIT{option}",
        )
    if revision in MOVING:
        raise UsageError(
            f"{place}: the revision {revision} is a branch, whose rows can change", hint="name a commit or a tag"
        )
    return revision


def _is_plainly_a_path(place: str) -> bool:
    """Whether a name is clearly a path: it starts with a dot, or has a known file ending and no pinned revision."""
    return place.startswith(".") or Path(place).suffix.lower() in FILE_ENDINGS


def digest_of_source(path: Path) -> str:
    """sha256 of a file, or of the names and digests of all files of a folder."""
    if path.is_file():
        return sha256(path.read_bytes()).hexdigest()
    files = sorted(file for file in path.rglob("*") if file.is_file())
    lines = [f"{file.relative_to(path).as_posix()} {sha256(file.read_bytes()).hexdigest()}\n" for file in files]
    return sha256("".join(lines).encode()).hexdigest()
