"""`moe evaluate --dry-run`: everything that is checked before a model is loaded. Imports no torch."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import partial

from moe_cli.artifacts import Store, layout
from moe_cli.artifacts.registry import training_run_named
from moe_cli.config import EvaluateConfig, MoeConfig
from moe_cli.data import column_map
from moe_cli.data.reading import SourceReader
from moe_cli.errors import MoeError, UsageError
from moe_cli.evaluate.evaluation_items import load_items, preview_of_items
from moe_cli.evaluate.given_answers import join_answers
from moe_cli.evaluate.read_answers import read_answers
from moe_cli.evaluate.steering_file import steering_of
from moe_cli.judges.catalog import judges_of
from moe_cli.judges.deciding import refuse_undecided
from moe_cli.model.chat_endpoint import chat_endpoint
from moe_cli.model.directory import model_directory
from moe_cli.records import AnswersPreview, ItemsPreview, TrainingSummary

NO_MODEL = "these answers come without one"  # why nothing is asked of a model
NOT_HERE = "an endpoint answers, whose weights are not here"


def preview_evaluation(target_name: str, config: MoeConfig, store: Store) -> tuple[ItemsPreview, MoeError | None]:
    """The items that would be evaluated, and the error with which the evaluation would end.

    Raises:
        MoeError: the run or model that `target_name` names is not there, or the run is not the one that `store` knows.
    """
    served = config.evaluate.engine == "openai"
    base_name = _base_name(target_name, store, loads=not served)
    preview, refusal = preview_of_items(config.evaluate, base_name)
    if refusal is not None:
        return preview, refusal
    try:
        kinds = {item.kind for item in load_items(config.evaluate, base_name) if item.kind != "text"}
        refuse_undecided(judges_of(config.evaluate.judges, config.judge), kinds)
        steering_of(config.evaluate)
        if served:
            refuse_what_needs_weights(config.evaluate, NOT_HERE)
            chat_endpoint(config.endpoint, base_name)
    except MoeError as error:
        return replace(preview, refused=error.message), error
    return preview, None


def preview_answers(config: MoeConfig) -> tuple[AnswersPreview, MoeError | None]:
    """Preview of files of answers, and the error with which their evaluation would end."""
    settings, reader = config.evaluate, SourceReader()
    columns = column_map(settings.map)
    attempts = (
        reader.attempt("answers", argument, partial(read_answers, argument, columns)) for argument in settings.answers
    )
    files = [file for file in attempts if file is not None]
    refusal, given_answers = reader.refusal(), None
    if refusal is None:
        try:
            refuse_what_needs_weights(settings, NO_MODEL)
            given_answers = join_answers(files, settings)
            kinds = {item.kind for item in given_answers.items if item.kind != "text"}
            refuse_undecided(judges_of(settings.judges, config.judge), kinds)
        except MoeError as error:
            refusal = error
    return AnswersPreview(
        files=tuple(file.record() for file in files),
        unreadable=tuple(reader.unreadable),
        suites=dict(Counter(item.suite for item in given_answers.items)) if given_answers is not None else {},
        unanswered=None if given_answers is None else given_answers.unanswered,
        refused=None if refusal is None else refusal.message,
    ), refusal


def refuse_what_needs_weights(settings: EvaluateConfig, why: str) -> None:
    """Refuse options that need a loaded model; `why` says why there is none.

    Raises:
        UsageError: capability, the base's router, or a steered one.
    """
    asked = (
        (settings.capability, "--capability"),
        (settings.restore_router, "--restore-router"),
        (settings.steer, "--steer"),
    )
    for value, option in asked:
        if value:
            raise UsageError(
                f"{option} needs the weights of a model, and {why}",
                hint=f"leave {option} away, or evaluate the loaded model: moe evaluate RUN_OR_MODEL",
            )


def _base_name(target_name: str, store: Store, *, loads: bool) -> str:
    """Name of the base of a run, or of a bare model; with `loads`, checks that the weights are here."""
    run = training_run_named(target_name, store)
    if run is None:
        if loads:
            model_directory(target_name)
        return target_name
    base = run.record(layout.METADATA, TrainingSummary).base
    if loads:
        run.directory(layout.FINAL_MODEL)
        model_directory(base.place)
    return base.name
