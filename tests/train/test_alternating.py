"""Rounds of experts and routers: what is locked does not move, and a stop leaves no trace."""

from __future__ import annotations

import re
from io import StringIO
from itertools import pairwise

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from moe_cli.artifacts import layout
from moe_cli.codec import decode, encode
from moe_cli.config import AlternatingConfig, ModelConfig
from moe_cli.errors import ArtifactError, StoppedError, UsageError
from moe_cli.experts import apply_delta, attach, experts_of
from moe_cli.model.load import load_model
from moe_cli.model.tensors import digest_of_tensors, weights_fingerprint
from moe_cli.prepare.round_selection import round_selector
from moe_cli.records import Expert, RoundSelection, TrainingPlan, TrainingSummary
from moe_cli.train import checkpoint, fitting, loop, router_phase
from moe_cli.train import stage as train
from moe_cli.train.alternating_plan import AlternatingSchedule, linear_schedule
from moe_cli.train.alternating_trainer import AlternatingTrainer
from moe_cli.train.arm_setup import alternating_arm
from moe_cli.train.dataset import epoch_order
from moe_cli.views.trained import trained_view
from tests.experts.catalog import build, families
from tests.model.intervened import loaded_as
from tests.resume_everywhere import NUM_BATCHES, ask_to_stop_after, differences, step_records, train_to_the_end
from tests.train.alternating_runs import end_after, settings_of

LAST_STEP = 4 * NUM_BATCHES
BORDERS = (NUM_BATCHES, 2 * NUM_BATCHES, 3 * NUM_BATCHES)
WAYS = {  # of training, and where the run is stopped
    "round": ({}, (1, *BORDERS, 9, LAST_STEP)),
    "base": ({"consistency_target": "base", "consistency_over": "token"}, (9, 2 * NUM_BATCHES)),
    "current": ({"consistency_target": "current", "consistency_over": "batch", "kl_type": "symmetric"}, (10,)),
    "kept": ({"keep": 0.5, "consistency_at": "last_prompt", "consistency_layers": "selected"}, (10, 21)),
}


def to_the_end(experiments, config, notify=lambda _: None, *, resume=False):
    return train_to_the_end("alternating", config, experiments.store, notify, last_step=LAST_STEP, resume=resume)


@pytest.fixture(scope="module")
def whole(experiments):
    """Uninterrupted runs, by the way of training."""
    made = {}

    def run(way: str):
        if way not in made:
            made[way] = to_the_end(experiments, settings_of(experiments, f"whole-{way}", **WAYS[way][0]))
        return made[way]

    return run


@pytest.fixture(scope="module")
def trained(experiments):
    return train.run("alternating", settings_of(experiments, "trained"), experiments.store, lambda _: None)


@pytest.mark.parametrize(("way", "step"), [(way, step) for way, (_, steps) in WAYS.items() for step in steps])
def test_a_run_stopped_in_a_phase_or_at_its_border_and_resumed_is_the_uninterrupted_one(experiments, whole, way, step):
    config = settings_of(experiments, f"stopped-{way}-{step}", **WAYS[way][0])
    end_after(experiments, config, step, LAST_STEP)
    plans = []
    resumed = to_the_end(
        experiments, config, lambda event: plans.append(event) if isinstance(event, TrainingPlan) else None, resume=True
    )
    assert plans[0].first_step == min(step, 3 * NUM_BATCHES if step == LAST_STEP else step) + 1
    assert tuple(differences(whole(way), resumed)) == ()


@pytest.mark.parametrize("lost", ["targets", "start"])
def test_a_resume_that_reads_its_targets_again_is_another_run(experiments, whole, monkeypatch, lost):
    """They cannot be computed again: the router has moved since the phase began."""
    way = {"targets": "round", "start": "kept"}[lost]
    config = settings_of(experiments, f"forgets-{lost}", **WAYS[way][0])
    with pytest.raises(StoppedError):
        train.run("alternating", config, experiments.store, lambda event: ask_to_stop_after(9, event))
    load = AlternatingTrainer._load_from_checkpoint

    def forget(trainer, path, model=None):
        load(trainer, path, model)
        if lost == "targets":
            trainer.router_phase.read_targets()
        else:
            trainer.router_phase.keep_start()

    monkeypatch.setattr(AlternatingTrainer, "_load_from_checkpoint", forget)
    assert "final model" in set(differences(whole(way), to_the_end(experiments, config, resume=True)))


@pytest.mark.parametrize("off", [{"skip_router_training": True}, {"router_epochs_per_round": 0}])
def test_without_router_epochs_it_is_the_selective_arm_bit_for_bit(experiments, off):
    settings = settings_of(experiments, "-".join(off), **off)
    one = train_to_the_end("alternating", settings, experiments.store, lambda _: None, last_step=2 * NUM_BATCHES)
    other = experiments.uninterrupted("selective", False, ())
    assert set(differences(other, one)) <= {"schedule"}  # which names the arm
    assert (one / layout.DELTA).read_bytes() == (other / layout.DELTA).read_bytes()


def test_what_is_locked_does_not_move_in_any_phase_and_what_trains_does(experiments, monkeypatch):
    seen = []

    class Watched(AlternatingTrainer):
        def finish_step(self):
            super().finish_step()
            state = {id(p): s for p, s in self.optimizer.state.items()}
            moments = [s["exp_avg"] for p in self.slices.parameters.values() if (s := state.get(id(p)))]
            seen.append(
                (
                    self.phase,
                    digest_of_tensors(self.slices.parameters.items()),
                    digest_of_tensors(self.routers.parameters.items()),
                    digest_of_tensors((str(i), m) for i, m in enumerate(moments)),
                    float(self.lr_scheduler.get_last_lr()[0]),
                )
            )

    monkeypatch.setattr(fitting, "AlternatingTrainer", Watched)
    train.run("alternating", settings_of(experiments, "watched"), experiments.store, lambda _: None)
    assert [phase for phase, *_ in seen] == (["experts"] * NUM_BATCHES + ["router"] * NUM_BATCHES) * 2
    for (_, *before), (phase, *after) in pairwise(seen):
        if phase == "experts":
            assert before[0] != after[0]
            assert before[1] == after[1]
        else:
            assert before[0] == after[0]
            assert before[2:] == after[2:]  # moments of the experts, and their place in the schedule
    routers = [routers for phase, _, routers, *_ in seen if phase == "router"]
    assert len(set(routers)) >= len(routers) - 1  # the first step of the warm-up has the learning rate 0


def test_a_phase_that_moves_what_is_locked_ends_the_run(experiments, monkeypatch):
    write = AlternatingTrainer.finish_step

    def move(trainer):
        with torch.no_grad():
            next(iter(trainer.slices.parameters.values())).add_(1.0)
        write(trainer)

    monkeypatch.setattr(AlternatingTrainer, "finish_step", move)
    with pytest.raises(AssertionError, match="what was locked in the phase router of round 1 moved"):
        train.run("alternating", settings_of(experiments, "moves"), experiments.store, lambda _: None)


def test_the_routers_become_more_consistent_and_the_summary_says_by_how_much(trained):
    summary = trained.summary
    assert summary.training_mode == "alternating_optimization"
    assert [(phase.phase, phase.round) for phase in summary.phases] == [
        ("experts", 1),
        ("router", 1),
        ("experts", 2),
        ("router", 2),
    ]
    assert [(phase.first_step, phase.last_step) for phase in summary.phases] == [(1, 6), (7, 12), (13, 18), (19, 24)]
    for phase in summary.phases:
        if phase.phase == "router":
            assert 0 < phase.consistency_after < phase.consistency_before == phase.divergence_before
            assert phase.consistency_after < phase.divergence_after < phase.divergence_before  # the target stays behind
        else:
            assert phase.consistency_before is phase.consistency_after is None
            assert phase.divergence_before is phase.divergence_after is None
    steps = step_records(trained.path)
    of_experts = [step for step in steps if step.phase == "experts"]
    assert summary.num_steps == len(of_experts) == 2 * NUM_BATCHES
    assert summary.num_tokens == sum(step.num_tokens for step in of_experts)
    assert summary.num_router_tokens > sum(step.num_tokens for step in steps if step.phase == "router") > 0
    last = of_experts[-NUM_BATCHES:]
    expected = sum(step.loss * step.num_answer_tokens for step in last) / sum(step.num_answer_tokens for step in last)
    assert summary.final_loss == pytest.approx(expected)


@pytest.mark.parametrize(
    "alternating", [{}, {"consistency_target": "base"}, {"consistency_target": "current"}, {"keep": 1.0}], ids=str
)
def test_every_forward_for_the_routers_is_counted(experiments, monkeypatch, alternating):
    seen = []
    forward = router_phase.router_log_distributions

    def counted(model, rows, *others):
        seen.append(int(rows["attention_mask"].sum()))
        return forward(model, rows, *others)

    monkeypatch.setattr(router_phase, "router_log_distributions", counted)
    config = settings_of(experiments, f"counted-{len(str(alternating))}", num_rounds=1, **alternating)
    summary = train.run("alternating", config, experiments.store, lambda _: None).summary
    _of_the_probe, *of_training = seen
    assert summary.num_router_tokens == sum(of_training)


def test_what_the_routers_did_after_the_final_models_step_is_not_said_of_it(experiments, monkeypatch):
    """The lowest held-out loss may lie inside a phase of the routers, or before one."""
    losses = iter([3.0, 2.0, 1.0, *[4.0] * 20])
    monkeypatch.setattr(loop, "validation_loss", lambda model, batches: next(losses))
    own = {"validation_batches": 1, "checkpoint_every": 3}
    config = settings_of(experiments, "held-out", train_settings=own)
    run = train.run("alternating", config, experiments.store, lambda _: None)
    summary, num_batches = run.summary, NUM_BATCHES - 1
    assert (summary.final_step, summary.final_answer_step, summary.final_router_step) == (9, num_batches, 4)
    model = load_model(ModelConfig(name="tiny", device="cpu")).model
    apply_delta(model, run.path / layout.DELTA)
    assert weights_fingerprint(model) == summary.trained_fingerprint
    text = StringIO()
    Console(file=text, width=120).print(trained_view(summary))
    shown = text.getvalue()
    assert "4 of these steps" in shown
    assert "in phases that end after its step" in shown
    assert "round by round" not in shown  # no phase of routers ended before


def test_a_run_that_did_not_measure_how_far_apart_both_forms_are_routed_says_nothing_of_it(trained):
    summary = decode(TrainingSummary, re.sub(rb',?"divergence_\w+":[^,}]*', b"", encode(trained.summary)), source="it")
    assert {phase.divergence_after for phase in summary.phases} == {None}
    text = StringIO()
    Console(file=text, width=120).print(trained_view(summary))
    assert "attacked from target" in text.getvalue()
    assert "attacked from plain" not in text.getvalue()


def test_the_experts_see_the_steps_of_the_selective_arm(experiments, trained):
    """The same batches in the same order at the same learning rates, whatever the routers do in between."""
    selective = step_records(experiments.uninterrupted("selective", False, ()))
    of_experts = [step for step in step_records(trained.path) if step.phase == "experts"]
    for name in ("batches", "learning_rate", "num_answer_tokens", "num_tokens", "num_experts_updated"):
        assert [getattr(step, name) for step in of_experts] == [getattr(step, name) for step in selective]
    losses = [[step.loss for step in steps] for steps in (of_experts, selective)]
    assert losses[0][:NUM_BATCHES] == losses[1][:NUM_BATCHES]  # nothing differs before the routers have trained
    assert losses[0][NUM_BATCHES:] != losses[1][NUM_BATCHES:]


def test_the_proof_counts_experts_and_routers_and_only_they_differ_from_the_base(trained):
    summary = trained.summary
    delta = load_file(trained.path / layout.DELTA)
    proof = summary.proof
    assert proof.requested == proof.in_optimizer == proof.with_gradient == len(delta)
    assert proof.frozen_digest_before == proof.frozen_digest_after
    routers = [name for name in delta if name.startswith("model.")]
    assert len(routers) == len(summary.routers.layers) == 4
    assert summary.routers.num_params == sum(delta[name].numel() for name in routers)
    assert summary.trainable_params == sum(value.numel() for value in delta.values())
    base = load_model(ModelConfig(name="tiny", device="cpu")).model
    final = AutoModelForCausalLM.from_pretrained(trained.path / layout.FINAL_MODEL)
    changed = {name for name, value in final.named_parameters() if not torch.equal(value, base.get_parameter(name))}
    assert changed <= set(routers) | {name for name in changed if ".experts." in name}
    assert set(routers) <= changed


def test_its_delta_makes_the_final_model_of_the_base_and_a_part_of_it_lies_between(trained):
    def router_of(scale):
        model = load_model(ModelConfig(name="tiny", device="cpu")).model
        apply_delta(model, trained.path / layout.DELTA, scale=scale)
        return model, model.get_parameter("model.layers.0.mlp.gate.weight").detach().clone()

    whole, moved = router_of(1.0)
    assert weights_fingerprint(whole) == trained.summary.trained_fingerprint
    start = load_model(ModelConfig(name="tiny", device="cpu")).model.get_parameter("model.layers.0.mlp.gate.weight")
    assert torch.allclose(router_of(0.5)[1], (start + moved) / 2, atol=1e-7)


def test_the_schedule_goes_through_its_rounds_and_each_kind_has_a_linear_rate_of_its_own():
    schedule = AlternatingSchedule(num_rounds=2, expert_epochs=2, router_epochs=1, steps_per_epoch=3)
    assert [epoch.phase for epoch in schedule.epochs] == ["experts", "experts", "router"] * 2
    assert [epoch.number for epoch in schedule.epochs] == [0, 1, 0, 2, 3, 1]
    assert [schedule.span(step) for step in (0, 5, 6, 8, 9, 17)] == [(1, 6), (1, 6), (7, 9), (7, 9), (10, 15), (16, 18)]
    assert (schedule.num_steps("experts"), schedule.num_steps("router")) == (12, 6)
    rate, linear = schedule.rate("experts", 2), linear_schedule(2, 12)
    expert_steps = [step for step in range(18) if schedule.epoch_of(step).phase == "experts"]
    assert [rate(step) for step in expert_steps] == [linear(step) for step in range(12)]
    assert rate(18) == linear(12) == 0.0
    orders = [epoch.order(10, 3) for epoch in schedule.epochs]
    assert [orders[0], orders[1], orders[3], orders[4]] == [epoch_order(10, 3, epoch) for epoch in range(4)]
    assert len({tuple(order) for order in orders}) == 6


def test_a_learning_rate_at_which_no_weight_can_move_is_said(experiments):
    said = []
    config = settings_of(experiments, "slow", router_learning_rate=1e-7)
    train.run("alternating", config, experiments.store, lambda event: said.append(getattr(event, "text", "")))
    assert any("the routers hardly train; raise --router-lr" in text for text in said)
    shares = [float(re.search(r"steps, (\S+) % of the median weight", text)[1]) for text in said if "hardly" in text]
    assert len(shares) == 1 and 0 < shares[0] < 0.1  # a small share is no 0


def test_settings_that_cannot_be_meant_are_refused(experiments):
    with pytest.raises(ValueError, match="compare over `pair`"):
        AlternatingConfig(consistency_over="token", consistency_at="all")
    config = settings_of(experiments, "sharded", train_settings={"placement": "sharded"})
    with pytest.raises(UsageError, match="every process holds whole"):
        train.run("alternating", config, experiments.store, lambda _: None)


class PlantedSelection:
    """From the second round on the first selected expert is dropped, and two others are selected by every batch."""

    def __init__(self, selection) -> None:
        self.first, *self.kept = selection.union
        free = [
            Expert(layer=2, index=index) for index in range(16) if Expert(layer=2, index=index) not in selection.union
        ]
        self.added = tuple(free[:2])
        self.batches = [
            (*(expert for expert in batch if expert != self.first), *self.added) for batch in selection.batches
        ]
        self.asked: list[tuple] = []

    def refuse(self, prepared) -> None:
        self.asked.append(("refuse", prepared.path.name))

    def select(self, loaded, prepared, trained, notify):
        self.asked.append(("select", len(trained), loaded.model.training))
        return RoundSelection(batches=tuple(self.batches), num_pairs=4, num_left_out=0)


def reselecting_to_the_end(experiments, config, planted, *, resume=False, notify=lambda _: None):
    return train_to_the_end(
        "alternating", config, experiments.store, notify, last_step=LAST_STEP, resume=resume, reselect=planted
    )


@pytest.fixture(scope="module")
def reselected(experiments, selection):
    """The uninterrupted run with a second group of experts, and what it was asked."""
    planted = PlantedSelection(selection)
    config = settings_of(experiments, "reselected", reselect="replay")
    return reselecting_to_the_end(experiments, config, planted), planted


def test_a_second_group_trains_from_the_second_round_on_and_what_is_dropped_keeps_its_value(
    experiments, whole, selection, reselected
):
    path, planted = reselected
    assert planted.asked == [("refuse", "prepared"), ("select", len(selection.union), False)]
    delta, before = load_file(path / layout.DELTA), load_file(whole("round") / layout.DELTA)
    assert set(experts_of(delta)) == {*selection.union, *planted.added}
    first = [name for name in delta if name.startswith(f"layers.{planted.first.layer}.experts.{planted.first.index}.")]
    assert first and not any(torch.equal(delta[name], before[name]) for name in first)  # which trained on there
    base = load_model(ModelConfig(name="tiny", device="cpu")).model
    with attach(base, planted.added) as slices:
        assert not any(torch.equal(delta[name], value) for name, value in slices.take().items())
    summary = decode(TrainingSummary, (path / layout.METADATA).read_bytes(), source="metadata")
    phases = {(phase.phase, phase.round): phase.selected for phase in summary.phases}
    assert phases.pop(("experts", 2)) == tuple(planted.batches)
    assert set(phases.values()) == {None}
    assert summary.total_unique_unsafe_experts == len(selection.union) + 2 == sum(summary.count.experts_per_layer)
    assert summary.trainable_params == sum(value.numel() for value in delta.values())
    proof = summary.proof
    assert proof.requested == proof.in_optimizer == proof.with_gradient == len(delta)
    assert proof.frozen_digest_before == proof.frozen_digest_after
    masks_LE = np.load(path / layout.MASKS).any(axis=0)
    marked = {Expert(layer=int(layer), index=int(index)) for layer, index in zip(*np.nonzero(masks_LE), strict=True)}
    assert marked == {*selection.union, *planted.added}
    updated = [step.num_experts_updated for step in step_records(path) if step.phase == "experts"]
    assert updated != [step.num_experts_updated for step in step_records(whole("round")) if step.phase == "experts"]


def test_what_is_dropped_has_the_value_that_it_had_when_the_round_began(experiments, selection):
    values = []

    class Watched(AlternatingTrainer):
        def finish_step(self):
            super().finish_step()
            first = selection.union[0]
            names = self.slices.names_of([first])
            values.append(digest_of_tensors((name, self.slices.parameters[name]) for name in names))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "AlternatingTrainer", Watched)
        config = settings_of(experiments, "dropped", reselect="replay")
        train.run("alternating", config, experiments.store, lambda _: None, reselect=PlantedSelection(selection))
    assert len(set(values[:NUM_BATCHES])) > 1
    assert len(set(values[NUM_BATCHES:])) == 1


@pytest.mark.parametrize("step", [9, 2 * NUM_BATCHES, 15, 3 * NUM_BATCHES, 21])
def test_a_run_with_a_second_group_resumes_bit_for_bit(experiments, selection, reselected, step):
    config = settings_of(experiments, f"reselected-{step}", reselect="replay")
    with pytest.raises(StoppedError, match=f"after step {step} of {LAST_STEP}"):
        train.run(
            "alternating",
            config,
            experiments.store,
            lambda event: ask_to_stop_after(step, event),
            reselect=PlantedSelection(selection),
        )
    planted = PlantedSelection(selection)
    resumed = reselecting_to_the_end(experiments, config, planted, resume=True)
    assert tuple(differences(reselected[0], resumed)) == ()
    assert [what for what, *_ in planted.asked].count("select") == (step <= 2 * NUM_BATCHES)


def test_a_replay_of_the_answers_selects_within_the_budget_of_the_run(experiments, selection):
    config = settings_of(experiments, "replayed", reselect="replay")
    output = train.run("alternating", config, experiments.store, lambda _: None, reselect=round_selector("replay"))
    (selected,) = [phase.selected for phase in output.summary.phases if phase.selected is not None]
    assert len(selected) == len(selection.batches)
    assert output.summary.total_unique_unsafe_experts * selection.params_per_expert <= 0.2 * selection.base.total_params
    assert {expert for batch in selected for expert in batch} <= set(experts_of(load_file(output.path / layout.DELTA)))


def test_selecting_anew_goes_with_no_held_out_batches_and_needs_phases_of_the_routers(experiments, selection):
    config = settings_of(experiments, "held", train_settings={"validation_batches": 1}, reselect="replay")
    with pytest.raises(UsageError, match="whose experts are not those of the last"):
        train.run("alternating", config, experiments.store, lambda _: None, reselect=PlantedSelection(selection))
    limited = settings_of(experiments, "limited", train_settings={"max_share": 0.9}, reselect="replay")
    with pytest.raises(UsageError, match="limits one selection"):
        train.run("alternating", limited, experiments.store, lambda _: None, reselect=PlantedSelection(selection))
    with pytest.raises(ValueError, match="of which there are none"):
        AlternatingConfig(reselect="replay", skip_router_training=True)


@pytest.mark.skipif("deepseek_v4" not in families(), reason="this transformers has no family of hash layers")
def test_a_layer_whose_experts_are_given_by_the_token_is_refused_by_name(selection):
    loaded = loaded_as(build("deepseek_v4"))
    layers = [layer.layer for layer in loaded.layers]
    with (
        pytest.raises(UsageError, match=r"in the layers \[0\] of \w+ no router chooses"),
        alternating_arm(loaded, selection, None, layers),
    ):
        pass


def test_a_damaged_target_of_a_checkpoint_is_refused(experiments):
    config = settings_of(experiments, "damaged")

    with pytest.raises(StoppedError):
        train.run("alternating", config, experiments.store, lambda event: ask_to_stop_after(9, event))
    file = config.alternating.output_dir / "checkpoint-9" / checkpoint.PHASE
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(ArtifactError, match="is damaged"):
        train.run("alternating", config, experiments.store, lambda _: None, resume=True)
