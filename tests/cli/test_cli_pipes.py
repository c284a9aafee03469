"""A reader that leaves: the command ends by itself, with its own exit code, and says nothing about it."""

import os
import subprocess
import sys

import pytest
import typer

from moe_cli.artifacts import finished_run
from moe_cli.cli.app import app
from tests.cli.test_cli_tree import commands

HELPS = [[*name.split()[1:], "--help"] for name, _ in commands(typer.main.get_command(app))]
SHORT = (["--help"], ["--version"], ["runs", "list"], ["runs", "list", "--json"], ["config", "schema"], ["env"])

IN_TURN = """
import os, sys
from moe_cli.cli.app import main
for words in %r:
    read, write = os.pipe()
    os.close(read)
    os.dup2(write, 1)
    os.close(write)
    sys.argv = ["moe", *words]
    try:
        main()
    except SystemExit as stop:
        sys.stdout.flush()
        print(stop.code or 0, file=sys.stderr)
"""


def without_readers(words, directory, *, stderr_too=False):
    """Run a command whose stdout (and stderr) is a pipe that nobody reads."""
    read, write = os.pipe()
    os.close(read)
    try:
        return subprocess.run(
            [sys.executable, *words],
            stdout=write,
            stderr=write if stderr_too else subprocess.PIPE,
            cwd=directory,
            text=True,
            check=False,
            timeout=300,
        )
    finally:
        os.close(write)


@pytest.mark.parametrize("words", SHORT, ids=" ".join)
def test_a_command_that_nobody_reads_ends_well_and_quietly(words, tmp_path):
    done = without_readers(["-m", "moe_cli", *words], tmp_path)
    assert done.returncode == 0
    assert all(part not in done.stderr for part in ("Traceback", "Exception ignored", "Broken pipe", "error:"))


def test_the_help_of_every_command_ends_well(tmp_path):
    done = without_readers(["-c", IN_TURN % HELPS], tmp_path)
    assert done.returncode == 0
    assert done.stderr.split() == ["0"] * len(HELPS)


def test_a_reader_that_takes_the_first_line_gets_it(tmp_path):
    moe = f"{sys.executable} -m moe_cli"
    for command, first in (("config schema", "{"), ("runs list --json", "[")):
        script = f"set -o pipefail; {moe} {command} | head -n 1"
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, cwd=tmp_path, check=False)
        assert (done.returncode, done.stdout.strip()) == (0, first)
        assert "Traceback" not in done.stderr and "Exception" not in done.stderr


def test_a_fault_keeps_its_exit_code(tmp_path):
    done = without_readers(["-m", "moe_cli", "runs", "show", "nothing"], tmp_path, stderr_too=True)
    assert done.returncode == 3


def test_a_long_command_finishes_its_work_though_its_readers_left(tmp_path):
    settings = ("prepare.tiny_pairs=16", "prepare.batch_size=8", "prepare.max_new_tokens=24", "train.num_epochs=1")
    more = [
        word for setting in (*settings, "prepare.resamples=20", "prepare.null_draws=5") for word in ("--set", setting)
    ]
    runs = [[*words, "--model", "tiny", *more] for words in (["prepare", "--budget", "none"], ["train", "baseline"])]
    done = without_readers(["-c", IN_TURN % runs], tmp_path, stderr_too=True)
    assert done.returncode == 0
    for name in ("prepared", "full_model_baseline"):
        assert finished_run(tmp_path / name).damaged() == ()
