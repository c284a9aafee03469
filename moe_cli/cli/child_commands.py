"""Commands of `moe` in processes of their own: forked from one that has imported the libraries, or on a Ray cluster.

So peak memory is that of one command alone, and no command waits for an import. A child ends with its parent, and
takes no setting from environment variables: its settings are those of the file that it is given.

The machines of a Ray cluster have one file system: the same directories, the same paths. A command is a Ray task of its
own, with one GPU where the cluster has any. A stop reaches it as SIGTERM, so that it saves its state. What a machine of
the cluster prints goes into the log of the point.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.forkserver
import multiprocessing.resource_tracker
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from io import TextIOWrapper
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING

from moe_cli.__main__ import main
from moe_cli.config import ENVIRONMENT_PREFIX
from moe_cli.errors import EnvironmentFaultError, ExitCode, UsageError, first_line

if TYPE_CHECKING:
    from ray import ObjectRef

PRELOADED = ["moe_cli.cli.shared_imports"]
ADDRESS = re.compile(r"auto|local|(ray://)?[A-Za-z0-9._-]+:\d{1,5}")


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


@dataclass(slots=True)
class RayCommand:
    """A command that runs in the cluster, waited for as a process of this machine is."""

    reference: ObjectRef[int]
    sentinel: int  # a file descriptor that can be read once the command has ended
    exitcode: int | None = None
    _thread: threading.Thread | None = field(default=None, repr=False)

    def join(self) -> None:
        """Wait for the end."""
        if self._thread is not None:
            self._thread.join()
            os.close(self.sentinel)

    def terminate(self) -> None:
        """Ask the command to stop; it saves its state first."""
        import ray

        ray.cancel(self.reference, force=False)


@dataclass(frozen=True, slots=True)
class RayCluster:
    """A cluster to which commands are given."""

    num_gpus: int
    num_cpus: int

    def at_once(self, threads: int | None) -> int:
        """Commands at once: one on each GPU, else as many as have that many cores each."""
        return self.num_gpus or max(1, self.num_cpus // (threads or self.num_cpus))

    def start(
        self, argv: Sequence[str], directory: Path, *, log: Path, threads: int | None, kept: Collection[str] = ()
    ) -> RayCommand:
        """Start `moe` with these words somewhere in the cluster; what it prints is appended to `log`."""
        import ray

        task = ray.remote(max_retries=0)(run_command)
        cpus = 1 if self.num_gpus else threads or self.num_cpus
        place = task.options(num_gpus=1 if self.num_gpus else 0, num_cpus=cpus)
        keys = {name: os.environ[name] for name in kept if name in os.environ}
        reference = place.remote(list(argv), str(directory.absolute()), str(log.absolute()), keys)
        readable, written = os.pipe()
        command = RayCommand(reference, readable)
        command._thread = threading.Thread(target=_wait, args=(command, written), daemon=True)
        command._thread.start()
        return command


def start_ray(address: str) -> RayCluster:
    """Connect to a cluster: `auto` (the one of this machine), `local` (a new one here), or its address.

    Raises:
        UsageError: this is no address.
        EnvironmentFaultError: Ray is not installed, or there is no such cluster.
    """
    if ADDRESS.fullmatch(address) is None:
        raise UsageError(f"--ray {address} is no address of a cluster", hint="write auto, local, or HOST:PORT")
    if find_spec("ray") is None:
        raise EnvironmentFaultError("Ray is not installed", hint="pip install 'moe-selective-repair[ray]'")
    import ray

    try:
        ray.init(address=address, log_to_driver=False, configure_logging=False, **_of_local(address))
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise EnvironmentFaultError(
            f"there is no Ray cluster at {address}: {first_line(error)}", hint="ray start --head begins one"
        ) from error
    resources = ray.cluster_resources()
    return RayCluster(num_gpus=int(resources.get("GPU", 0)), num_cpus=max(1, int(resources.get("CPU", 1))))


def _of_local(address: str) -> Mapping[str, bool]:
    return {"include_dashboard": False} if address == "local" else {}


def run_command(argv: list[str], directory: str, log: str, environment: dict[str, str]) -> int:
    """Run one command on this machine of the cluster; returns its exit code. Called by Ray."""
    own = {name: text for name, text in os.environ.items() if not name.startswith(ENVIRONMENT_PREFIX)}
    with open(log, "ab") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "moe_cli", *argv],
            cwd=directory,
            env={**own, **environment},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
        )
        try:
            return process.wait()
        except KeyboardInterrupt:  # as Ray cancels a task
            process.send_signal(signal.SIGTERM)
            return process.wait()


def _wait(command: RayCommand, written: int) -> None:
    """Wait for a command's end, note its exit code, and say so through the pipe."""
    import ray
    from ray.exceptions import RayError, TaskCancelledError

    try:
        command.exitcode = int(ray.get(command.reference))
    except TaskCancelledError:
        command.exitcode = int(ExitCode.RESUMABLE)
    except RayError:  # the machine or its worker has gone
        command.exitcode = int(ExitCode.PEER)
    finally:
        os.close(written)
