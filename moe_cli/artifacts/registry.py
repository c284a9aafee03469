"""The registry: one small immutable JSON record per finished run, and the check that a run is still unchanged.

The run directories are the truth. Many processes can add at once and nothing is lost; a record whose directory is gone
or changed is shown as such.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryFile
from typing import Literal

from moe_cli.artifacts.files import drop_temporaries, is_there, sha256_of, write_atomic
from moe_cli.artifacts.finished import FinishedRun, finished_run, kind_in
from moe_cli.artifacts.layout import CONFIG, FINAL_MODEL, MANIFEST, STARTED
from moe_cli.artifacts.run_directory import RunWriter
from moe_cli.codec import decode_file, encode
from moe_cli.config import load_config
from moe_cli.errors import ArtifactError, EnvironmentFaultError, MoeError
from moe_cli.records import Manifest, RunKind, RunRecord
from moe_cli.records.record import run_id
from moe_cli.records.training import ARMS
from moe_cli.signals import publish

State = Literal["complete", "interrupted", "gone", "changed"]
REGISTERED = ("id", "kind", "base_fingerprint", "model_name", "parents", "finished")  # fields that a record repeats


@dataclass(frozen=True, slots=True)
class Store:
    """The registry directory, where runs are registered and looked up."""

    registry: Path  # ".moe/registry"

    def refuse_unwritable(self) -> None:
        """Refuse, before any work, a registry to which the finished run could not be added.

        Raises:
            EnvironmentFaultError: it cannot be created or written.
        """
        there = next(place for place in (self.registry, *self.registry.absolute().parents) if is_there(place))
        try:
            with TemporaryFile(dir=there):
                pass
        except OSError as error:
            raise EnvironmentFaultError(
                f"the registry {self.registry} cannot be written: {error.strerror}",
                hint="choose another one with --registry or MOE_REGISTRY",
            ) from error

    def add(self, writer: RunWriter, *, base_fingerprint: str | None, model_name: str | None, device: str) -> RunRecord:
        """Register a run and complete it with its manifest.

        The record is written first: if that fails, or a crash comes between the two, the run can be resumed.
        """
        manifest = writer.manifest(base_fingerprint=base_fingerprint, model_name=model_name, device=device)
        publish()
        record = self._add(writer.path, manifest, sha256(encode(manifest, indent=True)).hexdigest())
        writer.finish(manifest)
        return record

    def register(self, run: FinishedRun) -> RunRecord:
        """Write the record of a complete run that was copied from elsewhere.

        Raises:
            ArtifactError: another complete run is registered under its id.
        """
        return self._add(run.path, run.manifest, run.digest)

    def _add(self, path: Path, manifest: Manifest, digest: str) -> RunRecord:
        record = RunRecord(
            id=manifest.id,
            kind=manifest.kind,
            path=str(path.resolve()),
            manifest_digest=digest,
            base_fingerprint=manifest.base_fingerprint,
            model_name=manifest.model_name,
            parents=manifest.parents,
            finished=manifest.finished,
        )
        file = self._file_of(record)
        before = _read(file) if file.is_file() else None
        if before is not None and before.manifest_digest != digest and state_of(before) == "complete":
            raise ArtifactError(
                f"{record.id} is registered already, and is the run in {before.path}, with another manifest",
                hint=f"moe runs verify {path}; moe runs forget {record.id} removes the record that is there",
            )
        write_atomic(file, encode(record, indent=True))
        drop_temporaries(self.registry, of=file.name)
        return record

    def records(self, *kinds: RunKind) -> tuple[RunRecord, ...]:
        """Records of these kinds (all, where none is named), oldest first."""
        if is_there(self.registry) and not self.registry.is_dir():
            raise ArtifactError(f"the registry {self.registry} is no directory", hint="choose another with --registry")
        files = sorted(self.registry.glob("*.json")) if self.registry.is_dir() else []
        all_records = (record for file in files if (record := _read(file)) is not None)
        return tuple(sorted((r for r in all_records if not kinds or r.kind in kinds), key=lambda r: (r.finished, r.id)))

    def newest(self, *kinds: RunKind, base_fingerprint: str | None = None) -> FinishedRun | None:
        """The newest complete run of these kinds, with this base model if one is given."""
        for record in reversed(self.records(*kinds)):
            same_model = base_fingerprint is None or record.base_fingerprint == base_fingerprint
            if same_model and state_of(record) == "complete":
                return finished_run(Path(record.path), *kinds)
        return None

    def with_digest(self, digest: str, *kinds: RunKind) -> FinishedRun | None:
        """The complete run whose manifest has this digest; None if it is not registered, gone or changed."""
        for record in self.records(*kinds):
            if record.manifest_digest == digest and state_of(record) == "complete":
                return finished_run(Path(record.path), *kinds)
        return None

    def record(self, run_id: str) -> RunRecord:
        """The record with this id, or the only one whose id starts with it or has it as last part.

        Raises:
            ArtifactError: there is none, or several.
        """
        if not run_id:
            raise ArtifactError("the id of a run is empty", hint="moe runs list shows the ids")
        records = self.records()
        matching = [record for record in records if record.id.startswith(run_id) or short_id(record) == run_id]
        exact = [record for record in matching if record.id == run_id]
        if len(exact or matching) != 1:
            what = f"{len(matching)} runs have an id that begins with" if matching else "no run has the id"
            hint = (
                f"name one of {', '.join(record.id for record in matching)}"
                if matching
                else "moe runs list shows the ids"
            )
            raise ArtifactError(f"{what} {run_id} in {self.registry}", hint=hint)
        return (exact or matching)[0]

    def forget(self, record: RunRecord) -> None:
        """Remove the record; the run directory stays."""
        self._file_of(record).unlink()

    def _file_of(self, record: RunRecord) -> Path:
        return self.registry / f"{run_id(record.id)}.json"


def short_id(record: RunRecord) -> str:
    """The last part of an id, as in listings: "5f3a0c1b"."""
    return record.id.rpartition("-")[2]


def _read(file: Path) -> RunRecord | None:
    """The record in a file; None if another process has removed it in the meantime."""
    if not file.is_file() and os.path.lexists(file):
        raise ArtifactError(f"{file} is no file with a record of a run", hint="remove it from the registry")
    hint = "remove this file; moe runs add DIRECTORY registers the run again"
    try:
        record = decode_file(RunRecord, file)
    except FileNotFoundError:
        return None
    except ArtifactError as error:
        raise ArtifactError(error.message, hint=hint) from error
    if file.stem != record.id:
        raise ArtifactError(f"{file} holds the record of {record.id}, which is kept in {record.id}.json", hint=hint)
    return record


def state_of(record: RunRecord) -> State:
    """Whether the registered directory is still there with the same manifest."""
    manifest = Path(record.path) / MANIFEST
    if not os.path.isfile(manifest):  # of a name that is too long, too
        return "interrupted" if os.path.isfile(manifest.with_name(STARTED)) else "gone"
    return "complete" if sha256_of(manifest) == record.manifest_digest else "changed"


def registry_path(configured: Path | None, start: Path) -> Path:
    """The configured path, else `.moe/registry` in the nearest directory at or above `start` that has a `.moe`."""
    if configured is not None:
        return configured
    above = next((place for place in (start, *start.parents) if (place / ".moe").is_dir()), start)
    return above / ".moe" / "registry"


def require_unchanged_run(path: Path, store: Store, *kinds: RunKind) -> FinishedRun:
    """The complete run in `path`; a run that is not registered is accepted as it is.

    Raises:
        ArtifactError: as `finished_run`, or its manifest differs from the registry's; the message says how.
    """
    run = finished_run(path, *kinds)
    if change := change_of(run, store):
        raise ArtifactError(
            change,
            hint=f"put {path}/manifest.json back as it was, or make the run again; where the change is meant, "
            f"moe runs add {path} registers it as it is now",
        )
    return run


def training_run_named(name: str, store: Store) -> FinishedRun | None:
    """The training run whose directory, or whose `final_model`, is named; None where no run is there.

    Raises:
        ArtifactError: as `require_unchanged_run`, or a run of another kind is there.
    """
    path = Path(name)
    if path.name == FINAL_MODEL and kind_in(path.parent) is not None:
        path = path.parent
    return None if kind_in(path) is None else require_unchanged_run(path, store, *ARMS)


def change_of(run: FinishedRun, store: Store) -> str | None:
    """How its manifest differs from the registry's; None if it does not, or the run is not registered."""
    known = _known(run, store)
    if not known or run.digest in {record.manifest_digest for record in known}:
        return None
    return f"the manifest of {run.path} changed since {known[-1].id} was registered: {_changes(run, known[-1])}"


def changed_parents(run: FinishedRun, store: Store) -> tuple[str, ...]:
    """Runs that this one was made from and whose manifests changed since; those that are gone are ignored."""
    registered = store.records() if run.manifest.parents else ()
    return tuple(
        f"{role}: {record.path}"
        for role, digest in run.manifest.parents.items()
        for record in registered
        if record.manifest_digest == digest and state_of(record) == "changed"
    )


def describe_change(store: Store, kind: RunKind, *, base_fingerprint: str) -> Path | None:
    """The newest registered run of this kind and model if its manifest changed; None where it did not."""
    known = [record for record in store.records(kind) if record.base_fingerprint == base_fingerprint]
    there = [record for record in known if state_of(record) in ("complete", "changed")]
    return Path(there[-1].path) if there and state_of(there[-1]) == "changed" else None


def _known(run: FinishedRun, store: Store) -> list[RunRecord]:
    """The records of this run, by its id or its path, the newest last."""
    place = str(run.path.resolve())
    return [record for record in store.records() if record.id == run.manifest.id or record.path == place]


def _changes(run: FinishedRun, record: RunRecord) -> str:
    manifest = run.manifest
    changed = [name for name in REGISTERED if getattr(manifest, name) != getattr(record, name)]
    changed += [*_other_settings(run), *(f"files (without {name})" for name in run.added()[:3])]
    return ", ".join(changed) or "a field that only the manifest holds (files, packages, device or a time)"


def _other_settings(run: FinishedRun) -> Iterator[str]:
    """How the manifest's settings differ from those of the config file beside it."""
    manifest: Manifest = run.manifest
    if str(manifest.config.get("seed")) != str(manifest.seed):
        yield "seed"
    try:
        config = load_config(file=run.file(CONFIG), environment={}, assignments=(), flags={})
    except MoeError:
        yield "config.yaml"
        return
    if encode(config.model_dump(mode="json")) != encode(manifest.config):
        yield "config"
