"""A damaged checkpoint is named and never resumed from; `tests/damage_checkpoints.py --trials 200` is the long form."""

from __future__ import annotations

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from moe_cli.artifacts.files import SEAL, write_checksums
from moe_cli.errors import ArtifactError
from moe_cli.train import checkpoint
from tests.damage_checkpoints import ARMS, STOP_AFTER, resume, stopped_runs, trials

NAME = f"checkpoint-{STOP_AFTER}"


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    torch.set_num_threads(1)
    return tmp_path_factory.mktemp("damage")


@pytest.fixture(scope="module")
def runs(directory):
    return stopped_runs(directory)


def test_cut_files_and_flipped_bits_are_refused_with_the_file_s_name_and_nothing_is_touched(directory, runs):
    found = list(trials(directory, runs, 24, seed=1))
    assert [trial for trial in found if not trial.detected] == []
    assert {trial.arm for trial in found} == set(ARMS)
    assert {trial.file for trial in found} == {file.name for file in (runs["selective"] / NAME).iterdir()}


def test_a_missing_file_and_an_added_one_are_refused(directory, runs, tmp_path):
    for file in sorted((runs["selective"] / NAME).iterdir()):
        moved = file.rename(tmp_path / file.name)
        code, said = resume(directory, "selective")
        moved.rename(file)
        assert (code, said.splitlines()[0]) == (3, f"error: {file} is missing")
    added = runs["selective"] / NAME / "added.safetensors"
    added.write_bytes(b"")
    code, said = resume(directory, "selective")
    added.unlink()
    assert (code, said.splitlines()[0]) == (3, f"error: {added} does not belong there (it is not in digests.json)")


def test_a_renamed_checkpoint_and_another_run_s_are_refused(runs, tmp_path):
    shutil.copytree(runs["selective"] / NAME, tmp_path / "checkpoint-9")
    with pytest.raises(ArtifactError, match=f"holds the state after step {STOP_AFTER}: it was renamed"):
        checkpoint.newest_checkpoint(tmp_path, "whoever", 1)
    with pytest.raises(ArtifactError, match="another base model, arm or prepare run"):
        checkpoint.newest_checkpoint(runs["selective"], "somebody else", 1)


def test_a_step_count_that_is_no_number_is_refused_by_name(directory, runs, tmp_path):
    path = runs["selective"] / NAME
    shutil.copytree(path, tmp_path / NAME)
    tensors = load_file(path / checkpoint.OPTIMIZER)
    key = next(key for key in tensors if key.endswith("/step"))
    save_file({**tensors, key: tensors[key].reshape(1)[:0]}, path / checkpoint.OPTIMIZER)
    (path / SEAL).unlink()
    write_checksums(path)
    code, said = resume(directory, "selective")
    shutil.rmtree(path)
    shutil.copytree(tmp_path / NAME, path)
    assert code == 3 and f"error: {path / checkpoint.OPTIMIZER}" in said


def test_the_hint_on_a_damaged_checkpoint_leads_to_a_run_that_completes(directory, runs):
    path = runs["selective"] / NAME
    (path / checkpoint.STATE).write_bytes(b"")
    code, said = resume(directory, "selective")
    assert code == 3
    assert said.splitlines()[1].startswith(f"hint: remove {path}; --resume then goes on from")
    shutil.rmtree(path)
    assert resume(directory, "selective")[0] == 0
    assert resume(directory, "baseline")[0] == 0  # undamaged, from its checkpoint
