"""One run directory: begun under a lock, filled, and made complete by its manifest.

Comes in: a path and what the run is. Goes out: a `RunWriter` to fill it, or a `FinishedRun` to read it. Always holds: a
directory with a manifest is complete; one without is an interrupted run that only `--resume` continues; two
writers never share a directory; a file is handed out only if its digest matches.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from moe_cli.artifacts.files import is_there, sha256_of, write_whole
from moe_cli.artifacts.layout import CONFIG, EVALUATIONS, LOCK, MANIFEST, STARTED, beside
from moe_cli.artifacts.locks import locked
from moe_cli.codec import decode, encode
from moe_cli.config import MoeConfig, dump_yaml
from moe_cli.errors import ArtifactError
from moe_cli.records import SCHEMA_VERSION, Manifest, RunKind, StartedRun

# What is kept of an interrupted training depends on its settings; the answers that other runs keep name theirs.
TRAINING = ("selective", "baseline")
TRAINING_SECTIONS = ("seed", "model", "train")
PACKAGES = ("torch", "transformers", "accelerate", "datasets", "safetensors", "numpy", "scipy")


@dataclass(slots=True)
class RunWriter:
    """A run directory that is being written."""

    path: Path
    started: StartedRun
    resumed: bool  # the directory held an interrupted run of the same kind
    parents: dict[str, str] = field(default_factory=dict)

    def remember(self, role: str, path: Path) -> None:
        """Note which earlier run is used, so that a resumed run takes the same one."""
        self.started = replace(self.started, inputs={**self.started.inputs, role: str(path.resolve())})
        write_whole(self.path / STARTED, encode(self.started, indent=True))

    def remembered(self, role: str) -> Path | None:
        """The earlier run noted under `role`."""
        found = self.started.inputs.get(role)
        return None if found is None else Path(found)

    def finish(self, *, base_fingerprint: str | None, model_name: str | None, device: str) -> Manifest:
        """Write the manifest: from here on the run is complete."""
        manifest = Manifest(
            schema_version=SCHEMA_VERSION,
            kind=self.started.kind,
            id=self.started.id,
            files={name: sha256_of(self.path / name) for name in _files_of(self.path)},
            parents=dict(self.parents),
            base_fingerprint=base_fingerprint,
            model_name=model_name,
            config=self.started.config,
            packages={name: version(name) for name in PACKAGES},
            seed=int(str(self.started.config["seed"])),
            device=device,
            started=self.started.started,
            finished=now(),
        )
        write_whole(self.path / MANIFEST, encode(manifest, indent=True))
        (self.path / STARTED).unlink(missing_ok=True)  # last: a crash before leaves a run that can be resumed
        return manifest


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """A complete run directory."""

    path: Path
    manifest: Manifest
    digest: str  # sha256 of the manifest

    def file(self, name: str) -> Path:
        """Path of one of its files, after its digest was checked.

        Raises:
            ArtifactError: the run has no such file, or the bytes changed.
        """
        expected = self.manifest.files.get(name)
        path = self.path / name
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
        """Names of files that are missing or changed."""
        return tuple(
            name
            for name, digest in self.manifest.files.items()
            if not os.path.isfile(self.path / name) or sha256_of(self.path / name) != digest
        )


@contextmanager
def open_run(path: Path, kind: RunKind, config: MoeConfig, *, resume: bool) -> Iterator[RunWriter]:
    """Begin (or continue) a run in `path` and hold its lock until the block ends.

    Raises:
        LockedError: another process works there.
        ArtifactError: the directory holds a complete run, foreign files, or an interrupted run and `resume` is off;
            or it is a file.
    """
    if kind != "evaluation":  # which lies in the run that it measures
        _refuse_inside_of_run(path)
    made = _new_directories(path)
    with locked(path, hint=f"wait for it, or {_elsewhere(kind)}"):
        previous = _interrupted_run(path, kind, resume=resume)
        if previous is not None and kind in TRAINING:
            _same_settings(previous, config, path)
        settings: dict[str, object] = config.model_dump(mode="json")
        started = replace(previous, config=settings) if previous is not None else _new_run(kind, settings)
        writer = RunWriter(path, started, resumed=previous is not None)
        write_whole(path / STARTED, encode(started, indent=True))
        write_whole(path / CONFIG, dump_yaml(config).encode())
        try:
            yield writer
        except BaseException:
            _forget_begun(path, made)
            raise


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


def free_directory(wanted: Path, kind: RunKind, *, resumable: bool) -> Path:
    """`wanted`, or with the first number that no run of this kind has taken; `resumable` ones can go on."""
    number, path = 1, wanted
    while kind_in(path) == kind and ((path / MANIFEST).is_file() or not resumable):
        number += 1
        path = beside(wanted, f"_{number}")
    return path


def now() -> str:
    """This moment, UTC, ISO 8601 to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _new_directories(path: Path) -> list[Path]:
    """Make the directory; those that were not there before, the innermost first."""
    missing = [place for place in (path, *path.parents) if not is_there(place)]
    there = next(place for place in (path, *path.parents, Path()) if is_there(place))
    if not there.is_dir():
        what = "is a file" if there.exists() else "is a link that leads nowhere"
        raise ArtifactError(f"{path} cannot be a run directory: {there} {what}", hint="choose another directory")
    path.mkdir(parents=True, exist_ok=True)
    return missing


def _refuse_inside_of_run(path: Path) -> None:
    """A complete run holds the files that its manifest names, and evaluations of it."""
    for place in path.absolute().parents:
        if (place / MANIFEST).is_file() and (place / CONFIG).is_file():
            raise ArtifactError(
                f"{path} lies inside {place}, which is a complete run", hint="choose a directory beside the run"
            )


def _elsewhere(kind: RunKind) -> str:
    other = "another name with --output-name" if kind == "evaluation" else "another directory with --output-dir"
    return f"choose {other}"


def _interrupted_run(path: Path, kind: RunKind, *, resume: bool) -> StartedRun | None:
    """The interrupted run in `path` if it is there and `resume` is on; None for an empty directory."""
    if (path / MANIFEST).is_file():
        raise ArtifactError(
            f"{path} already holds a complete run",
            hint=f"{_elsewhere(kind)}, or remove this one; a complete run is never overwritten",
        )
    if (path / STARTED).is_file():
        started = decode(StartedRun, (path / STARTED).read_bytes(), source=str(path / STARTED))
        if started.kind != kind:
            raise ArtifactError(
                f"{path} holds an interrupted run of kind {started.kind}, not {kind}", hint=_elsewhere(kind)
            )
        if not resume:
            raise ArtifactError(
                f"{path} holds an interrupted run",
                hint=f"add --resume to continue it, or {_elsewhere(kind)}",
            )
        return started
    if any(entry.name != LOCK for entry in path.iterdir()):
        raise ArtifactError(f"{path} is not empty and is no run of moe", hint=_elsewhere(kind))
    return None


def _forget_begun(path: Path, made: Sequence[Path]) -> None:
    """A run that fails before it wrote anything leaves nothing: the same command can be typed again."""
    begun = {STARTED, CONFIG, LOCK}
    if (path / MANIFEST).is_file() or any(_holds_work(entry) for entry in path.iterdir() if entry.name not in begun):
        return
    for entry in path.iterdir():
        entry.rmdir() if entry.is_dir() else entry.unlink()
    for place in made:
        with suppress(OSError):  # another run has begun beside this one
            place.rmdir()


def _holds_work(entry: Path) -> bool:
    return any(entry.iterdir()) if entry.is_dir() else entry.stat().st_size > 0


def _new_run(kind: RunKind, settings: dict[str, object]) -> StartedRun:
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    return StartedRun(kind=kind, id=f"{kind}-{stamp}-{secrets.token_hex(4)}", started=now(), config=settings, inputs={})


def _same_settings(previous: StartedRun, config: MoeConfig, path: Path) -> None:
    before = dict(_flat(previous.config))
    after = dict(_flat(config.model_dump(mode="json")))
    differing = [
        key
        for key in before | after
        if before.get(key) != after.get(key) and key.partition(".")[0] in TRAINING_SECTIONS
    ]
    if differing:
        changed = ", ".join(f"{key} {before.get(key)!r} -> {after.get(key)!r}" for key in differing)
        raise ArtifactError(
            f"{path} was begun with other settings: {changed}",
            hint=f"resume with the same settings, or {_elsewhere(previous.kind)}",
        )


def _flat(tree: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _files_of(path: Path) -> list[str]:
    """Files of the run itself: no manifest, no lock, nothing hidden, no evaluation that was written into it."""
    names = (file.relative_to(path) for file in path.rglob("*") if file.is_file())
    return sorted(
        name.as_posix()
        for name in names
        if not any(part.startswith(".") for part in name.parts) and name.parts[0] not in (MANIFEST, EVALUATIONS)
    )
