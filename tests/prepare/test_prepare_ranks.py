"""`moe prepare` in several processes: byte for byte the run of one, however it was interrupted."""

from __future__ import annotations

import os
import shutil
import signal
from functools import partial
from pathlib import Path

import pytest
import torch

from moe_cli.artifacts import Store, layout
from moe_cli.artifacts.files import sha256_of
from moe_cli.codec import decode_lines
from moe_cli.config import MoeConfig
from moe_cli.errors import ExitCode, StoppedError
from moe_cli.model.engines import TransformersEngine
from moe_cli.prepare import stage
from moe_cli.ranks import this_rank
from moe_cli.records import Generation, Progress
from moe_cli.tiny import CHECKPOINT_PATH
from tests.in_ranks import acting_in_round, content_of, run_in_ranks
from tests.model.served import completion, served
from tests.small_experiment import settings_of_small_experiment

CASES = {
    "greedy": {},
    "sampled": {"temperature": 1.5, "sampling_top_p": 0.9},
    "all that is measured": {"scores": ("gradient",), "extra_replays": True, "pickle": True},
}
FOUR_A_BATCH = {"generation_batch_size": 4}  # so that there are many rounds, and the last has one batch


def settings(directory: Path, **prepare: object) -> MoeConfig:
    return settings_of_small_experiment(directory, model={"threads": 1}, prepare={**FOUR_A_BATCH, **prepare})


def prepare_all(configs: list[MoeConfig], resume: bool = False) -> None:
    """In every process: the runs one after the other."""
    for config in configs:
        stage.run(config, Store(config.prepare.output_dir.parent / "registry"), lambda _: None, resume=resume)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The run of one process, by case."""
    torch.set_num_threads(1)
    directory = tmp_path_factory.mktemp("one")
    prepare_all([settings(directory / case, **changes) for case, changes in CASES.items()])
    return {case: directory / case / "prepared" for case in CASES}


def test_two_and_three_processes_write_the_files_of_one(alone, tmp_path):
    for total in (2, 3):
        runs = {case: settings(tmp_path / str(total) / case, **changes) for case, changes in CASES.items()}
        ended = run_in_ranks(total, prepare_all, list(runs.values()))
        assert (ended.codes, ended.said) == ([0] * total, "")
        for case, config in runs.items():
            assert content_of(config.prepare.output_dir) == content_of(alone[case]), (total, case)
            manifests = [layout.MANIFEST in os.listdir(run) for run in (config.prepare.output_dir, alone[case])]
            assert manifests == [True, True]


def test_sampling_and_gradients_are_in_what_is_compared(alone):
    greedy, sampled, measured = (content_of(alone[case]) for case in CASES)
    answers = layout.batch_outputs("tiny")
    assert greedy[answers] != sampled[answers]
    assert greedy[answers] == measured[answers]
    assert len(measured) > len(greedy)


BENIGN, ANSWERS, ROUTING, GRADIENTS = 2, 5, 11, 29  # a round in which two processes do this


def interrupted(config: MoeConfig, in_round: int, rank: int, number: int) -> None:
    """In every process: one of them gets the signal of this number in a round."""
    with acting_in_round(in_round, lambda: os.kill(os.getpid(), number), rank=rank):
        prepare_all([config])


@pytest.mark.parametrize(("rank", "in_round"), [(0, ANSWERS), (1, BENIGN), (1, ROUTING)])
def test_a_killed_process_loses_nothing_and_any_number_goes_on(alone, tmp_path, monkeypatch, rank, in_round):
    config = settings(tmp_path / "killed")
    ended = run_in_ranks(2, interrupted, config, in_round, rank, signal.SIGKILL, limit=60.0)
    assert ended.codes[rank] == -signal.SIGKILL
    assert ended.codes[1 - rank] == ExitCode.PEER
    assert ended.said.count("error: another process of this run has ended") == 1
    run = config.prepare.output_dir
    kept = {answer.prompt_id for file in run.glob(".answers-*") for answer in decode_lines(Generation, file)}
    assert len(kept) >= 8
    shutil.copytree(run, tmp_path / "by-two" / "prepared")
    asked, own = [], TransformersEngine.answers

    def answers(engine, prompts, done, keep):
        asked.append({prompt.id for prompt in prompts} - set(done))
        return own(engine, prompts, done, keep)

    monkeypatch.setattr(TransformersEngine, "answers", answers)
    prepare_all([config], resume=True)
    assert not kept & set().union(*asked)  # nothing that either process had answered is answered again
    by_two = settings(tmp_path / "by-two")
    assert run_in_ranks(2, prepare_all, [by_two], True).codes == [0, 0]
    for resumed in (run, by_two.prepare.output_dir):
        assert content_of(resumed) == content_of(alone["greedy"])


def test_a_run_of_one_process_goes_on_in_three(alone, tmp_path):
    def stop(record: object) -> None:
        if isinstance(record, Progress) and (record.task, record.done) == ("answers", 12):
            os.kill(os.getpid(), signal.SIGTERM)

    config = settings(tmp_path)
    with pytest.raises(StoppedError):
        stage.run(config, Store(tmp_path / "registry"), stop)
    assert run_in_ranks(3, prepare_all, [config], True).codes == [0, 0, 0]
    assert content_of(config.prepare.output_dir) == content_of(alone["greedy"])


@pytest.mark.parametrize(("rank", "in_round"), [(1, ANSWERS), (0, ROUTING), (1, GRADIENTS)])
def test_a_signal_to_one_process_stops_all_at_the_next_batch(alone, tmp_path, rank, in_round):
    config = settings(tmp_path, **CASES["all that is measured"])
    ended = run_in_ranks(2, interrupted, config, in_round, rank, signal.SIGUSR1, limit=60.0)
    assert ended.codes == [ExitCode.RESUMABLE] * 2
    assert ended.said.count("error: ") == ended.said.count("interrupted; the work so far is kept") == 1
    assert run_in_ranks(2, prepare_all, [config], True).codes == [0, 0]
    assert content_of(config.prepare.output_dir) == content_of(alone["all that is measured"])


def another_limit(config: MoeConfig, limit: int) -> MoeConfig:
    return config.model_copy(update={"prepare": config.prepare.model_copy(update={"max_new_tokens": limit})})


def test_answers_of_several_processes_are_kept_under_another_token_limit(tmp_path):
    config = settings(tmp_path / "two")
    run_in_ranks(2, interrupted, config, ROUTING, 0, signal.SIGKILL, limit=60.0)
    shutil.copytree(tmp_path / "two", tmp_path / "one")
    raised = another_limit(settings(tmp_path / "one"), 32)
    prepare_all([raised], resume=True)
    assert run_in_ranks(2, prepare_all, [another_limit(config, 32)], True).codes == [0, 0]
    one, two = (content_of(tmp_path / name / "prepared") for name in ("one", "two"))
    assert one == two
    assert one[layout.PREPARE_SUMMARY]["num_answers_kept"] > 0


def with_own_model(directory: Path, output: Path) -> None:
    """In every process: the model that lies in a directory of its own."""
    os.chdir(directory / str(this_rank().index))
    prepare_all([settings_of_small_experiment(output, model={"name": "model", "threads": 1}, prepare=OWN_PAIRS)])


OWN_PAIRS = {"pairs": ("pairs.jsonl",), "benign_ratio": 0.0, "batch_size": 2}


def test_processes_that_load_other_weights_are_refused(tmp_path):
    for rank in range(2):
        place = tmp_path / str(rank)
        shutil.copytree(CHECKPOINT_PATH, place / "model")
        rows = [f'{{"goal": "g{n}", "safe": "s{n}", "unsafe": "u{n}"}}\n' for n in range(4)]
        (place / "pairs.jsonl").write_text("".join(rows))
    from safetensors.torch import load_file, save_file

    weights = tmp_path / "1" / "model" / "model.safetensors"
    save_file({name: tensor + 0.01 for name, tensor in load_file(weights).items()}, weights, {"format": "pt"})
    assert sha256_of(weights) != sha256_of(tmp_path / "0" / "model" / "model.safetensors")
    ended = run_in_ranks(2, with_own_model, tmp_path, tmp_path / "shared")
    assert ended.codes == [ExitCode.ENVIRONMENT] * 2
    assert ended.said.count("error: ") == ended.said.count("the processes differ in the weights") == 1
    assert not (tmp_path / "shared" / "prepared").exists()


def test_the_first_process_alone_asks_an_endpoint_and_all_replay_its_answers(tmp_path):
    answers = partial(completion, "paint the box red")
    with served(lambda asked, number: answers()) as server:
        runs = [
            settings_of_small_experiment(
                tmp_path / name,
                model={"threads": 1},
                endpoint={"base_url": server.url},
                prepare={**FOUR_A_BATCH, "engine": "openai", "keep_all": True, "benign_ratio": 0.0},
            )
            for name in ("one", "two")
        ]
        prepare_all(runs[:1])
        num_asked = len(server.asked)
        assert run_in_ranks(2, prepare_all, runs[1:]).codes == [0, 0]
        assert len(server.asked) == 2 * num_asked
    one, two = (content_of(config.prepare.output_dir) for config in runs)
    assert one == two
