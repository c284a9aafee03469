"""Rounds without the experts: the routers train alone, and nothing is said of steps that were not made."""

from __future__ import annotations

from io import StringIO

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from moe_cli.artifacts import finished_run, layout
from moe_cli.artifacts.listing import listing_of
from moe_cli.codec import decode
from moe_cli.compare import stage as compare
from moe_cli.config import AlternatingConfig, ModelConfig
from moe_cli.errors import StoppedError
from moe_cli.evaluate import stage as evaluate
from moe_cli.experts import apply_delta, attach_none, frozen_digest
from moe_cli.export.push import facts_of_run
from moe_cli.export.stage import full_checkpoint
from moe_cli.model.load import load_model
from moe_cli.model.tensors import weights_fingerprint
from moe_cli.records import TrainingPlan, TrainingSummary
from moe_cli.train import stage as train
from moe_cli.views.compared import compared_markdown
from moe_cli.views.model_card import model_card
from moe_cli.views.report.page import report_page
from moe_cli.views.run_tables import result_text
from moe_cli.views.trained import plan_view, trained_view
from tests.resume_everywhere import NUM_BATCHES, ask_to_stop_after, differences, step_records, train_to_the_end
from tests.train.alternating_runs import settings_of
from tests.train.rank_cases import masks_without

LAST_STEP = 2 * NUM_BATCHES


def to_the_end(experiments, name, notify=lambda _: None, *, resume=False):
    config = settings_of(experiments, name, skip_expert_training=True)
    return train_to_the_end(
        "alternating", config, experiments.store, notify, last_step=LAST_STEP, resume=resume, card=model_card
    )


@pytest.fixture(scope="module")
def alone(experiments):
    """The uninterrupted run: its directory, plan and summary."""
    plans = []
    path = to_the_end(
        experiments, "alone", lambda event: plans.append(event) if isinstance(event, TrainingPlan) else None
    )
    (plan,) = plans
    return path, plan, decode(TrainingSummary, (path / layout.METADATA).read_bytes(), source="metadata")


def shown(view) -> str:
    text = StringIO()
    Console(file=text, width=160).print(view)
    return text.getvalue()


@pytest.mark.parametrize("step", [3, NUM_BATCHES, 9])
def test_a_run_of_routers_alone_resumes_bit_for_bit(experiments, alone, step):
    name = f"alone-{step}"
    config = settings_of(experiments, name, skip_expert_training=True)
    with pytest.raises(StoppedError, match=f"after step {step} of {LAST_STEP}"):
        train.run("alternating", config, experiments.store, lambda event: ask_to_stop_after(step, event))
    assert tuple(differences(alone[0], to_the_end(experiments, name, resume=True))) == ()


def test_the_routers_train_as_in_an_arm_whose_batches_select_no_expert(experiments, alone):
    """The same steps of the routers at the same learning rates, bit for bit: nothing of the experts reaches them."""
    config = settings_of(experiments, "no-experts")
    with masks_without(tuple(range(NUM_BATCHES))):
        other = train.run("alternating", config, experiments.store, lambda _: None).path
    routers, beside = (load_file(path / layout.DELTA) for path in (alone[0], other))
    assert routers.keys() == {name for name in beside if name.startswith("model.")}
    assert all(torch.equal(value, beside[name]) for name, value in routers.items())
    steps = [step for step in step_records(other) if step.phase == "router"]
    assert [(s.loss, s.learning_rate, s.batches) for s in step_records(alone[0])] == [
        (s.loss, s.learning_rate, s.batches) for s in steps
    ]


def test_what_is_counted_as_trained_are_the_routers_and_every_expert_is_under_the_proof(alone):
    path, plan, summary = alone
    delta = load_file(path / layout.DELTA)
    proof = summary.proof
    assert proof.requested == proof.in_optimizer == proof.with_gradient == len(delta) == 4
    assert summary.trainable_params == plan.count.trainable_params == sum(value.numel() for value in delta.values())
    assert summary.total_unique_unsafe_experts == 0 == sum(summary.count.experts_per_layer)
    nothing = (summary.final_loss, summary.masking, summary.per_batch_unsafe_expert_counts, plan.union_size)
    assert nothing == (None,) * 4
    assert (summary.num_steps, summary.num_tokens, summary.final_router_step) == (0, 0, LAST_STEP)
    assert [phase.phase for phase in summary.phases] == ["router", "router"]
    base = load_model(ModelConfig(name="tiny", device="cpu")).model
    assert proof.frozen_digest_before == proof.frozen_digest_after == frozen_digest(base, (), delta.keys())
    apply_delta(base, path / layout.DELTA)
    assert weights_fingerprint(base) == summary.trained_fingerprint


def test_with_every_expert_frozen_the_model_computes_what_it_did_and_is_restored():
    loaded = load_model(ModelConfig(name="tiny", device="cpu"))
    ids = torch.arange(3, 12)[None]
    before, fingerprint = loaded.model(input_ids=ids).logits, weights_fingerprint(loaded.model)
    with attach_none(loaded.model) as slices:
        slices.activate(())
        inside = loaded.model(input_ids=ids).logits
        assert (slices.experts, slices.parameters) == ((), {})
        assert not inside.requires_grad
        slices.merge()
    assert torch.equal(before, inside)
    assert weights_fingerprint(loaded.model) == fingerprint


def test_views_say_nothing_of_steps_that_were_not_made(alone, experiments):
    path, plan, summary = alone
    planned, done = shown(plan_view(plan)), shown(trained_view(summary))
    assert "the routers alone" in planned
    assert "2 rounds of 1 epochs of the routers of 4 layers" in planned
    assert "batches x" not in planned and "union" not in planned
    assert "everything outside the routers is byte-identical" in done
    (run,) = [record for record in experiments.store.records("alternating") if record.path == str(path)]
    assert result_text(listing_of(run).result) == "0 of 64 experts, no step on the answers"
    page = (path / layout.FINAL_MODEL / "README.md").read_text()
    assert "with its routers alone trained to route requests inside attacks like plain ones" in page
    assert "| arm | routers |" in page
    assert "| loss of the last epoch | - |" in page
    assert "experts were trained" not in page
    assert "None" not in planned + done + page


def test_it_is_evaluated_compared_and_exported(alone, experiments, tmp_path, monkeypatch):
    path, _, summary = alone
    monkeypatch.chdir(tmp_path)
    config = settings_of(experiments, "alone").model_copy(
        update={"compare": settings_of(experiments, "alone").compare.model_copy(update={"output_dir": tmp_path / "c"})}
    )
    evaluated = evaluate.run(str(path), config, experiments.store, lambda _: None).summary
    assert {group.group for group in evaluated.weight_drift if group.num_changed} == {"router"}
    selective = experiments.uninterrupted("selective", False, ())
    for other in (selective, "tiny"):
        evaluate.run(str(other), config, experiments.store, lambda _: None)
    pages = compare.Pages(markdown=compared_markdown, report=report_page)
    made = compare.run(["tiny", str(selective), str(path)], config, experiments.store, lambda _: None, pages=pages)
    said = [sentence for sentence in made.comparison.conclusion if "trained its routers" in sentence]
    tokens = f"{summary.num_router_tokens:,}"
    assert said == [
        f"alone trained its routers alone, in {LAST_STEP} steps, with forwards over {tokens} tokens of the same goals, "
        "and no expert."
    ]
    assert {check.name for check in made.comparison.fairness if check.status == "differs"} >= {"steps", "answer tokens"}
    assert "no step on the answers" in (tmp_path / "c" / "comparison.md").read_text()
    merged = full_checkpoint(path, tmp_path / "merged", config.model, experiments.store, card=model_card)
    assert (merged.fingerprint, merged.num_experts, merged.routers) == (summary.trained_fingerprint, 0, True)
    delta = model_card(facts_of_run(finished_run(path), experiments.store, "delta"))
    assert "The weights of these routers alone are here" in delta


def test_settings_under_which_nothing_would_train_are_refused():
    for off in ({"skip_router_training": True}, {"router_epochs_per_round": 0}):
        with pytest.raises(ValueError, match="neither experts nor routers would train"):
            AlternatingConfig(skip_expert_training=True, **off)
    with pytest.raises(ValueError, match="for their own phases, of which there are none"):
        AlternatingConfig(skip_expert_training=True, reselect="replay")
