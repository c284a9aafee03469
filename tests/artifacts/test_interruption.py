"""An interruption says that resume goes on only where it can."""

import os
import signal

import pytest

from moe_cli.artifacts.journal import ANSWERS, Journal, answer_journal, resumable
from moe_cli.artifacts.run_directory import open_run
from moe_cli.config import MoeConfig
from moe_cli.errors import StoppedError
from moe_cli.records import Message

TURNS = [Message(role="user", content="turn")]


def test_an_interruption_says_that_resume_goes_on_only_where_it_can(tmp_path):
    with pytest.raises(KeyboardInterrupt), resumable(tmp_path, ANSWERS):
        raise KeyboardInterrupt
    journal = Journal(answer_journal(tmp_path, "model", limit=32), Message)
    journal.path.touch()
    with pytest.raises(KeyboardInterrupt), resumable(tmp_path, ANSWERS):
        raise KeyboardInterrupt
    journal.append(TURNS[:1])
    with pytest.raises(StoppedError, match="is kept") as stop, resumable(tmp_path, ANSWERS):
        raise KeyboardInterrupt
    assert "--resume" in stop.value.hint
    with pytest.raises(ValueError, match="a bug"), resumable(tmp_path, ANSWERS):
        raise ValueError("a bug")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_the_signals_of_a_scheduler_count_as_an_interruption_and_the_old_handlers_come_back(tmp_path, number):
    before = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGUSR1)]
    Journal(answer_journal(tmp_path, "model", limit=32), Message).append(TURNS)
    with pytest.raises(StoppedError), resumable(tmp_path, ANSWERS):
        os.kill(os.getpid(), number)
        signal.pause()
    assert [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGUSR1)] == before


def test_a_run_that_is_interrupted_with_nothing_kept_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), open_run(tmp_path / "run", "baseline", MoeConfig(), resume=False) as writer:
        (writer.path / "steps.jsonl").write_text("{}\n", encoding="utf-8")
        raise KeyboardInterrupt
    assert not (tmp_path / "run").exists()


def test_a_resumed_run_that_is_interrupted_keeps_what_it_had(tmp_path):
    with pytest.raises(OSError), open_run(tmp_path / "run", "baseline", MoeConfig(), resume=False) as writer:
        (writer.path / "steps.jsonl").write_text("{}\n", encoding="utf-8")
        raise OSError
    with pytest.raises(KeyboardInterrupt), open_run(tmp_path / "run", "baseline", MoeConfig(), resume=True):
        raise KeyboardInterrupt
    assert (tmp_path / "run" / "steps.jsonl").is_file()
