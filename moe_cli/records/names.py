"""What ids and names in an artifact may be, so that none of them leads out of the directory that it is a name in."""

from __future__ import annotations

import re
from pathlib import PurePath, PurePosixPath
from typing import Annotated

from pydantic import AfterValidator

RUN_ID = re.compile(r"(prepare|selective|baseline|evaluation|comparison)-[0-9]{8}-[0-9]{6}-[0-9a-f]{4,64}")


def run_id(text: str) -> str:
    """The text, where it is the id of a run.

    Raises:
        ValueError: it is none.
    """
    if RUN_ID.fullmatch(text) is None:
        raise ValueError(f"{text[:80]!r} is no id of a run, which is KIND-YYYYMMDD-HHMMSS-HEX")
    return text


def file_name(text: str) -> str:
    """The text, where it names a file below a directory: relative, with `/`, each part a name.

    Raises:
        ValueError: it is absolute, leads upwards, or is no name.
    """
    path = PurePath(text)  # of this system: a drive and `\\` count where they do
    leads_out = path.is_absolute() or bool(path.drive) or ".." in path.parts
    if leads_out or "\0" in text or not path.parts or str(PurePosixPath(text)) != text:
        raise ValueError(f"{text[:80]!r} is no name of a file in the run: it is relative and holds no `..`")
    return text


def directory_name(text: str) -> str:
    """The text, where it names one directory in another.

    Raises:
        ValueError: as `file_name`, or it has several parts.
    """
    if len(PurePath(file_name(text)).parts) != 1:
        raise ValueError(f"{text[:80]!r} is no name of one directory")
    return text


RunId = Annotated[str, AfterValidator(run_id)]  # "selective-20261122-171233-5f3a"
FileName = Annotated[str, AfterValidator(file_name)]  # "final_model/model.safetensors"
DirectoryName = Annotated[str, AfterValidator(directory_name)]  # "default"
