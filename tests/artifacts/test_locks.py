"""The lock of a run directory: one holder, in this process or another; it ends with its process, forks or not."""

import errno
import multiprocessing
import os
import signal
import threading

import pytest
from filelock import FileLock

from moe_cli.artifacts.layout import LOCK
from moe_cli.artifacts.locks import hold_lock
from moe_cli.errors import EnvironmentFaultError, LockedError

FORKED = multiprocessing.get_context("fork")


def taken(path):
    try:
        with hold_lock(path, hint="wait"):
            return False
    except LockedError:
        return True


def taken_for_another_process(path):
    answer = FORKED.SimpleQueue()
    process = FORKED.Process(target=lambda: answer.put(taken(path)))
    process.start()
    process.join(30)
    return answer.get()


def test_the_holder_keeps_out_itself_its_threads_and_other_processes(tmp_path):
    with hold_lock(tmp_path, hint="wait"):
        with pytest.raises(LockedError, match="another run is writing to") as refusal, hold_lock(tmp_path, hint="wait"):
            pass
        assert (refusal.value.hint, refusal.value.exit_code) == ("wait", 6)
        found = []
        thread = threading.Thread(target=lambda: found.append(taken(tmp_path)))
        thread.start()
        thread.join()
        assert found == [True]
        assert taken_for_another_process(tmp_path)
    assert not taken_for_another_process(tmp_path) and not taken(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_forked_child_that_leaves_the_block_leaves_the_lock_with_its_parent(tmp_path):
    parent = os.getpid()
    try:
        with hold_lock(tmp_path, hint=""):
            if (child := os.fork()) == 0:
                raise SystemExit  # through the end of the block
            os.waitpid(child, 0)
            assert (tmp_path / LOCK).exists()
            assert taken(tmp_path) and taken_for_another_process(tmp_path)
    finally:
        if os.getpid() != parent:
            os._exit(0)
    assert not taken(tmp_path)


def _hold_with_a_child(path, begun, until_closed):
    with hold_lock(path, hint=""):
        if os.fork():
            os.write(begun, b"1")
        os.read(until_closed, 1)  # both, the child as a process that hands out batches
    os._exit(0)


def test_a_killed_process_frees_the_lock_though_a_child_of_it_lives(tmp_path):
    (held, begun), (until_closed, open_end) = os.pipe(), os.pipe()
    if (holder := os.fork()) == 0:
        os.close(open_end)
        _hold_with_a_child(tmp_path, begun, until_closed)
    assert os.read(held, 1) == b"1"
    assert taken(tmp_path)
    os.kill(holder, signal.SIGKILL)
    os.waitpid(holder, 0)
    assert not taken(tmp_path)
    os.close(open_end)  # the child ends
    for end in (held, begun, until_closed):
        os.close(end)


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EIO, errno.EINVAL])
def test_a_file_system_without_locks_is_refused_never_written_without_one(tmp_path, monkeypatch, number):
    def acquire(self, **_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(FileLock, "acquire", acquire)
    with pytest.raises(EnvironmentFaultError, match="gives no lock"), hold_lock(tmp_path, hint=""):
        raise AssertionError("the block must not run")
