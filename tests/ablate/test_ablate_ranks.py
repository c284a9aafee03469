"""`moe ablate` in several processes: byte for byte the ablation of one, however it was interrupted."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from unittest.mock import patch

import pytest
import torch

from moe_cli.ablate import conditions, stage
from moe_cli.artifacts import Store, layout
from moe_cli.config import MoeConfig
from moe_cli.errors import ExitCode
from moe_cli.prepare import stage as prepare
from tests.in_ranks import acting_in_round, content_of, run_in_ranks
from tests.small_experiment import settings_of_small_experiment

PAGES = stage.AblationPages(markdown=lambda ablation: ablation.reason, report=lambda ablation: ablation.verdict)

NUM = 2  # control sets, for time: many more say no more of the processes


def settings(directory: Path) -> MoeConfig:
    """With the intervention whose means go to all processes, and with a forward of the model as it is beside each."""
    return settings_of_small_experiment(
        directory,
        model={"threads": 1},
        evaluate={"tiny_items": 2, "max_new_tokens": 4, "batch_size": 3},
        ablate={
            "output_dir": directory / "ablation",
            "controls": 19,
            "intervention": "mean",
            "without_router_effects": True,
        },
    )


def ablate_in(directory: Path, resume: bool = False) -> None:
    """In every process: the ablation of what lies in the directory."""
    os.chdir(directory)
    store, honest = Store(directory / "registry"), conditions.draw_control_sets
    with patch.object(conditions, "draw_control_sets", lambda *args, num, seed: honest(*args, num=NUM, seed=seed)):
        stage.run(Path("prepared"), None, settings(directory), store, lambda _: None, pages=PAGES, resume=resume)


def killed_in(directory: Path, in_round: int, rank: int) -> None:
    """In every process: one of them is gone in a round."""
    with acting_in_round(in_round, lambda: os.kill(os.getpid(), signal.SIGKILL), rank=rank):
        ablate_in(directory)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """What is prepared, and the ablation of it by one process."""
    torch.set_num_threads(1)
    prepared, directory = tmp_path_factory.mktemp("prepared") / "here", tmp_path_factory.mktemp("done") / "here"
    prepare.run(settings(prepared), Store(prepared / "registry"), lambda _: None)
    shutil.copytree(prepared, directory)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(directory)  # so that it is the same again afterwards
        ablate_in(directory)
    return prepared, content_of(directory / "ablation")


def test_two_processes_write_the_files_of_one(done, tmp_path):
    prepared, of_one = done
    shutil.copytree(prepared, place := tmp_path / "two")
    ended = run_in_ranks(2, ablate_in, place)
    assert (ended.codes, ended.said) == ([0, 0], "")
    assert content_of(place / "ablation") == of_one
    assert {layout.ABLATION, layout.RECORDS} < of_one.keys()


def test_a_killed_process_loses_nothing_and_any_number_goes_on(done, tmp_path):
    prepared, of_one = done
    shutil.copytree(prepared, place := tmp_path / "killed")
    ended = run_in_ranks(2, killed_in, place, 5, 1, limit=60.0)  # inside a condition
    assert ended.codes == [ExitCode.PEER, -signal.SIGKILL]
    shutil.copytree(place, tmp_path / "by-one")
    for number, resumed in ((2, place), (1, tmp_path / "by-one")):
        assert run_in_ranks(number, ablate_in, resumed, True).codes == [0] * number
        assert content_of(resumed / "ablation") == of_one
