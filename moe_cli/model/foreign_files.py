"""Checks of the files that a checkpoint brings beside its weights, before they are used.

The auto class follows from the config alone, so a saved model is opened by the class that it was loaded with. A model
that does not write its answer token by token is refused before any weights are read.

transformers ignores a side file that it cannot read, loads integers as weights, and fetches a kernel that a config
names from the hub. Here the first two are refused by name; the third never happens, whatever is installed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import transformers
from packaging.version import Version
from safetensors import SafetensorError, safe_open
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MULTIMODAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMultimodalLM,
    GenerationMixin,
    PreTrainedConfig,
)
from transformers.utils import is_flash_attn_2_available

from moe_cli.errors import ArtifactError, UsageError, refuse_non_file
from moe_cli.model.answer_settings import ask_for_logits_alone
from moe_cli.model.directory import HINT

AutoClass = type[AutoModelForCausalLM] | type[AutoModelForMultimodalLM]

THINKER = "thinker_config"  # of a model that also speaks: the part that answers in text
SIDE_FILES = (
    *("generation_config.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    "chat_template.json",
)
WEIGHTS = ("model.safetensors", "model-*-of-*.safetensors")  # others that lie there are not read
# Of a weight only where a quantisation says what they stand for.
WHOLE_NUMBERS = ("I8", "U8", "I16", "U16", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F4")
SAVES_FLOATS = "5.24.0"  # transformers from which what was opened as floats is saved as them; 5.17 fails
AS_FLOATS = ("fp8", "mxfp4")  # quantisations of which transformers makes floats while it loads
COUNTED = re.compile(r"(num|n)_.*(layers|experts|heads)")
MOST_PARTS = 10_000
OWN_ATTENTION = ("eager", "sdpa", "flex_attention")  # of transformers and torch
OWN_EXPERTS = ("eager", "batched_mm", "grouped_mm")


def auto_class(config: PreTrainedConfig) -> tuple[AutoClass, PreTrainedConfig]:
    """The auto class for a checkpoint with `config`, and the config of the opened part: all of it, or its thinker.

    A model that also reads images is opened as a whole, unless transformers lists a causal language model for it.

    Raises:
        UsageError: transformers lists no model for it that writes text token by token.
    """
    opened: PreTrainedConfig = getattr(config, THINKER, config)
    for auto, kinds in (
        (AutoModelForCausalLM, MODEL_FOR_CAUSAL_LM_MAPPING),
        (AutoModelForMultimodalLM, MODEL_FOR_MULTIMODAL_LM_MAPPING),
    ):
        if type(opened) in kinds and issubclass(kinds[type(opened)], GenerationMixin):
            return auto, opened
    built = ", ".join(config.architectures or ()) or "no class that it names"
    raise UsageError(
        f"a {config.model_type} checkpoint ({built}) does not answer a prompt token by token",
        hint="name a causal language model, alone or inside one that reads images; not a classifier, encoder or "
        "diffusion model",
    )


def config_of(source: str, *, revision: str | None = None, local_files_only: bool = False) -> PreTrainedConfig:
    """The config of a checkpoint; transformers chooses how attention and experts are computed.

    The implementation that a config asks for is kept if it is in transformers, torch or an installed package.
    """
    config: PreTrainedConfig = AutoConfig.from_pretrained(
        source, revision=revision, local_files_only=local_files_only, trust_remote_code=False
    )
    for part in _parts(config):
        _refuse_endless(part, source)
        ask_for_logits_alone(part)
        if not _is_here(getattr(part, "_attn_implementation", None)):
            part._attn_implementation_internal = None
        if getattr(part, "_experts_implementation", None) not in (None, *OWN_EXPERTS):
            part._experts_implementation_internal = None
    return config


def as_floats(config: PreTrainedConfig, name: str) -> None:
    """Make quantised weights load as floats, on every device: experts are trained and saved as floats.

    Raises:
        UsageError: `name` is quantised in a way that transformers cannot convert to floats.
    """
    for part in _parts(config):
        if (quantisation := getattr(part, "quantization_config", None)) is None:
            continue
        settings = dict(quantisation if isinstance(quantisation, dict) else quantisation.to_dict())
        if (method := settings.get("quant_method")) not in AS_FLOATS:
            raise UsageError(
                f"{name} is quantised ({method}), and moe trains experts as floats",
                hint=f"use the checkpoint before quantisation, or one in {' or '.join(AS_FLOATS)}",
            )
        if Version(transformers.__version__) < Version(SAVES_FLOATS):
            raise UsageError(
                f"{name} is quantised ({method}), which transformers {transformers.__version__} opens as floats but"
                " cannot save so",
                hint=f"install transformers {SAVES_FLOATS} or newer, or use the checkpoint before quantisation",
            )
        part.quantization_config = settings | {"dequantize": True}


def template_beside(directory: Path | None) -> str | None:
    """The template in `chat_template.json`, which transformers reads only for models that see images."""
    if directory is None or not (file := directory / "chat_template.json").is_file():
        return None
    template = _object(file).get("chat_template")
    return template if isinstance(template, str) else None


def refuse_damaged(directory: Path) -> None:
    """Check for damage that transformers would ignore.

    Raises:
        ArtifactError: a side file is no JSON object, weights are whole numbers that no quantisation explains, or there
            is a pipe or a device, which the library would wait for and hear no signal.
    """
    for entry in sorted(directory.iterdir()):
        if not entry.is_dir():
            refuse_non_file(entry, hint=HINT)
    for name in SIDE_FILES:
        if (file := directory / name).is_file():
            _object(file)
    if (config := directory / "config.json").is_file() and "quantization_config" in json.dumps(_object(config)):
        return
    for file in sorted(file for pattern in WEIGHTS for file in directory.glob(pattern)):
        if file.is_dir():
            raise ArtifactError(f"{file} is a directory, not a file", hint=HINT)
        _refuse_whole_numbers(file)


def _refuse_whole_numbers(file: Path) -> None:
    try:
        with safe_open(file, framework="pt") as weights:
            dtypes = {key: weights.get_slice(key).get_dtype() for key in weights.keys()}  # noqa: SIM118 (no mapping)
    except (SafetensorError, FileNotFoundError) as error:
        raise ArtifactError(f"{file} is damaged: {error}", hint=HINT) from error
    if whole := sorted(key for key, dtype in dtypes.items() if dtype in WHOLE_NUMBERS):
        raise ArtifactError(
            f"{file} holds {whole[0]} as {dtypes[whole[0]]}, and config.json names no quantisation", hint=HINT
        )


def _object(file: Path) -> dict[str, object]:
    try:
        content = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{file} is damaged: {str(error).splitlines()[0]}", hint=HINT) from error
    if not isinstance(content, dict):
        raise ArtifactError(f"{file} is damaged: it holds no JSON object", hint=HINT)
    return content


def _refuse_endless(config: PreTrainedConfig, source: str) -> None:
    """Refuse so many layers or experts that building them would take days; weights are checked only afterwards."""
    for key, value in vars(config).items():
        if COUNTED.fullmatch(key) and isinstance(value, int) and value > MOST_PARTS:
            raise ArtifactError(f"the config of {source} asks for {value:,} as {key}", hint=HINT)


def _is_here(attention: object) -> bool:
    if attention == "flash_attention_2":
        return bool(is_flash_attn_2_available())
    return attention is None or attention in OWN_ATTENTION


def _parts(config: PreTrainedConfig) -> Iterator[PreTrainedConfig]:
    """A config and its nested configs."""
    yield config
    for name in config.sub_configs:
        if isinstance(part := getattr(config, name, None), PreTrainedConfig):
            yield from _parts(part)
