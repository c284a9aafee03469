"""`expert_delta.safetensors`: what trained alone, as float32 masters, with the identity of its base.

Applied to its base, a delta gives the weights that merging gave, bit for bit; another base is refused.

The file MUST hold one tensor per slice named `layers.<decoder layer>.experts.<index>.<weight>`, and where routers
trained one per parameter of them, under the parameter's own name in the model. Its metadata MUST hold `format` =
`moe-expert-delta-1`, or `moe-expert-delta-2` with routers, and `base` = the base's ModelIdentity as JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from moe_cli.codec import decode, encode
from moe_cli.errors import ArtifactError, UsageError, refuse_non_file
from moe_cli.experts.interface import attach
from moe_cli.model.tensors import refuse_not_finite, weights_fingerprint
from moe_cli.model.topology import router_tensors
from moe_cli.records import Expert, ModelIdentity

FORMAT = "moe-expert-delta-1"
WITH_ROUTERS = "moe-expert-delta-2"
SLICE = re.compile(r"layers\.(\d+)\.experts\.(\d+)\.\w+")
LOWER_RATE = "train into another directory with a lower learning rate"


def save_delta(path: Path, slices: Mapping[str, Tensor], identity: ModelIdentity) -> None:
    """Write what `AttachedSlices.take` and `RouterMasters.take` gave; `identity` is the base's, before training.

    Raises:
        NumericError: a tensor holds NaN or infinity.
    """
    refuse_not_finite(slices.items(), "the delta, which was not written,", hint=LOWER_RATE)
    tensors = {name: value.detach().cpu().contiguous() for name, value in slices.items()}
    save_file(tensors, path, metadata={"format": _format_of(tensors), "base": encode(identity).decode()})
    _order_metadata(path)


def _order_metadata(path: Path) -> None:
    """Sort the metadata, which safetensors writes in any order, so that equal content gives equal bytes."""
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        ordered = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode().ljust(size)
        if len(ordered) != size:
            raise AssertionError("the same names take other room")
        file.seek(8)
        file.write(ordered)


def read_delta(path: Path) -> tuple[ModelIdentity, dict[str, Tensor]]:
    """Read the base's identity, the slices and the routers' parameters.

    Raises:
        ArtifactError: the file is missing, damaged, or no delta.
        NumericError: a slice holds NaN or infinity.
    """
    hint = "give the expert_delta.safetensors of a finished moe train selective or alternating run"
    refuse_non_file(path, hint=hint)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ArtifactError(f"{path} cannot be read: {error}", hint=hint) from error
    if metadata.get("format") != (expected := _format_of(tensors)):
        raise ArtifactError(f"{path} has format {metadata.get('format')!r}, expected {expected!r}", hint=hint)
    refuse_not_finite(tensors.items(), str(path), hint=hint)
    return decode(ModelIdentity, metadata.get("base", ""), source=f"{path} (base)"), tensors


def experts_of(names: Iterable[str]) -> tuple[Expert, ...]:
    """The experts of the slices among the names of a delta, in order."""
    matches = [match for name in names if (match := SLICE.fullmatch(name))]
    return tuple(sorted({Expert(layer=int(match[1]), index=int(match[2])) for match in matches}))


def has_routers(names: Iterable[str]) -> bool:
    """Whether a delta of these names holds parameters of routers."""
    return not all(map(SLICE.fullmatch, names))


def _format_of(names: Iterable[str]) -> str:
    return WITH_ROUTERS if has_routers(names) else FORMAT


def apply_delta(model: nn.Module, path: Path, *, scale: float = 1.0) -> None:
    """Merge the delta into its base: base + scale (trained - base), in the masters' dtype.

    Raises:
        ArtifactError: the model is not the delta's base, or the file names slices that it does not have.
    """
    base, tensors = read_delta(path)
    fingerprint = weights_fingerprint(model)
    if fingerprint != base.fingerprint:
        raise ArtifactError(
            f"{path} belongs to {base.name} with weights {base.fingerprint}, this model's are {fingerprint}",
            hint=f"load {base.name}" + (f" at revision {base.revision}" if base.revision else ""),
        )
    try:
        slices = {name: value for name, value in tensors.items() if SLICE.fullmatch(name)}
        routers = {name: value for name, value in tensors.items() if name not in slices}
        _refuse_other_than_routers(model, routers)
        if slices:
            with attach(model, experts_of(slices)) as attached:
                attached.put_back(slices if scale == 1.0 else _scaled(attached.take(), slices, scale))
                attached.merge()
        with torch.no_grad():
            for name, value in routers.items():
                parameter = model.get_parameter(name)
                found = parameter.to(value.dtype)
                parameter.copy_(value if scale == 1.0 else found + scale * (value - found))
    except (UsageError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise ArtifactError(f"{path} does not fit its base: {error}", hint="make the delta again") from error


def _scaled(base: Mapping[str, Tensor], trained: Mapping[str, Tensor], scale: float) -> dict[str, Tensor]:
    """Each slice at a part of the way from the base."""
    return {name: base[name] + scale * (value - base[name]) for name, value in trained.items()}


def _refuse_other_than_routers(model: nn.Module, routers: Mapping[str, Tensor]) -> None:
    """Refuse names and shapes of what is no parameter of a router.

    Raises:
        ValueError: there is one; nothing was changed.
    """
    own = dict(router_tensors(model)) if routers else {}
    for name, value in routers.items():
        if not isinstance(own.get(name), nn.Parameter) or own[name].shape != value.shape:
            raise ValueError(f"{name} {tuple(value.shape)} names no slice, and no parameter of a router")
