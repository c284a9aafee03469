"""Tiny random models of many families, built from their own configs; float32, CPU, the same weights for a seed."""

from __future__ import annotations

from collections.abc import Callable

import torch
import transformers as hf
from transformers import PreTrainedModel
from transformers.models.aria.configuration_aria import AriaTextConfig
from transformers.models.aria.modeling_aria import AriaExperts, AriaTextForCausalLM

SHAPE = {
    "vocab_size": 64,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def olmoe() -> PreTrainedModel:
    return _model(
        hf.OlmoeForCausalLM, hf.OlmoeConfig(**SHAPE, intermediate_size=16, num_experts=8, num_experts_per_tok=2)
    )


def mixtral() -> PreTrainedModel:
    config = hf.MixtralConfig(**SHAPE, intermediate_size=16, num_local_experts=8, num_experts_per_tok=2)
    return _model(hf.MixtralForCausalLM, config)


def qwen3_moe() -> PreTrainedModel:
    config = hf.Qwen3MoeConfig(
        **SHAPE | {"num_hidden_layers": 3},
        head_dim=8,
        intermediate_size=48,
        moe_intermediate_size=16,
        num_experts=8,
        num_experts_per_tok=2,
        mlp_only_layers=[0],  # a dense layer first: decoder indices are not positions
    )
    return _model(hf.Qwen3MoeForCausalLM, config)


def gpt_oss() -> PreTrainedModel:
    config = hf.GptOssConfig(
        **SHAPE,
        head_dim=8,
        intermediate_size=16,
        num_local_experts=8,
        num_experts_per_tok=2,
        layer_types=["sliding_attention", "full_attention"],
        sliding_window=16,
    )
    return _model(hf.GptOssForCausalLM, config)


def aria() -> PreTrainedModel:
    """Transposed without biases, with shared experts."""
    config = AriaTextConfig(**SHAPE, intermediate_size=16, moe_num_experts=8, moe_topk=2, moe_num_shared_experts=1)
    return _model(AriaTextForCausalLM, config)


def nemotron_h() -> PreTrainedModel:
    """Without a gate, with shared experts and layers of other kinds between."""
    config = hf.NemotronHConfig(
        **SHAPE | {"num_hidden_layers": 3},
        head_dim=8,
        layers_block_type=["moe", "attention", "moe"],
        intermediate_size=16,
        moe_intermediate_size=16,
        moe_shared_expert_intermediate_size=16,
        n_routed_experts=8,
        num_experts_per_tok=2,
        n_group=1,
        topk_group=1,
        mamba_num_heads=4,
        mamba_head_dim=16,
        ssm_state_size=8,
        n_groups=1,
    )
    return _model(hf.NemotronHForCausalLM, config)


def deepseek_v3() -> PreTrainedModel:
    """Top-k inside groups of experts, a dense layer first, shared experts."""
    config = hf.DeepseekV3Config(
        **SHAPE | {"num_hidden_layers": 3, "num_key_value_heads": 4},
        intermediate_size=16,
        moe_intermediate_size=16,
        n_routed_experts=8,
        num_experts_per_tok=2,
        n_group=2,
        topk_group=1,
        first_k_dense_replace=1,
        q_lora_rank=16,
        kv_lora_rank=16,
        qk_rope_head_dim=8,
        qk_nope_head_dim=8,
        v_head_dim=8,
        n_shared_experts=1,
    )
    return _model(hf.DeepseekV3ForCausalLM, config)


def _model(kind: type[PreTrainedModel], config: hf.PretrainedConfig) -> PreTrainedModel:
    torch.manual_seed(0)
    model = kind(config)
    for parameter in model.parameters():  # biases and norms too: zeros and ones would hide mistakes
        torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


FAMILIES: dict[str, Callable[[], PreTrainedModel]] = {
    "olmoe": olmoe,
    "mixtral": mixtral,
    "qwen3_moe": qwen3_moe,
    "gpt_oss": gpt_oss,
    "nemotron_h": nemotron_h,
    "deepseek_v3": deepseek_v3,
}
if hasattr(AriaExperts.forward, "__wrapped__"):  # transformers 5.17 has no seam in this family
    FAMILIES["aria"] = aria
