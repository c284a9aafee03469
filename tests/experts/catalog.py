"""Every mixture-of-experts family of the installed transformers, tiny, from its own config.

Comes in: the package transformers. Goes out: `families()`, those that the tests check; `unchecked_families()`, which a
newer release added; and `build` for one of them. Always holds: float32 on the CPU, random weights of a seed, eight
experts in every expert layer, at most a million parameters; what `RECIPES` says is only what a family's config needs
beside `SIZES`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

MODELS = Path(transformers.__file__).parent / "models"
SEAM = "@use_experts_implementation"
LIMIT = 1_000_000  # parameters; a config whose sizes have other names would give a model of its real size

SIZES: dict[str, object] = {
    "vocab_size": 64,
    "unpadded_vocab_size": 60,
    "hidden_size": 32,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "num_experts": 8,
    "num_local_experts": 8,
    "n_routed_experts": 8,
    "moe_num_experts": 8,
    "num_experts_per_tok": 2,
    "moe_topk": 2,
    "moe_k": 2,
    "top_k_experts": 2,
    "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16,
    "shared_intermediate_size": 16,
    "n_shared_experts": 1,
    "moe_num_shared_experts": 1,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 0,
    "moe_layer_start_index": 0,
    "num_dense_layers": 0,
    "mlp_layer_types": ["sparse", "sparse"],
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    "linear_head_dim": 8,
    "linear_num_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "index_head_dim": 16,
    "index_n_heads": 2,
    "index_topk": 8,
    "mamba_num_heads": 4,
    "mamba_head_dim": 16,
    "mamba_n_heads": 4,
    "mamba_d_state": 8,
    "ssm_state_size": 8,
    "n_groups": 2,
    "depth": 1,  # from here on: vision
    "num_heads": 4,
    "out_hidden_size": 32,
    "patch_size": 4,
    "num_position_embeddings": 16,
    "deepstack_visual_indexes": [0],
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a family is built where `SIZES` and its causal language model are not enough."""

    model: str | None = None  # "Qwen3VLMoeForConditionalGeneration"; None: the only *ForCausalLM, else *TextModel
    settings: Mapping[str, Any] = field(default_factory=dict)  # {"mlp_layer_types": ["sparse", "sparse"]}
    top_k: int = 2


ROPE = {"rope_type": "default", "rope_theta": 10_000.0}
HALF = ROPE | {"partial_rotary_factor": 0.5}
SECTIONS = {"mrope_section": [1, 1, 2]}
MIXED = {"layer_types": ["linear_attention", "full_attention"]}
SLIDING = {"swa_num_attention_heads": 4, "swa_num_key_value_heads": 4, "swa_head_dim": 8}

RECIPES: dict[str, Recipe] = {
    "bailing_hybrid": Recipe(settings={"layer_group_size": 2}),
    "deepseek_v4": Recipe(settings={"mlp_layer_types": ["hash_moe", "moe"], "o_groups": 2, "o_lora_rank": 16}),
    "ernie4_5_vl_moe": Recipe(settings={"moe_intermediate_size": [16, 24], "rope_parameters": ROPE | SECTIONS}),
    "flint": Recipe(settings={"mlp_only_layers": []}),
    "gemma4": Recipe(
        model="Gemma4ForConditionalGeneration",
        settings={
            "text_config": {"enable_moe_block": True, "hidden_size_per_layer_input": 0, "global_head_dim": 8},
        },
    ),
    "glm4v_moe": Recipe(settings={"rope_parameters": ROPE | {"partial_rotary_factor": 1.0} | SECTIONS}),
    "glm5_next": Recipe(settings={"index_topk": 16, "qk_rope_head_dim": 0, "head_dim": 0} | MIXED),
    "granitemoehybrid": Recipe(settings=MIXED),
    "inkling": Recipe(settings=SLIDING),
    "hy_v4_vl": Recipe(settings={"indexer_types": ["full", "shared"], "rope_parameters": ROPE | SECTIONS}),
    "inkling2": Recipe(settings=SLIDING),
    "inkling2_loop": Recipe(
        settings=SLIDING
        | {"n_layers_per_attn_res_block": 1, "loop_layer_index_start": 1, "loop_layer_index_end": 2}
        | {"loop_num_passes": 2, "loop_gate_rank": 8}
    ),
    "jamba": Recipe(
        settings={
            "attn_layer_period": 2,
            "attn_layer_offset": 1,
            "expert_layer_period": 1,
            "expert_layer_offset": 0,
        }
    ),
    "kimi_linear": Recipe(settings=MIXED),
    "lfm2_moe": Recipe(settings={"layer_types": ["conv", "full_attention"]}),
    "mimo_v2_flash": Recipe(
        settings={"num_key_value_heads": 2, "rope_parameters": {"full_attention": HALF, "sliding_attention": HALF}}
    ),
    "minimax_m3_vl": Recipe(settings={"dense_intermediate_size": 16}),
    "muse_spark": Recipe(settings={"moe_hidden_size": 32}),
    "nemotron_h": Recipe(
        settings={"moe_shared_expert_intermediate_size": 16, "layers_block_type": ["moe", "attention", "moe"]}
    ),
    "openai_privacy_filter": Recipe(model="OpenAIPrivacyFilterForTokenClassification"),
    "qwen3_5_moe": Recipe(settings=MIXED),
    "qwen3_next": Recipe(settings=MIXED),
    "qwen3_vl_moe": Recipe(model="Qwen3VLMoeForConditionalGeneration"),
    "qwen4_exp": Recipe(
        settings=MIXED
        | {"indexer_n_heads": 2, "indexer_kv_heads": 1, "indexer_head_dim": 8}
        | {"indexer_budget": 32, "indexer_compress_ratio": 4}
    ),
    "zaya": Recipe(settings={"num_experts_per_tok": 1, "router_hidden_size": 16}, top_k=1),
}


# A family that a newer transformers adds is listed as not checked yet until it passes the checks and stands here.
NAMES = """
afmoe aria axk1 axk2 bailing_hybrid beam cohere2_moe deepseek_ocr2 deepseek_v2 deepseek_v3 deepseek_v32
deepseek_v4 diffusion_gemma dots1 dots3_note ernie4_5_moe ernie4_5_vl_moe exaone_moe flex_olmo flint gemma4
glm4_moe glm4_moe_lite glm4v_moe glm5_next glm_moe_dsa gpt_oss granitemoe granitemoe_swa granitemoehybrid
granitemoeshared hunyuan_v1_moe hy_v3 hy_v4 hy_v4_vl inkling inkling2 inkling2_loop jamba kimi_linear kolibri1
laguna lara_mini lfm2_moe mellum mimo_v2_flash minimax minimax_m2 minimax_m3_vl mistral4 mistral_large4 mixtral
muse_spark nemotron_h olmoe openai_privacy_filter phimoe qwen2_moe qwen3_5_moe qwen3_moe qwen3_next
qwen3_omni_moe qwen3_vl_moe qwen4_exp solar_open unlimited_ocr zaya
"""
CHECKED = frozenset(NAMES.split())
LOOPED = frozenset({"inkling2_loop"})  # some layers run several times for each token: no command opens them


@cache
def families() -> tuple[str, ...]:
    """The families of the installed transformers that are checked, by the names of their folders."""
    return tuple(family for family in _installed(MODELS) if family in CHECKED)


def unchecked_families(models: Path = MODELS) -> tuple[str, ...]:
    """The families of the installed transformers that nobody checked yet."""
    return tuple(family for family in _installed(models) if family not in CHECKED)


@cache
def _installed(models: Path) -> tuple[str, ...]:
    files = models.glob("*/modeling_*.py")
    return tuple(sorted(path.parent.name for path in files if SEAM in path.read_text(encoding="utf-8")))


def build(family: str) -> PreTrainedModel:
    """A tiny model of the family, in evaluation mode.

    Raises:
        ValueError: no class to build, or a model that is not tiny.
    """
    recipe = RECIPES.get(family, Recipe())
    kind = _model_class(family, recipe)
    config = tiny_config(kind.config_class, recipe.settings)
    with torch.device("meta"):
        num_params = sum(parameter.numel() for parameter in kind(config).parameters())
    if num_params > LIMIT:
        raise ValueError(f"{kind.__name__} has {num_params:,} parameters: SIZES lacks a name that its config uses")
    torch.manual_seed(0)
    model = kind(config)
    for parameter in model.parameters():  # biases and norms too: zeros and ones would hide mistakes
        nn.init.normal_(parameter, std=0.2)
    model.set_experts_implementation("grouped_mm")  # the default of all but openai_privacy_filter
    return model.eval()


def tiny_config(
    kind: type[PretrainedConfig], settings: Mapping[str, Any], sizes: Mapping[str, object] = SIZES
) -> PretrainedConfig:
    """A config with `sizes` and `settings`; of a composite one, every part of it that has fields of its own.

    A part for which `settings` say None is left as it is.
    """
    parts = kind() if kind.sub_configs else None
    inner = {name: type(part) for name in kind.sub_configs if is_dataclass(part := getattr(parts, name, None))}
    own = {entry.name for entry in fields(kind)} | set(kind.attribute_map or {})
    taken = {} if inner else {name: size for name, size in sizes.items() if name in own}
    said = {name: settings.get(name, {}) for name in inner}
    subs = {name: None if said[name] is None else tiny_config(sub, said[name], sizes) for name, sub in inner.items()}
    return kind(**taken | dict(settings) | subs)


def _model_class(family: str, recipe: Recipe) -> type[PreTrainedModel]:
    module = import_module(f"transformers.models.{family}.modeling_{family}")
    if recipe.model is not None:
        return getattr(module, recipe.model)
    for ending in ("ForCausalLM", "TextModel"):
        for name, kind in vars(module).items():
            if name.endswith(ending) and kind.__module__ == module.__name__:
                return kind
    raise ValueError(f"{family} has neither a ...ForCausalLM nor a ...TextModel: it needs a recipe")
