"""Joint steps: the selective arm's on the answers, a stop leaves no trace, and all that is said of a run names them."""

from __future__ import annotations

from io import StringIO
from unittest.mock import patch

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from moe_cli.artifacts import finished_run, layout
from moe_cli.codec import decode
from moe_cli.compare import stage as compare
from moe_cli.compare.evidence import Evidence
from moe_cli.config import AlternatingConfig, ModelConfig
from moe_cli.errors import NumericError, StoppedError
from moe_cli.evaluate import stage as evaluate
from moe_cli.experts import apply_delta, frozen_digest
from moe_cli.export.stage import full_checkpoint
from moe_cli.model.load import load_model
from moe_cli.model.tensors import weights_fingerprint
from moe_cli.records import TrainingPlan, TrainingSummary
from moe_cli.stats.metrics import ATTACK_SUCCESS
from moe_cli.train import fitting, router_phase
from moe_cli.train import stage as train
from moe_cli.train.alternating_plan import AlternatingSchedule, linear_schedule
from moe_cli.train.dataset import epoch_order
from moe_cli.train.joint_trainer import JointTrainer
from moe_cli.views.compared import compared_markdown
from moe_cli.views.model_card import model_card
from moe_cli.views.report.page import report_page
from moe_cli.views.trained import plan_view, trained_view
from tests.resume_everywhere import NUM_BATCHES, ask_to_stop_after, differences, step_records, train_to_the_end
from tests.train.alternating_runs import WEIGHT, end_after, settings_of, settings_of_joint
from tests.train.rank_cases import masks_without

LAST_STEP = 2 * NUM_BATCHES  # two rounds of one epoch
NOTHING = 1e-30  # a weight, and a learning rate, that change no bit
WAYS = {  # of training, and where the run is stopped
    "round": ({}, (1, NUM_BATCHES, 9, LAST_STEP)),
    "base": ({"consistency_target": "base", "consistency_over": "token", "kl_type": "symmetric"}, (4, NUM_BATCHES, 8)),
    "current": ({"consistency_target": "current", "consistency_over": "batch"}, (3, NUM_BATCHES, 10)),
    "both": ({"consistency_target": "both", "consistency_layers": "selected"}, (2, NUM_BATCHES, 11)),
}


def to_the_end(experiments, config, notify=lambda _: None, *, resume=False):
    return train_to_the_end(
        "alternating", config, experiments.store, notify, last_step=LAST_STEP, resume=resume, card=model_card
    )


def summary_in(path) -> TrainingSummary:
    return decode(TrainingSummary, (path / layout.METADATA).read_bytes(), source="metadata")


@pytest.fixture(scope="module")
def whole(experiments):
    """Uninterrupted runs, by the way of training: the directory and the plan."""
    made = {}

    def run(way: str):
        if way not in made:
            plans = []
            config = settings_of_joint(experiments, f"whole-{way}", **WAYS[way][0])
            path = to_the_end(experiments, config, lambda e: plans.append(e) if isinstance(e, TrainingPlan) else None)
            made[way] = path, plans[0]
        return made[way]

    return run


@pytest.mark.parametrize("target", ["round", "both"])
def test_with_a_weight_and_a_learning_rate_of_nothing_it_is_the_selective_arm_bit_for_bit(experiments, target):
    """Clipping apart, whose norm holds the routers' gradients, too."""
    free = {"max_grad_norm": 1e9}
    config = settings_of_joint(
        experiments,
        f"nothing-{target}",
        train_settings=free,
        router_consistency_weight=NOTHING,
        router_learning_rate=NOTHING,
        consistency_target=target,
    )
    one = to_the_end(experiments, config)
    other = experiments.uninterrupted("selective", False, tuple(free.items()))
    assert weights_fingerprint(AutoModelForCausalLM.from_pretrained(one / layout.FINAL_MODEL)) == weights_fingerprint(
        AutoModelForCausalLM.from_pretrained(other / layout.FINAL_MODEL)
    )
    ours, selective = (load_file(run / layout.DELTA) for run in (one, other))
    assert all(torch.equal(ours[name], value) for name, value in selective.items())
    assert [step.loss for step in step_records(one)] == [step.loss for step in step_records(other)]


def test_the_answers_are_those_of_the_selective_arm_in_batches_order_rates_and_tokens(experiments, whole):
    path, plan = whole("round")
    steps, selective = step_records(path), step_records(experiments.uninterrupted("selective", False, ()))
    for name in ("batches", "epoch", "learning_rate", "num_answer_tokens", "num_tokens", "num_experts_updated"):
        assert [getattr(step, name) for step in steps] == [getattr(step, name) for step in selective], name
    assert steps[0].loss == selective[0].loss
    assert [step.loss for step in steps] != [step.loss for step in selective]
    assert {step.phase for step in steps} == {"joint"}
    assert all(step.consistency > 0 for step in steps)
    assert (plan.num_steps, plan.first_step) == (LAST_STEP, 1)
    one, other = summary_in(path), summary_in(experiments.uninterrupted("selective", False, ()))
    for name in ("num_steps", "num_tokens", "num_answer_tokens", "schedule_digest", "batches_digest", "final_step"):
        assert getattr(one, name) == getattr(other, name), name
    assert one.final_answer_step == one.final_router_step == one.routers.num_steps == LAST_STEP


def test_only_selected_experts_and_routers_move_and_the_proof_counts_them(whole, selection):
    path, _ = whole("round")
    summary, delta = summary_in(path), load_file(path / layout.DELTA)
    proof = summary.proof
    assert proof.requested == proof.in_optimizer == proof.with_gradient == len(delta)
    base = load_model(ModelConfig(name="tiny", device="cpu")).model
    routers = [name for name in delta if name.startswith("model.")]
    frozen = frozen_digest(base, selection.union, routers)
    assert proof.frozen_digest_before == proof.frozen_digest_after == frozen
    final = AutoModelForCausalLM.from_pretrained(path / layout.FINAL_MODEL)
    assert frozen_digest(final, selection.union, routers) == frozen
    assert all(not torch.equal(final.get_parameter(name), base.get_parameter(name)) for name in routers)
    apply_delta(base, path / layout.DELTA)
    assert weights_fingerprint(base) == weights_fingerprint(final) == summary.trained_fingerprint


@pytest.mark.parametrize(("way", "step"), [(way, step) for way, (_, steps) in WAYS.items() for step in steps])
def test_a_stopped_and_resumed_run_is_the_uninterrupted_one(experiments, whole, way, step):
    config = settings_of_joint(experiments, f"stopped-{way}-{step}", **WAYS[way][0])
    end_after(experiments, config, step, LAST_STEP)
    assert tuple(differences(whole(way)[0], to_the_end(experiments, config, resume=True))) == ()


def test_a_resume_that_reads_its_targets_again_is_another_run(experiments, whole):
    config = settings_of_joint(experiments, "forgets")
    with pytest.raises(StoppedError):
        train.run("alternating", config, experiments.store, lambda event: ask_to_stop_after(9, event))
    load = JointTrainer._load_from_checkpoint

    def forget(trainer, path, model=None):
        load(trainer, path, model)
        trainer.router_phase.read_targets()

    with patch.object(JointTrainer, "_load_from_checkpoint", forget):
        assert "final model" in set(differences(whole("round")[0], to_the_end(experiments, config, resume=True)))


def test_a_batch_that_selects_no_expert_trains_the_routers_and_no_expert(experiments):
    seen = []

    class Watched(JointTrainer):
        def train_parts(self, model, parts, num_items_in_batch):
            losses = super().train_parts(model, parts, num_items_in_batch)
            reached = {name for name, master in self.trained.items() if master.grad is not None}
            seen.append((self.open_step.batches[-1], reached))
            return losses

    with masks_without((2,)), patch.object(fitting, "JointTrainer", Watched):
        path = train.run("alternating", settings_of_joint(experiments, "empty"), experiments.store, lambda _: None).path
    routers = {name for name in load_file(path / layout.DELTA) if name.startswith("model.")}
    assert dict(seen)[2] == routers
    assert all(reached > routers for batch, reached in seen if batch != 2)


@pytest.mark.parametrize("target", ["round", "base", "current", "both"])
def test_every_forward_beside_the_answers_is_counted_and_none_of_the_answers(experiments, monkeypatch, target):
    seen = []
    forward = router_phase.router_log_distributions

    def counted(model, rows, *others):
        seen.append(int(rows["attention_mask"].sum()))
        return forward(model, rows, *others)

    monkeypatch.setattr(router_phase, "router_log_distributions", counted)
    config = settings_of_joint(experiments, f"counted-{target}", num_rounds=1, consistency_target=target)
    summary = train.run("alternating", config, experiments.store, lambda _: None).summary
    _of_the_probe, *of_training = seen
    assert summary.num_router_tokens == sum(of_training)


def test_a_consistency_that_is_not_finite_ends_the_run_before_an_update(experiments, monkeypatch):
    monkeypatch.setattr(
        router_phase.RouterPhase, "consistency_loss", lambda phase, *_: torch.full((), torch.nan, requires_grad=True)
    )
    with pytest.raises(NumericError, match="the consistency of step 1 is nan"):
        train.run("alternating", settings_of_joint(experiments, "nan"), experiments.store, lambda _: None)


def test_plan_summary_and_card_say_that_one_loss_trained_both_and_with_what_weight(whole):
    path, plan = whole("round")
    summary = summary_in(path)
    assert summary.note.endswith("in the same steps the routers, by one loss: cross-entropy + 5 x their consistency")
    assert (summary.routers.joint_weight, summary.routers.router_epochs_per_round) == (WEIGHT, 0)
    assert [(phase.phase, phase.first_step, phase.last_step) for phase in summary.phases] == [
        ("joint", 1, 6),
        ("joint", 7, 12),
    ]
    assert all(0 < phase.consistency_after < phase.consistency_before for phase in summary.phases)
    planned, done = shown(plan_view(plan)), shown(trained_view(summary))
    assert "JOINT training" in planned and "ALTERNATING" not in planned
    assert "each step trains experts and routers by one loss: cross-entropy + 5 x consistency" in planned
    assert "=> 12 steps" in planned
    assert "one loss: cross-entropy + 5 x consistency" in done
    assert "attacked from target" in done
    moving = shown(trained_view(summary_in(whole("both")[0])))  # of which the target is where plain goals are routed
    assert "attacked from plain" in moving and "attacked from target" not in moving
    page = (path / layout.FINAL_MODEL / "README.md").read_text()
    assert "of its experts, and its routers, trained" in page and "both by one loss" in page
    assert "| routers: joint\\_weight | 5.0 |" in page
    assert finished_run(path).manifest.kind == "alternating"


def test_a_comparison_says_that_the_arm_was_trained_jointly_and_with_what_weight(
    experiments, whole, tmp_path, monkeypatch
):
    path, _ = whole("round")
    in_turn = settings_of(experiments, "in-turn-beside-joint")
    other = train.run("alternating", in_turn, experiments.store, lambda _: None).path
    selective = experiments.uninterrupted("selective", False, ())
    monkeypatch.chdir(tmp_path)
    for run in ("tiny", selective, other, path):
        evaluated = evaluate.run(str(run), in_turn, experiments.store, lambda _: None).summary
    moved = {group.group for group in evaluated.weight_drift if group.num_changed}
    assert moved == {"router", "selected experts"}
    pages = compare.Pages(markdown=compared_markdown, report=report_page)

    def compared(*runs):
        own = in_turn.compare.model_copy(update={"output_dir": tmp_path / f"c{len(runs)}"})
        config = in_turn.model_copy(update={"compare": own})
        return compare.run(list(map(str, runs)), config, experiments.store, lambda _: None, pages=pages).comparison

    tokens = f"{summary_in(path).num_router_tokens:,}"
    sentence = (
        f"{path.name} trained its routers jointly with its experts, by cross-entropy + 5 x consistency, in 12 steps, "
        f"with forwards over {tokens} tokens of the same goals beside: a difference to another arm may be theirs."
    )
    made = compared("tiny", selective, path)
    assert [said for said in made.conclusion if "jointly" in said] == [sentence]
    same = [check for check in made.fairness if check.name in ("steps", "tokens", "answer tokens", "batch order")]
    assert {check.status for check in same} == {"same"} and len(same) == 4
    page, report = ((tmp_path / "c3" / name).read_text() for name in ("comparison.md", "report.html"))
    for text in (page, report):
        assert f"in the experts' 12 steps at 0.001, weight 5, {tokens} more tokens" in text.replace("&#39;", "'")
    evidence = Evidence.of(made.columns, made.arms, made.fairness, 0.05)
    (pair,) = [pair for pair in made.pairs if {pair.a, pair.b} == {selective.name, path.name}]
    assert "with routers trained in the experts' steps in one arm alone" in evidence.caveats(pair, ATTACK_SUCCESS)
    beside = compared(other, path)
    (weight,) = [check for check in beside.fairness if check.name == "routers: joint weight"]
    assert (weight.status, weight.values) == ("differs", ("0.0", "5.0"))
    assert sentence in beside.conclusion
    evidence = Evidence.of(beside.columns, beside.arms, beside.fairness, 0.05)
    assert {
        "with further steps, of routers, in one arm alone",
        "with routers trained in the experts' steps in one arm alone",
    } <= set(evidence.caveats(beside.pairs[0], ATTACK_SUCCESS))


def test_its_delta_is_exported_and_its_card_says_how_it_was_trained(experiments, whole, tmp_path):
    path, _ = whole("round")
    base = settings_of_joint(experiments, "export").model
    merged = full_checkpoint(path, tmp_path / "merged", base, experiments.store, card=model_card)
    summary = summary_in(path)
    assert (merged.fingerprint, merged.routers) == (summary.trained_fingerprint, True)
    assert merged.num_params == summary.trainable_params
    assert "both by one loss" in (tmp_path / "merged" / "README.md").read_text()


def shown(view) -> str:
    text = StringIO()
    Console(file=text, width=160).print(view)
    return text.getvalue()


def test_joint_epochs_have_the_order_of_the_selective_arm_and_each_round_is_a_phase():
    schedule = AlternatingSchedule(num_rounds=2, expert_epochs=2, router_epochs=0, steps_per_epoch=3, joint=True)
    assert [epoch.phase for epoch in schedule.epochs] == ["joint"] * 4
    assert [epoch.order(10, 3) for epoch in schedule.epochs] == [epoch_order(10, 3, epoch) for epoch in range(4)]
    assert [schedule.span(step) for step in (0, 5, 6, 11)] == [(1, 6), (1, 6), (7, 12), (7, 12)]
    for kind, warmup in (("experts", 2), ("router", 5)):
        rate, linear = schedule.rate(kind, warmup), linear_schedule(warmup, 12)
        assert schedule.num_steps(kind) == 12
        assert [rate(step) for step in range(13)] == [linear(step) for step in range(13)]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"skip_router_training": True}, "skip_router_training would leave its routers out"),
        ({"skip_expert_training": True}, "skip_expert_training would leave its experts out"),
        ({"router_epochs_per_round": 2}, "have no epochs of their own: leave router_epochs_per_round away"),
        ({"keep": 0.5}, "`keep` holds routers to the start of a phase in which no expert moves"),
        ({"reselect": "replay"}, "joint steps .router_consistency_weight. have none: leave reselect away"),
        ({"router_consistency_weight": 0.0, "consistency_target": "both"}, "get a gradient in a joint step alone"),
        ({"router_consistency_weight": -1.0}, "greater than or equal to 0"),
    ],
    ids=str,
)
def test_settings_that_a_joint_step_cannot_mean_are_refused_by_name(settings, said):
    with pytest.raises(ValueError, match=said):
        AlternatingConfig(**{"router_consistency_weight": 1.0, **settings})
