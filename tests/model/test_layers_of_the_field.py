"""Layers as others build them: dense ones first, a correction bias, a top-k for each layer, multimodal wrappers."""

import json
from types import MappingProxyType

import pytest
import torch
import transformers
from packaging.version import Version
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoTokenizer

from moe_cli.config import ModelConfig
from moe_cli.model.engine import Prompt
from moe_cli.model.engines import generate_answers
from moe_cli.model.final_model import write_final_model
from moe_cli.model.foreign_files import SAVES_FLOATS
from moe_cli.model.load import load_model
from moe_cli.model.routing import record_routing
from moe_cli.model.tensors import weights_fingerprint
from moe_cli.records import Message
from moe_cli.tiny import CHECKPOINT_PATH
from tests.experts.catalog import RECIPES, SIZES, Recipe, tiny_config
from tests.experts.checkpoints import REACH, WORDS, model_class, whole_config

torch.set_num_threads(1)

OLDER = Version(transformers.__version__) < Version(SAVES_FLOATS)
IDS_BS = torch.arange(5, 29).view(2, 12)


def opened(family, directory, **settings):
    """A random checkpoint of the family with these settings, saved, and opened as the commands open it."""
    kind = type(whole_config(family))
    own = dict(RECIPES.get(family, Recipe()).settings)
    config = tiny_config(kind, MappingProxyType(own | settings), SIZES | WORDS | REACH)
    torch.manual_seed(0)
    model = model_class(kind)(config)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(directory)
    AutoTokenizer.from_pretrained(CHECKPOINT_PATH).save_pretrained(directory)
    return load_model(ModelConfig(name=str(directory), device="cpu"))


def counts(loaded):
    """int64 [B, L, E]: the experts of every token of `IDS_BS`."""
    with record_routing(loaded.model) as recorder, torch.inference_mode():
        recorder.watch(torch.ones(1, *IDS_BS.shape, dtype=torch.bool))
        loaded.model(input_ids=IDS_BS, use_cache=False)
        return recorder.counts()[:, 0]


def test_dense_first_layers_are_no_expert_layers_and_keep_their_index(tmp_path):
    loaded = opened("deepseek_v3", tmp_path, num_hidden_layers=3, first_k_dense_replace=2)
    assert loaded.identity.layers == (2,)
    assert counts(loaded).sum().item() == IDS_BS.numel() * loaded.identity.top_k


@pytest.mark.parametrize("family", ["deepseek_v3", "glm4_moe", "minimax_m2"])
def test_a_correction_bias_decides_what_is_counted(tmp_path, family):
    loaded = opened(family, tmp_path)
    biases = [
        tensor
        for name, tensor in (*loaded.model.named_buffers(), *loaded.model.named_parameters())
        if "correction_bias" in name
    ]
    assert len(biases) == len(loaded.layers)
    for bias in biases:
        bias.data[:] = 0
        bias.data[3] = 100.0
    assert (counts(loaded)[:, :, 3] == IDS_BS.shape[1]).all()  # every token chooses the expert that the bias lifts


def test_every_layer_counts_by_its_own_top_k(tmp_path):
    loaded = opened("hunyuan_v1_moe", tmp_path, moe_topk=[1, 3], num_experts_per_tok=[1, 3])
    assert [layer.top_k for layer in loaded.layers] == [1, 3] and loaded.identity.top_k is None
    assert counts(loaded).sum((0, 2)).tolist() == [IDS_BS.numel(), 3 * IDS_BS.numel()]


@pytest.mark.parametrize("family", ["qwen3_vl_moe", "gemma4"])
def test_a_multimodal_wrapper_that_asks_for_router_logits_answers(tmp_path, family):
    kind = type(whole_config(family))
    whole = whole_config(family)
    for part in (whole, whole.get_text_config()):
        part.output_router_logits = True
    torch.manual_seed(0)
    model_class(kind)(whole).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(CHECKPOINT_PATH).save_pretrained(tmp_path)
    loaded = load_model(ModelConfig(name=str(tmp_path), device="cpu"))
    prompts = [Prompt(text, (Message(role="user", content=text),)) for text in ("zorp", "describe the glim")]
    ((*made,),) = generate_answers(loaded, prompts, max_new_tokens=4, batch_size=2)
    assert len(made) == 2


FP4 = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])
EXPONENT = 124  # of a block of 32: 2^(124 - 127)


def _in_mxfp4(tensors):
    """Random experts in MXFP4 as gpt-oss stores them, and the floats that these stand for."""
    stored, floats = dict(tensors), dict(tensors)
    for name, weight in tensors.items():
        if name.endswith(("experts.gate_up_proj", "experts.down_proj")):
            num_experts, num_in, num_out = weight.shape
            blocks = torch.randint(0, 256, (num_experts, num_out, num_in // 32, 16), dtype=torch.uint8)
            stored[f"{name}_blocks"] = blocks
            stored[f"{name}_scales"] = torch.full(blocks.shape[:3], EXPONENT, dtype=torch.uint8)
            del stored[name]
            pairs = torch.stack([FP4[(blocks & 15).long()], FP4[(blocks >> 4).long()]], -1)  # the low half is first
            rows = pairs.reshape(num_experts, num_out, num_in) * 2.0 ** (EXPONENT - 127)
            floats[name] = rows.transpose(1, 2).contiguous()
    return stored, floats


@pytest.mark.skipif(OLDER, reason="refused there by name")
def test_mxfp4_experts_are_opened_and_saved_as_the_floats_that_they_stand_for(tmp_path):
    base, final = tmp_path / "base", tmp_path / "final"
    opened("gpt_oss", base, hidden_size=32, intermediate_size=32)
    stored, floats = _in_mxfp4(load_file(base / "model.safetensors"))
    save_file(stored, base / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((base / "config.json").read_text())
    left = ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"]
    config["quantization_config"] = {"quant_method": "mxfp4", "modules_to_not_convert": left}
    (base / "config.json").write_text(json.dumps(config))
    loaded = load_model(ModelConfig(name=str(base), device="cpu"))
    weights = dict(loaded.model.named_parameters())
    assert all(torch.equal(weights[name].float(), weight.float()) for name, weight in floats.items())
    final.mkdir()
    write_final_model(loaded, base, final)
    again = load_model(ModelConfig(name=str(final), device="cpu"))
    assert weights_fingerprint(again.model) == loaded.identity.fingerprint
