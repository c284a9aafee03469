"""What the name of a model means on this machine, and that it means nothing here; nothing is loaded."""

from __future__ import annotations

import os
from pathlib import Path

from huggingface_hub.errors import LocalEntryNotFoundError

from moe_cli.errors import EnvironmentFaultError, UsageError
from moe_cli.tiny import CHECKPOINT_PATH, MODEL_NAME


def model_directory(name: str) -> Path | None:
    """The local directory that a name means, or None for a hub name.

    Raises:
        UsageError: the name is a path, and no directory is there.
    """
    if name == MODEL_NAME:
        return CHECKPOINT_PATH
    path = Path(os.path.expanduser(name))
    if path.is_dir():
        return path
    if not name or path.is_absolute() or name.startswith(("./", "../", "~")) or name.count("/") > 1:
        raise UsageError(f"there is no directory {name}", hint="check the path, or name a hub model as owner/name")
    return None


def is_unreachable(name: str, error: BaseException) -> EnvironmentFaultError | None:
    """The error about `name`, "the model x", where the hub could not be asked for it; None: it failed otherwise."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, LocalEntryNotFoundError):
        cause = cause.__cause__ or cause.__context__
    if cause is None:
        return None
    return EnvironmentFaultError(
        f"{name} is not on this machine, and the hub cannot be reached",
        hint="check the path or the name, or fetch it once where there is a network: its cache is HF_HOME",
    )
