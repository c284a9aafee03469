"""N processes train as one process with N times the accumulation; the long form is `tests/studies/ranks.py`."""

from __future__ import annotations

import os
import signal
import time
from functools import partial
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from safetensors.torch import load_file

from moe_cli.artifacts import Store, layout
from moe_cli.codec import decode_lines
from moe_cli.errors import ExitCode, StoppedError
from moe_cli.model import same_machine
from moe_cli.records import StepRecord
from moe_cli.train import stage as train
from moe_cli.train.trainer import FixedBatchTrainer
from tests.in_ranks import run_in_ranks
from tests.resume_everywhere import ARMS, differences, train_to_the_end
from tests.small_experiment import settings_of_small_experiment
from tests.train.rank_cases import (
    CASES,
    ORDERED,
    SAME,
    in_two_processes,
    killed_after,
    resumed,
    stopped_by_a_signal_to,
    summary_of,
)

pytestmark = pytest.mark.xdist_group("several processes")  # they share what one process trains


@pytest.fixture(scope="module")
def trained(experiments, alone):
    """Every case by one process and by two: the directories of both, by arm and case."""
    return in_two_processes(experiments, alone, "replicated")


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("arm", ARMS)
def test_two_processes_train_as_one_with_twice_the_accumulation(trained, arm, name):
    if (arm, name) not in trained:
        pytest.skip("the baseline has no masks")
    one, two = trained[arm, name]
    largest = CASES[name][3]
    if not largest:
        assert set(differences(one, two)) <= SAME
        return
    weights = [load_file(run / layout.FINAL_MODEL / "model.safetensors") for run in (one, two)]
    assert max(float((weights[0][key] - weights[1][key]).abs().max()) for key in weights[0]) <= largest
    steps = [list(decode_lines(StepRecord, run / layout.STEPS)) for run in (one, two)]
    assert [step.batches for step in steps[0]] == [step.batches for step in steps[1]]
    assert [step.loss for step in steps[0]] == pytest.approx([step.loss for step in steps[1]], abs=1e-6)


@pytest.mark.parametrize("arm", ARMS)
def test_the_summary_says_how_many_processes_trained_and_what_they_sent(trained, arm):
    one, two = map(summary_of, trained[arm, "accumulation 2"])
    assert (one.num_ranks, one.gradient_bytes) == (1, 0)
    assert two.num_ranks == 2
    assert two.hyperparameters == one.hyperparameters
    if arm == "baseline":
        assert two.gradient_bytes == two.num_steps * 4 * two.trainable_params
    else:  # of each step the experts that its batches update, and nothing else
        steps = decode_lines(StepRecord, trained[arm, "accumulation 2"][1] / layout.STEPS)
        per_expert = 4 * two.trainable_params // two.total_unique_unsafe_experts
        assert two.gradient_bytes == per_expert * sum(step.num_experts_updated for step in steps)


def test_the_loss_by_turn_is_that_of_one_process_bit_for_bit(trained):
    one, two = (list(decode_lines(StepRecord, run / layout.STEPS)) for run in trained["selective", "empty masks"])
    assert [step.turns for step in one] == [step.turns for step in two]
    assert {found.turn for step in two for found in step.turns} == {1, 2, 3}
    assert summary_of(trained["selective", "empty masks"][1]).turns


def test_empty_masks_send_nothing(trained):
    _, two = trained["selective", "empty masks"]
    assert 0 < summary_of(two).gradient_bytes < summary_of(trained["selective", "accumulation 2"][1]).gradient_bytes


@pytest.mark.parametrize("arm", ARMS)
def test_a_signal_to_either_process_stops_both_and_any_number_of_processes_goes_on_bit_for_bit(
    experiments, trained, arm
):
    whole, _ = trained[arm, "accumulation 2"]
    for rank, then in ((0, 2), (1, 1)):
        name = f"stopped-{rank}-{then}"
        config = experiments.settings(name)
        ended = run_in_ranks(2, stopped_by_a_signal_to, rank, 4, arm, config, experiments.store)
        assert ended.codes == [ExitCode.RESUMABLE] * 2
        assert ended.said.count("error: ") == ended.said.count("stopped by SIGUSR1 after step 4 of 6") == 1
        if then == 2:
            assert run_in_ranks(2, resumed, arm, config, experiments.store, 6).codes == [0, 0]
            sent = [summary_of(run).gradient_bytes for run in (whole.parent / name, trained[arm, "accumulation 2"][1])]
            assert sent[0] == sent[1] > 0  # the steps before the stop are counted, too
        else:
            alone = experiments.settings(name, gradient_accumulation_steps=2)
            train_to_the_end(arm, alone, experiments.store, lambda _: None, last_step=6, resume=True)
        assert set(differences(whole, whole.parent / name)) <= SAME


def test_a_run_of_one_process_goes_on_in_two_and_another_number_of_batches_per_step_is_refused(experiments, trained):
    def ask(event: object) -> None:
        if isinstance(event, StepRecord) and event.step == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    alone = experiments.settings("begun-alone", gradient_accumulation_steps=2)
    with pytest.raises(StoppedError, match="after step 4 of 6"):
        train.run("selective", alone, experiments.store, ask)
    refused = run_in_ranks(2, resumed, "selective", alone, experiments.store, 6)
    assert refused.codes == [ExitCode.ARTIFACT] * 2
    assert refused.said.count("2 batches per step, and this one would take 4") == 1
    assert refused.said.count("error: ") == 1
    together = experiments.settings("begun-alone")
    assert run_in_ranks(2, resumed, "selective", together, experiments.store, 6).codes == [0, 0]
    whole, _ = trained["selective", "accumulation 2"]
    assert set(differences(whole, whole.parent / "begun-alone")) <= SAME


def alternating_to_the_end(config, store: Store, last_step: int = 12) -> None:
    """In every process: train the third arm."""
    torch.set_num_threads(1)
    train_to_the_end("alternating", config, store, lambda _: None, last_step=last_step)


@pytest.mark.parametrize("keep", [0.0, 0.5])
def test_two_processes_alternate_as_one_with_twice_the_accumulation(experiments, keep):
    """Targets are shared out and put together, and pairs and kept tokens are counted over both processes.

    With two kinds of forwards in a batch their gradients are added up in another order.
    """

    def settings(name: str, accumulation: int):
        own = {"prepared": experiments.directory / "prepared", "gradient_accumulation_steps": accumulation, **ORDERED}
        rounds = {"num_rounds": 2, "router_learning_rate": 1e-4 if keep else 1e-3, "keep": keep}
        return settings_of_small_experiment(
            experiments.directory,
            model={"name": "tiny", "threads": 1},
            train=own,
            alternating={**rounds, "output_dir": experiments.directory / "alternating-ranks" / f"{name}-{keep}"},
        )

    alternating_to_the_end(alone := settings("one", 2), experiments.store)
    together = settings("two", 1)
    assert run_in_ranks(2, alternating_to_the_end, together, experiments.store).codes == [0, 0]
    runs = [config.alternating.output_dir for config in (alone, together)]
    weights = [load_file(run / layout.DELTA) for run in runs]
    assert max(float((weights[0][name] - weights[1][name]).abs().max()) for name in weights[0]) <= (1e-6 if keep else 0)
    if not keep:
        assert set(differences(*runs)) <= SAME
    one, two = map(summary_of, runs)
    assert (two.num_ranks, two.num_router_tokens) == (2, one.num_router_tokens)


@pytest.mark.parametrize("arm", [*ARMS, "alternating"])
def test_a_process_that_torchrun_started_alone_trains_as_one_without_it(experiments, arm):
    """Else accelerate, which reads the same environment, would wrap the model in DDP."""

    def settings(name: str):
        own = {} if arm == "alternating" else {f"{arm}_dir": place / name}
        return settings_of_small_experiment(
            experiments.directory,
            model={"name": "tiny", "threads": 1},
            train={"prepared": experiments.directory / "prepared", **own},
            alternating={"num_rounds": 2, "router_learning_rate": 1e-3, "output_dir": place / name},
        )

    place = experiments.directory / "started-alone" / arm
    plain, started = settings("plain"), settings("started")
    last = 24 if arm == "alternating" else 12
    train_to_the_end(arm, plain, experiments.store, lambda _: None, last_step=last)
    ended = run_in_ranks(1, to_the_end, arm, started, experiments.store, last)
    assert ended.codes == [0], ended.said
    assert set(differences(place / "plain", place / "started")) <= SAME


def to_the_end(arm, config, store: Store, last: int) -> None:
    """In every process: one training."""
    torch.set_num_threads(1)
    train_to_the_end(arm, config, store, lambda _: None, last_step=last)


@pytest.mark.parametrize("target", ["round", "both"])
def test_two_processes_train_jointly_as_one_with_twice_the_accumulation(experiments, target):
    """Bit for bit, as what a batch's forwards make is put together before batches are added up."""

    def settings(name: str, accumulation: int):
        own = {"prepared": experiments.directory / "prepared", "gradient_accumulation_steps": accumulation}
        joint = {"num_rounds": 2, "router_learning_rate": 1e-3, "router_consistency_weight": 5.0}
        place = {"output_dir": experiments.directory / "joint-ranks" / f"{name}-{target}"}
        return settings_of_small_experiment(
            experiments.directory,
            model={"name": "tiny", "threads": 1},
            train=own,
            alternating={**joint, "consistency_target": target, **place},
        )

    alternating_to_the_end(alone := settings("one", 2), experiments.store, 6)
    together = settings("two", 1)
    assert run_in_ranks(2, alternating_to_the_end, together, experiments.store, 6).codes == [0, 0]
    runs = [config.alternating.output_dir for config in (alone, together)]
    assert set(differences(*runs)) <= SAME
    one, two = map(summary_of, runs)
    assert (two.num_ranks, two.num_router_tokens) == (2, one.num_router_tokens)


def with_a_loss_of_nan_on(rank: int, config, store: Store) -> None:
    """In every process: train; in one of them the loss of the third step is NaN."""
    from moe_cli.ranks import this_rank

    honest = FixedBatchTrainer.compute_loss

    def compute_loss(trainer, *args, **kwargs):
        loss = honest(trainer, *args, **kwargs)
        return loss * float("nan") if this_rank().index == rank and trainer.state.global_step == 2 else loss

    with patch.object(FixedBatchTrainer, "compute_loss", compute_loss):
        train.run("selective", config, store, lambda _: None)


def test_a_loss_that_is_not_finite_on_one_process_ends_all_of_them_before_an_update(experiments):
    ended = run_in_ranks(2, with_a_loss_of_nan_on, 1, experiments.settings("nan-in-ranks"), experiments.store)
    assert ended.codes == [ExitCode.NUMERIC] * 2
    assert ended.said.count("error: ") == ended.said.count("the loss of step 3 is nan") == 1


@pytest.mark.parametrize(("arm", "rank", "step"), [("selective", 0, 4), ("selective", 1, 1), ("baseline", 1, 5)])
def test_a_killed_process_ends_the_other_at_once_and_the_run_resumes_bit_for_bit(experiments, trained, arm, rank, step):
    whole, _ = trained[arm, "accumulation 2"]
    config = experiments.settings(f"killed-{rank}-{step}", checkpoint_every=2)
    ended = run_in_ranks(2, killed_after, rank, step, arm, config, experiments.store, False, limit=60.0)
    assert ended.codes[rank] == -signal.SIGKILL
    assert ended.codes[1 - rank] == ExitCode.PEER
    assert ended.said.count("error: another process of this run has ended") == 1
    assert run_in_ranks(2, resumed, arm, config, experiments.store, 6).codes == [0, 0]
    assert set(differences(whole, whole.parent / f"killed-{rank}-{step}")) <= SAME


def with_own_settings(configs, store: Store) -> None:
    """In every process: train with settings of its own."""
    from moe_cli.ranks import this_rank

    train.run("selective", configs[this_rank().index], store, lambda _: None)


def test_processes_with_other_settings_or_a_directory_of_their_own_are_refused_by_one_of_them(experiments):
    configs = [experiments.settings("differing", learning_rate=rate) for rate in (1e-3, 2e-3)]
    ended = run_in_ranks(2, with_own_settings, configs, experiments.store)
    assert ended.codes == [ExitCode.ENVIRONMENT] * 2
    assert ended.said.count("error: ") == 1
    assert "the setting train.learning_rate: 0.001 on process 0" in ended.said
    assert "0.002 on process 1" in ended.said


def with_an_arm_of_its_own(config, store: Store) -> None:
    """In every process: train; the second trains another arm."""
    from moe_cli.ranks import this_rank

    train.run(("selective", "baseline")[this_rank().index], config, store, lambda _: None)


def test_processes_of_other_commands_are_refused_by_one_of_them(experiments):
    ended = run_in_ranks(2, with_an_arm_of_its_own, experiments.settings("commands"), experiments.store)
    assert ended.codes == [ExitCode.ENVIRONMENT] * 2
    assert ended.said.count("error: ") == 1
    assert "differ in the command: moe train selective on process 0" in ended.said
    assert "moe train baseline on process 1" in ended.said


def on_a_card_of_its_own_size(config, store: Store) -> None:
    """In every process: train on a card; the second has a smaller one."""
    from moe_cli.ranks import this_rank

    size = (80 - 40 * this_rank().index) << 30
    with (
        patch.object(same_machine, "resolve_device", lambda _: "cuda"),
        patch.object(same_machine, "total_bytes", lambda _: (size,)),
    ):
        train.run("selective", config, store, lambda _: None)


def test_cards_of_different_sizes_are_refused_before_anything_is_loaded(experiments):
    ended = run_in_ranks(2, on_a_card_of_its_own_size, experiments.settings("cards"), experiments.store)
    assert ended.codes == [ExitCode.ENVIRONMENT] * 2
    assert ended.said.count("error: the processes differ in the size of its card: 80 GiB on process 0") == 1


def with_a_version_of_its_own(config, store: Store) -> None:
    """In every process: train with another version of torch."""
    from moe_cli.ranks import this_rank

    with patch.object(same_machine, "package_versions", lambda: {"torch": f"2.13.{this_rank().index}"}):
        train.run("selective", config, store, lambda _: None)


def test_processes_with_other_versions_are_refused_by_one_of_them(experiments):
    ended = run_in_ranks(2, with_a_version_of_its_own, experiments.settings("versions"), experiments.store)
    assert ended.codes == [ExitCode.ENVIRONMENT] * 2
    assert ended.said.count("error: ") == 1
    assert "the processes differ in the version of torch: 2.13.0 on process 0" in ended.said


def in_a_directory_of_its_own(directory, config, store: Store) -> None:
    """In every process: train into a relative directory, from a working directory that the other does not see."""
    from moe_cli.ranks import this_rank

    own = directory / str(this_rank().index)
    own.mkdir(parents=True)
    os.chdir(own)
    with patch.object(same_machine, "require_shared", partial(same_machine.require_shared, seconds=0.5)):
        train.run("selective", config, store, lambda _: None)


def test_a_directory_that_the_processes_do_not_share_is_refused(experiments, tmp_path):
    config = experiments.settings("relative")
    apart = config.model_copy(update={"train": config.train.model_copy(update={"selective_dir": Path("out")})})
    ended = run_in_ranks(2, in_a_directory_of_its_own, tmp_path, apart, experiments.store)
    assert ended.codes == [ExitCode.ENVIRONMENT] * 2
    assert ended.said.count("error: out is not shared: process 1") == 1


def stuck(config, store: Store) -> None:
    """In every process: train; the second hangs in its third step."""
    from moe_cli.ranks import this_rank

    def hang(event: object) -> None:
        if isinstance(event, StepRecord) and event.step == 2 and this_rank().index == 1:
            time.sleep(9)

    train.run("selective", config, store, hang)


def test_nobody_waits_for_ever(experiments):
    ended = run_in_ranks(2, stuck, experiments.settings("stuck"), experiments.store, wait=3.0, limit=100.0)
    assert ended.codes[0] == ExitCode.PEER
    assert ended.said.count("has ended or does not answer (noticed by process 0)") == 1
