"""A step followed without values needs the bytes of the real one; `tests/studies/followed_steps.py` is every family."""

import signal
from contextlib import ExitStack

import pytest

from moe_cli.bench.bench_model import draw_selection
from moe_cli.bench.fake_step import LiveBytes, StepShape, ValuesNeededError, batch_of_shape, follow_step
from moe_cli.bench.step import RouterRow
from moe_cli.config import AlternatingConfig, ModelConfig
from moe_cli.experts import attach
from moe_cli.experts.router_masters import attach_routers
from moe_cli.model.chat import EncodedChat
from moe_cli.model.checkpointing import enable_checkpointing
from moe_cli.model.load import load_model
from moe_cli.model.skeleton import meta_model
from moe_cli.model.topology import expert_layers
from moe_cli.records import Message, TrainingExample
from moe_cli.signals import working_command
from moe_cli.tiny import CHECKPOINT_PATH
from moe_cli.train.dataset import FixedBatches
from moe_cli.train.paired_rows import paired_batches
from moe_cli.train.router_phase import RouterPhase
from tests.experts.checkpoints import openable, written
from tests.studies.followed_steps import SHAPE, both

FAMILIES = ("aria", "deepseek_v3", "gpt_oss", "jamba", "minimax", "mixtral", "qwen3_next", "qwen3_omni_moe")
FAMILIES_AND_ARMS = [
    *((family, arm) for family in FAMILIES for arm in ("selective", "baseline")),
    *((family, "alternating") for family in ("deepseek_v3", "gpt_oss")),
]


def assert_close(followed, measured):
    assert (followed.weights, followed.masters, followed.trained_params, followed.host) == (
        *(measured.weights, measured.masters, measured.trained_params, measured.host),
    )
    assert (followed.gradients, followed.moments) == (measured.gradients, measured.moments)
    assert followed.saved == pytest.approx(measured.saved, rel=0.03)
    assert followed.saved_by_loss == measured.saved_by_loss
    assert followed.peak == pytest.approx(measured.peak, rel=0.03)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("arm", ["selective", "baseline", "alternating"])
def test_the_tiny_model_needs_what_was_predicted(arm, checkpointing):
    shape = StepShape(rows=16, length=48, forward_tokens=768, checkpointing=checkpointing)
    followed, measured = both(CHECKPOINT_PATH, arm, shape)
    assert_close(followed, measured)
    assert followed.masters == 4 * followed.trained_params == followed.moments // 2
    if arm != "alternating":
        assert followed.gradients == followed.masters


@pytest.mark.parametrize(
    ("family", "arm"), [(family, arm) for family, arm in FAMILIES_AND_ARMS if family in openable()]
)
def test_a_step_of_other_families_needs_what_was_predicted(family, arm, tmp_path):
    assert_close(*both(written(family, tmp_path / "model"), arm))


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("arm", ["selective", "baseline"])
def test_the_loss_keeps_float32_log_probabilities_of_all_words_and_the_id_of_every_answer_token(
    arm, dtype, checkpointing
):
    model = meta_model(ModelConfig(name="tiny", dtype=dtype))
    shape = StepShape(rows=6, length=16, forward_tokens=64, checkpointing=checkpointing)  # four rows in a forward
    step = follow_step(arm, model, draw_selection(expert_layers(model), 1), shape)
    assert step.saved_by_loss == 4 * 8 * (4 * model.config.vocab_size + 8) + 4  # and a sum over the words


def test_a_family_whose_code_asks_for_values_is_said_to(tmp_path):
    with pytest.raises(ValuesNeededError, match="nonzero"):
        both(written("qwen4_exp", tmp_path / "model"), "selective")


def test_a_bfloat16_model_has_float32_masters_in_both_arms():
    config = ModelConfig(name="tiny", dtype="bfloat16")
    model = meta_model(config)
    total, union = sum(p.numel() for p in model.parameters()), draw_selection(expert_layers(model), 1)
    selective, baseline = (follow_step(arm, meta_model(config), union, SHAPE) for arm in ("selective", "baseline"))
    assert selective.weights >= 2 * total  # and a few buffers
    assert selective.masters == 4 * selective.trained_params and selective.host == 2 * selective.trained_params
    assert (baseline.masters, baseline.moments) == (4 * total, 8 * total)


def test_further_forwards_of_a_step_need_no_more_memory():
    peaks = set()
    for rows in (8, 12, 40):
        shape = StepShape(rows=rows, length=16, forward_tokens=64, checkpointing=False)
        model = meta_model(ModelConfig(name="tiny"))
        peaks.add(follow_step("selective", model, draw_selection(expert_layers(model), 2), shape).peak)
    assert len(peaks) == 1


def test_experts_and_routers_share_an_optimizer_and_a_step_has_the_gradients_of_one_kind():
    shape = StepShape(rows=16, length=48, forward_tokens=768, checkpointing=False, attacked_rows=8)
    layers = expert_layers(meta_model(ModelConfig(name="tiny")))
    both_kinds, experts = (
        follow_step(arm, meta_model(ModelConfig(name="tiny")), draw_selection(layers, 1), shape)
        for arm in ("alternating", "selective")
    )
    of_routers = 4 * 16 * 128  # layers, experts, width
    assert both_kinds.trained_params == experts.trained_params + of_routers
    assert both_kinds.masters - experts.masters == 4 * of_routers == (both_kinds.moments - experts.moments) // 2
    assert both_kinds.gradients == experts.gradients
    assert both_kinds.peak >= experts.peak + 3 * 4 * of_routers
    few_experts = follow_step("alternating", meta_model(ModelConfig(name="tiny")), draw_selection(layers[:1], 1), shape)
    assert few_experts.gradients == 4 * max(of_routers, 18_432)


@pytest.mark.parametrize("target", ["round", "current", "both"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_step_of_the_routers_needs_what_a_router_phase_of_training_needs(checkpointing, target):
    """The same rows through the loss of training: what is alive at once in forward and backward."""
    length, rows = 48, 6
    shape = StepShape(rows=rows, length=length, forward_tokens=rows * length, checkpointing=checkpointing)
    model = load_model(ModelConfig(name="tiny", device="cpu")).model.train()
    layers = [layer.layer for layer in expert_layers(model)]
    chats = [EncodedChat(tuple(range(3, 3 + length)), length // 2) for _ in range(2 * rows)]
    batches = FixedBatches([chats], max_padding=0.1, max_tokens=None)
    paired = paired_batches(pairs_of(rows), batches, max_padding=0.1, max_tokens=None, together=False)
    with ExitStack() as stack:
        slices = stack.enter_context(attach(model, draw_selection(expert_layers(model), 1)))
        routers = stack.enter_context(attach_routers(model, layers))
        if checkpointing:
            stack.enter_context(enable_checkpointing(model))
        slices.activate(())
        settings = AlternatingConfig(consistency_target=target, router_consistency_weight=float(target == "both"))
        phase = RouterPhase(model, routers, batches, paired, settings)
        phase.read_targets()
        (cut,) = paired[0].attacked
        part = phase.rows_of(0, cut)
        plain = None if target == "round" else batch_of_shape(shape, rows)
        batch, learns = batch_of_shape(shape, rows), target == "both"
        row = RouterRow(model, batch, during=routers.learning, plain=plain, plain_learns=learns)

        def of_training():
            with routers.learning():
                phase.consistency_loss(0, part).backward()

        def of_plan():
            with row.during():
                row.forward(row.batch.ids_BS).backward()

        measured, planned = (peak_of(run) for run in (of_training, of_plan))
    assert planned == pytest.approx(measured, rel=0.03)


def peak_of(run) -> int:
    """Bytes alive at once, beyond those that were."""
    run()  # gradients are there
    with LiveBytes() as live:
        run()
    return live.peak


def pairs_of(rows: int) -> list[TrainingExample]:
    return [
        TrainingExample(
            id=f"goal-{number}#{side}",
            batch_idx=0,
            side=side,
            kind=kind,
            cluster=f"goal-{number}",
            messages=(Message(role="user", content="?"), Message(role="assistant", content="no")),
        )
        for kind, side in (("refuse_plain", "safe"), ("refuse_attacked", "unsafe"))
        for number in range(rows)
    ]


def test_a_signal_within_what_torch_calls_is_met_before_the_next_module(monkeypatch):
    """There an exception is lost, or torch ends the process."""
    drop, dropped = LiveBytes._drop, []

    def interrupted(live, address):
        drop(live, address)
        dropped.append(address)
        if len(dropped) == 1:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(LiveBytes, "_drop", interrupted)
    shape = StepShape(rows=4, length=16, forward_tokens=64, checkpointing=False)
    model = meta_model(ModelConfig(name="tiny"))
    with working_command(), pytest.raises(KeyboardInterrupt):
        follow_step("selective", model, draw_selection(expert_layers(model), 1), shape)
