"""The file of `--steer`: experts whose router logits are raised above all others of a token, or lowered below them.

    {"activate": [[layer, expert], ...], "deactivate": [[layer, expert], ...], "epsilon": 0.01}

Every error names the file. No expert stands twice; that the model has them is checked where it is steered.
"""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

from moe_cli.config import EvaluateConfig
from moe_cli.data.json_objects import SHOWN_KEY
from moe_cli.data.json_rows import parse_values
from moe_cli.data.tables import content_of_file
from moe_cli.errors import UsageError
from moe_cli.records import Expert
from moe_cli.records.ablation import Steering
from moe_cli.spelling import did_you_mean

FORMAT = 'write {"activate": [[7, 31]], "deactivate": [[8, 2]], "epsilon": 0.01}: pairs of [layer, expert]'
SIDES = ("activate", "deactivate")
KEYS = (*SIDES, "epsilon")
EPSILON = 0.01
LARGEST_EPSILON = 1e4  # a logit that far from all others is still finite in float16


def steering_of(settings: EvaluateConfig) -> Steering | None:
    """What the file of `evaluate.steer` asks for; None: no file is named.

    Raises:
        UsageError: no such file, another format, no expert, or an expert that stands twice.
    """
    return None if settings.steer is None else read_steering(settings.steer)


def named_for(settings: EvaluateConfig, steering: Steering | None) -> EvaluateConfig:
    """The settings with a name of its own for a steered evaluation, unless one was typed."""
    if steering is None or settings.name != EvaluateConfig().name:
        return settings
    return settings.model_copy(update={"name": steering.name})


def read_steering(file: Path) -> Steering:
    """The experts and the epsilon in `file`.

    Raises:
        UsageError: as `steering_of`.
    """
    content = content_of_file(file, FORMAT)
    value = parse_values(content, str(file), FORMAT) if isinstance(content, str) else None
    if not isinstance(value, dict):
        raise UsageError(f"{file} holds no JSON object", hint=FORMAT)
    for key in value:
        if key not in KEYS:
            shown = f"the key `{key}`{did_you_mean(key, KEYS)}" if SHOWN_KEY.fullmatch(key) else "a key that is a text"
            raise UsageError(f"{file} has {shown}; the keys are {', '.join(KEYS)}", hint=FORMAT)
    up, down = (_experts(value.get(side, []), side, file) for side in SIDES)
    _refuse_twice((*up, *down), file)
    return Steering(activate=up, deactivate=down, epsilon=_epsilon(value.get("epsilon", EPSILON), file))


def _experts(listed: object, side: str, file: Path) -> tuple[Expert, ...]:
    if not isinstance(listed, list):
        raise UsageError(f"{file}: {side} is no list", hint=FORMAT)
    for number, entry in enumerate(listed, start=1):
        if not (isinstance(entry, list) and len(entry) == 2 and all(type(i) is int and i >= 0 for i in entry)):
            raise UsageError(f"{file}: {side}: entry {number} is no [layer, expert] of whole numbers", hint=FORMAT)
    return tuple(Expert(layer=layer, index=index) for layer, index in listed)


def _refuse_twice(experts: tuple[Expert, ...], file: Path) -> None:
    """Refuse a file without an expert, or with one twice, be it on both sides."""
    if not experts:
        raise UsageError(f"{file} names no expert to activate or to deactivate", hint=FORMAT)
    expert, num = Counter(experts).most_common(1)[0]
    if num > 1:
        raise UsageError(
            f"{file}: expert {expert.index} of layer {expert.layer} stands there {num} times",
            hint="name every expert once, to activate or to deactivate it",
        )


def _epsilon(value: object, file: Path) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UsageError(f"{file}: epsilon is no number", hint=FORMAT)
    if not (math.isfinite(value) and 0 < value <= LARGEST_EPSILON):
        raise UsageError(f"{file}: epsilon is {value:g}, not above 0 and at most {LARGEST_EPSILON:g}", hint=FORMAT)
    return float(value)
