"""Router phases on small models: batches of hand-made pairs, and the reference that uses no seam."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from moe_cli.config import AlternatingConfig
from moe_cli.experts.router_masters import RouterMasters, attach_routers
from moe_cli.model.chat import EncodedChat
from moe_cli.model.topology import expert_layers, router_module
from moe_cli.records import Message, TrainingExample
from moe_cli.train.dataset import FixedBatches
from moe_cli.train.paired_rows import paired_batches
from moe_cli.train.router_phase import RouterPhase

ANSWERS = ((9, 10, 11), (12, 13), (14, 15, 16, 17))
PLAIN = ((3, 4, 5), (6, 7), (8, 9, 3, 4))
ATTACKED = ((20, 21, 3, 4, 5, 22), (23, 6, 7), (8, 24, 9, 25, 3, 4, 26))
BENIGN = ((30, 31), (32, 33, 34, 35))


def examples_of(pairs: range, batch: int = 0) -> list[TrainingExample]:
    """Plain forms, two benign prompts, attacked forms; what is said does not matter, only who belongs to whom."""
    made = [("refuse_plain", "safe", pair) for pair in pairs]
    made += [("benign", "safe", 100 + number) for number in range(len(BENIGN))]
    made += [("refuse_attacked", "unsafe", pair) for pair in pairs]
    return [
        TrainingExample(
            id=f"goal-{number}#{side}",
            batch_idx=batch,
            side=side,
            kind=kind,
            cluster=f"goal-{number}",
            messages=(Message(role="user", content="?"), Message(role="assistant", content=f"no {number}")),
        )
        for kind, side, number in made
    ]


def rows_of(pairs: range, attacked: tuple[tuple[int, ...], ...] = ATTACKED) -> list[EncodedChat]:
    """The rows of `examples_of`."""
    rows = [EncodedChat((*PLAIN[pair], *ANSWERS[pair]), len(PLAIN[pair])) for pair in pairs]
    rows += [EncodedChat((*prompt, 40, 41), len(prompt)) for prompt in BENIGN]
    return rows + [EncodedChat((*attacked[pair], *ANSWERS[pair]), len(attacked[pair])) for pair in pairs]


def phase_of(
    model: nn.Module,
    *batches: range,
    attacked: tuple[tuple[int, ...], ...] = ATTACKED,
    max_tokens: int | None = None,
    **settings: object,
) -> RouterPhase:
    """A router phase on these pairs, with the routers attached; its targets are not read yet."""
    config = AlternatingConfig.model_validate(settings)
    examples = [example for number, pairs in enumerate(batches) for example in examples_of(pairs, number)]
    fixed = FixedBatches([rows_of(pairs, attacked) for pairs in batches], max_padding=0.1, max_tokens=max_tokens)
    paired = paired_batches(
        examples, fixed, max_padding=0.1, max_tokens=max_tokens, together=config.consistency_over == "batch"
    )
    model.requires_grad_(False)
    routers = attach_routers(model, [layer.layer for layer in expert_layers(model)])
    return RouterPhase(model, routers, fixed, paired, config)


def loss_of(phase: RouterPhase) -> Tensor:
    """L_cons of all pairs, differentiable."""
    parts = [
        phase.consistency_loss(number, phase.rows_of(number, cut))
        for number, batch in enumerate(phase.paired)
        for cut in batch.attacked
    ]
    return torch.stack(parts).sum() / phase.num_pairs


def gradients_of(loss: Tensor, routers: RouterMasters) -> dict[str, Tensor]:
    """Gradient of every master."""
    values = torch.autograd.grad(loss, list(routers.parameters.values()))
    return dict(zip(routers.parameters, values, strict=True))


def plain_loss(model: nn.Module, pairs: range, kind: str) -> float:
    """L_cons by hooks on the routers' inputs and their weights, without seam and padding, row by row."""
    routers = [router_module(model, layer) for layer in expert_layers(model)]
    seen: list[Tensor] = []

    def keep(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        hidden_TH = args[0].reshape(-1, args[0].shape[-1])
        seen.append(nn.functional.linear(hidden_TH.float(), module.weight.float(), getattr(module, "bias", None)))

    hooks = [router.register_forward_pre_hook(keep) for router in routers]

    def mean_distributions(ids: tuple[int, ...], num_answer: int) -> list[Tensor]:
        seen.clear()
        with torch.no_grad():
            model(input_ids=torch.tensor([ids]), use_cache=False)
        scores = [logits.sigmoid() if kind == "sigmoid" else logits.softmax(-1) for logits in seen]
        return [(of / of.sum(-1, keepdim=True))[-num_answer:].mean(0) for of in scores]

    total = 0.0
    for pair in pairs:
        answer = ANSWERS[pair]
        plain = mean_distributions((*PLAIN[pair], *answer), len(answer))
        attacked = mean_distributions((*ATTACKED[pair], *answer), len(answer))
        total += sum(float((P * (P / Q).log()).sum()) for P, Q in zip(plain, attacked, strict=True)) / len(routers)
    for hook in hooks:
        hook.remove()
    return total / len(pairs)


def in_float64(model: nn.Module) -> nn.Module:
    """The model (of a family whose routers compute in the dtype of the weights) without a step in float32."""
    model.double().eval().set_experts_implementation("eager")
    for norm in [module for module in model.modules() if type(module).__name__.endswith("RMSNorm")]:
        norm.forward = lambda x, norm=norm: (
            norm.weight * x * (x.square().mean(-1, keepdim=True) + norm.variance_epsilon).rsqrt()
        )
    return model
