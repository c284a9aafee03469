"""The loss of a router phase: its gradient, its zero, its parts, and a reference that uses no seam."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from moe_cli.errors import UsageError
from moe_cli.model.chat import IGNORED
from moe_cli.model.checkpointing import enable_checkpointing
from moe_cli.model.router_seam import log_distribution
from moe_cli.train.dataset import FixedBatches
from moe_cli.train.paired_rows import paired_batches
from moe_cli.train.router_phase import divergence, mean_log_distribution, region_of
from tests.experts.catalog import build
from tests.experts.families import gpt_oss, olmoe
from tests.train.router_phases import (
    ANSWERS,
    ATTACKED,
    PLAIN,
    examples_of,
    gradients_of,
    in_float64,
    loss_of,
    phase_of,
    plain_loss,
    rows_of,
)

torch.set_num_threads(1)
ALL = range(3)
SCORES = {
    "olmoe": "softmax",
    "mixtral": "softmax",
    "qwen3_moe": "softmax",
    "gpt_oss": "softmax",
    "deepseek_v3": "sigmoid",
}


def drawn_logits(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_gradient_in_the_logits_is_the_closed_form():
    """dL/dz[t,e] = p[t,e] (sum_j r_j p[t,j] - r_e) / (|R| tau), r = P / Q."""
    tau, z_tE = 0.7, drawn_logits(5, 8).requires_grad_()
    log_P = mean_log_distribution(drawn_logits(3, 8, seed=1).log_softmax(-1))
    p_tE = (z_tE / tau).softmax(-1)
    log_Q = mean_log_distribution(log_distribution(z_tE / tau, ["softmax"], torch.nn.Module()))
    divergence(log_P, log_Q, "forward").backward()
    r_E = (log_P - log_Q).exp()
    expected = p_tE * ((r_E * p_tE).sum(-1, keepdim=True) - r_E) / (5 * tau)
    assert (z_tE.grad - expected).abs().max() < 1e-12


@pytest.mark.parametrize("kind", ["forward", "reverse", "symmetric"])
def test_equal_distributions_have_the_divergence_0_and_the_gradient_0_exactly(kind):
    z_tE = drawn_logits(4, 6).float().requires_grad_()
    log_Q = mean_log_distribution(z_tE.log_softmax(-1))
    value = divergence(log_Q.detach(), log_Q, kind)
    value.backward()
    assert float(value.detach()) == 0.0
    assert not z_tE.grad.any()


def test_the_kinds_of_divergence_are_those_of_the_textbook():
    log_P, log_Q = (drawn_logits(8, seed=seed).log_softmax(-1) for seed in (1, 2))
    forward = torch.nn.functional.kl_div(log_Q, log_P, log_target=True, reduction="sum")
    backward = torch.nn.functional.kl_div(log_P, log_Q, log_target=True, reduction="sum")
    assert float(divergence(log_P, log_Q, "forward")) == pytest.approx(float(forward), rel=1e-12)
    assert float(divergence(log_P, log_Q, "reverse")) == pytest.approx(float(backward), rel=1e-12)
    assert float(divergence(log_P, log_Q, "symmetric")) == pytest.approx(float(forward + backward) / 2, rel=1e-12)


def published_loss(anchor_BSE, attacked_BSE):
    """RASA's code: KL of the softmax of logits that are averaged over all positions, by default a mean over experts."""
    anchor_E, attacked_E = (logits_BSE.mean((0, 1)) for logits_BSE in (anchor_BSE, attacked_BSE))
    return float(torch.nn.functional.kl_div(attacked_E.log_softmax(-1), anchor_E.softmax(-1), reduction="none").mean())


def our_loss(anchor_BSE, attacked_BSE, mask_BS):
    """The divergence over a batch: of means of distributions, over tokens that are no padding."""
    log_P, log_Q = (
        mean_log_distribution(logits_BSE.log_softmax(-1)[mask_BS]) for logits_BSE in (anchor_BSE, attacked_BSE)
    )
    return float(divergence(log_P, log_Q, "forward"))


def test_the_published_loss_is_that_over_batches_divided_by_the_number_of_experts():
    """Where all tokens of a form are routed alike the mean of logits is the logits, and this factor alone is left."""
    anchor_BSE, attacked_BSE = (drawn_logits(64, seed=seed).expand(3, 5, 64) for seed in (3, 4))
    ours = our_loss(anchor_BSE, attacked_BSE, torch.ones(3, 5, dtype=torch.bool))
    assert ours == pytest.approx(64 * published_loss(anchor_BSE, attacked_BSE), rel=1e-7)


def test_the_published_loss_counts_padding_and_averages_logits_and_ours_does_neither():
    anchor_BSE, attacked_BSE = (drawn_logits(2, 4, 8, seed=seed) for seed in (5, 6))
    mask_BS = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]]).bool()
    by_hand = [
        torch.cat([logits_BSE[0], logits_BSE[1, :2]]).softmax(-1).mean(0) for logits_BSE in (anchor_BSE, attacked_BSE)
    ]
    ours = our_loss(anchor_BSE, attacked_BSE, mask_BS)
    assert ours == pytest.approx(float((by_hand[0] * (by_hand[0] / by_hand[1]).log()).sum()), rel=1e-12)
    assert 8 * published_loss(anchor_BSE, attacked_BSE) != pytest.approx(ours, rel=0.05)  # means of logits
    padded = [torch.cat([logits_BSE, torch.zeros(2, 6, 8)], dim=1) for logits_BSE in (anchor_BSE, attacked_BSE)]
    longer_BS = torch.nn.functional.pad(mask_BS, (0, 6))
    assert our_loss(*padded, longer_BS) == pytest.approx(ours, rel=1e-12)
    assert published_loss(*padded) < 0.5 * published_loss(anchor_BSE, attacked_BSE)  # it dilutes them


@pytest.mark.parametrize("family", SCORES)
def test_the_loss_is_that_of_hooks_on_the_routers_without_a_seam(family):
    model = build(family).eval()
    expected = plain_loss(model, ALL, SCORES[family])
    phase = phase_of(model, ALL)
    phase.read_targets()
    assert phase.consistency() == pytest.approx(expected, rel=1e-5, abs=1e-7)
    assert expected > 1e-6


def test_the_gradient_of_the_whole_model_is_that_of_central_differences():
    model = in_float64(gpt_oss())
    phase = phase_of(model, ALL)
    phase.read_targets()
    with torch.no_grad():
        for number, master in enumerate(phase.routers.parameters.values()):
            master.add_(0.05 * drawn_logits(*master.shape, seed=number))
    phase.routers.write()
    gradients = gradients_of(loss_of(phase), phase.routers)
    chance = torch.Generator().manual_seed(7)
    for name, master in phase.routers.parameters.items():
        for _ in range(10):
            index = tuple(int(torch.randint(size, (1,), generator=chance)) for size in master.shape)
            slope = central_difference(phase, master, index)
            assert float(gradients[name][index]) == pytest.approx(slope, rel=1e-6, abs=1e-10)


def central_difference(phase, master, index, step: float = 1e-6) -> float:
    values = []
    for move in (step, -step):
        with torch.no_grad():
            master[index] += move
            values.append(float(loss_of(phase)))
            master[index] -= move
    return (values[0] - values[1]) / (2 * step)


def test_pairs_of_equal_rows_have_no_loss_and_no_gradient():
    phase = phase_of(olmoe().eval(), ALL, attacked=PLAIN)
    phase.read_targets()
    loss = loss_of(phase)
    assert float(loss.detach()) == 0.0
    assert not any(gradient.any() for gradient in gradients_of(loss, phase.routers).values())


def test_what_is_kept_is_exactly_0_when_the_phase_begins_and_not_after_a_step():
    phase = phase_of(olmoe().eval(), ALL, keep=1.0)
    phase.keep_start()
    rows = phase.rows_of(0, phase.paired[0].kept[0])
    loss = phase.keep_loss(rows)
    assert float(loss.detach()) == 0.0
    assert not any(gradient.any() for gradient in gradients_of(loss, phase.routers).values())
    with torch.no_grad():
        for master in phase.routers.parameters.values():
            master.add_(0.1 * drawn_logits(*master.shape).float())
    assert float(phase.keep_loss(rows).detach()) > 1e-4


def test_the_loss_of_many_pairs_is_that_of_their_parts_in_any_order_whatever_the_padding():
    whole, parts = phase_of(in_float64(gpt_oss()), ALL), phase_of(in_float64(gpt_oss()), range(1), range(1, 3))
    single = phase_of(in_float64(gpt_oss()), ALL, max_tokens=1)  # every row in a forward of its own, without padding
    turned = phase_of(in_float64(gpt_oss()), ALL[::-1])
    losses, gradients = [], []
    for phase in (whole, parts, single, turned):
        phase.read_targets()
        loss = loss_of(phase)
        losses.append(float(loss.detach()))
        gradients.append(gradients_of(loss, phase.routers))
    assert len(single.paired[0].attacked) == 3 > len(whole.paired[0].attacked)
    assert losses[1:] == pytest.approx([losses[0]] * 3, rel=1e-9)
    for other in gradients[1:]:
        for name, gradient in gradients[0].items():
            assert torch.allclose(other[name], gradient, rtol=1e-6, atol=1e-12)


def test_how_far_apart_both_forms_are_routed_is_read_by_the_routers_as_they_are_and_the_target_is_not():
    """The routers of a phase come near a fixed target while the routing of plain goals moves along."""
    phase = phase_of(olmoe().eval(), ALL)
    phase.read_targets()
    assert phase.consistency() == phase.consistency(moving=True) > 0
    with torch.no_grad():
        for number, master in enumerate(phase.routers.parameters.values()):
            master.add_(0.1 * drawn_logits(*master.shape, seed=number).float())
    phase.routers.write()
    apart = phase.consistency(moving=True)
    assert phase.consistency() != pytest.approx(apart, rel=0.01)
    phase.read_targets()
    assert phase.consistency() == apart


def test_means_over_a_batch_never_differ_more_than_its_pairs():
    phases = {over: phase_of(olmoe().eval(), ALL, consistency_over=over) for over in ("pair", "batch", "token")}
    for phase in phases.values():
        phase.read_targets()
    values = {over: phase.consistency() for over, phase in phases.items()}
    assert 0 < values["batch"] < values["pair"] < values["token"]  # by convexity


def test_a_fixed_target_is_approached_by_every_gradient_step():
    phase = phase_of(olmoe().eval(), ALL)
    phase.read_targets()
    found = []
    for _ in range(40):
        loss = loss_of(phase)
        found.append(float(loss.detach()))
        with torch.no_grad():
            for name, gradient in gradients_of(loss, phase.routers).items():
                phase.routers.parameters[name] -= 0.5 * gradient
    assert found == sorted(found, reverse=True)
    assert found[-1] < 0.98 * found[0]


def test_checkpointing_changes_no_gradient():
    gradients = []
    for _ in range(2):
        phase = phase_of(olmoe(), ALL)
        phase.read_targets()
        phase.model.train()
        gradients.append(gradients_of(loss_of(phase), phase.routers))
        phase.routers.detach()
    repeated = phase_of(olmoe(), ALL)
    repeated.read_targets()
    repeated.model.train()
    with enable_checkpointing(repeated.model), repeated.routers.learning():
        gradients.append(gradients_of(loss_of(repeated), repeated.routers))
    for name, gradient in gradients[0].items():
        assert torch.equal(gradient, gradients[1][name])
        assert torch.allclose(gradient, gradients[2][name], rtol=1e-5, atol=1e-9)


def test_regions_are_the_answer_the_last_token_of_the_prompt_or_all_but_padding():
    labels = torch.tensor([[IGNORED, IGNORED, 5, 6], [IGNORED, 7, IGNORED, IGNORED]])
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    assert region_of(labels, mask, "answer").int().tolist() == [[0, 0, 1, 1], [0, 1, 0, 0]]
    assert region_of(labels, mask, "last_prompt").int().tolist() == [[0, 1, 0, 0], [1, 0, 0, 0]]
    assert region_of(labels, mask, "all").int().tolist() == mask.tolist()


def test_a_row_without_a_token_to_compare_is_refused_by_name():
    labels = torch.tensor([[IGNORED, IGNORED]])
    with pytest.raises(UsageError, match="no token of the region `answer`"):
        region_of(labels, torch.ones_like(labels), "answer")
    with pytest.raises(UsageError, match="no token of the region `last_prompt`"):
        region_of(torch.tensor([[5, 6]]), torch.ones_like(labels), "last_prompt")


def batches_of(examples):
    fixed = FixedBatches([rows_of(ALL)], max_padding=0.1, max_tokens=None)
    return paired_batches(examples, fixed, max_padding=0.1, max_tokens=None, together=False)


def test_forms_of_one_goal_are_found_and_those_alone_are_in_no_pair():
    (batch,) = batches_of(examples_of(ALL))
    assert [(pair.plain, pair.attacked) for pair in batch.pairs] == [(0, 5), (1, 6), (2, 7)]
    assert sorted(row for cut in batch.kept for row in cut.rows) == [0, 1, 2, 3, 4]
    assert batch.num_kept_tokens == sum(map(len, PLAIN)) + sum(map(len, ANSWERS)) + 2 + 4 + 2 * 2
    others = [
        replace(e, id=f"other-{e.id}") if e.kind == "refuse_plain" and "0" in e.id else e for e in examples_of(ALL)
    ]
    (fewer,) = batches_of(others)
    assert [(pair.plain, pair.attacked) for pair in fewer.pairs] == [(1, 6), (2, 7)]
    assert sum(len(cut.rows) for cut in fewer.attacked) == 2


def test_a_plain_form_of_two_attacked_ones_is_in_both_pairs_and_goes_through_the_model_once():
    examples = examples_of(ALL)
    twice = [replace(e, id=e.id.replace("goal-1", "goal-0"), messages=examples[0].messages) for e in examples[-2:-1]]
    (batch,) = batches_of([*examples[:-2], *twice, examples[-1]])
    assert [(pair.plain, pair.attacked) for pair in batch.pairs] == [(0, 5), (0, 6), (2, 7)]
    assert sorted(row for cut in batch.plain for row in cut.rows) == [0, 2]
    assert batch.pair_of == {5: 0, 6: 1, 7: 2}


def test_batches_without_a_pair_and_forms_with_other_targets_are_refused():
    alone = [replace(e, id=f"other-{e.id}") if e.kind == "refuse_plain" else e for e in examples_of(ALL)]
    with pytest.raises(UsageError, match="no training batch holds both forms"):
        batches_of(alone)
    answer = replace(examples_of(ALL)[0].messages[-1], content="Sure")
    changed = [
        replace(e, messages=(*e.messages[:-1], answer)) if e.kind == "refuse_plain" else e for e in examples_of(ALL)
    ]
    with pytest.raises(UsageError, match="different targets"):
        batches_of(changed)


def test_a_temperature_divides_the_logits():
    values = {}
    for tau in (1.0, 4.0):
        phase = phase_of(olmoe().eval(), ALL, temperature=tau)
        phase.read_targets()
        values[tau] = phase.consistency()
    assert values[4.0] == pytest.approx(values[1.0] / 16, rel=0.2)  # of small differences KL goes with the square
    assert math.isfinite(values[4.0])
    assert len(ATTACKED) == len(PLAIN)
