"""Errors that a user can fix: a message that may list what is wrong, a hint and an exit code.

A `MoeError` says what is wrong, with which value, and what to do next. It becomes two lines on stderr at the edge of
the program (`cli/boundary.py`); every other exception is a bug and shows its traceback.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import IntEnum
from functools import partial
from pathlib import Path


class ExitCode(IntEnum):
    """Exit codes of the program; they are part of its interface."""

    OK = 0
    BUG = 1
    USAGE = 2  # usage or config
    ARTIFACT = 3  # a bad, missing or foreign artifact
    ENVIRONMENT = 4  # device, memory, disk
    NUMERIC = 5  # NaN or infinity
    LOCKED = 6  # another run holds the directory
    THRESHOLD = 7  # a comparison threshold failed
    UNSCORED = 8  # too many answers without a verdict
    PEER = 9  # another process of the same run ended; its exit code says why
    RESUMABLE = 75  # stopped, a state was saved
    INTERRUPTED = 130  # stopped, nothing to resume


class MoeError(Exception):
    """An error that a user can fix.

    `message` says what is wrong, with the value, and `hint` what to do next.
    """

    exit_code = ExitCode.BUG

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[Callable[..., MoeError], tuple[str]]:
        """How one process passes it to another."""
        return partial(type(self), hint=self.hint), (self.message,)


class UsageError(MoeError):
    """The command line, the config or the input data are wrong."""

    exit_code = ExitCode.USAGE


class RunCompleteError(MoeError):
    """The run to be resumed is already complete: nothing is wrong, and nothing is left to do."""

    exit_code = ExitCode.OK


class ArtifactError(MoeError):
    """A run directory or one of its files is missing, damaged, or made for something else."""

    exit_code = ExitCode.ARTIFACT


class EnvironmentFaultError(MoeError):
    """The machine lacks what is needed: a device, memory, disk."""

    exit_code = ExitCode.ENVIRONMENT


class NumericError(MoeError):
    """A loss, gradient or logit is not a finite number."""

    exit_code = ExitCode.NUMERIC


class LockedError(MoeError):
    """Another run works in the same directory."""

    exit_code = ExitCode.LOCKED


class UnscoredError(MoeError):
    """Too many answers have no verdict for the rates to mean anything."""

    exit_code = ExitCode.UNSCORED


class PeerError(MoeError):
    """Another process of the same run has ended or does not answer."""

    exit_code = ExitCode.PEER


class StoppedError(MoeError):
    """The run was asked to stop and saved a state it can be resumed from."""

    exit_code = ExitCode.RESUMABLE


class InterruptedRunError(MoeError):
    """The run was asked to stop before there was anything to resume from."""

    exit_code = ExitCode.INTERRUPTED


def first_line(error: BaseException) -> str:
    """The first line of what an error says, or the name of its type where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def list_names(lines: Iterable[object]) -> str:
    """The items of a list below an error message, one per line."""
    return "".join(f"\n  - {line}" for line in lines)


def refuse_non_file(path: Path, *, hint: str) -> None:
    """Refuse a path where something else than a file is, as whatever reads a pipe waits and hears no signal.

    Raises:
        ArtifactError: there is a directory, a pipe or a device.
    """
    if path.exists() and not path.is_file():
        raise ArtifactError(f"{path} is no file", hint=hint)
