"""Commands of `moe` in processes of their own, forked from one that has imported the libraries.

So peak memory is that of one command alone, and no command waits for an import. A child ends with its parent, and
takes no setting from environment variables: its settings are those of the file that it is given.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.forkserver
import multiprocessing.resource_tracker
import os
import signal
import sys
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path

from moe_cli.__main__ import main
from moe_cli.config import ENVIRONMENT_PREFIX

PRELOADED = ["moe_cli.cli.shared_imports"]


def start_command(
    argv: Sequence[str],
    directory: Path,
    *,
    environment: Mapping[str, str],
    log: Path | None = None,
    kept: Collection[str] = (),
) -> BaseProcess:
    """Start `moe` with these words in a directory.

    `environment` is set for the child; of the variables that could be settings those in `kept` stay. `log`: where all
    that it prints is appended; None: where the parent prints.
    """
    process = _context().Process(
        target=_command,
        args=(list(argv), str(directory), dict(environment), None if log is None else str(log), set(kept)),
    )
    process.start()
    return process


def import_libraries() -> None:
    """Wait until the libraries that commands share are imported."""
    process = _context().Process(target=_do_nothing)
    process.start()
    process.join()


def _do_nothing() -> None: ...


def _context() -> ForkServerContext:
    """Where commands are forked."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    multiprocessing.resource_tracker.ensure_running()  # first, as it would let Ctrl-C through again
    with _ctrl_c_held():  # which comes to the server, too, and for good: it must outlive its imports
        multiprocessing.forkserver.ensure_running()
    return context


@contextmanager
def _ctrl_c_held() -> Iterator[None]:
    """Inside the block Ctrl-C waits, and what is started there never hears of it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def pass_signal(process: BaseProcess, number: int) -> None:
    """Send a signal to a child that is alive, which may then save a state."""
    if process.pid is not None and process.is_alive():
        os.kill(process.pid, number)


def _command(argv: list[str], directory: str, environment: dict[str, str], log: str | None, kept: set[str]) -> None:
    for name in [name for name in os.environ if name.startswith(ENVIRONMENT_PREFIX) and name not in kept]:
        del os.environ[name]
    os.environ |= environment
    if hasattr(os, "setpgrp"):
        os.setpgrp()  # Ctrl-C in the terminal comes through the parent, once
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # which the server never hears
    signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.chdir(directory)
    if log is not None:
        _print_into(log)
    sys.argv = ["moe", *argv]
    main()


def _print_into(log: str) -> None:
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for number in (1, 2):
        os.dup2(file, number)
    os.close(file)
    for stream in (sys.stdout, sys.stderr):  # so that lines stand in the order in which they were printed
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(line_buffering=True)


def _end_with_parent() -> None:
    """End this process, as a signal would, once the parent is gone, which can be killed without passing that on."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        signal.raise_signal(signal.SIGTERM)
