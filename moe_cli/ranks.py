"""The processes (ranks) that do one work together, as torchrun starts them; a process that is alone is the first.

The environment of torchrun is read once and taken away when the processes have met, so that no library begins to deal
the work out by itself. Whatever is said travels through memory of the CPU; every wait has a limit. An error that all
of them meet is raised in all of them, and one of them says it.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, TypeVar, cast

from moe_cli.errors import EnvironmentFaultError, InterruptedRunError, MoeError, PeerError, StoppedError
from moe_cli.gloo_groups import of_one_thread
from moe_cli.signals import ALL_SIGNALS, handled_by

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

# What torchrun tells its processes; accelerate and transformers would act on it, too.
OF_TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
OF_MPI = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")  # srun sets them, and accelerate counts by them
AGENT = "TORCHELASTIC_RUN_ID"  # of what torchrun started
VOICE = "moe/voice"  # in the store: how many processes wanted to say why they end
LOOK_AGAIN = 0.2  # seconds
PATIENCE = 30.0  # seconds until the others see what a process wrote (NFS keeps what it knows for so long) or told
# In errors of torch.distributed where another process has gone or does not answer.
OF_A_PEER = ("gloo", "Connection closed by peer", "NCCL", "Broken pipe", "connection reset")

Value = TypeVar("Value")
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Meeting:
    """What processes that have met share."""

    store: Store
    seconds: float  # that nobody waits longer for another


_meetings: list[Meeting] = []  # the last is the one that goes on
_alone = False  # whether the first works alone, while the others wait


@dataclass(frozen=True, slots=True)
class Rank:
    """A process among those that work together."""

    index: int  # 0 is the first
    total: int
    local_index: int  # on its machine
    local_total: int


def num_cores() -> int:
    """Cores that this process may use; known without torch."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def this_rank() -> Rank:
    """This process, as the environment says that it began.

    Raises:
        EnvironmentFaultError: of what torchrun sets, a part is missing or is no number.
    """
    if "LOCAL_RANK" not in os.environ or (total := _of_environment("WORLD_SIZE", 1)) < 2:
        return Rank(0, 1, 0, 1)
    local_total = _of_environment("LOCAL_WORLD_SIZE", total)
    return Rank(_of_environment("RANK"), total, _of_environment("LOCAL_RANK"), local_total)


def _of_environment(name: str, default: int | None = None) -> int:
    text = os.environ.get(name)
    if text is None and default is not None:
        return default
    if text is None or not text.isdecimal():
        problem = "is not set" if text is None else f"is {text!r}, which is no number"
        raise EnvironmentFaultError(
            f"LOCAL_RANK says that torchrun started this process, but {name} {problem}",
            hint="start the command with torchrun or with --nproc, or unset LOCAL_RANK to run it alone",
        )
    return int(text)


def take_place() -> EnvironmentFaultError | None:
    """Read the place of this process once; an error where the environment has none that can be read.

    The process is alone then, and tells that itself.
    """
    try:
        this_rank()
    except EnvironmentFaultError as error:
        del os.environ["LOCAL_RANK"]
        return error
    return None


def num_ranks() -> int:
    """How many processes work together; 1 where this one is alone."""
    return 1 if _alone else this_rank().total


def is_first() -> bool:
    """Whether this process writes the files and speaks for all."""
    return this_rank().index == 0


@contextmanager
def joined(seconds: float) -> Iterator[None]:
    """Meet the other processes; inside the block they can talk. Nobody waits longer than `seconds` for another.

    Raises:
        EnvironmentFaultError: they do not all come, or torchrun did not say where to meet.
    """
    if num_ranks() == 1:
        _forget_torchrun()  # which may have started this one alone; accelerate would wrap the model all the same
        yield
        return
    import torch
    import torch.distributed as dist
    from torch.distributed.rendezvous import rendezvous

    limit = timedelta(seconds=seconds)
    with of_one_thread():
        try:
            store, index, total = next(iter(rendezvous("env://", timeout=limit)))
            # A card is used for gradients alone.
            backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
            dist.init_process_group(backend, store=store, rank=index, world_size=total, timeout=limit)
        except (RuntimeError, ValueError) as error:
            raise EnvironmentFaultError(
                f"process {this_rank().index} does not meet the {num_ranks() - 1} others: {error}".splitlines()[0],
                hint="start them with torchrun or --nproc; check MASTER_ADDR and the network between the machines",
            ) from error
        _meetings.append(Meeting(store, seconds))
        _forget_torchrun()
        if AGENT in os.environ:
            threading.Thread(target=_end_with_agent, args=(os.getppid(),), daemon=True).start()
        yield
        dist.destroy_process_group()


def _forget_torchrun() -> None:
    """Take what torchrun and MPI say out of the environment, which is read by then."""
    this_rank()
    for name in (*OF_TORCHRUN, *OF_MPI):
        os.environ.pop(name, None)


def _end_with_agent(agent: int) -> None:
    """Stop this process, as a signal would, once torchrun has gone, which can be killed without passing that on."""
    while os.getppid() == agent:
        time.sleep(LOOK_AGAIN)
    signal.raise_signal(signal.SIGTERM)


def current_meeting() -> Meeting:
    """The meeting that goes on."""
    return _meetings[-1]


@contextmanager
def acting_alone() -> Iterator[None]:
    """Inside the block this process is one of one: nothing there waits for the others."""
    global _alone  # noqa: PLW0603
    _alone = True
    try:
        yield
    finally:
        _alone = False


def gathered(value: Value) -> list[Value]:
    """What every process passes, in the order of the processes."""
    if num_ranks() == 1:
        return [value]
    import torch.distributed as dist

    values = [value] * num_ranks()
    dist.all_gather_object(values, value)
    return values


def on_first(action: Callable[[], Value]) -> Value:
    """Run `action` on the first process alone; all get its result, or raise its `MoeError`."""
    if num_ranks() == 1:
        return action()
    import torch.distributed as dist

    result: list[Value | MoeError | None] = [None]
    if is_first():
        try:
            result = [action()]
        except MoeError as error:
            result = [error]
    dist.broadcast_object_list(result, src=0)
    if isinstance(result[0], MoeError):
        raise result[0]
    return cast("Value", result[0])


def wait_for_first() -> None:
    """Return when the first process has come here, too."""
    on_first(lambda: None)


@contextmanager
def led(context: AbstractContextManager[Value]) -> Iterator[Value]:
    """Enter `context` on the first process alone; the others get a copy of what it gives."""
    with ExitStack() as stack:
        yield on_first(lambda: stack.enter_context(context))


def dealt(items: Sequence[Item]) -> list[Item]:
    """The share of this process: every n-th of the items."""
    return list(items[this_rank().index :: num_ranks()])


def has_voice(error: MoeError | None = None) -> bool:
    """Whether this process is the one that tells why all of them end, with this error: the first that asks.

    Before they have met, it is the first process of every machine, or one whose error the first does not have.
    """
    if num_ranks() == 1:
        return True
    if not _meetings:
        return this_rank().local_index == 0 or _is_own_error(error)
    try:
        return current_meeting().store.add(VOICE, 1) == 1
    except RuntimeError:  # process 0 held the store and has gone: with the error of all, or before it could tell any
        return isinstance(error, PeerError)


def name_before_meeting() -> str:
    """What an error that this process meets alone begins with, "process 3 (node-2): "; "" for an error of all."""
    if _meetings or num_ranks() == 1 or is_first():
        return ""
    return f"process {this_rank().index} ({socket.gethostname()}): "


def _is_own_error(error: MoeError | None) -> bool:
    """Whether this process alone ends: torchrun ends it, too, as soon as the first one tells the error of both."""
    if error is None or isinstance(error, (StoppedError, InterruptedRunError)):
        return False
    told, end = threading.Event(), time.monotonic() + PATIENCE
    with handled_by(lambda number, frame: told.set(), *ALL_SIGNALS):
        while not told.wait(LOOK_AGAIN) and time.monotonic() < end:
            pass
    return not told.is_set()


def peer_error(error: Exception) -> PeerError | None:
    """The error for a process that has gone or does not answer; None for any other error."""
    kind = type(error)
    of_peer = kind.__module__.startswith("torch") and kind.__name__.startswith("Dist")
    of_gloo = isinstance(error, RuntimeError) and any(sign in str(error) for sign in OF_A_PEER)
    if num_ranks() == 1 or not (of_peer or of_gloo):
        return None
    return peer_gone()


def peer_gone() -> PeerError:
    """The error for a process whose work stands still because of another."""
    return PeerError(
        f"another process of this run has ended or does not answer (noticed by process {this_rank().index})",
        hint="its own message is above, if it could write one (the system kills without one where memory runs out); "
        "--resume goes on from what is kept",
    )
