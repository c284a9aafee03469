"""A benchmark that takes a second, and figures made by hand."""

from __future__ import annotations

from moe_cli.bench.presets import plan_of
from moe_cli.config import ModelConfig, MoeConfig
from moe_cli.records import BenchmarkPlan

SHAPE = {"hidden": 32, "width": 16, "layers": 2, "experts": 8, "top_k": 2, "vocabulary": 64}
BATCH = {"rows": 2, "length": 8, "selected": 3}
CONFIG = MoeConfig(model=ModelConfig(device="cpu", threads=1))
PARAMS_PER_EXPERT = 3 * 32 * 16


def small_plan(**given: object) -> BenchmarkPlan:
    """A plan of the smallest shape that the kernels take."""
    words = {"lora_rank": 2, "forward_tokens": 4096, "checkpointing": False, "repeats": 2, "memory": False}
    return plan_of("issue", SHAPE | BATCH | words | given)
