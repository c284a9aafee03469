"""One call of a program: bytes to stdin; stdout, the end of stderr and the exit status back.

No shell is started. A call is limited in time and in size of output, and all processes that it started end with it.
"""

from __future__ import annotations

import contextlib
import os
import select
import selectors
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, cast

LARGEST = 2**24  # bytes of stdout that are read
END_OF_STDERR = 2**16  # bytes of it that are kept
AT_ONCE = 2**16  # bytes that are read at once


@dataclass(frozen=True, slots=True)
class ProgramResult:
    """The result of a call that ended by itself."""

    output: bytes
    errors: bytes  # the end of stderr
    status: int


class ProgramStoppedError(Exception):
    """A call took too long or wrote too much; the message says which."""


def run_program(argv: Sequence[str], asked: bytes, *, seconds: float) -> ProgramResult:
    """Run the program with `asked` on its stdin.

    Raises:
        ProgramStoppedError: it took longer, or wrote more than LARGEST on stdout, and was killed.
    """
    ends = time.monotonic() + seconds
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    ) as process:
        try:
            output, errors = _exchanged(process, asked, ends)
            status = process.wait(max(ends - time.monotonic(), 0.0))
        except BaseException as error:  # Ctrl-C too: what it started ends with it
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, TimeoutError | subprocess.TimeoutExpired):
                raise ProgramStoppedError(f"took more than {seconds:g} s") from None
            raise
    return ProgramResult(output, errors, status)


def _exchanged(process: subprocess.Popen[bytes], asked: bytes, ends: float) -> tuple[bytes, bytes]:
    """Stdout and the end of stderr; all three pipes are served concurrently, so that none blocks another."""
    served = [cast(IO[bytes], pipe) for pipe in (process.stdin, process.stdout, process.stderr)]
    to, out, err = (pipe.fileno() for pipe in served)
    output, errors, left = bytearray(), b"", memoryview(asked)
    with selectors.DefaultSelector() as pipes:
        for pipe in served:
            pipes.register(pipe, selectors.EVENT_WRITE if pipe is process.stdin else selectors.EVENT_READ, data=pipe)
        while pipes.get_map():
            if time.monotonic() >= ends:
                raise TimeoutError
            for key, _ in pipes.select(max(ends - time.monotonic(), 0.0)):
                if key.fd == to:
                    more = left = _unwritten(to, left)
                else:
                    more = memoryview(os.read(key.fd, AT_ONCE))
                    output += more if key.fd == out else b""
                    errors = (errors + more)[-END_OF_STDERR:] if key.fd == err else errors
                if len(output) > LARGEST:
                    raise ProgramStoppedError(f"wrote more than {LARGEST:,} bytes")
                if not more:
                    pipes.unregister(key.data)
                    key.data.close()
    return bytes(output), errors


def _unwritten(pipe: int, left: memoryview) -> memoryview:
    """The input that is still to be written; empty if the program no longer reads."""
    try:
        return left[os.write(pipe, left[: select.PIPE_BUF]) :]  # a pipe that is ready takes as much without blocking
    except BrokenPipeError:
        return left[:0]
