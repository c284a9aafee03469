"""The edge of the program: errors that a person can fix become two lines and an exit code.

Such errors never show a traceback; every other exception does. `moe runs list | head -1` ends as if all had been
read, and a training whose output was piped into a program that ended goes on to its end. The exit code is that of
the command.
"""

from __future__ import annotations

import errno
import functools
import io
import logging
import os
import re
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, ParamSpec

import typer

from moe_cli import ranks
from moe_cli.characters import escape_unsafe
from moe_cli.errors import (
    EnvironmentFaultError,
    MoeError,
    RunCompleteError,
    UsageError,
    first_line,
)
from moe_cli.masking import mask_keys
from moe_cli.signals import interruption, working_command
from moe_cli.views.console import stderr_console
from moe_cli.views.text import safe_text

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


OF_NO_SUCH_CHARACTER = "backslashreplace"  # what is not of the terminal's encoding is shown as an escape
Words = ParamSpec("Words")
# Libraries have exceptions of their own for these; named, so that torch is not imported for `moe --help`.
OUT_OF_MEMORY = "OutOfMemoryError"  # torch's, on a card
NO_MEMORY = "can't allocate memory"  # torch's, on the CPU
SYMLINK_LOOP = "Symlink loop from"
BY_NUMBER = re.compile(r"\(os error (\d+)\)")  # safetensors'
# What is wrong with a path itself, and mended by another one.
OF_A_PATH = (
    *(errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENOENT, errno.EEXIST, errno.ENOTEMPTY),
    *(errno.ENXIO, errno.ENODEV, errno.EXDEV),
)
LONGEST_NAME = 120  # characters of a path that are shown
NEXT_LINE = re.compile("\n(?=  )")  # of our own texts; any other break is of a name in them


class _Outlet(io.FileIO):
    """A pipe that turns into the null device when its reader has gone."""

    def write(self, data: ReadableBuffer, /) -> int:
        """Write as long as there is a reader."""
        try:
            return super().write(data)
        except BrokenPipeError:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self.fileno())
            os.close(null)
            return memoryview(data).nbytes


def survive_closed_pipes() -> None:
    """Keep stdout and stderr from failing when their reader is gone, or when they cannot encode a character.

    A stand-in for one of them is left alone.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        own = stream is getattr(sys, f"__{name}__") and isinstance(stream, io.TextIOWrapper)  # else closed, or a test's
        if own and stream.isatty():
            stream.reconfigure(errors=OF_NO_SUCH_CHARACTER)
        elif own:
            setattr(sys, name, _outliving(stream))


def _outliving(stream: io.TextIOWrapper) -> io.TextIOWrapper:
    stream.flush()
    outlet = io.BufferedWriter(_Outlet(stream.fileno(), "wb", closefd=False))
    return io.TextIOWrapper(
        outlet,
        encoding=stream.encoding,
        errors=OF_NO_SUCH_CHARACTER,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def catch_errors(command: Callable[Words, None]) -> Callable[Words, None]:
    """`command` with its errors drawn on stderr and its exit code set."""

    @functools.wraps(command)
    def run(*args: Words.args, **kwargs: Words.kwargs) -> None:
        try:
            with working_command():
                command(*args, **kwargs)
        except RunCompleteError as nothing_left:
            if ranks.has_voice():
                stderr_console().print(escape_unsafe(f"{nothing_left.message}; {nothing_left.hint}"), soft_wrap=True)
        except MoeError as error:
            raise _drawn(error) from None
        except KeyboardInterrupt:
            raise _drawn(interruption(resuming=bool(kwargs.get("resume")))) from None
        except Exception as error:
            if (known := ranks.peer_error(error) or _fault_of_the_system(error)) is None:
                raise
            raise _drawn(known) from None

    # The help is wrapped by the terminal alone, where the lines of the source would stay as they are.
    run.__doc__ = "\n\n".join(" ".join(part.split()) for part in (command.__doc__ or "").split("\n\n"))
    return run


def _fault_of_the_system(error: Exception) -> MoeError | None:
    """The error for a problem with a path, a disk, a permission or the memory, from any library; None for a bug."""
    number, file = _number_of(error), getattr(error, "filename", None)
    if number in (errno.ENOSPC, errno.EDQUOT):
        written = getattr(error, "filename2", None) or file  # of a copy, the new one
        return EnvironmentFaultError(
            f"no space left on the disk while writing {written or 'a file'}",
            hint="free some space and run the command again; add --resume where it says so",
        )
    if number == errno.EFBIG:
        return EnvironmentFaultError(
            f"{file or 'a file'} becomes larger than the system allows: {os.strerror(number)}",
            hint="raise the limit (ulimit -f) or write to another file system; add --resume where it says so",
        )
    if number in (errno.EACCES, errno.EROFS, errno.EPERM):
        return EnvironmentFaultError(
            f"no permission for {file or 'a file'}: {os.strerror(number)}",
            hint="change its permissions, or choose another path",
        )
    if number in OF_A_PATH:
        return UsageError(f"the path {_shown(file)} cannot be used: {os.strerror(number)}", hint="choose another path")
    if SYMLINK_LOOP in str(error):  # pathlib's, of a path that leads to itself
        return UsageError(f"a path cannot be used: {first_line(error)}", hint="choose another path")
    if isinstance(error, MemoryError) or type(error).__name__ == OUT_OF_MEMORY or NO_MEMORY in str(error):
        return EnvironmentFaultError(
            f"out of memory: {first_line(error)}",
            hint="lower the batch size, or use a larger machine",
        )
    if isinstance(error, OSError):
        problem = f"{_shown(file)}: {error.strerror}" if file is not None and error.strerror else first_line(error)
        return EnvironmentFaultError(
            f"the system refuses it: {problem}",
            hint="check the disk, the network and the path, and run the command again",
        )
    return None


def _number_of(error: Exception) -> int | None:
    """The errno of an exception, which a library may have put into its message."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    named = BY_NUMBER.search(str(error))
    return int(named[1]) if named else None


def _shown(file: object) -> str:
    text = os.fsdecode(file) if isinstance(file, (str, bytes)) else str(file)
    return text if len(text) <= LONGEST_NAME else f"{text[:LONGEST_NAME]}..."


def show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: object = None,
    line: object = None,
) -> None:
    """Print a warning as one line on stderr; replaces `warnings.showwarning`, as its text may come from anywhere."""
    if not ranks.is_first():
        return
    stderr_console().print(safe_text(mask_keys(f"warning: {message}"), style="yellow"), soft_wrap=True)


class SafeRecord(logging.LogRecord):
    """A log record of a library as one line of safe text without a key, whichever handler writes it."""

    def getMessage(self) -> str:  # noqa: N802  # the library's name
        """The safe message."""
        return escape_unsafe(mask_keys(super().getMessage()))


def print_error(error: MoeError) -> None:
    """Print two lines on stderr, the problem and what to do next; further lines of either are indented.

    Of several processes that end for one reason, one prints it.
    """
    if not ranks.has_voice(error):
        return
    talk = stderr_console()
    first, *rest = NEXT_LINE.split(mask_keys(error.message))
    talk.print(f"error: {ranks.name_before_meeting()}{escape_unsafe(first)}", style="red", soft_wrap=True)
    for line in rest:
        talk.print(escape_unsafe(line), soft_wrap=True)
    talk.print("hint: " + "\n".join(map(escape_unsafe, NEXT_LINE.split(mask_keys(error.hint)))), soft_wrap=True)


def _drawn(error: MoeError) -> typer.Exit:
    print_error(error)
    return typer.Exit(int(error.exit_code))
