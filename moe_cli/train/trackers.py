"""Trackers that follow a training: transformers' own callbacks, checked before the model loads.

TensorBoard writes below the run directory, into `tensorboard/`, so that its files are the run's own: they are in the
manifest, and an interrupted run has them. The others write where their own settings say.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from transformers import Trainer
from transformers.integrations import (
    TensorBoardCallback,
    get_available_reporting_integrations,
    get_reporting_integration_callbacks,
)

from moe_cli.artifacts import layout
from moe_cli.errors import EnvironmentFaultError, UsageError

DISTRIBUTIONS = {"azure_ml": "azureml-core", "comet_ml": "comet-ml", "flyte": "flytekit"}  # where they are named so
TENSORBOARD_ELSEWHERE = "TENSORBOARD_LOGGING_DIR"  # transformers' own


def refuse_missing_trackers(trackers: Sequence[str]) -> None:
    """Refuse trackers that are unknown or not installed.

    Raises:
        UsageError: transformers knows none of this name.
        EnvironmentFaultError: it is not installed.
    """
    for tracker in trackers:
        try:
            (callback,) = get_reporting_integration_callbacks([tracker])
        except ValueError as error:
            raise UsageError(f"train.report_to: {error}", hint="tensorboard writes into the run directory") from error
        if tracker in get_available_reporting_integrations():
            continue
        package = DISTRIBUTIONS.get(tracker, tracker)
        raise EnvironmentFaultError(
            f"train.report_to asks for {tracker}, which is not installed ({callback.__name__} needs it)",
            hint=f"pip install {package}, or leave {tracker} out of train.report_to",
        )


def keep_in_run(trainer: Trainer, run: Path) -> None:
    """Let TensorBoard write into the run directory, unless the environment names another place."""
    if os.environ.get(TENSORBOARD_ELSEWHERE):
        return
    for callback in trainer.callback_handler.callbacks:
        if isinstance(callback, TensorBoardCallback):
            callback.logging_dir = str(run / layout.TENSORBOARD)
