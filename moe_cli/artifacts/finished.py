"""A complete run directory, to be read: a file is handed out only if its digest is the manifest's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from moe_cli.artifacts.files import sha256_of
from moe_cli.artifacts.layout import MANIFEST, STARTED, path_in
from moe_cli.codec import decode
from moe_cli.errors import ArtifactError
from moe_cli.records import SCHEMA_VERSION, Manifest, RunKind, StartedRun


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """A complete run directory."""

    path: Path
    manifest: Manifest
    digest: str  # sha256 of the manifest

    def file(self, name: str) -> Path:
        """Path of one of its files, after its digest was checked.

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

    def directory(self, name: str) -> Path:
        """Path of one of its directories, after the digests of all its files were checked."""
        names = [file for file in self.manifest.files if file.startswith(f"{name}/")]
        if not names:
            raise ArtifactError(f"{self.path} has no directory {name}", hint="moe runs verify lists what is missing")
        for file in names:
            self.file(file)
        return self.path / name

    def damaged(self) -> tuple[str, ...]:
        """Names of files that are missing or changed.

        Raises:
            ArtifactError: one is a link that leads out of the run.
        """
        files = {name: path_in(self.path, name) for name in self.manifest.files}
        return tuple(
            name for name, path in files.items() if not path.is_file() or sha256_of(path) != self.manifest.files[name]
        )


def finished_run(path: Path, *kinds: RunKind) -> FinishedRun:
    """The complete run in `path`, of one of `kinds` (any, where none is named).

    Raises:
        ArtifactError: nothing there, not complete, of another kind, or damaged.
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
    if kinds and manifest.kind not in kinds:
        raise ArtifactError(
            f"{path} is a run of kind {manifest.kind}, but {' or '.join(kinds)} is needed here",
            hint="moe runs list shows the kind of every run",
        )
    return FinishedRun(path, manifest, sha256_of(manifest_path))


def kind_in(path: Path) -> RunKind | None:
    """The kind of the run in `path`, complete or interrupted; None where there is none."""
    if (path / MANIFEST).is_file():
        return decode(Manifest, (path / MANIFEST).read_bytes(), source=str(path / MANIFEST)).kind
    if (path / STARTED).is_file():
        return decode(StartedRun, (path / STARTED).read_bytes(), source=str(path / STARTED)).kind
    return None
