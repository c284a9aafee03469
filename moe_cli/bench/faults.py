"""Why a row has no figures.

Comes in: what a library raised. Goes out: `Fault`, or None for a bug. Always holds: a row without figures says why,
and is never shown as 0; an error that is none of these is not caught.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

NO_MEMORY = "can't allocate memory"  # torch's, on the CPU


@dataclass(frozen=True, slots=True)
class Failure:
    """What became of a row."""

    status: Literal["not measured", "out of memory"]
    note: str


class NotMeasuredError(Exception):
    """Something that a row needs is not here."""


class NoRoomError(Exception):
    """A row needs more memory than there is."""


def failure_of(error: Exception) -> Failure | None:
    """The fault that an error means; None where it is a bug."""
    note = (str(error).splitlines() or [type(error).__name__])[0]
    if isinstance(error, NotMeasuredError):
        return Failure("not measured", note)
    if isinstance(error, (NoRoomError, MemoryError, torch.OutOfMemoryError)) or NO_MEMORY in str(error):
        return Failure("out of memory", note)
    return None
