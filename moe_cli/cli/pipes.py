"""A reader that leaves ends no command: what is written to it afterwards goes nowhere.

`moe runs list | head -1` ends as if all had been read, and a training whose output was piped into a program that ended
goes on to its end. The exit code is that of the command.
"""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

OF_NO_SUCH_CHARACTER = "backslashreplace"  # what is not of the terminal's encoding is shown as an escape


class _Outlet(io.FileIO):
    """A pipe that turns into the null device when its reader has left."""

    def write(self, data: ReadableBuffer, /) -> int:
        """Write what the reader takes."""
        try:
            return super().write(data)
        except BrokenPipeError:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self.fileno())
            os.close(null)
            return memoryview(data).nbytes


def survive_closed_pipes() -> None:
    """From here on neither stdout nor stderr fails where its reader leaves, or knows no such character.

    A stand-in stays as it is.
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
