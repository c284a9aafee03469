"""What the name of a model means on this machine; nothing is loaded."""

from __future__ import annotations

from pathlib import Path

from moe_cli.errors import UsageError
from moe_cli.tiny import CHECKPOINT_PATH, MODEL_NAME


def model_directory(name: str) -> Path | None:
    """The local directory that a name means, or None for a hub name.

    Raises:
        UsageError: the name is a path, and no directory is there.
    """
    if name == MODEL_NAME:
        return CHECKPOINT_PATH
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if not name or path.is_absolute() or name.startswith(("./", "../", "~")) or name.count("/") > 1:
        raise UsageError(f"there is no directory {name}", hint="check the path, or name a hub model as owner/name")
    return None
