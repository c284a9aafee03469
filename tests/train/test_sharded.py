"""Shares of the weights on two processes train as copies do, in one; long form: `tests/studies/ranks.py --sharded`."""

from __future__ import annotations

import os
import resource
import signal

import pytest
from safetensors.torch import load_file

from moe_cli.artifacts import layout
from moe_cli.codec import decode_lines
from moe_cli.errors import ExitCode, StoppedError
from moe_cli.model.load import load_model
from moe_cli.model.sharding import has_shares, share_of
from moe_cli.ranks import this_rank
from moe_cli.records import StepRecord
from moe_cli.train import stage as train
from moe_cli.train.tensor_files import save_tensors
from tests.experts.checkpoints import openable
from tests.in_ranks import run_in_ranks
from tests.resume_everywhere import ARMS, differences, train_to_the_end
from tests.studies.sharded_families import differences as family_differences
from tests.train.rank_cases import (
    CASES,
    SAME,
    in_two_processes,
    killed_after,
    resumed,
    stopped_by_a_signal_to,
    summary_of,
)

pytestmark = pytest.mark.xdist_group("several processes")  # they share what one process trains
WEIGHTS = f"{layout.FINAL_MODEL}/model.safetensors"


@pytest.fixture(scope="module")
def trained(experiments, alone):
    """Every case by one process and by two that share the weights: the directories of both, by arm and case."""
    return in_two_processes(experiments, alone, "sharded")


@pytest.mark.parametrize(("arm", "name"), [(arm, name) for arm in ARMS for name in CASES])
def test_shares_train_as_one_process_with_twice_the_accumulation(trained, arm, name):
    if (arm, name) not in trained:
        pytest.skip("the baseline has no masks")
    one, two = trained[arm, name]
    if arm == "selective" and not CASES[name][3]:
        assert set(differences(one, two)) <= SAME
    weights = [load_file(run / WEIGHTS) for run in (one, two)]
    largest = max(float((weights[0][key] - weights[1][key]).abs().max()) for key in weights[0])
    assert largest <= CASES[name][3]
    steps = [list(decode_lines(StepRecord, run / layout.STEPS)) for run in (one, two)]
    assert [step.batches for step in steps[0]] == [step.batches for step in steps[1]]
    assert [step.loss for step in steps[0]] == pytest.approx([step.loss for step in steps[1]], abs=1e-6)
    summaries = [summary_of(run) for run in (one, two)]
    assert summaries[1].base == summaries[0].base
    assert summaries[1].proof.frozen_digest_after == summaries[0].proof.frozen_digest_after
    assert summaries[1].proof.num_moved == summaries[0].proof.num_moved


def test_no_process_holds_the_whole_model(experiments):
    ended = run_in_ranks(2, holds_half, experiments.settings("held").model)
    assert ended.codes == [0, 0], ended.said


@pytest.mark.parametrize("family", sorted({"gpt_oss", "mixtral", "deepseek_v3", "kimi_linear"} & set(openable())))
def test_shares_of_other_families_write_the_bytes_of_one_process_or_are_refused(family, tmp_path):
    found = list(family_differences(family, tmp_path))
    assert [difference for difference in found if not difference.startswith("refused")] == []
    assert not found or family == "kimi_linear"


def test_a_number_of_processes_that_leaves_one_without_an_expert_is_named_as_what_may_be_wrong(experiments):
    ended = run_in_ranks(5, shared_out, experiments.settings("five").model)
    assert ExitCode.ENVIRONMENT in ended.codes and set(ended.codes) <= {ExitCode.ENVIRONMENT, ExitCode.PEER}
    assert "cannot share out the weights" in ended.said
    assert "one of 5 processes would hold no expert" in ended.said


def shared_out(config) -> None:
    """In every process: load the model of 16 experts; the last of five would hold none."""
    load_model(config, sharded=True)


def holds_half(config) -> None:
    """In every process: load, and look at what is here."""
    loaded = load_model(config, sharded=True)
    assert has_shares(loaded.model)
    parameters = list(loaded.model.parameters())
    here = sum(share_of(parameter).numel() for parameter in parameters)
    assert here <= 0.51 * sum(parameter.numel() for parameter in parameters)


def test_what_keeps_one_process_from_writing_its_share_is_the_error_of_all(experiments, tmp_path):
    ended = run_in_ranks(2, cannot_write_its_share, experiments.settings("held").model, tmp_path / "shares")
    assert ended.codes == [0, 0], ended.said


def cannot_write_its_share(config, path) -> None:
    """In every process: the second may write no file of more than a kilobyte."""
    loaded = load_model(config, sharded=True)
    limit = 1024 if this_rank().index == 1 else resource.RLIM_INFINITY
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    with pytest.raises(OSError, match="File too large"):
        save_tensors(dict(loaded.model.named_parameters()), path)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


@pytest.mark.parametrize("arm", ARMS)
def test_a_stopped_run_of_shares_goes_on_with_the_same_bits_and_in_one_process(experiments, trained, arm):
    one, whole = trained[arm, "accumulation 2"]
    for then in (2, 1):
        name = f"sharded-stopped-{then}"
        config = experiments.settings(name, placement="sharded")
        ended = run_in_ranks(2, stopped_by_a_signal_to, 1, 4, arm, config, experiments.store)
        assert ended.codes == [ExitCode.RESUMABLE] * 2
        path = whole.parent / name
        if then == 2:
            assert run_in_ranks(2, resumed, arm, config, experiments.store, 6).codes == [0, 0]
            assert (path / WEIGHTS).read_bytes() == (whole / WEIGHTS).read_bytes()
            continue
        alone = experiments.settings(name, placement="sharded", gradient_accumulation_steps=2)
        train_to_the_end(arm, alone, experiments.store, lambda _: None, last_step=6, resume=True)
        weights = [load_file(run / WEIGHTS) for run in (one, path)]
        assert max(float((weights[0][key] - weights[1][key]).abs().max()) for key in weights[0]) == 0.0


@pytest.mark.parametrize("arm", ARMS)
def test_a_run_begun_with_copies_goes_on_in_shares(experiments, trained, arm):
    def ask(event: object) -> None:
        if isinstance(event, StepRecord) and event.step == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    name = "copies-then-shares"
    alone = experiments.settings(name, gradient_accumulation_steps=2)
    with pytest.raises(StoppedError, match="after step 4 of 6"):
        train.run(arm, alone, experiments.store, ask)
    shares = experiments.settings(name, placement="sharded")
    ended = run_in_ranks(2, resumed, arm, shares, experiments.store, 6)
    assert ended.codes == [0, 0], ended.said
    one, _ = trained[arm, "accumulation 2"]
    weights = [load_file(run / WEIGHTS) for run in (one, one.parent / name)]
    assert max(float((weights[0][key] - weights[1][key]).abs().max()) for key in weights[0]) == 0.0


def test_a_killed_process_of_shares_ends_the_other_and_the_run_resumes_bit_for_bit(experiments, trained):
    _, whole = trained["baseline", "accumulation 2"]
    config = experiments.settings("sharded-killed", checkpoint_every=2, placement="sharded")
    ended = run_in_ranks(2, killed_after, 1, 3, "baseline", config, experiments.store, False, limit=90.0)
    assert ended.codes[1] == -signal.SIGKILL
    assert ended.codes[0] == ExitCode.PEER
    assert run_in_ranks(2, resumed, "baseline", config, experiments.store, 6).codes == [0, 0]
    assert (whole.parent / "sharded-killed" / WEIGHTS).read_bytes() == (whole / WEIGHTS).read_bytes()
