"""The gradient of a joint step beside that of plain torch, which has no seam, no slices and no masters."""

from __future__ import annotations

from dataclasses import dataclass
from unittest.mock import patch

import pytest
import torch
from torch import Tensor, nn

from moe_cli.config import ModelConfig
from moe_cli.model.load import load_model
from moe_cli.train import fitting
from moe_cli.train import stage as train
from moe_cli.train.joint_trainer import JointTrainer
from tests.train.alternating_runs import WEIGHT, settings_of_joint
from tests.train.router_phases import in_float64

FLOAT32 = 2e-6  # of the norm: a gradient in float32 beside one in float64


@dataclass
class Step:
    """What one step had and made."""

    values: dict[str, Tensor]
    gradients: dict[str, Tensor | None]
    rows: dict[str, Tensor]
    pairs: tuple
    experts: set
    consistency: float
    num_forwards: int


def watched_step(experiments, name: str, step: int, **settings) -> Step:
    """The step after `step` steps of a joint run."""
    seen = []

    class Watched(JointTrainer):
        def train_parts(self, model, parts, num_items_in_batch):
            values = {name: master.detach().clone() for name, master in self.trained.items()}
            losses = super().train_parts(model, parts, num_items_in_batch)
            if self.state.global_step == step:
                batch = self.open_step.batches[-1]
                gradients = {name: None if m.grad is None else m.grad.clone() for name, m in self.trained.items()}
                found = self.router_phase.paired[batch].pairs, set(self.batch_experts[batch])
                consistency = sum(self.open_step.consistency), len(self.open_step.consistency)
                seen.append(Step(values, gradients, self.train_dataset[batch], *found, *consistency))
            return losses

    with patch.object(fitting, "JointTrainer", Watched):
        train.run("alternating", settings_of_joint(experiments, name, **settings), experiments.store, lambda _: None)
    (found,) = seen
    return found


def plain_model(values: dict[str, Tensor]) -> nn.Module:
    """The tiny model of transformers with these masters, every parameter trainable."""
    model = in_float64(load_model(ModelConfig(name="tiny", device="cpu")).model).train().requires_grad_(True)
    with torch.no_grad():
        for name, value in values.items():
            place_of(model, name, lambda parameter: parameter).copy_(value)
    return model


def place_of(model: nn.Module, name: str, of) -> Tensor:
    """The rows of a parameter, or of its gradient, that a master is of."""
    if name.startswith("model."):
        return of(model.get_parameter(name))
    _, layer, _, expert, weight = name.split(".")
    return of(model.get_parameter(f"model.layers.{layer}.mlp.experts.{weight}"))[int(expert)]


def losses_of(model: nn.Module, step: Step, target: list[Tensor] | None) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Cross-entropy, L_cons over pairs, and the plain distributions; the routers are read by plain hooks."""
    rows, logits = step.rows, []
    hooks = [
        layer.mlp.gate.register_forward_pre_hook(
            lambda gate, args: logits.append(nn.functional.linear(args[0], gate.weight))
        )
        for layer in model.model.layers
    ]
    output = model(input_ids=rows["input_ids"], attention_mask=rows["attention_mask"], use_cache=False).logits
    for hook in hooks:
        hook.remove()
    labels = rows["labels"][:, 1:]
    answers = labels != -100
    entropy = nn.functional.cross_entropy(output[:, :-1][answers], labels[answers])
    p_LBSE = torch.stack([of.reshape(*rows["labels"].shape, -1).softmax(-1) for of in logits])
    of_row = [p_LBSE[:, row][:, labels_S != -100].mean(1) for row, labels_S in enumerate(rows["labels"])]
    plain = [of_row[pair.plain] for pair in step.pairs]
    P, Q = torch.stack(plain if target is None else target), torch.stack([of_row[pair.attacked] for pair in step.pairs])
    return entropy, (P * (P / Q).log()).sum(-1).mean(), plain


@pytest.mark.parametrize(
    ("target", "own"),
    [
        ("base", {}),
        ("current", {}),
        ("both", {}),
        ("both", {"max_forward_tokens": 24, "gradient_checkpointing": True}),
    ],
    ids=str,
)
def test_the_gradient_is_that_of_cross_entropy_plus_the_weighted_consistency_in_plain_torch(experiments, target, own):
    step = watched_step(experiments, f"gradient-{target}-{len(own)}", 7, consistency_target=target, train_settings=own)
    model = plain_model(step.values)
    stored = {"base": plain_model({}), "current": model}.get(target)
    fixed = None if stored is None else [of.detach() for of in losses_of(stored, step, None)[2]]
    entropy, consistency, _ = losses_of(model, step, fixed)
    assert step.consistency == pytest.approx(consistency.item(), rel=1e-5)
    assert (step.num_forwards > 1) is bool(own)
    parameters = list(model.parameters())
    of_entropy = dict(zip(parameters, torch.autograd.grad(entropy, parameters, retain_graph=True), strict=True))
    of_routing = torch.autograd.grad(consistency, parameters, allow_unused=True)
    both = {
        id(p): of_entropy[p] + WEIGHT * (torch.zeros_like(p) if of is None else of)
        for p, of in zip(parameters, of_routing, strict=True)
    }
    for name, gradient in step.gradients.items():
        expected = place_of(model, name, lambda parameter: both[id(parameter)])
        if gradient is None:
            assert name.startswith("layers.")
            assert not any(name.startswith(f"layers.{e.layer}.experts.{e.index}.") for e in step.experts)
            continue
        assert (gradient - expected).norm() <= FLOAT32 * expected.norm(), name
        alone = place_of(model, name, lambda parameter: of_entropy[parameter])
        if name.startswith("model."):  # the term that the selective arm does not have is no rounding error
            assert (expected - alone).norm() > 1e-3 * expected.norm()
    trained = [name for name, gradient in step.gradients.items() if gradient is not None]
    assert len([name for name in trained if name.startswith("model.")]) == len(model.model.layers)
    assert len(trained) - len(model.model.layers) == 2 * len(step.experts)


def test_both_sides_have_another_gradient_than_the_side_that_is_attacked_alone(experiments):
    """The values are the same, as the target is read with the same weights."""
    one, two = (watched_step(experiments, f"sides-{t}", 0, consistency_target=t) for t in ("current", "both"))
    assert one.consistency == pytest.approx(two.consistency, rel=1e-6)
    routers = [name for name in one.gradients if name.startswith("model.")]
    assert all((one.gradients[n] - two.gradients[n]).norm() > 1e-3 * one.gradients[n].norm() for n in routers)
