"""The experts of `--steer`, read from a JSON file: which are activated, and which deactivated.

    {"activate": [[7, 31]], "deactivate": [[8, 2], [8, 5]], "epsilon": 0.01}

Either list can be missing, and so can epsilon. Every error names the file.
"""

from __future__ import annotations

import math
from pathlib import Path

from moe_cli.data.json_rows import parse_values
from moe_cli.data.tables import content_of_file
from moe_cli.errors import UsageError
from moe_cli.records import Expert, Steering
from moe_cli.spelling import did_you_mean

FORMAT = (
    'write {"activate": [[7, 31]], "deactivate": [[8, 2]], "epsilon": 0.01}, with [layer, expert] for every expert; '
    "either list can be left away"
)
KEYS = ("activate", "deactivate", "epsilon")
EPSILON = 0.01  # SteerMoE's


def read_steering(file: Path) -> Steering:
    """The steering that `file` describes.

    Raises:
        UsageError: no such file, no such JSON object, an expert that stands twice, or none at all.
    """
    text = content_of_file(file, FORMAT)
    content = parse_values(text, str(file), FORMAT) if isinstance(text, str) else None
    if not isinstance(content, dict):
        raise UsageError(f"{file} holds no JSON object", hint=FORMAT)
    for key in content:
        if key not in KEYS:
            raise UsageError(f"{file}: {key!r} is no key of a steering file{did_you_mean(key, KEYS)}", hint=FORMAT)
    activate, deactivate = (_experts(content.get(key, []), key, file) for key in KEYS[:2])
    both = (*activate, *deactivate)
    if not both:
        raise UsageError(f"{file} names no expert", hint=FORMAT)
    if repeated := next((expert for expert in both if both.count(expert) > 1), None):
        raise UsageError(f"{file}: expert {repeated.index} of layer {repeated.layer} stands twice", hint=FORMAT)
    return Steering(activate=activate, deactivate=deactivate, epsilon=_epsilon(content, file))


def _experts(entries: object, key: str, file: Path) -> tuple[Expert, ...]:
    if not isinstance(entries, list):
        raise UsageError(f"{file}: {key} is no list", hint=FORMAT)
    for entry in entries:
        if not (isinstance(entry, list) and len(entry) == 2 and all(type(one) is int and one >= 0 for one in entry)):
            raise UsageError(f"{file}: {key}: {entry!r} is no [layer, expert]", hint=FORMAT)
    return tuple(sorted(Expert(layer=layer, index=index) for layer, index in entries))


def _epsilon(content: dict[str, object], file: Path) -> float:
    value = content.get("epsilon", EPSILON)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not (math.isfinite(value) and value > 0):
        raise UsageError(f"{file}: epsilon is {value!r}, not a number above 0", hint=FORMAT)
    return float(value)
