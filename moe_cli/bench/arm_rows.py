"""Builds every row of the benchmark: what a user would run, and the least that could be run; or says why it cannot.

Rows differ only in what trains and through which experts function. Whatever the dtype of the weights, what trains
has float32 masters and the experts' products run in the weights' dtype, as in `moe train`.

| row | what trains | experts |
| --- | --- | --- |
| forward_library, forward_moe | nothing, no gradient | `grouped_mm`, ours |
| floor_library, floor_moe | nothing; gradients of the input, through every layer | `grouped_mm`, ours without a slice |
| selective | the slices | ours |
| full_grouped_mm, full_eager | everything | `grouped_mm`, the family's own loop |
| zeroed_gradients | the bank; gradients outside the selection are set to zero | `grouped_mm` |
| lora | low-rank additions to every expert | `grouped_mm` |

The least memory that a row needs is estimated from the sizes of its tensors alone. The estimate is a lower bound (no
activation is counted), so a row that is refused for it could not have run. With P parameters in a dtype of i bytes, B
of them in experts and N selected: frozen rows P i; selective P i + 16 N; full 16 P; zeroed gradients (P - B) i + 16 B.

A row without figures says why, and is never shown as 0. Errors that are no known failure are bugs and are not
caught.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from moe_cli.bench.bench_model import Batch, batch_of, build_model, draw_selection
from moe_cli.bench.machine import installed_version
from moe_cli.bench.step import StepRow
from moe_cli.config import MoeConfig
from moe_cli.experts import attach
from moe_cli.experts.dense import KERNEL, dense_experts
from moe_cli.experts.trainable import least_bytes
from moe_cli.model.checkpointing import enable_checkpointing
from moe_cli.model.topology import ExpertLayer, expert_layers
from moe_cli.records import BenchmarkedModel, BenchmarkPlan

EAGER = "eager"
NO_MEMORY = "can't allocate memory"  # torch's, on the CPU
ITEM_BYTES = {"float32": 4, "bfloat16": 2}
ROOM_FOR_ACTIVATIONS = 2  # rows stay side by side only where twice their least bytes are available


@dataclass(frozen=True, slots=True, eq=False)
class RowSettings:
    """Settings shared by all rows."""

    plan: BenchmarkPlan
    config: MoeConfig
    device: torch.device


def build_row(name: str, selected: int, bench: RowSettings) -> StepRow:
    """Build the row `name`, with `selected` experts of every layer if it has a selection.

    Raises:
        NotMeasuredError: something that it needs is not installed.
    """
    if name == "lora" and installed_version("peft") is None:
        raise NotMeasuredError("peft is not installed: pip install 'moe-selective-repair[bench]'")
    model = build_model(bench.plan, bench.config, bench.device)
    model.set_experts_implementation(KERNEL)
    row = _BUILDERS["selective" if name.startswith("selective") else name](
        model, batch_of(bench.plan, model, bench.config.seed), selected, bench.plan
    )
    if bench.plan.checkpointing and row.backward:
        row.during = _both(row.during, lambda: enable_checkpointing(model))
    return row


def _forward_library(model: PreTrainedModel, batch: Batch, selected: int, plan: BenchmarkPlan) -> StepRow:
    return StepRow(model.eval(), batch, backward=False)


def _forward_moe(model: PreTrainedModel, batch: Batch, selected: int, plan: BenchmarkPlan) -> StepRow:
    attach(model, draw_selection(expert_layers(model), selected))
    return StepRow(model.eval(), batch, backward=False)


def _floor_library(model: PreTrainedModel, batch: Batch, selected: int, plan: BenchmarkPlan) -> StepRow:
    model.requires_grad_(False)
    model.enable_input_require_grads()
    return StepRow(model, batch)


def _floor_moe(model: PreTrainedModel, batch: Batch, selected: int, plan: BenchmarkPlan) -> StepRow:
    attached = attach(model, draw_selection(expert_layers(model), 1))
    attached.activate(())
    model.enable_input_require_grads()
    return StepRow(model, batch)


def _selective(model: PreTrainedModel, batch: Batch, selected: int, plan: BenchmarkPlan) -> StepRow:
    attached = attach(model, draw_selection(expert_layers(model), selected))
    return StepRow(model, batch, tuple(attached.parameters.values()))


def _full_grouped_mm(model: PreTrainedModel, batch: Batch, selected: int, plan: BenchmarkPlan) -> StepRow:
    during, mixed = _with_masters(model)
    model.float()
    return StepRow(model, batch, tuple(model.parameters()), autocast=mixed, during=during)


def _full_eager(model: PreTrainedModel, batch: Batch, selected: int, plan: BenchmarkPlan) -> StepRow:
    mixed = model.dtype is not torch.float32
    model.float().set_experts_implementation(EAGER)
    return StepRow(model, batch, tuple(model.parameters()), autocast=mixed)


def _zeroed_gradients(model: PreTrainedModel, batch: Batch, selected: int, plan: BenchmarkPlan) -> StepRow:
    """The row that trains whole banks, so that all their weights have moments; the rest is frozen in its own dtype."""
    during, _ = _with_masters(model)
    model.requires_grad_(False)
    masked = [
        (layer.module.float().get_parameter(name), others_E)
        for layer in expert_layers(model)
        for others_E in [_others(layer, selected).to(model.device)]
        for name in layer.weights
    ]

    def zero_the_others() -> None:
        for weight, others_E in masked:
            if weight.grad is not None:
                weight.grad.index_fill_(0, others_E, 0.0)

    for weight, _ in masked:
        weight.requires_grad_()
    return StepRow(model, batch, tuple(weight for weight, _ in masked), during=during, before_update=zero_the_others)


def _others(layer: ExpertLayer, selected: int) -> Tensor:
    """Indices of the experts of a layer that are not selected."""
    chosen = {expert.index for expert in draw_selection((layer,), selected)}
    return torch.tensor([index for index in range(layer.num_experts) if index not in chosen], dtype=torch.long)


def _lora(model: PreTrainedModel, batch: Batch, selected: int, plan: BenchmarkPlan) -> StepRow:
    from peft import LoraConfig, get_peft_model

    names = [f"{layer.name}.{weight}" for layer in expert_layers(model) for weight in layer.weights]
    wanted = LoraConfig(r=plan.lora_rank, lora_alpha=plan.lora_rank, target_parameters=names)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of transformers, for what peft calls
        adapted = get_peft_model(model, wanted)
    return StepRow(adapted, batch, tuple(p for p in adapted.parameters() if p.requires_grad))


Entered = Callable[[], AbstractContextManager[object]]
_BUILDERS: dict[str, Callable[[PreTrainedModel, Batch, int, BenchmarkPlan], StepRow]] = {
    "forward_library": _forward_library,
    "forward_moe": _forward_moe,
    "floor_library": _floor_library,
    "floor_moe": _floor_moe,
    "selective": _selective,
    "full_grouped_mm": _full_grouped_mm,
    "full_eager": _full_eager,
    "zeroed_gradients": _zeroed_gradients,
    "lora": _lora,
}


def _with_masters(model: nn.Module) -> tuple[Entered, bool]:
    """A context that keeps experts' products in the model's dtype over float32 masters, and whether it is needed."""
    dtype = next(model.parameters()).dtype
    mixed = dtype is not torch.float32
    return (lambda: dense_experts(model, dtype)) if mixed else nullcontext, mixed


def _both(first: Entered, other: Entered) -> Entered:
    @contextmanager
    def entered() -> Iterator[None]:
        with ExitStack() as stack:
            stack.enter_context(first())
            stack.enter_context(other())
            yield

    return entered


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a row has no figures."""

    status: Literal["not measured", "out of memory"]
    note: str


class NotMeasuredError(Exception):
    """Something that a row needs is not installed."""


class NoRoomError(Exception):
    """A row needs more memory than there is."""


def failure_of(error: Exception) -> Failure | None:
    """The failure that an exception stands for; None where it is a bug."""
    note = (str(error).splitlines() or [type(error).__name__])[0]
    if isinstance(error, NotMeasuredError):
        return Failure("not measured", note)
    if isinstance(error, (NoRoomError, MemoryError, torch.OutOfMemoryError)) or NO_MEMORY in str(error):
        return Failure("out of memory", note)
    return None


def least_bytes_of_row(name: str, selected: int, model: BenchmarkedModel) -> int:
    """Bytes of the weights, masters, gradients and moments of a row."""
    item, total, experts = ITEM_BYTES[model.dtype], model.total_params, model.expert_params
    if name.startswith("full_"):
        return least_bytes(frozen_bytes=0, trained_params=total)
    if name == "zeroed_gradients":
        return least_bytes(frozen_bytes=item * (total - experts), trained_params=experts)
    if name.startswith("selective"):
        return least_bytes(frozen_bytes=item * total, trained_params=params_of_selected(model, selected))
    return item * total


def params_of_selected(model: BenchmarkedModel, selected: int) -> int:
    """Number of parameters in `selected` experts of every layer."""
    return selected * model.expert_params // model.num_experts


def check_room(name: str, selected: int, model: BenchmarkedModel, available: int) -> None:
    """Refuse a row that cannot fit, before the system kills the process for it.

    Raises:
        NoRoomError: see above.
    """
    needed = least_bytes_of_row(name, selected, model)
    if needed > available:
        raise NoRoomError(f"needs {needed / 1e9:.1f} GB without activations, {available / 1e9:.1f} GB are available")


def fits_side_by_side(rows: list[tuple[str, int]], model: BenchmarkedModel, available: int) -> bool:
    """Whether all rows fit in memory together, with room for their activations."""
    together = sum(least_bytes_of_row(name, selected, model) for name, selected in rows)
    return ROOM_FOR_ACTIVATIONS * together <= available
