"""Whether a run is still the one that the registry knows: its manifest, its parents' and the files there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from moe_cli.artifacts.finished import FinishedRun, finished_run
from moe_cli.artifacts.layout import CONFIG
from moe_cli.artifacts.registry import Store, state_of
from moe_cli.codec import encode
from moe_cli.config import load_config
from moe_cli.errors import ArtifactError, MoeError
from moe_cli.records import Manifest, RunKind, RunRecord

REGISTERED = ("id", "kind", "base_fingerprint", "model_name", "parents", "finished")  # fields that a record repeats


def require_unchanged_run(path: Path, store: Store, *kinds: RunKind) -> FinishedRun:
    """The complete run in `path`; one that the registry does not know is taken as it is.

    Raises:
        ArtifactError: as `finished_run`, or its manifest is another one than the registry's; it says what changed.
    """
    run = finished_run(path, *kinds)
    if change := change_of(run, store):
        raise ArtifactError(
            change,
            hint=f"put {path}/manifest.json back as it was, or make the run again; where the change is meant, "
            f"moe runs add {path} registers it as it is now",
        )
    return run


def change_of(run: FinishedRun, store: Store) -> str | None:
    """How its manifest differs from the registry's; None: it does not, or the registry does not know the run."""
    known = _known(run, store)
    if not known or run.digest in {record.manifest_digest for record in known}:
        return None
    return f"the manifest of {run.path} changed since {known[-1].id} was registered: {_changes(run, known[-1])}"


def changed_parents(run: FinishedRun, store: Store) -> tuple[str, ...]:
    """Runs that this one was made from and whose manifests changed since; those that are gone are left alone."""
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
    """What the registry holds of this run, by its id or its place, the newest last."""
    place = str(run.path.resolve())
    return [record for record in store.records() if record.id == run.manifest.id or record.path == place]


def _changes(run: FinishedRun, record: RunRecord) -> str:
    manifest = run.manifest
    named = [name for name in REGISTERED if getattr(manifest, name) != getattr(record, name)]
    named += [*_other_settings(run), *(f"files (without {name})" for name in run.added()[:3])]
    return ", ".join(named) or "a field that only the manifest holds (files, packages, device or a time)"


def _other_settings(run: FinishedRun) -> Iterator[str]:
    """Where the manifest's settings are not those of the config beside it."""
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
