"""Starts a command again in several processes of this machine, by torch's own launcher, the one of torchrun.

The processes read the same command line. A signal to this process goes on to each of them, so that they stop together
at the end of a step. The exit code is theirs.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from uuid import uuid4

import typer

from moe_cli.errors import EnvironmentFaultError, ExitCode, UsageError
from moe_cli.ranks import num_cores, num_ranks
from moe_cli.signals import ALL_SIGNALS, handled_by

THREADS = "OMP_NUM_THREADS"  # of each process; torch would use all cores in each of them


def refuse_other_number(num_processes: int | None) -> None:
    """Refuse `--nproc` where torchrun has started another number of processes.

    Raises:
        UsageError: it has.
    """
    if num_processes is not None and num_ranks() > 1 and num_processes != num_ranks():
        raise UsageError(
            f"--nproc {num_processes} is given to a command that torchrun started in {num_ranks()} processes",
            hint="leave --nproc away under torchrun",
        )


def begin_processes(num_processes: int | None) -> None:
    """Run this very command in so many processes, and exit with their code; one, or None, goes on in this one.

    Raises:
        UsageError: torchrun has started another number of processes.
        EnvironmentFaultError: one was killed.
    """
    refuse_other_number(num_processes)
    if num_processes is not None and num_processes > 1 and num_ranks() == 1:
        raise typer.Exit(run_in_processes(num_processes, sys.argv[1:]))


def run_in_processes(num_processes: int, words: Sequence[str]) -> int:
    """Run `moe` with these words in several processes; returns the exit code of the one that failed first, or 0.

    Raises:
        EnvironmentFaultError: one was killed.
    """
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    os.environ.setdefault(THREADS, str(max(1, num_cores() // num_processes)))
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # the processes speak for themselves
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=num_processes,
        run_id=uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=0,
        signals_to_handle="SIGQUIT",  # the others are passed on below
    )
    with handled_by(_pass_on, *ALL_SIGNALS):
        try:
            elastic_launch(config, sys.executable)("-m", "moe_cli", *words)
        except ChildFailedError as failed:
            codes = {rank: failure.exitcode for rank, failure in failed.failures.items()}
            return _code_of(codes)
    return int(ExitCode.OK)


def _code_of(codes: dict[int, int]) -> int:
    """The exit code that says why: that of a process which did not end because of another.

    When one has ended, torchrun stops the others by a signal, after which they are interrupted, and kills those that
    stay. So an error of its own says most, then being killed, then having stopped with a state.
    """
    rank, code = min(codes.items(), key=lambda item: (_says_less(item[1]), item[0]))
    if code < 0:
        raise EnvironmentFaultError(
            f"process {rank} was killed by {signal.Signals(-code).name}, and the others ended with it",
            hint="the system kills a process where memory runs out; --resume goes on from what is kept",
        )
    return code


def _says_less(code: int) -> int:
    """0 for what says most of why all ended."""
    of_others = (ExitCode.RESUMABLE, ExitCode.INTERRUPTED, ExitCode.PEER)
    if code in of_others:
        return 2 + of_others.index(ExitCode(code))
    return int(code < 0)


def _pass_on(number: int, frame: FrameType | None) -> None:
    from psutil import Process

    for process in Process().children():
        process.send_signal(number)
