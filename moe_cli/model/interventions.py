"""Interventions on a model whose weights stay as they are: experts are taken away, or the router is steered.

Inside a block of `without_experts` or `steered` the model computes with the intervention; afterwards, also after an
error, it is as it was. Inside it has an identity of its own, so that its answers are never taken for those of another
model. That masked experts get no token with a weight is checked in every forward.

Letters: L expert layers, E experts, T tokens, K top-k, C classes of a router (E or E + 1), H hidden size.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from moe_cli.errors import UsageError
from moe_cli.model.load import LoadedModel
from moe_cli.model.masked_experts import (
    ExpertsWithout,
    MaskedRouter,
    Masks,
    MeanOutputs,
    Scope,
    SteeredRouter,
    experts_mask,
)
from moe_cli.model.router_seam import forward_probe, probe_ids, router_seam
from moe_cli.model.routing import record_routing
from moe_cli.model.routing_replay import RoutingReplay
from moe_cli.model.topology import ExpertLayer, expert_layers, experts_computed_by
from moe_cli.records import Expert
from moe_cli.records.ablation import Intervention, Steering


@contextmanager
def without_experts(
    loaded: LoadedModel, intervention: Intervention, means_LEH: Sequence[Tensor] | None = None
) -> Iterator[LoadedModel]:
    """`loaded` without the experts of `intervention`, under an identity of its own; without any it is `loaded` itself.

    `means_LEH` are the mean outputs [E, H] of the experts of each layer, which the kind `mean` needs (`mean_outputs`).

    Raises:
        UsageError: an expert that the model does not have; for `reroute` a layer left with fewer experts than a token
            needs, or one whose experts no router chooses (by token id, say); without router effects a model whose
            routers decide by more than their logits.
    """
    if not intervention.experts:
        yield loaded
        return
    if intervention.kind == "mean" and means_LEH is None:
        raise ValueError("the kind mean needs the mean outputs of the experts (a bug of the caller)")
    layers, model = expert_layers(loaded.model), loaded.model
    mask_LE = experts_mask(layers, intervention.experts)
    if intervention.kind == "reroute":
        _refuse_too_few(model, layers, mask_LE)
        refuse_fixed_routing(model, mask_LE.sum(1) > 0)
    if intervention.without_router_effects:
        _refuse_unreplayed(model)
    with _masked(model, layers, mask_LE, intervention, means_LEH):
        yield intervened(loaded, _digest(intervention, means_LEH))


def _digest(intervention: Intervention, means_LEH: Sequence[Tensor] | None) -> str:
    """The digest of what is done, the means included."""
    digest = hashlib.sha256(intervention.digest.encode())
    for means_EH in means_LEH or ():
        digest.update(means_EH.numpy().tobytes())
    return digest.hexdigest()


@contextmanager
def steered(loaded: LoadedModel, steering: Steering) -> Iterator[LoadedModel]:
    """`loaded` with its router steered, under an identity of its own.

    Raises:
        UsageError: an expert that the model does not have, a layer whose experts no router chooses, or one that gives
            tokens other experts than the steering says.
    """
    layers = expert_layers(loaded.model)
    up_LE, down_LE = (experts_mask(layers, side) for side in (steering.activate, steering.deactivate))
    refuse_fixed_routing(loaded.model, (up_LE | down_LE).sum(1) > 0)
    with router_seam(loaded.model, SteeredRouter(steering, layers)):
        _refuse_not_steered(loaded.model, up_LE, down_LE)
        yield intervened(loaded, steering.digest)


def _refuse_not_steered(model: nn.Module, up_LE: NDArray[np.bool_], down_LE: NDArray[np.bool_]) -> None:
    """Refuse a steered model that gives its tokens other experts in a short forward than the steering says.

    Raises:
        UsageError: an activated expert without a token or weight, or a deactivated one with them.
    """
    layers, unlike = expert_layers(model), []
    for index, (layer, chosen_TK) in enumerate(zip(layers, _probe_choices(model), strict=True)):
        (num_tokens, top_k), num_others = chosen_TK.shape, layer.num_experts - int(down_LE[index].sum())
        counts_E = np.bincount(chosen_TK.ravel(), minlength=layer.num_experts)[: layer.num_experts]
        num_up, num_down = (int(counts_E[side_LE[index, : layer.num_experts]].sum()) for side_LE in (up_LE, down_LE))
        expected_up = num_tokens * min(int(up_LE[index].sum()), top_k)
        if num_up != expected_up or num_down > num_tokens * max(0, top_k - num_others):
            unlike.append(layer.layer)
    if unlike:
        raise UsageError(
            f"the layers {unlike} of {type(model).__name__} cannot be steered so: a token gets other experts than "
            "those, or one of them without a weight",
            hint="activate fewer experts in these layers: a router may choose among the experts of a few groups alone",
        )


def intervened(loaded: LoadedModel, digest: str) -> LoadedModel:
    """The model under an identity of its own: a sha256 of its fingerprint and of what is done to it."""
    fingerprint = hashlib.sha256(f"model {loaded.identity.fingerprint}\nchange {digest}\n".encode()).hexdigest()
    return replace(loaded, identity=replace(loaded.identity, fingerprint=fingerprint))


def refuse_fixed_routing(model: nn.Module, layers_L: NDArray[np.bool_]) -> None:
    """Refuse a model whose experts are not chosen by a router in one of these layers.

    Raises:
        UsageError: a layer goes on choosing experts that are masked.
    """
    layers = expert_layers(model)
    if fixed := [layers[index].layer for index in fixed_layers(model, layers_L)]:
        raise UsageError(
            f"in the layers {fixed} of {type(model).__name__} no router chooses the experts: they are given by the "
            "token's id, or in another way that moe does not see",
            hint="leave these layers out: name experts of other layers",
        )


def fixed_layers(model: nn.Module, layers_L: NDArray[np.bool_]) -> list[int]:
    """Indices of those of these layers whose experts no router chooses; nothing else intervenes on the model.

    In a second short forward the experts that its first token chose before are masked: a router then chooses others.
    """
    layers = expert_layers(model)
    mask_LE = np.zeros((len(layers), max(layer.num_experts for layer in layers)), dtype=np.bool_)
    for index, chosen in enumerate(chosen_TK[0].tolist() for chosen_TK in _probe_choices(model)):
        if layers_L[index]:
            num_experts = layers[index].num_experts
            taken = [expert for expert in chosen if expert < num_experts]  # the id after the last is no expert
            mask_LE[index, taken[: num_experts - len(chosen)]] = True
    masks, scope = Masks(mask_LE), Scope(model, "all")
    router = MaskedRouter(masks, scope)
    experts = ExpertsWithout(layers, masks, scope, "reroute", None)
    with router_seam(model, router), experts_computed_by(model, experts.run), torch.no_grad():
        forward_probe(model)
    return sorted(experts.layers_that_chose() | (experts.layers_that_named() - router.scored))


def top_k_of(model: nn.Module) -> tuple[int, ...]:
    """The number of experts that a token gets in each expert layer, from a short forward."""
    return tuple(chosen_TK.shape[1] for chosen_TK in _probe_choices(model))


def _probe_choices(model: nn.Module) -> tuple[NDArray[np.int64], ...]:
    """The experts [T, K] that the tokens of a short forward chose in each expert layer; the id E is no expert."""
    with record_routing(model, keep_choices=True) as recorder, torch.no_grad():
        recorder.watch(torch.ones(1, *probe_ids(model).shape, dtype=torch.bool, device=probe_ids(model).device))
        forward_probe(model)
        return tuple(chosen_TK.numpy() for chosen_TK in recorder.choices())


def mean_outputs(loaded: LoadedModel, texts: Sequence[Sequence[int]], experts: Sequence[Expert]) -> tuple[Tensor, ...]:
    """float32 [E, H] for each layer: mean output of these experts over the tokens of `texts` that chose them.

    An expert that no token chose has the mean 0, as have the experts that are not asked for.
    """
    layers = expert_layers(loaded.model)
    recorder = MeanOutputs(layers, experts_mask(layers, experts))
    with experts_computed_by(loaded.model, recorder.run), torch.inference_mode():
        for ids in texts:
            loaded.model(input_ids=torch.tensor([list(ids)], device=loaded.device), use_cache=False)
    return recorder.means()


@contextmanager
def _masked(
    model: nn.Module,
    layers: Sequence[ExpertLayer],
    mask_LE: NDArray[np.bool_],
    intervention: Intervention,
    means_LEH: Sequence[Tensor] | None,
) -> Iterator[None]:
    """The model without the masked experts."""
    masks, scope = Masks(mask_LE), Scope(model, intervention.tokens)
    experts = ExpertsWithout(layers, masks, scope, intervention.kind, means_LEH)
    masked = MaskedRouter(masks, scope) if intervention.kind == "reroute" else None
    with ExitStack() as stack:
        stack.enter_context(experts_computed_by(model, experts.run))
        replay = None
        if intervention.without_router_effects:
            replay = stack.enter_context(_replayed(model, layers, masks, scope, masked))
        elif masked is not None:
            stack.enter_context(router_seam(model, masked))
        stack.callback(model.register_forward_pre_hook(scope.begin_forward, with_kwargs=True).remove)
        yield
    if wrong := experts.layers_that_chose():
        raise ValueError(f"experts that were masked were chosen in the layers {sorted(wrong)} (a bug)")
    if replay is not None and (wrong := replay.layers_that_differ()):
        raise ValueError(f"routing that is replayed differs in the layers {sorted(wrong)} (a bug)")


@contextmanager
def _replayed(
    model: nn.Module, layers: Sequence[ExpertLayer], masks: Masks, scope: Scope, masked: MaskedRouter | None
) -> Iterator[RoutingReplay]:
    """The routers decide by the logits of the model as it is, to which `masked` is applied."""
    replay = RoutingReplay(layers, masks, scope, masked)
    with router_seam(model, replay), experts_computed_by(model, replay.run):
        hook = model.register_forward_pre_hook(replay.begin_forward, with_kwargs=True)
        try:
            yield replay
        finally:
            hook.remove()


def _refuse_unreplayed(model: nn.Module) -> None:
    """Refuse a model that routes by more than its routers' logits: seen in a short forward without any expert's output.

    Raises:
        UsageError: choices or weights of some layer change although the logits do not.
    """
    layers = expert_layers(model)
    masks = Masks(np.ones((len(layers), max(layer.num_experts for layer in layers)), dtype=np.bool_))
    scope = Scope(model, "all")
    without_any = ExpertsWithout(layers, masks, scope, "zero", None)
    with experts_computed_by(model, without_any.run), _replayed(model, layers, masks, scope, None) as replay:
        with torch.no_grad():
            forward_probe(model)
        wrong = [layers[index].layer for index in sorted(replay.layers_that_differ())]
    if wrong:
        raise UsageError(
            f"in the layers {wrong} of {type(model).__name__} the routing depends on more than the routers' logits, so "
            "it cannot be kept as in the model as it is",
            hint="leave --without-router-effects away",
        )


def _refuse_too_few(model: nn.Module, layers: Sequence[ExpertLayer], mask_LE: NDArray[np.bool_]) -> None:
    for layer, top_k, num_masked in zip(layers, top_k_of(model), mask_LE.sum(1).tolist(), strict=True):
        refuse_too_few_left(layer.layer, layer.num_experts, num_masked, top_k)


def refuse_too_few_left(layer: int, num_experts: int, num_masked: int, top_k: int) -> None:
    """Refuse to take so many experts of a layer away that fewer are left than a token is given.

    Raises:
        UsageError: fewer are left.
    """
    if num_masked and num_experts - num_masked < top_k:
        raise UsageError(
            f"without {num_masked} of its {num_experts} experts layer {layer} has fewer than the {top_k} that a token "
            "is given",
            hint="take fewer experts away in this layer, or leave the choices as they are: --intervention zero",
        )
