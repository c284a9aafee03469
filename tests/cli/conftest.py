"""The program in process: words in, exit code, stdout and stderr out."""

import os
import sys
from dataclasses import dataclass

import pytest

from moe_cli.cli.app import main


@dataclass
class Done:
    """What a command left."""

    code: int
    out: str
    err: str


@pytest.fixture
def moe(tmp_path, monkeypatch, capsys):
    """Run a command in a directory of its own; what it sets in the environment is taken back."""
    before = dict(os.environ)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["moe", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            main()
        return Done(stop.value.code or 0, *capsys.readouterr())

    yield run
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def refused(moe):
    """Run a command that is refused: nothing on stdout, an `error:` and a `hint:` on stderr, no traceback."""

    def run(*words):
        done = moe(*words)
        lines = done.err.splitlines()
        assert done.code != 0
        assert done.out == ""
        assert lines[0].startswith("error: ") and sum(line.startswith("hint: ") for line in lines) == 1
        assert "Traceback" not in done.err
        return done

    return run
