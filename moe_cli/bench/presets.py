"""The benchmark plan, from a preset and the values typed beside it. Imports no torch.

A named preset has the true shape of its model. A shape that the kernels cannot run is refused before torch is
imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import get_args

from moe_cli.data.rows import is_index
from moe_cli.errors import UsageError
from moe_cli.records import BenchmarkArm, BenchmarkPlan, ModelShape

ARMS: tuple[BenchmarkArm, ...] = get_args(BenchmarkArm)
ALIGNMENT = 8  # grouped products take rows of 16 bytes, which are 8 numbers of bfloat16
SHAPE_FIELDS = ("hidden", "width", "layers", "experts", "top_k", "vocabulary")


@dataclass(frozen=True, slots=True)
class Preset:
    """A model's true shape with the batch that it is measured on."""

    shape: ModelShape
    rows: int
    length: int
    selected: int
    dtype: str
    arms: tuple[BenchmarkArm, ...]


ISSUE = ModelShape(
    family="olmoe",
    hidden=384,
    width=256,
    layers=3,
    experts=64,
    top_k=8,
    vocabulary=2048,
    heads=6,
    kv_heads=6,
    head_dim=64,
)
OLMOE_1B_7B = ModelShape(
    family="olmoe",
    hidden=2048,
    width=1024,
    layers=16,
    experts=64,
    top_k=8,
    vocabulary=50304,
    heads=16,
    kv_heads=16,
    head_dim=128,
)
QWEN3_30B_A3B = ModelShape(
    family="qwen3_moe",
    hidden=2048,
    width=768,
    layers=48,
    experts=128,
    top_k=8,
    vocabulary=151936,
    heads=32,
    kv_heads=4,
    head_dim=128,
)
FROZEN_OR_SELECTIVE: tuple[BenchmarkArm, ...] = ("forward_library", "forward_moe", "floor_moe", "selective")
PRESETS = {
    "issue": Preset(ISSUE, rows=16, length=48, selected=3, dtype="float32", arms=ARMS),
    "olmoe-1b-7b": Preset(OLMOE_1B_7B, rows=16, length=512, selected=3, dtype="bfloat16", arms=ARMS),
    "qwen3-30b-a3b": Preset(QWEN3_30B_A3B, rows=16, length=512, selected=3, dtype="bfloat16", arms=FROZEN_OR_SELECTIVE),
}


def plan_of(preset: str, given: Mapping[str, object], model: str | None = None) -> BenchmarkPlan:
    """The preset with the given values in the place of its own (None: not given).

    Raises:
        UsageError: a name that is not known, or a shape that cannot be built or measured.
    """
    if preset not in PRESETS:
        raise UsageError(f"there is no preset {preset!r}", hint=f"choose one of: {', '.join(PRESETS)}")
    chosen = PRESETS[preset]
    typed = {name: value for name, value in given.items() if value is not None}
    if model is not None and (of_shape := sorted({*SHAPE_FIELDS} & typed.keys())):
        raise UsageError(
            f"--{of_shape[0].replace('_', '-')} makes a random model, but --model-name names a real one",
            hint="give only one of the two",
        )
    shape = _shape({name: typed.pop(name) for name in SHAPE_FIELDS if name in typed}, chosen.shape)
    values = {"arms": chosen.arms, "dtype": None if model else chosen.dtype} | typed
    if "arms" in typed:
        values["arms"] = _arms(str(typed["arms"]))
    values["shares"] = _numbers(str(typed["shares"])) if "shares" in typed else ()
    plan = BenchmarkPlan(
        preset=preset,
        model=model,
        shape=None if model else shape,
        **{"rows": chosen.rows, "length": chosen.length, "selected": chosen.selected, **values},  # type: ignore[arg-type]
    )
    _check(plan)
    return plan


def _shape(given: Mapping[str, object], shape: ModelShape) -> ModelShape:
    changed = replace(shape, **given)  # type: ignore[arg-type]
    if changed.hidden == shape.hidden:
        return changed
    if shape.family != "olmoe":
        raise UsageError(f"--hidden changes the attention of {shape.family}", hint="use it with the preset issue")
    heads = max(1, changed.hidden // shape.head_dim)
    return replace(changed, heads=heads, kv_heads=heads, head_dim=changed.hidden // heads)


def check_selected(numbers: tuple[int, ...], num_experts: int) -> None:
    """Refuse to select more experts than a layer has.

    Raises:
        UsageError: see above.
    """
    if max(numbers) > num_experts:
        raise UsageError(
            f"{max(numbers)} experts per layer are to be selected, but a layer has {num_experts}",
            hint="lower --selected or --shares",
        )


def _check(plan: BenchmarkPlan) -> None:
    shape = plan.shape
    if plan.dtype not in (None, "float32", "bfloat16"):
        raise UsageError(f"--dtype {plan.dtype} cannot be trained", hint="choose float32 or bfloat16")
    if plan.length < 4:
        raise UsageError(f"rows of {plan.length} tokens have no answer", hint="give --length 4 or more")
    if shape is None:
        return
    for name, size in (("hidden", shape.hidden), ("width", shape.width)):
        if size % ALIGNMENT:
            raise UsageError(
                f"--{name} {size} is no multiple of {ALIGNMENT}, which grouped products need",
                hint=f"choose {size + ALIGNMENT - size % ALIGNMENT}",
            )
    if shape.hidden % shape.heads or shape.head_dim % 2:
        raise UsageError(
            f"--hidden {shape.hidden} cannot be split into {shape.heads} heads of an even size",
            hint="choose a multiple of 64 (of 128 for the preset olmoe-1b-7b)",
        )
    if shape.top_k > shape.experts:
        raise UsageError(f"--top-k {shape.top_k} of {shape.experts} experts", hint="lower --top-k or raise --experts")
    check_selected((plan.selected, *plan.shares), shape.experts)


def _arms(text: str) -> tuple[BenchmarkArm, ...]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if unknown := [name for name in names if name not in ARMS] or ([] if names else [text]):
        raise UsageError(f"there is no row {unknown[0]!r}", hint=f"choose from: {', '.join(ARMS)}")
    return tuple(arm for arm in ARMS if arm in names)


def _numbers(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    if not all(map(is_index, parts)):
        raise UsageError(f"--shares {text!r} is no list of numbers", hint="write --shares 0,1,3,8")
    return tuple(sorted({int(part) for part in parts}))
