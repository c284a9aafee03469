"""A delta becomes a full checkpoint and comes back."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from moe_cli.artifacts import Store
from moe_cli.config import ModelConfig
from moe_cli.errors import ArtifactError, UsageError
from moe_cli.experts import attach, read_delta, save_delta
from moe_cli.export.stage import delta_of, full_checkpoint
from moe_cli.model.load import load_model
from moe_cli.model.tensors import weights_fingerprint
from moe_cli.records import Expert
from moe_cli.tiny import CHECKPOINT_PATH
from moe_cli.views.model_card import NOT_EVALUATED, model_card
from tests.experts.checkpoints import layout_of

TINY = ModelConfig(name="tiny", device="cpu")
NO_RUNS = Store(Path("no/registry"))
EXPERTS = (Expert(layer=1, index=3), Expert(layer=2, index=0))


@pytest.fixture
def trained(tmp_path):
    """A delta file, and the fingerprint of its merged model."""
    loaded = load_model(TINY)
    with attach(loaded.model, EXPERTS) as slices:
        with torch.no_grad():
            for parameter in slices.parameters.values():
                parameter.add_(0.01)
        save_delta(tmp_path / "delta.safetensors", slices.take(), loaded.identity)
        slices.merge()
    return tmp_path / "delta.safetensors", weights_fingerprint(loaded.model)


def test_a_scaled_checkpoint_lies_between_base_and_trained_and_has_other_weights(trained, tmp_path):
    delta, fingerprint = trained
    exported = full_checkpoint(delta, tmp_path / "half", TINY, NO_RUNS, scale=0.5)
    half, base = load_model(TINY.model_copy(update={"name": str(tmp_path / "half")})), load_model(TINY)
    assert exported.fingerprint not in (fingerprint, base.identity.fingerprint)
    changes = [
        (a - b).abs().max().item() for a, b in zip(half.model.parameters(), base.model.parameters(), strict=True)
    ]
    assert max(changes) == pytest.approx(0.005, rel=1e-3)


def test_a_delta_on_its_base_is_the_trained_model_and_comes_back_as_the_same_delta(trained, tmp_path):
    delta, fingerprint = trained
    made = full_checkpoint(delta, tmp_path / "merged", TINY, NO_RUNS)
    saved = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert weights_fingerprint(saved) == made.fingerprint == fingerprint
    assert (made.num_experts, made.base.name) == (2, "tiny")
    assert AutoTokenizer.from_pretrained(tmp_path / "merged").chat_template
    back = delta_of(tmp_path / "merged", tmp_path / "back.safetensors", TINY, NO_RUNS)
    assert (back.num_experts, back.num_params, back.fingerprint) == (2, made.num_params, fingerprint)
    (_, ours), (_, theirs) = read_delta(delta), read_delta(tmp_path / "back.safetensors")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_the_page_of_an_export_has_the_results_of_its_run(runs, tmp_path):
    made = full_checkpoint(runs.selective, tmp_path / "merged", TINY, runs.store, card=model_card)
    page = (tmp_path / "merged" / "README.md").read_text()
    assert NOT_EVALUATED not in page and "| attack success | " in page and made.fingerprint in page
    assert sorted(path.name for path in (tmp_path / "merged").iterdir()) == sorted(
        path.name for path in (runs.selective / "final_model").iterdir()
    )


def test_a_licence_is_not_read_from_a_page_that_changed(runs, tmp_path):
    shutil.copytree(runs.selective, tmp_path / "copied")
    (tmp_path / "copied" / "final_model" / "README.md").write_text("---\nlicense: zorp\n---\n")
    with pytest.raises(ArtifactError, match=r"README\.md"):
        full_checkpoint(tmp_path / "copied", tmp_path / "merged", TINY, runs.store, card=model_card)


def test_the_page_of_a_delta_alone_names_its_experts(trained, tmp_path):
    full_checkpoint(trained[0], tmp_path / "merged", TINY, NO_RUNS, card=model_card)
    page = (tmp_path / "merged" / "README.md").read_text()
    assert "2 of 64 experts were trained:" in page and NOT_EVALUATED in page


def test_what_is_exported_is_the_base_with_other_weights(trained, tmp_path):
    full_checkpoint(trained[0], tmp_path / "merged", TINY, NO_RUNS)
    assert layout_of(tmp_path / "merged") == layout_of(CHECKPOINT_PATH)
    names = {path.name for path in (tmp_path / "merged").iterdir()} - {"model.safetensors"}
    assert names == {path.name for path in CHECKPOINT_PATH.iterdir()} - {"model.safetensors"}
    assert all((tmp_path / "merged" / name).read_bytes() == (CHECKPOINT_PATH / name).read_bytes() for name in names)


def test_a_checkpoint_that_differs_elsewhere_has_no_delta(tmp_path):
    model = AutoModelForCausalLM.from_pretrained(CHECKPOINT_PATH)
    with torch.no_grad():
        model.lm_head.weight.add_(1.0)
    model.save_pretrained(tmp_path / "other")
    AutoTokenizer.from_pretrained(CHECKPOINT_PATH).save_pretrained(tmp_path / "other")
    with pytest.raises(ArtifactError, match="in more than its experts"):
        delta_of(tmp_path / "other", tmp_path / "delta.safetensors", TINY, NO_RUNS)
    assert not (tmp_path / "delta.safetensors").exists()


def test_an_unchanged_checkpoint_has_no_delta(tmp_path):
    with pytest.raises(ArtifactError, match="has the weights of tiny"):
        delta_of(CHECKPOINT_PATH, tmp_path / "delta.safetensors", TINY, NO_RUNS)


def test_a_delta_for_another_base_is_refused_and_nothing_is_written(trained, tmp_path):
    delta, _ = trained
    full_checkpoint(delta, tmp_path / "merged", TINY, NO_RUNS)
    with pytest.raises(ArtifactError, match="belongs to tiny"):
        full_checkpoint(delta, tmp_path / "twice", TINY, NO_RUNS, base_name=str(tmp_path / "merged"))
    assert not (tmp_path / "twice").exists()


def test_nothing_is_overwritten(trained, tmp_path):
    (tmp_path / "there").mkdir()
    with pytest.raises(UsageError, match="there exists"):
        full_checkpoint(trained[0], tmp_path / "there", TINY, NO_RUNS)


def test_a_file_that_is_no_delta_is_refused(tmp_path):
    (tmp_path / "text").write_text("hello")
    with pytest.raises(ArtifactError, match="cannot be read"):
        full_checkpoint(tmp_path / "text", tmp_path / "merged", TINY, NO_RUNS)
