"""Models to intervene on, as if they had been loaded."""

from __future__ import annotations

from transformers import PreTrainedModel

from moe_cli.model.load import LoadedModel
from moe_cli.model.tensors import weights_fingerprint
from moe_cli.model.topology import expert_layers
from moe_cli.records import ModelIdentity


def loaded_as(model: PreTrainedModel) -> LoadedModel:
    """The model as it is after loading; without a tokenizer."""
    layers = expert_layers(model)
    identity = ModelIdentity(
        name="a model",
        directory=None,
        revision=None,
        architecture=type(model).__name__,
        fingerprint=weights_fingerprint(model),
        dtype="float32",
        layers=tuple(layer.layer for layer in layers),
        num_experts=layers[0].num_experts,
        top_k=layers[0].top_k,
        total_params=sum(weight.numel() for weight in model.parameters()),
        chat_template="",
        settings="",
    )
    return LoadedModel(model, None, layers, identity)  # type: ignore[arg-type]
