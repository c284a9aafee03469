"""Groups of gloo have one thread each, and nothing else of theirs is another than torch makes it."""

from __future__ import annotations

from datetime import timedelta

import pytest
import torch.distributed as dist
from torch.distributed import HashStore, ProcessGroupGloo

from moe_cli.gloo_groups import INTERFACES, of_one_thread
from tests.in_ranks import run_in_ranks

WAIT = timedelta(seconds=7)


def begun() -> ProcessGroupGloo:
    """A group of this process alone, begun as torch begins one."""
    return ProcessGroupGloo(HashStore(), 0, 1, timeout=WAIT)


@pytest.mark.parametrize("interfaces", [None, "lo", "lo,lo", "lo,"])
def test_a_group_has_one_thread_and_the_limit_and_as_many_devices_as_torch_gives_it(interfaces, monkeypatch):
    monkeypatch.delenv(INTERFACES, raising=False)
    if interfaces is not None:
        monkeypatch.setenv(INTERFACES, interfaces)
    of_torch = begun().options
    with of_one_thread():
        ours = begun().options
    assert (ours._threads, ours._timeout) == (1, WAIT)
    assert len(ours._devices) == len(of_torch._devices) == len((interfaces or "").removesuffix(",").split(","))
    assert begun().options._threads == of_torch._threads > 1


def test_an_interface_that_is_not_there_is_an_error_as_in_torch(monkeypatch):
    monkeypatch.setenv(INTERFACES, "nowhere0")
    with of_one_thread(), pytest.raises(RuntimeError, match="nowhere0"):
        begun()


def test_every_group_of_processes_that_have_met_has_one_thread():
    ended = run_in_ranks(2, looks_at_its_groups)
    assert ended.codes == [0, 0], ended.said


def looks_at_its_groups() -> None:
    """In every process: the group of all, and one that a library would begin."""
    import torch

    for group in (dist.group.WORLD, dist.new_group()):
        assert group is not None
        assert group._get_backend(torch.device("cpu")).options._threads == 1
