"""Where the expert layers of a transformers v5 model are, and its parameter groups; the only file that knows families.

Expert layers are in the order of the decoder. A layer is recognised by the seam that transformers itself marks
(`use_experts_implementation`), never by a name; a model that is not understood is refused with what was looked for.

Every parameter and persistent buffer has exactly one group; of tied ones only the first name is listed. The experts are
the banks found here. The router is what decides beside them: modules named `gate` or `router`, and values with one
entry per expert. `attention` is whatever mixes tokens (linear attention, state space, short convolution). Parts that
read images or sound are `other`, as are dense feed-forward layers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count, pairwise
from typing import Literal, Protocol, cast

from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

from moe_cli.errors import UsageError
from moe_cli.model.tensors import stored_tensors

FLAGS = ("has_gate", "has_bias", "is_transposed")  # what the decorator writes on every experts module, since 5.17

TOP_K_NAMES = ("top_k", "num_experts_per_tok", "num_experts_per_token", "top_k_experts", "moe_topk", "moe_top_k")

LOOPS = "loop_num_passes"  # of a text config: how often some layers run for each token

NOT_TEXT = ("vision_moe", "talker")  # holders of experts that no token of a text reaches: image tokens, spoken answers

ExpertsFunction = Callable[[nn.Module, Tensor, Tensor, Tensor], Tensor]  # module, tokens, top-k indices, their weights
Group = Literal["experts", "shared experts", "router", "attention", "embeddings", "norms", "head", "other"]
_names = (f"moe_experts_{number}" for number in count())
ROUTER_NAMES = ("gate", "router")
TOKEN_MIXER = re.compile(r"Attention(?!Residual)|Mamba|DeltaNet|ShortConv")  # in the names of classes


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ExpertLayer:
    """The experts of one decoder layer."""

    layer: int  # 7; the decoder layer's own index
    name: str  # "model.layers.7.mlp.experts"
    module: nn.Module  # holds the fused weights; its forward is the seam
    num_experts: int  # 64
    top_k: int | None  # 8; None where only a forward tells
    weights: tuple[str, ...]  # ("gate_up_proj", "down_proj"); parameters with one row per expert, biases included
    params_per_expert: int  # 6291456


def expert_layers(model: nn.Module) -> tuple[ExpertLayer, ...]:
    """All expert layers of the text model, in the order of the decoder layers' own indices.

    Raises:
        UsageError: there are none, or two of them share a decoder index.
    """
    layers = sorted(
        (_expert_layer(model, name, module) for name, module in _seams_of_text(model)),
        key=lambda layer: layer.layer,
    )
    if not layers:
        raise _no_experts(model)
    for one, other in pairwise(layers):
        if one.layer == other.layer:
            raise UsageError(
                f"{type(model).__name__} has two banks of experts in layer {one.layer}: {one.name} and {other.name}",
                hint="an expert is named by (layer, index) alone; load the text model by itself",
            )
    return tuple(layers)


def _seams_of_text(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, module in model.named_modules():
        if _is_seam(module) and set(NOT_TEXT).isdisjoint(name.split(".")):
            yield name, module


def _is_seam(module: nn.Module) -> bool:
    return hasattr(type(module).forward, "__wrapped__") and all(hasattr(module, flag) for flag in FLAGS)


def _expert_layer(model: nn.Module, name: str, module: nn.Module) -> ExpertLayer:
    own = dict(module.named_parameters(recurse=False))
    num_experts = int(getattr(module, "num_experts", 0)) or max((w.shape[0] for w in own.values()), default=0)
    weights = tuple(key for key, weight in own.items() if weight.dim() >= 2 and weight.shape[0] == num_experts)
    return ExpertLayer(
        layer=_decoder_index(model, name),
        name=name,
        module=module,
        num_experts=num_experts,
        top_k=_top_k(model, name, module),
        weights=weights,
        params_per_expert=sum(own[key].numel() // num_experts for key in weights),
    )


def _decoder_index(model: nn.Module, name: str) -> int:
    """The index in the innermost module list on the path `name`."""
    parts = name.split(".")
    for position in range(len(parts) - 1, 0, -1):
        container = model.get_submodule(".".join(parts[:position]))
        if parts[position].isdigit() and isinstance(container, nn.ModuleList):
            return int(parts[position])
    raise UsageError(
        f"{type(model).__name__} holds experts at {name or 'its root'}, outside any list of decoder layers",
        hint="load the whole causal language model, not a single block of it",
    )


def _top_k(model: nn.Module, name: str, module: nn.Module) -> int | None:
    """Top-k of the router beside the experts, else of the config that built them."""
    parent = model.get_submodule(name.rpartition(".")[0])
    beside = [parent, *(child for child in parent.children() if child is not module)]
    for holder in (*beside, getattr(module, "config", None)):
        for key in TOP_K_NAMES:
            value = getattr(holder, key, None)
            if isinstance(value, int) and not isinstance(value, bool):
                return value
    return None


def check_one_pass(config: PreTrainedConfig) -> None:
    """Refuse a model that runs layers several times for each token: an expert would be counted more than once.

    Raises:
        UsageError: it does, according to its config.
    """
    num_passes = getattr(config.get_text_config(), LOOPS, 1)
    if num_passes > 1:
        raise UsageError(
            f"a {config.model_type} checkpoint runs its layers {num_passes} times for each token ({LOOPS}), and moe "
            "counts one choice of experts in each layer",
            hint="name a model that runs every layer once",
        )


def _no_experts(model: nn.Module) -> UsageError:
    foreign = sorted({type(m).__name__ for name, m in model.named_modules() if name.rpartition(".")[2] == "experts"})
    note = f"; it has experts of its own kind ({', '.join(foreign)})" if foreign else ""
    looked = f"looked in {sum(1 for _ in model.modules())} modules for a class decorated with transformers'"
    return UsageError(
        f"{type(model).__name__} has no expert layers that moe understands: {looked} use_experts_implementation "
        f"(flags {', '.join(FLAGS)}){note}",
        hint="give a mixture-of-experts model of transformers v5, such as allenai/OLMoE-1B-7B-0125-Instruct",
    )


def switch_experts(model: nn.Module, name: str) -> Callable[[], None]:
    """Make the registered experts function `name` run all expert layers of `model`; returns a function that undoes it.

    The name is set on the config that each experts module reads: `set_experts_implementation` guesses submodels from
    source files, and returns one name per model although nested models may have had several.
    """
    before = [(config, cast("str | None", config._experts_implementation)) for config in _configs(model)]

    def undo() -> None:
        for config, implementation in before:
            config._experts_implementation = {"": implementation}  # a dict: sub-configs keep theirs

    for config, _ in before:
        config._experts_implementation = {"": name}
    return undo


@contextmanager
def experts_computed_by(model: nn.Module, function: ExpertsFunction) -> Iterator[None]:
    """All expert layers of `model` are run by `function` inside the block; afterwards by what ran them before."""
    name = next(_names)
    ALL_EXPERTS_FUNCTIONS[name] = function
    undo = switch_experts(model, name)
    try:
        yield
    finally:
        undo()
        del ALL_EXPERTS_FUNCTIONS[name]


def experts_function(layer: ExpertLayer) -> ExpertsFunction:
    """The function that runs this layer's experts now: a registered one, or the family's own loop."""
    own_forward = type(layer.module).forward.__wrapped__  # type: ignore[attr-defined]
    name = _config(layer)._experts_implementation
    return cast(ExpertsFunction, ALL_EXPERTS_FUNCTIONS.get_interface(name, own_forward))


class _Config(Protocol):
    _experts_implementation: str | dict[str, str | None] | None


def _config(layer: ExpertLayer) -> _Config:
    return cast(_Config, layer.module.config)


def _configs(model: nn.Module) -> list[_Config]:
    return list({id(config): config for config in map(_config, expert_layers(model))}.values())


def parameter_groups(model: PreTrainedModel) -> dict[str, Group]:
    """Name -> group, for every tensor of `stored_tensors`, in that order."""
    layers = expert_layers(model)
    banks = {f"{layer.name}.{weight}" for layer in layers for weight in layer.weights}
    routers = {name for layer in layers for name in _router_of(model, layer)}
    embeddings, head = _ids_of(model.get_input_embeddings()), _ids_of(model.get_output_embeddings())
    text = _text_prefix(model, layers[0])
    groups: dict[str, Group] = {}
    for name, tensor in stored_tensors(model):
        if name in banks:
            groups[name] = "experts"
        elif name in routers:
            groups[name] = "router"
        elif id(tensor) in embeddings:
            groups[name] = "embeddings"
        elif id(tensor) in head:
            groups[name] = "head"
        else:
            groups[name] = _by_holders(model, name) if name.startswith(text) else "other"
    return groups


def router_tensors(model: PreTrainedModel) -> dict[str, Tensor]:
    """Parameters and persistent buffers of the routers of all expert layers, by name."""
    groups = parameter_groups(model)
    return {name: tensor for name, tensor in stored_tensors(model) if groups[name] == "router"}


def router_module(model: nn.Module, layer: ExpertLayer) -> nn.Module:
    """The module that maps tokens to the logits of this layer's experts.

    Raises:
        UsageError: none stands beside the experts.
    """
    block = model.get_submodule(layer.name.rpartition(".")[0])
    for name in ROUTER_NAMES:
        if isinstance(router := getattr(block, name, None), nn.Module):
            return router
    raise UsageError(
        f"{type(model).__name__} has no router module beside {layer.name}; looked for {' and '.join(ROUTER_NAMES)}",
        hint="a router that moe does not find is neither read nor changed",
    )


def _router_of(model: nn.Module, layer: ExpertLayer) -> Iterator[str]:
    """Names of the router's tensors for these experts: in the modules beside them, or in the block around them."""
    block_name = layer.name.rpartition(".")[0]
    for name in model.get_submodule(block_name).state_dict(keep_vars=True, prefix=f"{block_name}."):
        first, _, rest = name.removeprefix(f"{block_name}.").partition(".")
        if first in ROUTER_NAMES or (not rest and _tensor(model, name).numel() == layer.num_experts):
            yield name


def _tensor(model: nn.Module, name: str) -> Tensor:
    holder, _, key = name.rpartition(".")
    tensor: Tensor = getattr(model.get_submodule(holder), key)
    return tensor


def _ids_of(module: nn.Module | None) -> Collection[int]:
    """Ids of the module's own tensors, without those of submodules."""
    return {id(weight) for weight in module.parameters(recurse=False)} if module is not None else ()


def _text_prefix(model: nn.Module, layer: ExpertLayer) -> str:
    """The prefix of all names in the text model: the name of the module that contains the decoder layers."""
    parts = layer.name.split(".")
    lists = [
        place
        for place, part in enumerate(parts)
        if part.isdigit() and isinstance(model.get_submodule(".".join(parts[:place])), nn.ModuleList)
    ]
    return "".join(f"{part}." for part in parts[: lists[-1] - 1])


def _by_holders(model: nn.Module, name: str) -> Group:
    """The group of a tensor, from the modules that contain it."""
    parts = name.split(".")[:-1]
    if any(part.startswith("shared_") for part in parts):
        return "shared experts"
    holders = [type(model.get_submodule(".".join(parts[: end + 1]))).__name__ for end in range(len(parts))]
    if any("Norm" in holder for holder in holders):
        return "norms"
    if any(TOKEN_MIXER.search(holder) for holder in holders):
        return "attention"
    return "other"
