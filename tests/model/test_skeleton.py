"""A model from its config alone: the parameters of the opened one, and no weight is read."""

import pytest

from moe_cli.config import ModelConfig
from moe_cli.errors import UsageError
from moe_cli.model.load import load_model
from moe_cli.model.skeleton import meta_model
from moe_cli.model.topology import parameter_groups
from tests.experts.checkpoints import openable, written

FAMILIES = ("aria", "deepseek_v4", "gpt_oss", "inkling", "mixtral", "qwen3_omni_moe")  # older releases lack some


@pytest.mark.parametrize("family", [family for family in FAMILIES if family in openable()])
def test_a_skeleton_has_the_parameters_of_the_opened_checkpoint_without_its_weights(family, tmp_path):
    written(family, tmp_path)
    opened = load_model(ModelConfig(name=str(tmp_path), device="cpu")).model
    for file in tmp_path.glob("*.safetensors*"):
        file.unlink()
    skeleton = meta_model(ModelConfig(name=str(tmp_path)))
    assert type(skeleton) is type(opened)
    shapes = [
        {name: (tensor.shape, tensor.dtype) for name, tensor in one.named_parameters()} for one in (skeleton, opened)
    ]
    assert shapes[0] == shapes[1]
    assert all(parameter.is_meta for parameter in skeleton.parameters())
    assert parameter_groups(skeleton) == parameter_groups(opened)


def shapes_of(model):
    return {name: (tensor.shape, tensor.dtype) for name, tensor in model.named_parameters()}


def test_the_dtype_is_that_in_which_the_weights_would_be_opened():
    for dtype in ("auto", "float32", "bfloat16"):
        config = ModelConfig(name="tiny", dtype=dtype, device="cpu")
        assert meta_model(config).dtype == load_model(config).model.dtype


def test_a_dense_model_is_refused_as_when_it_is_opened(tmp_path):
    from transformers import LlamaConfig

    sizes = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "vocab_size": 8,
    }
    LlamaConfig(**sizes).save_pretrained(tmp_path)
    with pytest.raises(UsageError, match="no expert layers"):
        meta_model(ModelConfig(name=str(tmp_path)))
