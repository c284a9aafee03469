"""What four published shapes need, as `moe plan` says: the table of docs/scale.md. Arithmetic and followed steps.

    python -m tests.studies.resource_plans

The configs are those of the installed transformers with the published sizes; no weights and no network are needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from transformers import DeepseekV3Config, GptOssConfig, OlmoeConfig, PreTrainedConfig, Qwen3MoeConfig

from moe_cli.bench.arm_needs import ResourceRequest
from moe_cli.bench.resources import plan_resources
from moe_cli.config import MoeConfig
from moe_cli.records import ArmNeed
from moe_cli.views.text import bytes_text, markdown_table

OLMOE = OlmoeConfig(
    hidden_size=2048,
    intermediate_size=1024,
    num_hidden_layers=16,
    num_attention_heads=16,
    num_key_value_heads=16,
    num_experts=64,
    num_experts_per_tok=8,
    vocab_size=50304,
    dtype="bfloat16",
)
QWEN3 = Qwen3MoeConfig(
    hidden_size=2048,
    intermediate_size=6144,
    moe_intermediate_size=768,
    num_hidden_layers=48,
    num_attention_heads=32,
    num_key_value_heads=4,
    head_dim=128,
    num_experts=128,
    num_experts_per_tok=8,
    vocab_size=151936,
    dtype="bfloat16",
)
GPT_OSS = GptOssConfig(
    hidden_size=2880,
    intermediate_size=2880,
    num_hidden_layers=36,
    num_attention_heads=64,
    num_key_value_heads=8,
    head_dim=64,
    num_local_experts=128,
    num_experts_per_tok=4,
    vocab_size=201088,
    dtype="bfloat16",
)
DEEPSEEK = DeepseekV3Config(dtype="bfloat16")  # its defaults are the published sizes
MODELS: dict[str, PreTrainedConfig] = {
    "OLMoE-1B-7B": OLMOE,
    "Qwen3-30B-A3B": QWEN3,
    "gpt-oss-120b": GPT_OSS,
    "DeepSeek-V3": DEEPSEEK,
}
HEAD = (
    *("model", "arm", "trained", "weights", "state", "peak, one process", "with checkpointing"),
    *("8 processes, sharded", "sent in a step: replicated", "sharded"),
)
REQUEST = ResourceRequest(per_layer=3, length=512, memory=80 * 10**9, ranks=(8,))


def rows() -> Iterator[tuple[str, ...]]:
    """A row for each model and arm."""
    for name, config in MODELS.items():
        with TemporaryDirectory() as directory:
            config.save_pretrained(directory)
            plain, checkpointed = (
                plan_resources(_settings(Path(directory), checkpointing), REQUEST) for checkpointing in (False, True)
            )
        for arm, leaner in zip(plain.arms, checkpointed.arms, strict=True):
            yield _row(f"{name}, {plain.total_params / 1e9:.1f} B", arm, leaner)


def _settings(directory: Path, checkpointing: bool) -> MoeConfig:
    return MoeConfig.model_validate(
        {"model": {"name": str(directory)}, "train": {"gradient_checkpointing": checkpointing}}
    )


def _row(name: str, arm: ArmNeed, leaner: ArmNeed) -> tuple[str, ...]:
    if arm.step is None or leaner.step is None:
        return (name, arm.arm, f"{arm.trained_params / 1e6:,.0f} M", arm.note or "", *("-" for _ in HEAD[4:]))
    step = arm.step
    placed = {need.placement: need for need in arm.ranks}
    sharded = next((need for need in leaner.ranks if need.placement == "sharded"), None)
    return (
        name,
        arm.arm,
        f"{arm.trained_params / 1e6:,.0f} M ({100 * arm.trainable_ratio:.1f} %)",
        bytes_text(step.weights),
        bytes_text(step.masters + step.gradients + step.moments),
        bytes_text(step.peak),
        bytes_text(leaner.step.peak),
        bytes_text(sharded and sharded.peak),
        bytes_text(placed["replicated"].sent),
        bytes_text(sharded and sharded.sent),
    )


def main() -> None:
    """Print the table."""
    print(markdown_table(HEAD, list(rows())))


if __name__ == "__main__":
    main()
