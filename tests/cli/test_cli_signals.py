"""A signal ends the command of the moment, whoever started it, and what the exit code says is so."""

import os
import signal
import subprocess
import sys
import time

import pytest

from moe_cli.artifacts import run_directory
from moe_cli.artifacts.locks import is_locked
from moe_cli.compare import stage as compare
from moe_cli.ranks import num_cores
from tests.compare.runs_on_disk import records, trained


@pytest.fixture
def two_runs(tmp_path):
    trained(tmp_path, "one", records(8), seed=1)
    trained(tmp_path, "two", records(12), seed=1, arm="selective")


def wait_until(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP])
def test_a_comparison_that_a_signal_stops_leaves_nothing_and_can_be_typed_again(
    moe, two_runs, tmp_path, monkeypatch, number
):
    with monkeypatch.context() as patch:
        patch.setattr(compare, "encode", lambda *_, **__: signal.raise_signal(number))
        done = moe("compare", "one", "two")
    assert (done.code, done.out) == (130, "")
    assert "run the command again" in done.err
    assert not (tmp_path / "comparison").exists()
    assert moe("compare", "one", "two").code == 0
    assert not (tmp_path / "comparison_2").exists()


def test_a_hangup_that_nohup_ignores_stops_nothing(moe, two_runs, monkeypatch):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        monkeypatch.setattr(
            run_directory, "now_in_utc", lambda: signal.raise_signal(signal.SIGHUP) or "2026-01-01T00:00:00.000+00:00"
        )
        assert moe("compare", "one", "two").code == 0
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_command_outlives_its_demo(tmp_path, number):
    demo = subprocess.Popen(
        [sys.executable, "-m", "moe_cli", "demo"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    runs = [tmp_path / "demo" / "prepared", tmp_path / "demo/evaluations/tiny/default"][: num_cores()]
    assert wait_until(lambda: all((run / ".run.json").is_file() and is_locked(run) for run in runs))
    demo.send_signal(number)
    demo.communicate(timeout=60)
    assert demo.returncode in ((-signal.SIGKILL,) if number == signal.SIGKILL else (75, 130))
    assert wait_until(lambda: not any(run.exists() and is_locked(run) for run in runs))


def test_ctrl_c_while_the_libraries_of_a_demo_are_imported_ends_it_at_once_and_without_a_traceback(tmp_path):
    talk = tmp_path / "talk.txt"
    with talk.open("wb") as file:
        argv = [sys.executable, "-m", "moe_cli", "demo"]
        demo = subprocess.Popen(argv, cwd=tmp_path, stdout=file, stderr=file, start_new_session=True)
        logs = tmp_path / "demo" / ".output"
        assert wait_until(logs.is_dir)  # the next thing is the import
        os.killpg(demo.pid, signal.SIGINT)  # as the terminal does it: to all processes
        assert demo.wait(timeout=60) == 130
    assert "Traceback" not in talk.read_text() and "run the command again" in talk.read_text()
