"""Reading a complete run directory: a file is returned only if its digest matches the manifest."""

from __future__ import annotations

import os
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from moe_cli.artifacts.files import sha256_of
from moe_cli.artifacts.layout import MANIFEST, RUNS_INSIDE, STARTED, path_in
from moe_cli.codec import Record, decode, decode_file
from moe_cli.errors import ArtifactError
from moe_cli.records import SCHEMA_VERSION, Manifest, RunKind, StartedRun


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """A complete run directory."""

    path: Path
    manifest: Manifest
    digest: str  # sha256 of the manifest

    def file(self, name: str) -> Path:
        """Path of one of its files, with a checked digest.

        Raises:
            ArtifactError: the run has no such file, it is a link that leads out, or the bytes changed.
        """
        expected = self.manifest.files.get(name)
        path = path_in(self.path, name)
        if expected is None or not path.is_file():
            raise ArtifactError(f"{self.path} has no file {name}", hint="moe runs verify lists what is missing")
        if sha256_of(path) != expected:
            raise ArtifactError(
                f"{path} changed since the run wrote it (its sha256 is not the manifest's)",
                hint="restore the file, or make the run again",
            )
        return path

    def record(self, name: str, record_type: type[Record]) -> Record:
        """The record in one of its files, whose digest is checked.

        Raises:
            ArtifactError: as `file`, or the record cannot be decoded.
        """
        return decode_file(record_type, self.file(name))

    def is_whole(self, name: str) -> bool:
        """Whether this file is there, unchanged since the run wrote it."""
        file = path_in(self.path, name)
        return os.path.isfile(file) and sha256_of(file) == self.manifest.files.get(name)

    def directory(self, name: str) -> Path:
        """Path of one of its directories, with checked digests of all its files.

        Raises:
            ArtifactError: one is missing or changed, or a file is there that the run did not write.
        """
        names = [file for file in self.manifest.files if file.startswith(f"{name}/")]
        if not names:
            raise ArtifactError(f"{self.path} has no directory {name}", hint="moe runs verify lists what is missing")
        for file in names:
            self.file(file)
        self.refuse_added(name)
        return self.path / name

    def refuse_added(self, name: str) -> None:
        """Refuse files in one of its directories that the run did not write: they may change what is loaded.

        Raises:
            ArtifactError: there are any.
        """
        if added := [file for file in self.added() if file.startswith(f"{name}/")]:
            others = f" and {len(added) - 1} more" if len(added) > 1 else ""
            raise ArtifactError(
                f"{self.path} holds {added[0]}{others}, which the run did not write", hint="move it out of the run"
            )

    def added(self) -> tuple[str, ...]:
        """Files that are not in its manifest, except hidden ones and those of other runs inside."""
        inner = {file.parent.relative_to(self.path).as_posix() for file in self.path.glob(f"*/**/{MANIFEST}")}
        inner |= {file.parent.relative_to(self.path).as_posix() for file in self.path.glob(f"*/**/{STARTED}")}
        files = (name for name in files_of(self.path) if name not in self.manifest.files)
        return tuple(name for name in files if not any(name.startswith(f"{run}/") for run in inner))

    def damaged(self) -> tuple[str, ...]:
        """Names of files that are missing or changed.

        Raises:
            ArtifactError: one is a link that leads out of the run.
        """
        files = {name: path_in(self.path, name) for name in self.manifest.files}
        whole = {name: os.path.isfile(path) and sha256_of(path) for name, path in files.items()}
        return tuple(name for name, digest in self.manifest.files.items() if whole[name] != digest)


def finished_run(path: Path, *kinds: RunKind) -> FinishedRun:
    """The complete run in `path`, of one of `kinds` (any kind if none is given).

    Raises:
        ArtifactError: there is no run, or it is not complete, of another kind, or damaged.
    """
    manifest_path = path / MANIFEST
    if not manifest_path.is_file():
        started = (path / STARTED).is_file()
        what = "holds an interrupted run" if started else "is no run directory (it has no manifest.json)"
        raise ArtifactError(
            f"{path} {what}", hint="finish it with --resume" if started else "moe runs list shows the runs there are"
        )
    data = manifest_path.read_bytes()
    manifest = decode(Manifest, data, source=str(manifest_path))
    if manifest.schema_version != SCHEMA_VERSION:
        raise ArtifactError(
            f"{manifest_path} has the schema version {manifest.schema_version}, but this moe reads {SCHEMA_VERSION}",
            hint="read it with the version of moe that wrote it, or make the run again",
        )
    if not manifest.id.startswith(f"{manifest.kind}-"):
        raise ArtifactError(
            f"{manifest_path} was changed by hand: it says {manifest.kind}, but its id is {manifest.id}",
            hint="put it back as it was, or make the run again",
        )
    if kinds and manifest.kind not in kinds:
        raise ArtifactError(
            f"{path} is a run of kind {manifest.kind}, but {' or '.join(kinds)} is needed here",
            hint="moe runs list shows the kind of every run",
        )
    return FinishedRun(path, manifest, sha256_of(manifest_path))


def kind_in(path: Path) -> RunKind | None:
    """The kind of the run in `path`, complete or interrupted; None if there is none."""
    if (path / MANIFEST).is_file():
        return decode_file(Manifest, path / MANIFEST).kind
    if (path / STARTED).is_file():
        return decode_file(StartedRun, path / STARTED).kind
    return None


def files_of(path: Path, scratch: str = "") -> list[str]:
    """Files of the run itself, without manifest, hidden files, scratch files, and the runs inside of it."""
    names = (file.relative_to(path) for file in path.rglob("*") if file.is_file())
    return sorted(
        name.as_posix()
        for name in names
        if not any(part.startswith(".") for part in name.parts)
        and name.parts[0] not in (MANIFEST, *RUNS_INSIDE)
        and not fnmatch(name.parts[0], scratch)
    )
