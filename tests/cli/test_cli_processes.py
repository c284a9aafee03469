"""`--nproc` and torchrun: one console, one exit code, and no process that outlives the command."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from moe_cli import ranks
from moe_cli.artifacts import Store
from moe_cli.cli.boundary import print_error
from moe_cli.cli.processes import _code_of
from moe_cli.cli.session import own_card
from moe_cli.errors import EnvironmentFaultError, InterruptedRunError, UsageError
from moe_cli.prepare import stage as prepare
from moe_cli.ranks import Rank
from tests.small_experiment import settings_of_small_experiment

PYTHON = (sys.executable, "-m", "moe_cli")
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "moe_cli")
TRAIN = ("train", "selective", "--model", "tiny", "--device", "cpu")
WORDS = (*TRAIN, "--num-epochs", "12")
LONG = (*TRAIN, "--num-epochs", "200")  # never at its end when it is killed


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    directory = tmp_path_factory.mktemp("processes")
    prepare.run(settings_of_small_experiment(directory), Store(directory / ".moe" / "registry.jsonl"), lambda _: None)
    return directory


def begun(command, directory: Path, output: str) -> subprocess.Popen:
    """The command, when it has made two steps."""
    words = [*command, "--registry", str(directory / ".moe" / "registry.jsonl"), "-o", output]
    process = subprocess.Popen(words, cwd=directory, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    steps, end = directory / output / "steps.jsonl", time.monotonic() + 90
    while process.poll() is None and time.monotonic() < end and (not steps.is_file() or steps.stat().st_size < 400):
        time.sleep(0.02)
    return process


def test_a_signal_to_the_command_stops_its_processes_at_one_step_and_torchrun_goes_on(directory):
    process = begun((*PYTHON, *WORDS, "--nproc", "2"), directory, "stopped")
    process.send_signal(signal.SIGUSR1)
    _, said = process.communicate(timeout=90)
    assert process.returncode == 75
    assert said.count("error: stopped by SIGUSR1 after step") == said.count("error: ") == 1
    words = [*TORCHRUN, *WORDS, "--registry", str(directory / ".moe" / "registry.jsonl"), "-o", "stopped"]
    words += ["--resume", "--json"]
    done = subprocess.run(words, cwd=directory, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0
    assert json.loads(done.stdout)["num_ranks"] == 2  # one document, of one process


def test_a_signal_stops_a_preparation_in_processes_and_one_process_goes_on_from_the_answers_of_both(tmp_path):
    words = ["prepare", "--model", "tiny", "--device", "cpu", "--threads", "1", "--set", "prepare.tiny_pairs=80"]
    words += ["--set", "prepare.generation_batch_size=2", "--set", "prepare.max_new_tokens=24", "-o", "run"]
    words += ["--set", "prepare.resamples=50", "--set", "prepare.null_draws=20"]
    several = [*PYTHON, *words, "--nproc", "2"]
    process = subprocess.Popen(several, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    end = time.monotonic() + 90
    while process.poll() is None and time.monotonic() < end and not kept_by_each(tmp_path / "run"):
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=90)
    assert process.returncode == 75, said
    assert said.count("error: ") == said.count("interrupted; the work so far is kept in run") == 1
    num_kept = sum(kept_by_each(tmp_path / "run"))
    one = [*PYTHON, *words, "--resume"]
    done = subprocess.run(one, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=True)
    assert num_kept > 4
    assert "wrote run" in done.stdout + done.stderr
    assert not list((tmp_path / "run").glob(".*"))


def kept_by_each(run: Path) -> list[int]:
    """How many answers each of two processes has kept; nothing where one has none yet."""
    sizes = [file.read_bytes().count(b"\n") for file in run.glob(".answers-*.rank*-of-2.jsonl")]
    return sizes if len(sizes) >= 2 and all(size > 2 for size in sizes) else []


def test_a_dry_run_under_torchrun_is_shown_once(tmp_path):
    shown = []
    for rank in ("0", "1"):
        environment = {**os.environ, "RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
        words = [*PYTHON, "prepare", "--model", "tiny", "--dry-run"]
        done = subprocess.run(words, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
        shown.append("this was a dry run" in done.stdout)
        assert rank == "0" or not done.stdout
    assert shown == [True, False]


def test_a_killed_process_is_named_and_a_killed_command_leaves_none_behind(directory):
    process = begun((*PYTHON, *LONG, "--nproc", "2"), directory, "killed")
    _, second = sorted(psutil.Process(process.pid).children(), key=lambda child: child.pid)
    second.kill()
    _, said = process.communicate(timeout=90)
    assert process.returncode == 4
    assert "was killed by SIGKILL" in said
    process = begun((*PYTHON, *LONG, "--nproc", "2"), directory, "orphans")
    workers = psutil.Process(process.pid).children()
    process.kill()
    _, alive = psutil.wait_procs(workers, timeout=60)
    assert len(workers) == 2
    assert not alive
    assert not (directory / "orphans" / "manifest.json").exists()


def test_the_exit_code_is_that_of_the_process_which_did_not_end_because_of_another():
    assert _code_of({0: 9, 1: 5}) == 5
    assert _code_of({0: 3, 1: 3}) == 3
    assert _code_of({0: 130, 1: 4}) == _code_of({0: -9, 1: 4}) == _code_of({0: 75, 1: 4}) == 4
    assert _code_of({0: 130, 1: 75}) == _code_of({0: 9, 1: 75}) == 75
    for others in (9, 75, 130):  # noticed that the first has gone, or was stopped by torchrun after it
        with pytest.raises(EnvironmentFaultError, match="process 1 was killed by SIGKILL"):
            _code_of({0: others, 1: -9})


def test_every_process_sees_its_own_card_and_too_few_cards_are_refused():
    second = Rank(index=3, total=4, local_index=1, local_total=2)
    assert own_card(None, second) == "1"
    assert own_card("5, 7", second) == "7"
    assert own_card("", second) == ""  # a machine that is told to use none
    with pytest.raises(UsageError, match="2 processes on this machine, but only the cards 5"):
        own_card("5", second)


def test_a_command_of_one_process_refuses_torchrun_and_a_wrong_number_is_refused(tmp_path):
    environment = {**os.environ, "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    for words, message in (
        (("compare", "a", "b"), "moe compare runs in one process, and torchrun started 2"),
        (("train", "selective", "--nproc", "4"), "--nproc 4 is given to a command that torchrun started in 2"),
    ):
        command = [*PYTHON, *words]
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert message in done.stderr


def test_an_error_of_all_processes_is_told_once_and_by_the_first_though_another_meets_it_sooner(tmp_path):
    slow_first = (
        "import os, sys, time; os.environ['LOCAL_RANK'] == '0' and time.sleep(2); "
        "from moe_cli.__main__ import main; sys.argv = ['moe', 'train', 'selective', '--lerning', '3']; main()"
    )
    (tmp_path / "command.py").write_text(slow_first)
    command = [*TORCHRUN[:-2], "command.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.stderr.count("error: No such option: --lerning") == 1
    assert "interrupted" not in done.stderr


def test_an_error_of_one_process_alone_is_told_by_it_with_its_name_before_they_have_met(monkeypatch, capsys):
    monkeypatch.setattr(ranks, "this_rank", lambda: Rank(index=3, total=4, local_index=1, local_total=2))
    monkeypatch.setattr(ranks, "PATIENCE", 0.2)
    print_error(UsageError("no file here.yaml", hint="write one"))
    assert capsys.readouterr().err.startswith(f"error: process 3 ({socket.gethostname()}): no file here.yaml")
    monkeypatch.setattr(ranks, "PATIENCE", 60.0)
    threading.Timer(0.2, signal.raise_signal, [signal.SIGTERM]).start()  # of torchrun, as the first has told it
    print_error(UsageError("no file here.yaml", hint="write one"))
    print_error(InterruptedRunError("interrupted", hint="run it again"))
    assert not capsys.readouterr().err


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ({"LOCAL_RANK": "0", "WORLD_SIZE": "two"}, "WORLD_SIZE is 'two', which is no number"),
        ({"LOCAL_RANK": "0", "WORLD_SIZE": "2"}, "RANK is not set"),
        ({"LOCAL_RANK": "-1", "RANK": "0", "WORLD_SIZE": "2"}, "LOCAL_RANK is '-1', which is no number"),
    ],
)
def test_a_place_that_the_environment_does_not_tell_is_a_clear_error(place, message, tmp_path):
    command = [*PYTHON, "runs", "list"]
    environment = {**os.environ, **place}
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 4
    assert done.stderr.startswith(f"error: LOCAL_RANK says that torchrun started this process, but {message}\nhint: ")
