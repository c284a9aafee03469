"""How the experts of a selective run were chosen: by the risk difference, or as a control for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from moe_cli.artifacts import Store, layout
from moe_cli.codec import decode
from moe_cli.compare.sources import ComparedRun
from moe_cli.records import Selection


def add_selection(sources: Sequence[ComparedRun], store: Store) -> list[ComparedRun]:
    """The sources with the method of their selection, where the registry still knows the prepare run.

    Raises:
        ArtifactError: its selection is damaged.
    """
    return [replace(source, column=replace(source.column, selection=_method(source, store))) for source in sources]


def _method(source: ComparedRun, store: Store) -> str | None:
    if source.training is None or source.training.training_mode != "selective_experts":
        return None
    prepared = store.with_digest(source.training.prepared, "prepare")
    if prepared is None or layout.SELECTION not in prepared.manifest.files:
        return None
    file = prepared.file(layout.SELECTION)
    return decode(Selection, file.read_bytes(), source=str(file)).method
