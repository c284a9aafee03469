"""The whole experiment on the tiny model, once; every claim of the two arms is checked on what it wrote."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import orjson
import pytest
import torch
from datasets import Dataset
from packaging.version import Version
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from moe_cli.artifacts import Store, finished_run
from moe_cli.codec import decode, decode_lines
from moe_cli.compare import stage as compare
from moe_cli.errors import ArtifactError, NumericError, StoppedError, UsageError
from moe_cli.evaluate import stage as evaluate
from moe_cli.experts import apply_delta
from moe_cli.model.load import load_model
from moe_cli.model.routing import record_routing
from moe_cli.model.tensors import weights_fingerprint
from moe_cli.prepare import stage as prepare
from moe_cli.records import (
    EvaluationRecord,
    PromptDriftItem,
    Selection,
    StepRecord,
    TrainingExample,
    TrainingPlan,
    TrainingSummary,
)
from moe_cli.tiny import CHECKPOINT_PATH
from moe_cli.train import stage as train


@pytest.fixture(scope="module")
def done(tmp_path_factory, small_settings):
    """Prepare, both arms, evaluations of all three models, and the comparison; run in a directory of their own."""
    torch.set_num_threads(1)
    directory = tmp_path_factory.mktemp("experiment")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        config = small_settings(directory)
        store = Store(directory / "registry")
        notified: dict[str, list[object]] = {"selective": [], "baseline": []}
        prepared = prepare.run(config, store, lambda _: None)
        arms = {arm: train.run(arm, config, store, notified[arm].append) for arm in ("selective", "baseline")}
        evaluated = {
            name: evaluate.run(name, config, store, lambda _: None)
            for name in ("tiny", str(directory / "selective"), str(directory / "baseline"))
        }
        compared = compare.run(["tiny", "baseline", "selective"], config, store, lambda _: None)
    return SimpleNamespace(
        directory=directory,
        config=config,
        store=store,
        prepared=prepared,
        arms=arms,
        notified=notified,
        evaluated=list(evaluated.values()),
        compared=compared.comparison,
    )


def weights(path: Path) -> dict[str, torch.Tensor]:
    return load_file(path / "model.safetensors")


def steps(path: Path) -> list[StepRecord]:
    return list(decode_lines(StepRecord, path / "steps.jsonl"))


# --- prepare ---------------------------------------------------------------------------------------------------------


def test_prepare_writes_the_files_of_the_design(done):
    assert set(finished_run(done.prepared.path, "prepare").manifest.files) == {
        "batch_expert_masks.npy",
        "batch_outputs_tiny.parquet",
        "config.yaml",
        "risk_diff_tiny.parquet",
        "risk_diff_tiny.png",
        "risk_diff_tiny.svg",
        "routing_tiny.npz",
        "selection.json",
        "sft_dataset_tiny.jsonl",
        "summary.json",
    }


def test_masks_selection_and_risk_table_say_the_same(done):
    path = done.prepared.path
    selection = decode(Selection, (path / "selection.json").read_bytes(), source="selection")
    masks = np.load(path / "batch_expert_masks.npy")
    assert masks.shape == (len(selection.batches), 4, 16)
    assert [[(selection.base.layers.index(e.layer), e.index) for e in experts] for experts in selection.batches] == [
        [tuple(place) for place in np.argwhere(mask)] for mask in masks
    ]
    table = Dataset.from_parquet(str(path / "risk_diff_tiny.parquet")).to_pandas()
    assert len(table) == (len(selection.batches) + 1) * 64
    aggregate = table[table.batch.isna()]
    assert aggregate.selected.sum() == len(selection.union)
    assert aggregate.risk_diff.between(-1, 1).all()


def test_routing_counts_sum_to_tokens_times_top_k(done):
    with np.load(done.prepared.path / "routing_tiny.npz", allow_pickle=False) as counts:
        assert np.array_equal(counts["routed"].sum(-1), counts["top_k"] * counts["seen"][..., None].repeat(4, -1))


def test_routing_is_recorded_without_changing_a_logit(done):
    loaded = load_model(done.config.model)
    ids = torch.tensor([[7, 8, 9, 10, 11], [12, 13, 14, 15, 16]])
    with torch.no_grad():
        before = loaded.model(ids).logits
        with record_routing(loaded.model) as recorder:
            recorder.watch(torch.ones(1, 2, 5, dtype=torch.bool))
            during = loaded.model(ids).logits
        after = loaded.model(ids).logits
    assert torch.equal(before, during)
    assert torch.equal(before, after)
    assert recorder.counts().sum() == 2 * 5 * 4 * loaded.identity.top_k


def test_every_batch_has_the_promised_composition_and_refuses_in_more_than_one_way(done):
    examples = list(decode_lines(TrainingExample, done.prepared.path / "sft_dataset_tiny.jsonl"))
    summary = done.prepared.summary
    for batch in range(summary.num_batches):
        kinds = [example.kind for example in examples if example.batch_idx == batch]
        assert sorted(kinds) == ["benign"] * 2 + ["refuse_attacked"] * 4 + ["refuse_plain"] * 2
    assert len({e.messages[-1].content for e in examples if e.kind != "benign"}) == summary.distinct_targets > 1


def test_prepare_twice_with_the_same_seed_writes_the_same_bytes(done, tmp_path, small_settings):
    again = prepare.run(small_settings(tmp_path), Store(tmp_path / "registry"), lambda _: None)
    for name, digest in finished_run(done.prepared.path).manifest.files.items():
        if name not in ("config.yaml", "summary.json"):  # they hold paths and times
            assert finished_run(again.path).manifest.files[name] == digest, name


# --- the two arms ----------------------------------------------------------------------------------------------------


def test_selective_changes_the_selected_experts_and_leaves_every_other_byte(done):
    base, tuned = weights(CHECKPOINT_PATH), weights(done.directory / "selective" / "final_model")
    union = {(expert.layer, expert.index) for expert in done.prepared.selection.union}
    assert base.keys() == tuned.keys()
    changed = {name for name in base if not torch.equal(base[name], tuned[name])}
    expected = {name for name in base for layer, index in union if f"layers.{layer}.mlp.experts.{index}." in name}
    assert changed == expected


def test_baseline_changes_every_parameter(done):
    base, tuned = weights(CHECKPOINT_PATH), weights(done.directory / "baseline" / "final_model")
    assert [name for name in base if torch.equal(base[name], tuned[name])] == []
    summary = done.arms["baseline"].summary
    assert summary.trainable_ratio == 1.0
    assert summary.proof.num_moved == summary.proof.num_parameters == summary.proof.requested


def test_both_arms_saw_the_same_batches_in_the_same_order_with_the_same_settings(done):
    selective, baseline = (done.arms[arm].summary for arm in ("selective", "baseline"))
    for field in ("batches_digest", "schedule_digest", "hyperparameters", "num_answer_tokens", "experts_dtype"):
        assert getattr(selective, field) == getattr(baseline, field), field
    ours, theirs = steps(done.directory / "selective"), steps(done.directory / "baseline")
    assert [step.batches for step in ours] == [step.batches for step in theirs]
    assert [step.learning_rate for step in ours] == [step.learning_rate for step in theirs]
    assert ours[0].loss == pytest.approx(theirs[0].loss, abs=1e-6)  # nothing is trained yet


def test_the_plan_is_announced_before_the_first_step(done):
    for arm in ("selective", "baseline"):
        kinds = [type(record) for record in done.notified[arm]]
        assert kinds.index(TrainingPlan) < kinds.index(StepRecord)


def test_the_metadata_counts_what_the_selection_asked_for(done):
    summary, selection = done.arms["selective"].summary, done.prepared.selection
    assert summary.total_unique_unsafe_experts == len(selection.union) == sum(summary.count.experts_per_layer)
    assert summary.trainable_params == selection.trainable_params
    assert summary.trainable_ratio <= selection.budget
    assert summary.batch_unsafe_experts_summary == selection.batches[:3]
    assert summary.proof.frozen_digest_before == summary.proof.frozen_digest_after


def test_a_step_updates_only_the_experts_of_its_batch(done, tmp_path, small_settings):
    def stop(record: object) -> None:
        if isinstance(record, StepRecord):
            os.kill(os.getpid(), signal.SIGTERM)

    config = small_settings(done.directory, train={"selective_dir": tmp_path / "one", "warmup_steps": 0})
    with pytest.raises(StoppedError):
        train.run("selective", config, done.store, stop)
    selection, (step,) = done.prepared.selection, steps(tmp_path / "one")
    chosen = set(selection.batches[step.batches[0]])
    assert 0 < len(chosen) == step.num_experts_updated < len(selection.union)
    saved = load_file(tmp_path / "one" / "checkpoint-1" / "parameters.safetensors")
    state = load_file(tmp_path / "one" / "checkpoint-1" / "optimizer.safetensors")
    banks = load_model(done.config.model).model.state_dict()
    for expert in selection.union:
        for weight in ("gate_up_proj", "down_proj"):
            name = f"layers.{expert.layer}.experts.{expert.index}.{weight}"
            found = banks[f"model.layers.{expert.layer}.mlp.experts.{weight}"][expert.index]
            assert torch.equal(saved[name], found) is (expert not in chosen), name
            assert (f"{name}/exp_avg" in state) is (expert in chosen), name


def test_the_saved_model_gives_the_logits_of_the_delta_on_the_base(done):
    loaded = load_model(done.config.model)
    apply_delta(loaded.model, done.directory / "selective" / "expert_delta.safetensors")
    saved = AutoModelForCausalLM.from_pretrained(done.directory / "selective" / "final_model").eval()
    assert weights_fingerprint(loaded.model) == weights_fingerprint(saved)
    ids = AutoTokenizer.from_pretrained(CHECKPOINT_PATH)("zorp the glim", return_tensors="pt").input_ids
    with torch.no_grad():
        assert torch.equal(loaded.model(ids).logits, saved(ids).logits)


@pytest.mark.parametrize("arm", ["selective", "baseline"])
def test_the_saved_model_is_the_trained_model_in_memory(done, arm):
    summary = done.arms[arm].summary
    saved = AutoModelForCausalLM.from_pretrained(done.directory / arm / "final_model")
    assert weights_fingerprint(saved) == summary.trained_fingerprint != summary.base.fingerprint


@pytest.mark.parametrize("arm", ["selective", "baseline"])
def test_two_runs_with_the_same_seed_are_bit_identical(done, tmp_path, small_settings, arm):
    config = small_settings(done.directory, train={f"{arm}_dir": tmp_path / arm, "prepared": done.prepared.path})
    again = train.run(arm, config, done.store, lambda _: None)
    assert again.summary.trained_fingerprint == done.arms[arm].summary.trained_fingerprint
    assert again.summary.final_loss == done.arms[arm].summary.final_loss


def test_a_complete_run_keeps_no_checkpoint(done):
    assert not list(done.directory.glob("*/*checkpoint*"))


def test_a_loss_that_is_no_number_stops_the_run_before_anything_is_updated(done, tmp_path, small_settings):
    config = small_settings(done.directory, train={"selective_dir": tmp_path / "nan", "learning_rate": 1e30})
    with pytest.raises(NumericError, match="no parameter was updated with it"):
        train.run("selective", config, done.store, lambda _: None)


def test_a_selection_for_another_model_is_refused(done, tmp_path, small_settings):
    other = tmp_path / "other"
    model = AutoModelForCausalLM.from_pretrained(CHECKPOINT_PATH)
    with torch.no_grad():
        next(model.parameters()).add_(1.0)
    model.save_pretrained(other)
    AutoTokenizer.from_pretrained(CHECKPOINT_PATH).save_pretrained(other)
    config = small_settings(tmp_path, model={"name": str(other)}, train={"prepared": done.prepared.path})
    with pytest.raises(ArtifactError, match="this selection is for the weights"):
        train.run("selective", config, done.store, lambda _: None)
    unnamed = small_settings(tmp_path, model={"name": str(other)})
    with pytest.raises(ArtifactError, match="there is no prepare run of"):
        train.run("baseline", unnamed, done.store, lambda _: None)
    assert not (tmp_path / "selective").exists()  # nothing half written


def test_more_than_the_allowed_share_is_refused(done, tmp_path, small_settings):
    config = small_settings(done.directory, train={"selective_dir": tmp_path / "over", "max_share": 0.001})
    with pytest.raises(UsageError, match=r"the budget is 0\.10%"):
        train.run("selective", config, done.store, lambda _: None)


def test_the_baseline_never_writes_where_a_selective_run_lies(done, tmp_path, small_settings):
    taken = tmp_path / "taken"
    shutil.copytree(done.directory / "selective", taken)
    config = small_settings(done.directory, train={"baseline_dir": taken, "num_epochs": 1})
    notes: list[object] = []
    made = train.run("baseline", config, done.store, notes.append)
    assert made.path == tmp_path / "taken_baseline"
    assert any("belongs to a selective run" in str(note) for note in notes)


# --- evaluate and compare ---------------------------------------------------------------------------------------------


def test_a_tampered_final_model_is_not_evaluated(done, tmp_path, small_settings):
    copy = tmp_path / "copy"
    shutil.copytree(done.directory / "selective", copy)
    shutil.copy(CHECKPOINT_PATH / "model.safetensors", copy / "final_model" / "model.safetensors")
    with pytest.raises(ArtifactError, match="changed since the run wrote it"):
        evaluate.run(str(copy), small_settings(tmp_path), done.store, lambda _: None)


def test_the_base_does_not_drift_from_itself_and_the_trained_models_do(done):
    tiny, selective, baseline = (found.summary for found in done.evaluated)
    assert tiny.drift is None
    assert selective.drift.kl_mean.value > 0
    assert baseline.drift.kl_mean.value > 0
    assert tiny.items_digest == selective.items_digest == baseline.items_digest


def test_the_routers_of_trained_models_drift_at_every_harmful_prompt_and_the_first_of_a_selective_run_does_not(done):
    tiny, selective, baseline = (found.summary.prompt_drift for found in done.evaluated)
    assert tiny is None
    assert selective.num_prompts == baseline.num_prompts == 4 * 4
    assert [layer.layer for layer in selective.layers] == [0, 1, 2, 3]
    assert 0.0 < selective.kl.lower < selective.kl.value < baseline.kl.value
    assert selective.layers[0].kl.value == 0.0 < baseline.layers[0].kl.value  # its input and its router are the base's
    lines = (done.directory / done.evaluated[1].path / "prompt_drift.jsonl").read_bytes().splitlines()
    items = [decode(PromptDriftItem, line, source="memory") for line in lines]
    assert np.mean([item.kl for item in items]) == pytest.approx(selective.kl.value)


def test_an_evaluation_says_how_many_of_its_goals_were_trained_on(done):
    tiny, selective, baseline = (found.summary for found in done.evaluated)
    assert tiny.goals_trained_on is None
    assert selective.goals_trained_on == baseline.goals_trained_on == (0, len(clusters_of(done)))


def clusters_of(done):
    records = decode_lines(EvaluationRecord, done.directory / done.evaluated[0].path / "records.jsonl")
    return {record.item.cluster for record in records}


def test_every_item_has_one_record_and_one_verdict(done):
    for found in done.evaluated:
        records = list(decode_lines(EvaluationRecord, done.directory / found.path / "records.jsonl"))
        assert len({record.item.id for record in records}) == len(records) == 6 * 4


def test_the_comparison_of_the_two_arms_is_fair_and_names_its_limits(done):
    comparison = done.compared
    assert [check.name for check in comparison.fairness if check.status == "differs"] == []
    assert [(pair.a, pair.b) for pair in comparison.pairs] == [
        ("tiny", "baseline"),
        ("tiny", "selective"),
        ("baseline", "selective"),
    ]
    said = " ".join(comparison.conclusion)
    assert "smoke" in said
    assert "seed" in said


def test_every_run_is_registered_with_its_parents(done):
    kinds = [record.kind for record in done.store.records()]
    assert {"prepare", "selective", "baseline", "evaluation", "comparison"} <= set(kinds)
    trained = done.store.newest("baseline")
    assert trained.manifest.parents["prepare"] == finished_run(done.prepared.path).digest


def test_nothing_on_disk_is_a_pickle(done):
    suffixes = {path.suffix for path in done.directory.rglob("*") if path.is_file()}
    assert not suffixes & {".pkl", ".pt", ".pth", ".bin"}
    assert not list(done.directory.rglob("training_args*"))


def test_configured_settings_and_packages_are_in_the_manifest(done):
    manifest = finished_run(done.directory / "selective").manifest
    assert Version(manifest.packages["torch"]).public == Version(torch.__version__).public  # with or without +cu130
    assert orjson.loads(orjson.dumps(manifest.config))["train"]["learning_rate"] == 1e-3


def test_the_summary_of_a_run_reads_back(done):
    metadata = done.directory / "selective" / "training_metadata.json"
    assert decode(TrainingSummary, metadata.read_bytes(), source="metadata") == done.arms["selective"].summary
