"""What the tests of the engine share: token ids, a padded batch, dense gradients, and a comparison by bits."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import PreTrainedModel

from moe_cli.model.topology import expert_layers
from moe_cli.records import Expert


def token_ids(rows: int = 2, positions: int = 12, seed: int = 0) -> Tensor:
    return torch.randint(3, 64, (rows, positions), generator=torch.Generator().manual_seed(seed))


def loss_of(model: PreTrainedModel, ids: Tensor) -> Tensor:
    return model(input_ids=ids, labels=ids, use_cache=False).loss


def some_experts(model: PreTrainedModel, indices: tuple[int, ...] = (1, 3, 6)) -> list[Expert]:
    return [Expert(layer=layer.layer, index=index) for layer in expert_layers(model) for index in indices]


def dense_gradients(model: PreTrainedModel, ids: Tensor) -> dict[str, Tensor]:
    """Gradient of every expert's rows from an ordinary backward through the whole model, by the slices' names."""
    model.zero_grad()
    loss_of(model, ids).backward()
    gradients = {
        f"layers.{layer.layer}.experts.{index}.{weight}": layer.module.get_parameter(weight).grad[index].clone()
        for layer in expert_layers(model)
        for weight in layer.weights
        for index in range(layer.num_experts)
    }
    model.zero_grad()
    return gradients


def weights_of(model: PreTrainedModel) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def same_bits(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
