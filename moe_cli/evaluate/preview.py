"""What `moe evaluate --dry-run` shows: what is checked before a model is loaded. Imports no torch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from moe_cli.artifacts import finished_run, layout
from moe_cli.artifacts.runs import kind_in
from moe_cli.codec import decode
from moe_cli.config import MoeConfig
from moe_cli.errors import MoeError
from moe_cli.evaluate.suites import evaluation_items, preview_of_items
from moe_cli.judges.deciding import refuse_undecided
from moe_cli.judges.named import judges_of
from moe_cli.model.directory import model_directory
from moe_cli.records import ItemsPreview, TrainingSummary


def preview_evaluation(words: str, config: MoeConfig) -> tuple[ItemsPreview, MoeError | None]:
    """The items that would be evaluated, and the error with which the evaluation would end.

    Raises:
        MoeError: the run or model that `words` name is not there.
    """
    base_name = _base_name(words)
    preview, refusal = preview_of_items(config.evaluate, base_name)
    if refusal is not None:
        return preview, refusal
    try:
        kinds = {item.kind for item in evaluation_items(config.evaluate, base_name) if item.kind != "text"}
        refuse_undecided(judges_of(config.evaluate.judges, config.judge), kinds)
    except MoeError as error:
        return replace(preview, refused=error.message), error
    return preview, None


def _base_name(words: str) -> str:
    """The name of the model before training, of a run or of the model itself."""
    path = Path(words)
    if path.name == layout.FINAL_MODEL and kind_in(path.parent) is not None:
        path = path.parent
    if kind_in(path) is None:
        model_directory(words)
        return words
    metadata = finished_run(path, "selective", "baseline").file(layout.METADATA)
    return decode(TrainingSummary, metadata.read_bytes(), source=str(metadata)).base.name
