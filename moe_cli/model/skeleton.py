"""A model from its config alone: every parameter has its shape and dtype, and none has a value.

Nothing but `config.json` is read, so a model of any size can be described on any machine.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from moe_cli.config import ModelConfig
from moe_cli.model.directory import model_directory
from moe_cli.model.foreign_files import as_floats, auto_class, config_of
from moe_cli.model.load import MODEL_HINT, naming_checkpoint
from moe_cli.model.topology import check_one_pass, expert_layers


def meta_model(config: ModelConfig) -> PreTrainedModel:
    """The model that `config` names on torch's meta device, in the dtype in which it would be opened.

    Raises:
        UsageError: no such model, no model that answers with text, or a dense one.
        EnvironmentFaultError: it is not local and the hub cannot be reached.
    """
    place = model_directory(config.name)
    source, name = str(place or config.name), f"the model {config.name}"
    with naming_checkpoint(name, MODEL_HINT):
        own = config_of(source, revision=config.revision)
        check_one_pass(own)
        as_floats(own, name)
        auto, opened = auto_class(own)
        with torch.device("meta"):
            model: PreTrainedModel = auto.from_config(opened, dtype=_dtype_of(config, opened))
        expert_layers(model)  # refuses a model without experts
    return model


def fill_with_empty(model: PreTrainedModel, *, as_float32: bool) -> None:
    """Give a model on the meta device tensors on the CPU: without values, under torch's FakeTensorMode.

    `as_float32` makes the floats of every parameter and buffer float32, as `model.float()` does.
    """
    made: dict[int, Tensor] = {}  # tied weights stay tied

    def empty(tensor: Tensor) -> Tensor:
        if id(tensor) not in made:
            dtype = torch.float32 if as_float32 and tensor.is_floating_point() else tensor.dtype
            fresh = torch.empty(tensor.shape, dtype=dtype, device="cpu")
            is_parameter = isinstance(tensor, nn.Parameter)
            made[id(tensor)] = nn.Parameter(fresh, requires_grad=tensor.requires_grad) if is_parameter else fresh
        return made[id(tensor)]

    for module in model.modules():
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if tensor is not None:
                    tensors[name] = empty(tensor)  # type: ignore[index]


def _dtype_of(config: ModelConfig, opened: PreTrainedConfig) -> torch.dtype:
    """The dtype in which `load_model` opens the weights; a config that names none was saved in float32."""
    if config.dtype != "auto":
        named: torch.dtype = getattr(torch, config.dtype)
        return named
    own = opened.dtype or opened.get_text_config().dtype
    return own if isinstance(own, torch.dtype) else torch.float32
