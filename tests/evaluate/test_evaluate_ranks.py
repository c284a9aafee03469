"""`moe evaluate` in several processes: byte for byte the evaluation of one, however it was interrupted."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import pytest
import torch

from moe_cli.artifacts import Store, layout
from moe_cli.config import MoeConfig
from moe_cli.errors import ExitCode
from moe_cli.evaluate import stage, text_drift
from moe_cli.prepare import stage as prepare
from moe_cli.ranks import is_first
from moe_cli.train import stage as train
from tests.in_ranks import acting_in_round, content_of, run_in_ranks
from tests.model.served import completion, served
from tests.small_experiment import settings_of_small_experiment

SETTINGS: dict[str, object] = {"tiny_items": 6, "max_new_tokens": 12, "batch_size": 2, "restore_router": True}
ANSWERS, DRIFT = 3, 16  # a round in which two processes do this


def settings(directory: Path, **evaluate: object) -> MoeConfig:
    return settings_of_small_experiment(directory, model={"threads": 1}, evaluate={**SETTINGS, **evaluate})


def evaluate_all(directory: Path, names: list[str], changes: dict[str, object], resume: bool = False) -> None:
    """In every process: the evaluations of what lies below the directory, one after the other."""
    os.chdir(directory)
    for name in names:
        stage.run(name, settings(directory, **changes), Store(directory / "registry"), lambda _: None, resume=resume)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A trained baseline, whose router moved, and the evaluations of it and of the bare model by one process."""
    torch.set_num_threads(1)
    directory = tmp_path_factory.mktemp("trained")
    config, store = settings(directory), Store(directory / "registry")
    prepare.run(config, store, lambda _: None)
    train.run("baseline", config, store, lambda _: None)
    trained = tmp_path_factory.mktemp("untouched") / "experiment"
    shutil.copytree(directory, trained)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(directory)
        found = [stage.run(name, config, store, lambda _: None).path.resolve() for name in ("baseline", "tiny")]
    return SimpleNamespace(trained=trained, runs=[run.relative_to(directory) for run in found], directory=directory)


def fresh(done: SimpleNamespace, place: Path) -> Path:
    shutil.copytree(done.trained, place)
    return place


def test_two_and_three_processes_write_the_files_of_one(done, tmp_path):
    for total in (2, 3):
        place = fresh(done, tmp_path / str(total))
        ended = run_in_ranks(total, evaluate_all, place, ["baseline", "tiny"], {})
        assert (ended.codes, ended.said) == ([0] * total, "")
        for run in done.runs:
            assert content_of(place / run) == content_of(done.directory / run), (total, run)


def test_drift_and_the_base_router_are_in_what_is_compared(done):
    summary = content_of(done.directory / done.runs[0])[layout.EVALUATION_SUMMARY]
    assert summary["restored_router"]["n"] > 0
    assert summary["drift"]["num_tokens"] > 0
    assert summary["routing_drift"] and summary["weight_drift"]


def interrupted(directory: Path, in_round: int, rank: int, number: int) -> None:
    """In every process: one of them gets the signal of this number in a round."""
    with acting_in_round(in_round, lambda: os.kill(os.getpid(), number), rank=rank):
        evaluate_all(directory, ["baseline"], {})


@pytest.mark.parametrize(("rank", "in_round"), [(0, ANSWERS), (1, ANSWERS), (1, DRIFT)])
def test_a_killed_process_loses_nothing_and_any_number_goes_on(done, tmp_path, rank, in_round):
    place = fresh(done, tmp_path / "killed")
    ended = run_in_ranks(2, interrupted, place, in_round, rank, signal.SIGKILL, limit=60.0)
    assert ended.codes[rank] == -signal.SIGKILL
    assert ended.codes[1 - rank] == ExitCode.PEER
    shutil.copytree(place, tmp_path / "by-one")
    assert run_in_ranks(2, evaluate_all, place, ["baseline"], {}, True).codes == [0, 0]
    assert run_in_ranks(1, evaluate_all, tmp_path / "by-one", ["baseline"], {}, True).codes == [0]
    for resumed in (place, tmp_path / "by-one"):
        assert content_of(resumed / done.runs[0]) == content_of(done.directory / done.runs[0])


@pytest.mark.parametrize(("rank", "in_round"), [(1, ANSWERS), (0, DRIFT)])
def test_a_signal_to_one_process_stops_all_at_the_next_batch(done, tmp_path, rank, in_round):
    place = fresh(done, tmp_path / "stopped")
    ended = run_in_ranks(2, interrupted, place, in_round, rank, signal.SIGTERM, limit=60.0)
    assert ended.codes == [ExitCode.RESUMABLE] * 2
    assert ended.said.count("error: ") == ended.said.count("interrupted; the work so far is kept") == 1
    assert run_in_ranks(2, evaluate_all, place, ["baseline"], {}, True).codes == [0, 0]
    assert content_of(place / done.runs[0]) == content_of(done.directory / done.runs[0])


def taking_turns(directory: Path) -> None:
    """In every process: the first would read two batches of texts in one turn, the others one."""
    honest = text_drift.rounds_of

    def in_twos(*models_and_batches: object) -> list[list[object]]:
        batches = [batch for group in honest(*models_and_batches) for batch in group]
        return [batches[start : start + 2] for start in range(0, len(batches), 2)]

    with patch.object(text_drift, "rounds_of", in_twos if is_first() else honest):
        evaluate_all(directory, ["baseline"], {})


def test_the_first_process_says_which_texts_are_read_in_one_turn(done, tmp_path):
    place = fresh(done, tmp_path / "turns")
    assert run_in_ranks(2, taking_turns, place).codes == [0, 0]
    assert content_of(place / done.runs[0]) == content_of(done.directory / done.runs[0])


def test_the_first_process_alone_asks_an_endpoint(done, tmp_path):
    with served(lambda asked, number: completion("paint the box red")) as server:
        contents = []
        for total in (1, 2):
            place = fresh(done, tmp_path / str(total))
            assert run_in_ranks(total, evaluated_at, place, server.url).codes == [0] * total
            contents.append(content_of(place / done.runs[0]))
            num_asked = len(server.asked)
        assert num_asked == 2 * len(contents[0][layout.RECORDS].splitlines())
    assert contents[0] == contents[1]


def evaluated_at(directory: Path, url: str) -> None:
    """In every process: an evaluation of what the endpoint answers."""
    os.chdir(directory)
    config = settings_of_small_experiment(
        directory,
        model={"threads": 1},
        endpoint={"base_url": url, "concurrency": 1},
        evaluate={**SETTINGS, "engine": "openai", "restore_router": False},
    )
    stage.run("baseline", config, Store(directory / "registry"), lambda _: None)
