"""`moe plan` in figures: exact where they are exact, formulas by hand where they are arithmetic."""

from dataclasses import replace
from io import StringIO
from math import ceil

import pytest
from rich.console import Console

from moe_cli.artifacts import Store, finished_run, layout
from moe_cli.bench import fake_step, resources, stage
from moe_cli.bench.arm_needs import ResourceRequest
from moe_cli.bench.resources import plan_resources
from moe_cli.codec import encode
from moe_cli.config import MoeConfig
from moe_cli.errors import UsageError
from moe_cli.prepare import stage as prepare
from moe_cli.records import PrepareSummary, Selection
from moe_cli.train import stage as train
from moe_cli.views.plan_tables import resource_plan_view
from tests.bench.shared_plans import followed_once  # noqa: F401
from tests.bench.small_benchmark import CONFIG, small_plan

pytestmark = pytest.mark.xdist_group("plans")

TOTAL, OF_AN_EXPERT, LAYERS, OF_ROUTERS = 1_570_944, 18_432, 4, 8_192
SHORT = ResourceRequest(length=48, memory=10**9)


def config_of(**sections):
    return MoeConfig.model_validate({"model": {"name": "tiny"}, **sections})


@pytest.fixture(scope="module")
def plan():
    return plan_resources(config_of(), replace(SHORT, num_batches=23))


def test_what_is_counted_is_exact(plan):
    selective, baseline, alternating = plan.arms
    assert (plan.total_params, sum(plan.params.values())) == (TOTAL, TOTAL)
    assert plan.selected * OF_AN_EXPERT == selective.trained_params <= 0.05 * TOTAL  # the budget
    assert plan.selected_by == "budget" and plan.selected == LAYERS
    assert baseline.trained_params == TOTAL and baseline.trainable_ratio == 1.0
    assert selective.least == 4 * TOTAL + 16 * selective.trained_params
    assert baseline.least == 16 * TOTAL
    assert alternating.trained_params == selective.trained_params + OF_ROUTERS
    assert alternating.least == 4 * TOTAL + 16 * alternating.trained_params
    for arm in (selective, baseline):
        assert arm.step.masters + arm.step.gradients + arm.step.moments == 16 * arm.trained_params
        assert arm.least <= arm.step.peak


def test_several_processes_are_the_formulas_of_docs_scale(plan):
    layer = max_layer = OF_AN_EXPERT * 16 + 65_536 + 2_048 + 2 * 128 + 2 * 128  # experts, attention, router, norms
    root = 2 * 59_392
    by_key = {arm.arm: {(need.ranks, need.placement): need for need in arm.ranks} for arm in plan.arms}
    selective, baseline, alternating = (arm.step for arm in plan.arms)
    assert by_key["selective"][4, "replicated"].peak == selective.peak
    shared = by_key["selective"][4, "sharded"]
    assert shared.peak == selective.peak - selective.weights + selective.weights // 4 + 4 * (2 * layer + root)
    assert by_key["selective"][8, "replicated"].sent == 4 * plan.arms[0].trained_params
    assert by_key["baseline"][8, "replicated"].sent == 4 * TOTAL
    assert shared.sent == 2 * selective.weights * 3 // 4 + 4 * plan.arms[0].trained_params
    state = 16 * TOTAL
    expected = baseline.peak - state + state // 2 + 4 * (3 * max_layer + root)
    assert by_key["baseline"][2, "sharded"].peak == expected
    assert {placement for _, placement in by_key["alternating"]} == {"one process", "replicated"}
    assert by_key["alternating"][8, "replicated"].peak == alternating.peak
    assert by_key["alternating"][8, "replicated"].sent == alternating.gradients
    for ranks in (1, 2, 4, 8):
        steps = {arm.arm: {need.num_steps for need in arm.ranks if need.ranks == ranks} for arm in plan.arms}
        once = 3 * ceil(23 / ranks)
        assert steps == {"selective": {once}, "baseline": {once}, "alternating": {2 * once}}


def test_weights_that_are_shared_are_gathered_in_every_forward_of_every_batch_of_a_step(plan):
    of_four = plan_resources(config_of(train={"gradient_accumulation_steps": 4}), replace(SHORT, num_batches=23))
    sent, sent_of_four = (
        {(arm.arm, need.placement): need.sent for arm in one.arms for need in arm.ranks if need.ranks == 2}
        for one in (plan, of_four)
    )
    selective, baseline = plan.arms[0].step, plan.arms[1].step
    assert sent_of_four["selective", "sharded"] == 4 * selective.weights + selective.gradients
    assert sent_of_four["baseline", "sharded"] == 4 * sent["baseline", "sharded"] == 6 * baseline.masters
    for arm in ("selective", "baseline", "alternating"):
        assert sent_of_four[arm, "replicated"] == sent[arm, "replicated"]


def test_an_expert_lies_whole_on_one_process_however_many_share_the_weights():
    """Of 32 processes each holds an expert of 16 or none; 464 rows of the embeddings are 15 on most, and 15 on one."""
    of_experts, of_attention = LAYERS * OF_AN_EXPERT, 262_144 // 32
    of_root, of_routers, of_norms = 2 * 15 * 128, LAYERS * 128, 17 * 4
    share = of_experts + of_attention + of_root + of_routers + of_norms
    planned = plan_resources(config_of(), replace(SHORT, ranks=(1, 32), arms=("selective",)))
    (arm,) = planned.arms
    layer = OF_AN_EXPERT * 16 + 65_536 + 2_048 + 4 * 128
    expected = arm.step.peak - arm.step.weights + arm.step.weights * share // TOTAL + 4 * (2 * layer + 2 * 59_392)
    need = arm.ranks[-1]
    assert (need.ranks, need.placement, need.peak) == (32, "sharded", expected)
    assert not need.fits and need.peak < SHORT.memory  # transformers refuses a share without experts
    text = StringIO()
    Console(file=text, width=160).print(resource_plan_view(planned))
    assert "sharded in 32 processes one would hold none of 16 experts" in text.getvalue()
    assert need.sent == 2 * 31 * (arm.step.weights * share // TOTAL) + arm.step.gradients


def test_a_prepare_run_says_the_rows_and_those_held_out_are_no_steps(tmp_path, small_settings):
    config = small_settings(tmp_path)
    prepare.run(config, Store(tmp_path / "registry"), lambda _: None)
    run = finished_run(config.prepare.output_dir, "prepare")
    summary = run.record(layout.PREPARE_SUMMARY, PrepareSummary)
    selection = run.record(layout.SELECTION, Selection)
    assert summary.batch_size != MoeConfig().prepare.batch_size
    for held_out in (0, summary.num_batches - 1):
        named = config_of(train={"prepared": config.prepare.output_dir, "validation_batches": held_out})
        planned = plan_resources(named, replace(SHORT, ranks=(1,)))
        trained = summary.num_batches - held_out
        experts = {expert for batch in selection.batches[:trained] for expert in batch}
        assert (planned.rows, planned.num_batches, planned.selected) == (summary.batch_size, trained, len(experts))
        assert planned.arms[0].ranks[0].num_steps == 3 * trained
        assert planned.arms[2].targets == 4 * 16 * LAYERS * trained * min(summary.num_plain, summary.num_attacked)


def test_the_rounds_and_the_pairs_of_the_prepare_run_say_the_steps_and_the_targets(tmp_path, small_settings):
    rounds = {"num_rounds": 1, "router_epochs_per_round": 2, "output_dir": tmp_path / "alternating"}
    config = small_settings(tmp_path, alternating=rounds)
    summary = prepare.run(config, Store(tmp_path / "registry"), lambda _: None).summary
    named = config.train.model_copy(update={"prepared": config.prepare.output_dir})
    planned = plan_resources(config.model_copy(update={"train": named}), replace(SHORT, arms=("alternating",)))
    (arm,) = planned.arms
    done = train.run("alternating", config, Store(tmp_path / "registry"), lambda _: None).summary
    assert done.routers.num_pairs * LAYERS * 16 * 4 == arm.targets > 0
    num_steps = (1 + 2) * summary.num_batches
    assert done.num_steps + done.routers.num_steps == num_steps == arm.ranks[0].num_steps
    assert done.trainable_params == arm.trained_params


def test_what_the_rounds_leave_out_is_not_planned(plan):
    """Without its experts the alternating arm trains its routers, and without its routers it is the selective arm."""
    selective, _, both = plan.arms
    (routers,) = plan_resources(
        config_of(alternating={"skip_expert_training": True}), replace(SHORT, arms=("alternating",))
    ).arms
    (experts,) = plan_resources(
        config_of(alternating={"skip_router_training": True}), replace(SHORT, arms=("alternating",))
    ).arms
    assert (routers.trained_params, experts.trained_params) == (OF_ROUTERS, selective.trained_params)
    assert routers.step.masters + routers.step.gradients + routers.step.moments == 16 * OF_ROUTERS
    assert routers.step.peak < both.step.peak
    assert (experts.step, experts.targets) == (selective.step, None)


def test_a_joint_step_has_the_gradients_of_experts_and_routers(plan):
    """With two batches in a step, each has a sum of its own before it is added to the other's."""
    rounds = {"router_consistency_weight": 1.0, "consistency_target": "both"}
    planned, of_two = (
        plan_resources(
            config_of(alternating=rounds, train={"gradient_accumulation_steps": accumulated}),
            replace(SHORT, num_batches=23),
        )
        for accumulated in (1, 2)
    )
    joint, in_turn = planned.arms[-1], plan.arms[-1]
    assert (joint.trained_params, joint.least, joint.joint) == (in_turn.trained_params, in_turn.least, True)
    assert joint.step.gradients == 4 * joint.trained_params == in_turn.step.gradients + 4 * OF_ROUTERS
    assert joint.ranks[0].sent == 0 and joint.ranks[1].sent == joint.step.gradients
    assert joint.step.peak > in_turn.step.peak
    assert of_two.arms[-1].step.peak == joint.step.peak + joint.step.gradients
    text = StringIO()
    Console(file=text, width=160).print(resource_plan_view(planned))
    assert "a step trains experts and routers by one loss" in text.getvalue()
    assert "the larger figure" not in text.getvalue()


def test_plain_goals_that_learn_are_kept_until_the_backward_of_the_attacked_ones():
    """With one row in a forward, eight plain ones and an attacked one are alive together."""
    kept = {}
    for target in ("round", "current", "both"):
        rounds = {"router_consistency_weight": 1.0, "consistency_target": target}
        config = config_of(alternating=rounds, train={"max_forward_tokens": 48})
        (arm,) = plan_resources(config, replace(SHORT, arms=("alternating",))).arms
        kept[target] = arm.step.saved
    assert kept["round"] == kept["current"] and kept["both"] > 6 * kept["round"]


def test_a_model_whose_routers_cannot_train_has_a_plan_of_the_other_arms_and_the_reason(monkeypatch):
    def refuse(model, layers):
        raise UsageError("no parameter that can be trained", hint="none")

    monkeypatch.setattr(fake_step, "attach_routers", refuse)
    planned = plan_resources(
        config_of(), replace(SHORT, length=40, arms=("selective", "alternating"))
    )  # in no other plan
    assert [arm.step is None for arm in planned.arms] == [False, True]
    assert planned.arms[1].note == "this arm cannot train the model: no parameter that can be trained"


def test_what_does_not_fit_is_mended_by_the_first_change_that_is_enough():
    of_one = replace(SHORT, arms=("selective",))
    roomy, tight = (plan_resources(config_of(), replace(of_one, memory=size)) for size in (10**9, 28_000_000))
    assert all(arm.ranks[0].fits and not arm.remedies for arm in roomy.arms)
    selective = tight.arms[0]
    assert not selective.ranks[0].fits
    assert [remedy.fits for remedy in selective.remedies] == [True]
    assert selective.remedies[0].settings == ("train.gradient_checkpointing=true",)
    mended = config_of(train={"gradient_checkpointing": True})
    assert plan_resources(mended, replace(of_one, memory=28_000_000)).arms[0].step.peak == selective.remedies[0].peak


def test_what_no_change_mends_lists_all_that_were_tried():
    (baseline,) = plan_resources(config_of(), replace(SHORT, memory=10**6, arms=("baseline",), ranks=(1,))).arms
    assert [remedy.fits for remedy in baseline.remedies] == [False] * 4
    assert baseline.remedies[-1].settings[-1] == "model.dtype=bfloat16"
    checkpointing, smallest, both, _ = (remedy.peak for remedy in baseline.remedies)
    assert both <= min(checkpointing, smallest)


@pytest.mark.parametrize(("memory", "ranks"), [(20_000_000, 2), (10_000_000, 8), (10**6, 8)])
def test_what_fits_no_process_alone_is_shared_out_by_as_few_as_fit_or_by_the_most(memory, ranks):
    (baseline,) = plan_resources(config_of(), replace(SHORT, memory=memory, arms=("baseline",))).arms
    *alone, shared = baseline.remedies
    assert not any(remedy.fits for remedy in alone)
    assert (shared.ranks, shared.fits) == (ranks, memory > 10**6)
    assert shared.settings == (*min(alone, key=lambda one: one.peak).settings, "train.placement=sharded")
    names = dict(setting.split("=") for setting in shared.settings[:2])
    train = {name.removeprefix("train."): value for name, value in names.items()}
    mended = config_of(train=train)
    (planned,) = plan_resources(mended, replace(SHORT, memory=memory, arms=("baseline",), ranks=(ranks,))).arms
    assert shared.peak == next(need.peak for need in planned.ranks if need.placement == "sharded")


def test_processes_of_a_machine_without_a_card_share_its_memory(monkeypatch):
    monkeypatch.setattr(resources, "total_bytes", lambda device: (40_000_000,))
    request = replace(SHORT, arms=("selective",), ranks=(1, 2), memory=None)
    (arm,) = plan_resources(config_of(model={"name": "tiny", "device": "cpu"}), request).arms
    one, *two = arm.ranks
    assert one.fits and 20_000_000 < one.peak < 40_000_000
    assert [need.fits for need in two] == [need.peak <= 20_000_000 for need in two] == [False, False]
    (arm,) = plan_resources(config_of(), replace(request, memory=40_000_000)).arms
    assert all(need.fits for need in arm.ranks)  # each of them has as much


def test_what_lies_in_the_memory_of_the_host_counts_where_the_arm_trains_there(plan, monkeypatch):
    step = plan.arms[0].step
    assert step.host == step.masters  # float32 rows, as they were found
    request = replace(SHORT, arms=("selective",), ranks=(1,), memory=None)
    for room, fits in ((step.peak + step.host, True), (step.peak + step.host - 1, False)):
        monkeypatch.setattr(resources, "total_bytes", lambda device, room=room: (room,))
        (arm,) = plan_resources(config_of(model={"name": "tiny", "device": "cpu"}), request).arms
        assert (arm.ranks[0].fits, not arm.remedies) == (fits, fits)
        (arm,) = plan_resources(config_of(), replace(request, memory=step.peak)).arms  # of a card
        assert arm.ranks[0].fits


def test_an_arm_that_cannot_share_its_weights_is_not_told_to():
    config = config_of(alternating={"skip_router_training": True})
    (arm,) = plan_resources(config, replace(SHORT, memory=10**6, arms=("alternating",))).arms
    assert {remedy.ranks for remedy in arm.remedies} == {1}


def test_without_a_limit_a_forward_is_the_whole_batch_however_long_its_rows_are():
    whole = config_of(train={"max_forward_tokens": None, "max_length": 16})
    assert plan_resources(whole, replace(SHORT, length=64)).forward_tokens == 16 * 64


def test_more_experts_than_a_layer_has_are_refused():
    with pytest.raises(UsageError, match="--experts 17 are more than the 16 experts of a layer"):
        plan_resources(config_of(), replace(SHORT, per_layer=17))


def test_the_time_is_that_of_the_benchmark_for_as_many_tokens(tmp_path):
    made = stage.run(CONFIG, small_plan(arms="selective,full_grouped_mm"), lambda record: None)
    file = tmp_path / "bench.json"
    file.write_bytes(encode(made))
    planned = plan_resources(config_of(), replace(SHORT, benchmark=file))
    rows = {row.name: row for row in made.rows}
    share = made.model.top_k / made.model.num_experts
    met = made.model.total_params - made.model.expert_params * (1 - share)
    active = TOTAL - planned.params["experts"] * (1 - 4 / 16)
    expected = 16 * 48 / rows["selective"].tokens_per_second * active / met
    assert planned.arms[0].seconds == pytest.approx(expected)
    assert "scaled by the parameters that a token meets" in planned.time_of
