"""Typed config: defaults < file < environment < --set < flag; all checks, and all problems at once."""

from moe_cli.config.loading import ENVIRONMENT_PREFIX, load_config, setting_names
from moe_cli.config.sections import EndpointConfig, JudgeConfig
from moe_cli.config.settings import (
    DEFAULT_MODEL,
    CompareConfig,
    EvaluateConfig,
    ModelConfig,
    MoeConfig,
    PrepareConfig,
    TrainConfig,
)
from moe_cli.config.study_settings import AblateConfig, AlternatingConfig, SweepConfig
from moe_cli.config.yaml_text import dump_yaml

__all__ = [
    "DEFAULT_MODEL",
    "ENVIRONMENT_PREFIX",
    "AblateConfig",
    "AlternatingConfig",
    "CompareConfig",
    "EndpointConfig",
    "EvaluateConfig",
    "JudgeConfig",
    "ModelConfig",
    "MoeConfig",
    "PrepareConfig",
    "SweepConfig",
    "TrainConfig",
    "dump_yaml",
    "load_config",
    "setting_names",
]
