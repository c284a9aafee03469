"""Writing a run directory: started under a lock, filled, and completed by its manifest.

A directory with a manifest is complete; one without is an interrupted run that only `--resume` continues; two writers
never share a directory. `finished.py` reads complete runs.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from moe_cli.artifacts.directory_state import (
    TRAINING_SECTIONS,
    holds_complete,
    interrupted_run,
    is_taken,
    name_elsewhere,
    refuse_inside_of_run,
    refuse_other_settings,
)
from moe_cli.artifacts.files import drop_temporaries, is_there, remove, sha256_of, write_atomic
from moe_cli.artifacts.finished import files_of
from moe_cli.artifacts.journal import ANSWERS
from moe_cli.artifacts.layout import (
    CONFIG,
    LOCK,
    MANIFEST,
    RUNS_INSIDE,
    STARTED,
    beside,
    refuse_links_out,
)
from moe_cli.artifacts.locks import hold_lock
from moe_cli.codec import decode_file, encode
from moe_cli.config import MoeConfig, dump_yaml
from moe_cli.errors import ArtifactError, LockedError, RunCompleteError
from moe_cli.records import SCHEMA_VERSION, Manifest, RunKind, StartedRun

PACKAGES = ("torch", "transformers", "accelerate", "datasets", "safetensors", "numpy", "scipy")


def _keep_all(run: Path) -> None:
    """Remove no scratch files: the kind of run has none."""


@dataclass(frozen=True, slots=True)
class ScratchFiles:
    """Scratch files of a run directory, which are no files of the run and are removed when it is complete."""

    names: str = ""  # "checkpoint-*"; pattern of what stands in the directory itself
    clear: Callable[[Path], None] = _keep_all  # removes it from a directory


NO_SCRATCH = ScratchFiles()


@dataclass(slots=True)
class RunWriter:
    """A run directory that is being written."""

    path: Path
    started: StartedRun
    resumed: bool  # the directory held an interrupted run of the same kind
    scratch: ScratchFiles = NO_SCRATCH
    parents: dict[str, str] = field(default_factory=dict)

    def remember(self, role: str, path: Path) -> None:
        """Record which earlier run is used, so that a resumed run uses the same one."""
        self.started = replace(self.started, inputs={**self.started.inputs, role: str(path.resolve())})
        write_atomic(self.path / STARTED, encode(self.started, indent=True))

    def remembered(self, role: str) -> Path | None:
        """The earlier run recorded under `role`."""
        path = self.started.inputs.get(role)
        return None if path is None else Path(path)

    def manifest(self, *, base_fingerprint: str | None, model_name: str | None, device: str) -> Manifest:
        """The manifest: what the run is, and its files with their digests."""
        return Manifest(
            schema_version=SCHEMA_VERSION,
            kind=self.started.kind,
            id=self.started.id,
            files={name: sha256_of(self.path / name) for name in files_of(self.path, self.scratch.names)},
            parents=dict(self.parents),
            base_fingerprint=base_fingerprint,
            model_name=model_name,
            config=self.started.config,
            packages=package_versions(),
            seed=int(str(self.started.config["seed"])),
            device=device,
            started=self.started.started,
            finished=now_in_utc(),
        )

    def is_begun(self) -> bool:
        """Whether the directory is seen to hold this very run."""
        started = self.path / STARTED
        return started.is_file() and decode_file(StartedRun, started).id == self.started.id

    def finish(self, manifest: Manifest) -> None:
        """Write the manifest, which completes the run, then remove the scratch files."""
        write_atomic(self.path / MANIFEST, encode(manifest, indent=True))
        _clear(self.path, self.scratch)


@contextmanager
def open_run(
    path: Path,
    kind: RunKind,
    config: MoeConfig,
    *,
    resume: bool,
    scratch: ScratchFiles = NO_SCRATCH,
    lasting: bool = True,
) -> Iterator[RunWriter]:
    """Begin (or continue) a run in `path` and hold its lock until the block ends.

    `lasting`: a run that breaks off can be resumed from its files. Otherwise they are removed, as are the files that a
    killed run left.

    Raises:
        RunCompleteError: `resume` is on, and the run is complete.
        LockedError: another process works there.
        ArtifactError: the directory holds a complete run, foreign files, an interrupted run and `resume` is off, or
            one with a link that leads out; or it is a file.
    """
    if kind != "evaluation":  # which lies in the run that it measures
        refuse_inside_of_run(path)
    created = _new_directories(path)
    with hold_lock(path, hint=f"wait for it, or {name_elsewhere(kind)}"):
        settings: dict[str, object] = config.model_dump(mode="json")
        if resume and holds_complete(path, kind, settings):
            refuse_links_out(path)
            _drop_temporaries(path)
            _clear(path, scratch)
            raise RunCompleteError(f"{path} is complete: there is nothing left to do", hint="moe runs list shows it")
        worthless = not lasting and not any(path.glob(ANSWERS))
        previous = interrupted_run(path, kind, resume=resume or worthless)
        refuse_links_out(path)
        _drop_temporaries(path)
        new = _new_run(kind, settings)
        if previous is not None and worthless:
            _empty(path)
            new, previous = replace(new, id=previous.id), None  # its record in the registry may have been begun
        if previous is not None and kind in TRAINING_SECTIONS:
            refuse_other_settings(previous, config, path)
        started = replace(previous, config=settings) if previous is not None else new
        writer = RunWriter(path, started, resumed=previous is not None, scratch=scratch)
        write_atomic(path / STARTED, encode(started, indent=True))
        write_atomic(path / CONFIG, dump_yaml(config).encode())
        try:
            yield writer
        except BaseException as error:
            nothing_kept = isinstance(error, KeyboardInterrupt) and previous is None  # else it is a StoppedError
            if (worthless or nothing_kept) and not (path / MANIFEST).is_file():
                _empty(path)
            _forget_begun(path, created)
            raise


def free_directory(wanted: Path, kind: RunKind, config: MoeConfig | None = None) -> Path:
    """`wanted`, or with the first number for which there is no complete run of this kind and none being written.

    With `config`, as for `--resume`, a complete run with the same settings does not count as taken.
    """
    settings = None if config is None else config.model_dump(mode="json")
    number, path = 1, wanted
    while is_taken(path, kind) and not (settings is not None and holds_complete(path, kind, settings)):
        _tidy(path)
        number += 1
        path = beside(wanted, f"_{number}")
    return path


def _tidy(path: Path) -> None:
    """Remove the leftovers of a process that was killed when the run was complete."""
    if (path / STARTED).exists() or (path / LOCK).exists():
        with suppress(LockedError), hold_lock(path, hint=""):
            if (path / MANIFEST).is_file():
                _drop_temporaries(path)
                _clear(path, NO_SCRATCH)


def package_versions() -> dict[str, str]:
    """Version of every package that a number may depend on."""
    return {name: version(name) for name in PACKAGES}


def now_in_utc(precision: Literal["seconds", "milliseconds"] = "milliseconds") -> str:
    """The current time in UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec=precision)


def _new_directories(path: Path) -> list[Path]:
    """Create the directory and its parents; returns the created ones, the innermost first."""
    missing = [place for place in (path, *path.parents) if not is_there(place)]
    there = next(place for place in (path, *path.parents, Path()) if is_there(place))
    if not there.is_dir():
        what = "is a file" if there.exists() else "is a link that leads nowhere"
        raise ArtifactError(f"{path} cannot be a run directory: {there} {what}", hint="choose another directory")
    path.mkdir(parents=True, exist_ok=True)
    return missing


def _forget_begun(path: Path, created: Sequence[Path]) -> None:
    """Remove a run that failed before it wrote anything, so that the same command can be run again."""
    begun = {STARTED, CONFIG, LOCK}
    if (path / MANIFEST).is_file() or any(_holds_work(entry) for entry in path.iterdir() if entry.name not in begun):
        return
    for entry in path.iterdir():
        entry.rmdir() if entry.is_dir() else entry.unlink()
    for directory in created:
        with suppress(OSError):  # another run has begun beside this one
            directory.rmdir()


def _clear(path: Path, scratch: ScratchFiles) -> None:
    """Remove the scratch files of a complete run."""
    scratch.clear(path)
    (path / STARTED).unlink(missing_ok=True)


def _drop_temporaries(path: Path) -> None:
    """Remove temporaries of killed processes in the run, except in the runs inside of it."""
    drop_temporaries(path)
    for place in path.iterdir():
        if place.is_dir() and not place.is_symlink() and place.name not in RUNS_INSIDE:
            _drop_temporaries(place)


def _empty(path: Path) -> None:
    """Remove everything but the lock."""
    for entry in path.iterdir():
        if entry.name != LOCK:
            remove(entry)


def _holds_work(entry: Path) -> bool:
    return any(entry.iterdir()) if entry.is_dir() else entry.stat().st_size > 0


def _new_run(kind: RunKind, settings: dict[str, object]) -> StartedRun:
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    return StartedRun(
        kind=kind, id=f"{kind}-{stamp}-{secrets.token_hex(4)}", started=now_in_utc(), config=settings, inputs={}
    )
