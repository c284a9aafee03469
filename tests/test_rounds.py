"""Work in rounds, or of the first process alone, as one process would do it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from moe_cli.errors import ExitCode, NumericError, StoppedError
from moe_cli.ranks import is_first, num_ranks, on_first, this_rank
from moe_cli.rounds import alone, in_rounds
from tests.in_ranks import run_in_ranks

NUMBERS = tuple(range(7))


def square(number: int) -> tuple[int, int]:
    return number * number, this_rank().index


def squared(file: Path) -> None:
    """In every process: the squares in rounds; the first writes them down, and who made them."""
    made = [pair for share in in_rounds(NUMBERS, square) for pair in share]
    if is_first():
        file.write_text(repr(made))
    elif made:
        raise AssertionError("the values reach the first process alone")


@pytest.mark.parametrize("total", [1, 2, 3])
def test_a_round_gives_each_process_one_item_and_the_first_all_values_in_their_order(tmp_path, total):
    assert run_in_ranks(total, squared, tmp_path / "made").codes == [0] * total
    assert eval((tmp_path / "made").read_text()) == [(n * n, n % total) for n in NUMBERS]


def failing_on(rank: int) -> None:
    """In every process: one of them meets a number that is none."""

    def work(number: int) -> int:
        if number >= 2 and this_rank().index == rank:
            raise NumericError("no number", hint="none")
        return number

    list(in_rounds(NUMBERS, work))


@pytest.mark.parametrize("rank", [0, 1])
def test_an_error_of_one_process_is_that_of_all(rank):
    ended = run_in_ranks(2, failing_on, rank)
    assert ended.codes == [ExitCode.NUMERIC] * 2
    assert ended.said.count("error: ") == ended.said.count("no number") == 1


def signalled(rank: int, file: Path) -> None:
    """In every process: one of them is asked to stop while it works on its second item."""
    made = 0

    def work(number: int) -> int:
        nonlocal made
        made += 1
        if made == 2 and this_rank().index == rank:
            os.kill(os.getpid(), signal.SIGTERM)
        return number

    try:
        list(in_rounds(NUMBERS, work))
    except KeyboardInterrupt:
        file.with_suffix(f".{this_rank().index}").write_text(str(made))
        raise StoppedError("stopped", hint="none") from None


@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_to_one_process_stops_all_at_the_end_of_the_round(tmp_path, rank):
    ended = run_in_ranks(2, signalled, rank, tmp_path / "made")
    assert ended.codes == [ExitCode.RESUMABLE] * 2
    assert [(tmp_path / f"made.{index}").read_text() for index in range(2)] == ["2", "2"]


def alone_for(seconds: float, file: Path) -> None:
    """In every process: the first works longer than anybody waits, and asks for the others' help in vain."""

    def work() -> int:
        time.sleep(seconds)
        if this_rank().index != 0 or num_ranks() != 1:
            raise AssertionError("the first is alone here")
        return on_first(lambda: 7) + sum(number for share in in_rounds(NUMBERS, lambda n: n) for number in share)

    if alone(work) != 7 + sum(NUMBERS) or alone(lambda: "again") != "again" or num_ranks() != 2:
        raise AssertionError("another value")
    file.with_suffix(f".{this_rank().index}").touch()


def test_the_others_wait_for_the_first_as_long_as_it_lives_and_get_its_value(tmp_path):
    assert run_in_ranks(2, alone_for, 4.0, tmp_path / "done", wait=2.0).codes == [0, 0]
    assert len(list(tmp_path.glob("done.*"))) == 2


def alone_and_gone(how: str) -> None:
    """In every process: the first fails, or is gone, while it works alone."""

    def work() -> None:
        if how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        raise NumericError("no number", hint="none")

    alone(work)


def test_an_error_of_the_first_is_that_of_all_and_its_death_is_noticed():
    failed = run_in_ranks(2, alone_and_gone, "failed")
    assert failed.codes == [ExitCode.NUMERIC] * 2
    assert failed.said.count("error: ") == 1
    gone = run_in_ranks(2, alone_and_gone, "killed", wait=2.0, limit=30.0)
    assert gone.codes == [-signal.SIGKILL, ExitCode.PEER]
    assert gone.said.count("has ended or does not answer (noticed by process 1)") == 1
