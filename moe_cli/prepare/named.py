"""Experts named by a person in a file.

Comes in: a JSON list of `[layer, expert]`. Goes out: flat indices into the model's experts. Always holds: every named
expert exists in the model, and stands once.
"""

from __future__ import annotations

from pathlib import Path

from moe_cli.codec import parse_json
from moe_cli.errors import UsageError
from moe_cli.records import ModelIdentity

FORMAT = "write a JSON list of [layer, expert], such as [[7, 31], [8, 2]]"


def named_experts(file: Path, base: ModelIdentity) -> tuple[int, ...]:
    """Flat indices (layer-major over the expert layers) of the experts in `file`, ascending.

    Raises:
        UsageError: no such file, another format, or an expert that the model does not have.
    """
    if not file.is_file():
        raise UsageError(f"there is no file {file}", hint=FORMAT)
    content = parse_json(file.read_bytes(), source=str(file), hint=FORMAT, error_type=UsageError)
    if not isinstance(content, list) or not content:
        raise UsageError(f"{file} holds no list of experts", hint=FORMAT)
    return tuple(sorted({_flat_index(entry, file, base) for entry in content}))


def _flat_index(entry: object, file: Path, base: ModelIdentity) -> int:
    if not (isinstance(entry, list) and len(entry) == 2 and all(type(number) is int for number in entry)):
        raise UsageError(f"{file}: {entry!r} is no [layer, expert]", hint=FORMAT)
    layer, index = entry
    if layer not in base.layers or not 0 <= index < base.num_experts:
        raise UsageError(
            f"{file}: expert {index} of layer {layer} does not exist: {base.name} has {base.num_experts} experts in "
            f"each of the layers {', '.join(map(str, base.layers))}",
            hint=FORMAT,
        )
    return base.layers.index(layer) * base.num_experts + int(index)
