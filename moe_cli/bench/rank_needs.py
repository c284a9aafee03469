"""The sizes of a model, and what each of several processes needs and sends: arithmetic, as docs/scale.md says.

Replicated, every process has all weights; sharded, the frozen weights of the selective arm, or the masters, gradients
and moments of the baseline, are shared out, and layers are gathered while they compute.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil, prod

import torch
from transformers import PreTrainedModel

from moe_cli.bench.fake_step import StepShape
from moe_cli.config import MoeConfig
from moe_cli.model.topology import ExpertLayer, expert_layers, parameter_groups
from moe_cli.records import Arm, Placement, RankNeed, StepMemory
from moe_cli.records.resource_plan import each_holds_experts

FLOAT32 = 4  # bytes
GATHERED = 2  # layers that are whole at once: the one that computes and the one that is fetched
ROOT = ("embeddings", "head")  # what FSDP gathers with the model as a whole


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSizes:
    """What the config says of the model."""

    model: PreTrainedModel
    layers: tuple[ExpertLayer, ...]
    dtype: torch.dtype
    params: dict[str, int]  # by group
    total: int
    largest_layer: int  # parameters of a decoder layer

    @property
    def root(self) -> int:
        """Parameters that FSDP gathers with the model as a whole."""
        return sum(self.params.get(group, 0) for group in ROOT)

    @property
    def active(self) -> float:
        """Parameters that a token meets."""
        experts = self.params["experts"]
        share = max((layer.top_k or layer.num_experts) / layer.num_experts for layer in self.layers)
        return self.total - experts + experts * share


def sizes_of(model: PreTrainedModel) -> ModelSizes:
    """Counts and shape of a model, which may be on the meta device."""
    groups = parameter_groups(model)
    params: dict[str, int] = {}
    for name, parameter in model.named_parameters():
        params[groups[name]] = params.get(groups[name], 0) + parameter.numel()
    layers = expert_layers(model)
    return ModelSizes(
        model=model,
        layers=layers,
        dtype=model.dtype,
        params=dict(sorted(params.items(), key=lambda group: -group[1])),
        total=sum(params.values()),
        largest_layer=max(_layer_sizes(model, layers)),
    )


def _layer_sizes(model: PreTrainedModel, layers: Sequence[ExpertLayer]) -> Iterator[int]:
    """Parameters of each decoder layer with experts."""
    for layer in layers:
        parts = layer.name.split(".")
        end = max(place for place, part in enumerate(parts) if part == str(layer.layer))
        yield sum(parameter.numel() for parameter in model.get_submodule(".".join(parts[: end + 1])).parameters())


def rank_needs(
    arm: Arm,
    config: MoeConfig,
    sizes: ModelSizes,
    step: StepMemory,
    shape: StepShape,
    *,
    ranks: Sequence[int],
    memory: int,
    is_shared: bool,
    beside: int,
    num_batches: int | None,
) -> Iterator[RankNeed]:
    """What each of so many processes needs, replicated and sharded.

    `memory` is what each of them has, in bytes, or, with `is_shared`, what all have together; `beside` its peak each
    holds so many bytes there.
    """
    placements: tuple[Placement, ...] = ("replicated",) if arm == "alternating" else ("replicated", "sharded")
    for number in ranks:
        for placement in placements if number > 1 else ("one process",):
            can_share = placement != "sharded" or all(
                each_holds_experts(layer.num_experts, number) for layer in sizes.layers
            )
            peak = step.peak - _spared(arm, sizes, step, number) if placement == "sharded" else step.peak
            yield RankNeed(
                ranks=number,
                placement=placement,
                peak=peak,
                fits=can_share and peak + beside <= (memory // number if is_shared else memory),
                num_steps=_num_steps(arm, config, num_batches, number),
                sent=_sent(arm, sizes, step, shape, number, placement),
            )


def _largest_share(size: int, sizes: ModelSizes, ranks: int) -> int:
    """Of `size` bytes of all parameters, those on the process with most: whole rows of each, so an expert whole."""
    shapes = [parameter.shape for parameter in sizes.model.parameters()]
    params = sum(ceil(shape[0] / ranks) * prod(shape[1:]) if shape else 1 for shape in shapes)
    return size * params // sizes.total


def _spared(arm: Arm, sizes: ModelSizes, step: StepMemory, ranks: int) -> int:
    """Bytes that a process is spared where `ranks` share the weights: all that is shared, less what is gathered."""
    gathered = GATHERED * sizes.largest_layer + sizes.root
    if arm == "selective":
        return step.weights - _largest_share(step.weights, sizes, ranks) - gathered * sizes.dtype.itemsize
    shared = step.masters + step.gradients + step.moments
    own = _largest_share(shared, sizes, ranks)
    return shared - own - (gathered + sizes.largest_layer) * FLOAT32  # a layer's gradient is whole too


def _sent(arm: Arm, sizes: ModelSizes, step: StepMemory, shape: StepShape, ranks: int, placement: Placement) -> int:
    """Bytes of a step: gradients of what trains; where weights are shared, they are gathered in each forward and back.

    Gathering W bytes over N processes takes W (N - 1) / N of each, or N - 1 times the largest share.
    """
    if ranks == 1:
        return 0
    if placement == "replicated":
        return step.gradients
    forwards = shape.num_batches * ceil(shape.rows / shape.forward_rows)
    shared = step.weights if arm == "selective" else step.masters
    times = forwards * (ranks - 1)
    gathered = 2 * times * _largest_share(shared, sizes, ranks)
    return gathered + (step.gradients if arm == "selective" else times * _largest_share(step.gradients, sizes, ranks))


def _num_steps(arm: Arm, config: MoeConfig, num_batches: int | None, ranks: int) -> int | None:
    """Optimizer steps of the run, of the alternating arm those of both kinds."""
    if num_batches is None:
        return None
    rounds = config.alternating
    epochs = rounds.num_rounds * (rounds.expert_epochs + rounds.router_epochs)
    per_epoch = ceil(num_batches / (ranks * config.train.gradient_accumulation_steps))
    return per_epoch * (epochs if arm == "alternating" else config.train.num_epochs)
