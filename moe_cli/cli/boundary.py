"""The edge of the program: errors that a person can fix become two lines and an exit code.

Comes in: a command. Goes out: the command, with its errors drawn. Always holds: what a person can fix shows no
traceback; every other exception does.
"""

from __future__ import annotations

import errno
import functools
from collections.abc import Callable
from typing import ParamSpec

import typer

from moe_cli.errors import EnvironmentFaultError, InterruptedRunError, MoeError
from moe_cli.views.console import stderr_console
from moe_cli.views.safe import plain

Words = ParamSpec("Words")

OUT_OF_MEMORY = "OutOfMemoryError"  # torch's; named, so that torch is not imported for `moe --help`


def bounded(command: Callable[Words, None]) -> Callable[Words, None]:
    """`command` with its errors drawn on stderr and its exit code set."""

    @functools.wraps(command)
    def run(*args: Words.args, **kwargs: Words.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except MoeError as error:
            raise _drawn(error) from None
        except KeyboardInterrupt:
            raise _drawn(
                InterruptedRunError("interrupted; there is nothing to resume from", hint="run the command again")
            ) from None
        except OSError as error:
            if (known := _environment_fault(error)) is None:
                raise
            raise _drawn(known) from None
        except RuntimeError as error:
            if type(error).__name__ != OUT_OF_MEMORY:
                raise
            message = f"out of device memory: {str(error).splitlines()[0]}"
            hint = "lower the batch size, or use a larger card"
            raise _drawn(EnvironmentFaultError(message, hint=hint)) from None

    return run


def _environment_fault(error: OSError) -> EnvironmentFaultError | None:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return EnvironmentFaultError(
            f"no space left on the disk while writing {error.filename or 'a file'}",
            hint="free some space and run the command again; add --resume where it says so",
        )
    if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
        return EnvironmentFaultError(
            f"no permission to write {error.filename}", hint="choose another directory with --output-dir"
        )
    return None


def _drawn(error: MoeError) -> typer.Exit:
    talk = stderr_console()
    first, *rest = error.message.splitlines()
    talk.print(f"error: {plain(first)}", style="red", soft_wrap=True)
    for line in rest:
        talk.print(plain(line), soft_wrap=True)
    talk.print("hint: " + "\n".join(plain(line) for line in error.hint.splitlines()), soft_wrap=True)
    return typer.Exit(int(error.exit_code))
