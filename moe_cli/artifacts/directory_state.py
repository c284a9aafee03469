"""Whether a directory is free for a run: empty, inside of another run, complete, or interrupted and to be resumed.

Only reads. A complete run is never overwritten, and an interrupted training is resumed with the settings that it was
begun with.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from moe_cli.artifacts.files import is_temporary
from moe_cli.artifacts.finished import kind_in
from moe_cli.artifacts.layout import CONFIG, LOCK, MANIFEST, STARTED
from moe_cli.artifacts.locks import is_locked
from moe_cli.codec import decode_file
from moe_cli.config import MoeConfig
from moe_cli.errors import ArtifactError
from moe_cli.records import Manifest, RunKind, StartedRun

# What is kept of an interrupted training depends on its settings; the answers that other runs keep name theirs.
TRAINING_SECTIONS: dict[RunKind, tuple[str, ...]] = {
    "selective": ("seed", "model", "train"),
    "baseline": ("seed", "model", "train"),
    "alternating": ("seed", "model", "train", "alternating"),
}
# May differ, as they go with the number of processes; a checkpoint knows how many batches made a step of it.
BY_PROCESSES = ("train.gradient_accumulation_steps", "train.placement", "model.rank_timeout", "model.gpu")
OF_LATER_ROUNDS = ("alternating.reselect",)  # may differ, as every phase says how its experts were selected


def is_taken(path: Path, kind: RunKind) -> bool:
    """Whether there is a complete run of this kind, or one that is being written."""
    return kind_in(path) == kind and ((path / MANIFEST).is_file() or is_locked(path))


def holds_complete(path: Path, kind: RunKind, settings: dict[str, object]) -> bool:
    """Whether there is a complete run of this kind with these settings."""
    if not (path / MANIFEST).is_file():
        return False
    manifest = decode_file(Manifest, path / MANIFEST)
    return manifest.kind == kind and manifest.config == settings


def interrupted_run(path: Path, kind: RunKind, *, resume: bool) -> StartedRun | None:
    """The interrupted run in `path` if there is one and `resume` is on; None for an empty directory."""
    if (path / MANIFEST).is_file():
        raise ArtifactError(
            f"{path} already holds a complete run",
            hint=f"{name_elsewhere(kind)}, or remove this one; a complete run is never overwritten",
        )
    if (path / STARTED).is_file():
        started = decode_file(StartedRun, path / STARTED)
        if started.kind != kind:
            raise ArtifactError(
                f"{path} holds an interrupted run of kind {started.kind}, not {kind}", hint=name_elsewhere(kind)
            )
        if not resume:
            raise ArtifactError(
                f"{path} holds an interrupted run",
                hint=f"add --resume to continue it, or {name_elsewhere(kind)}",
            )
        return started
    if any(entry.name != LOCK and not is_temporary(entry, of=STARTED) for entry in path.iterdir()):
        raise ArtifactError(f"{path} is not empty and is no run of moe", hint=name_elsewhere(kind))
    return None


def refuse_other_settings(previous: StartedRun, config: MoeConfig, path: Path) -> None:
    """Refuse settings that what is kept of an interrupted training was not made with.

    Raises:
        ArtifactError: it names every setting that differs.
    """
    before = flat_settings(MoeConfig()) | dict(_flat(previous.config))  # what an earlier version had not is its default
    after = flat_settings(config)
    differing = [
        key
        for key in before | after
        if before.get(key) != after.get(key)
        and key.partition(".")[0] in TRAINING_SECTIONS[previous.kind]
        and key not in (*BY_PROCESSES, *OF_LATER_ROUNDS)
    ]
    if differing:
        changed = ", ".join(f"{key} {before.get(key)!r} -> {after.get(key)!r}" for key in differing)
        raise ArtifactError(
            f"{path} was begun with other settings: {changed}",
            hint=f"resume with the same settings, or {name_elsewhere(previous.kind)}",
        )


def refuse_inside_of_run(path: Path) -> None:
    """Refuse a directory inside a complete run, which has only the files of its manifest and evaluations of it."""
    for place in path.absolute().parents:
        if (place / MANIFEST).is_file() and (place / CONFIG).is_file():
            raise ArtifactError(
                f"{path} lies inside {place}, which is a complete run", hint="choose a directory beside the run"
            )


def name_elsewhere(kind: RunKind) -> str:
    """The advice to take another directory."""
    other = "another name with --output-name" if kind == "evaluation" else "another directory with --output-dir"
    return f"choose {other}"


def flat_settings(config: MoeConfig) -> dict[str, object]:
    """The settings by their names, "train.num_epochs"."""
    return dict(_flat(config.model_dump(mode="json")))


def _flat(tree: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
