"""A tiny checkpoint of every family, as the hub holds it: whole, with a tokenizer that has a chat template.

Comes in: a family of the catalog. Goes out: a directory that `moe` is given. Always holds: what is saved is the model
that reads images or sound too where the family has one, random weights of a seed, float32; `PARTS` says only what the
parts beside the text need to be tiny.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import nn
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MULTIMODAL_LM_MAPPING,
    AutoTokenizer,
    GenerationMixin,
    PretrainedConfig,
    PreTrainedModel,
)

from moe_cli.tiny import CHECKPOINT_PATH
from tests.experts.catalog import LIMIT, RECIPES, SIZES, Recipe, families, tiny_config

WORDS = {
    "vocab_size": 464,
    "unpadded_vocab_size": 460,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "bos_token_id": None,
}  # of the tiny tokenizer
REACH = {"index_topk": 32}  # of sparse attention: above the rows, as two tiny index heads leave ties

NOT_OPENED = {
    "diffusion_gemma": "answers by diffusion, not token by token",
    "inkling2_loop": "runs its layers several times for each token",
    "openai_privacy_filter": "classifies tokens and answers nothing",
}

VISION = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4}
PIXELS = VISION | {"patch_size": 4, "image_size": 16}
INKLING2_VISION = {"text_hidden_size": 32, "projection_hidden_dim": 32}
SAM = {
    "sam_config": {
        "hidden_size": 16,
        "mlp_dim": 16,
        "image_size": 64,
        "window_size": 2,
        "global_attn_indexes": [0],
        "output_channels": 8,
        "downsample_channels": [8, 32],
    }
}

PARTS: dict[str, dict[str, Any]] = {
    "aria": {"vision_config": PIXELS, "projector_patch_to_query_dict": {16: 4}},
    "deepseek_ocr2": {"vision_config": SAM},
    "dots3_note": {
        "vision_config": {"adapter_in_dim": 32, "adapter_out_dim": 32, "mlp_layer_types": ["dense", "dense"]},
        "audio_config": {
            "adapter_input_size": 32,
            "adapter_out_dim": 32,
            "downsample_hidden_size": 8,
            "feature_size": 8,
        },
    },
    "hy_v4_vl": {"vision_config": VISION | {"max_image_size": 16}},
    "inkling": {
        "audio_config": {"text_hidden_size": 32, "n_mel_bins": 4, "mel_vocab_size": 8},
        "vision_config": {"text_hidden_size": 32},
    },
    "inkling2": {"vision_config": INKLING2_VISION},
    "inkling2_loop": {"vision_config": INKLING2_VISION | {"model_type": "inkling2_vision"}},
    "minimax_m3_vl": {"projector_hidden_size": 32},
    "mistral_large4": {"vision_config": PIXELS | {"head_dim": 8}},
    "muse_spark": {
        "out_hidden_size": 32,
        "projector_hidden_size": 32,
        "audio_config": {
            "patch_sizes": [4, 4],
            "hidden_sizes": [8, 8],
            "depths": [1, 1],
            "num_hidden_layers": 2,
            "out_hidden_size": 32,
        },
    },
    "qwen3_omni_moe": {
        "enable_audio_output": False,
        "talker_config": None,  # what speaks is not built
        "thinker_config": {
            "vision_start_token_id": 151652,  # as in config.json of the hub
            "audio_config": {"downsample_hidden_size": 8, "output_dim": 32, "d_model": 32, "num_mel_bins": 8}
            | {"encoder_layers": 1, "encoder_attention_heads": 4, "encoder_ffn_dim": 16},
        },
    },
    "unlimited_ocr": {"vision_config": SAM},
}


@cache
def openable() -> tuple[str, ...]:
    """The families whose checkpoints the commands open."""
    return tuple(family for family in families() if family not in NOT_OPENED)


def whole_config(family: str) -> PretrainedConfig:
    """The config of a whole checkpoint of the family: the one with most parts that writes text."""
    kinds = [kind for kind in _configs_of(family) if model_class(kind) is not None]
    kind = max(kinds, key=lambda kind: len(kind.sub_configs))
    settings: Mapping[str, Any] = RECIPES.get(family, Recipe()).settings
    if "text_config" in kind.sub_configs and "text_config" not in settings:
        settings = {"text_config": settings}
    return tiny_config(kind, settings | PARTS.get(family, {}), SIZES | WORDS | REACH)


def written(family: str, path: Path) -> Path:
    """A directory with a whole tiny checkpoint of the family.

    Raises:
        ValueError: the model is not tiny.
    """
    config = whole_config(family)
    kind = model_class(type(config))
    with torch.device("meta"):
        num_params = sum(parameter.numel() for parameter in kind(config).parameters())
    if num_params > 2 * LIMIT:
        raise ValueError(f"{kind.__name__} has {num_params:,} parameters: PARTS lacks sizes of its parts")
    torch.manual_seed(0)
    model = kind(config)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(path)
    AutoTokenizer.from_pretrained(CHECKPOINT_PATH).save_pretrained(path)
    return path


def layout_of(directory: Path) -> dict[str, dict[str, tuple[str, tuple[int, ...]]]]:
    """What the weights are in: file -> tensor -> (dtype, shape)."""
    files: dict[str, dict[str, tuple[str, tuple[int, ...]]]] = {}
    for path in sorted(directory.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            assert file.metadata()["format"] == "pt"
            parts = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            files[path.name] = {name: (part.get_dtype(), tuple(part.get_shape())) for name, part in parts.items()}
    return files


def _configs_of(family: str) -> list[type[PretrainedConfig]]:
    package = f"transformers.models.{family}."
    return [kind for kind in CONFIG_MAPPING.values() if kind.__module__.startswith(package)]


def model_class(kind: type[PretrainedConfig]) -> type[PreTrainedModel] | None:
    """What a checkpoint with this config holds: of two models that write text the one that reads more."""
    for mapping in (MODEL_FOR_MULTIMODAL_LM_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING):
        if kind in mapping and issubclass(mapping[kind], GenerationMixin):
            return mapping[kind]
    return None
