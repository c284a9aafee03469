"""One optimizer step of an arm, followed without memory: every tensor has its size and none has a value.

The step is that of the benchmark and of training, run under torch's FakeTensorMode. Two whole steps are followed, as
the optimizer's moments exist from the second one on; of the alternating arm two of each kind, or two joint ones. Even
routing is assumed: every expert gets as many tokens. A signal is met before the next module and not within what torch
calls, where an exception is lost, or torch ends the process.

Letters of shapes: S rows sorted by expert, I and O the sizes of a product, E experts.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
    UnsupportedFakeTensorException,
    UnsupportedOperatorException,
)
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from transformers import PreTrainedModel

from moe_cli.bench.bench_model import Batch
from moe_cli.bench.step import JointRow, RouterRow, StepRow, step_bytes
from moe_cli.experts import AttachedSlices, attach, attach_none
from moe_cli.experts.dense import KERNEL, dense_experts
from moe_cli.experts.router_masters import RouterMasters, attach_routers
from moe_cli.model.checkpointing import enable_checkpointing
from moe_cli.model.skeleton import fill_with_empty
from moe_cli.model.topology import expert_layers
from moe_cli.records import Arm, Expert, StepMemory
from moe_cli.records.training import STORED_TARGETS, ConsistencyTarget
from moe_cli.signals import deferred_interruption

GROUPED_PRODUCT = torch.ops.aten._grouped_mm.default
NEEDS_VALUES = (
    DataDependentOutputException,
    DynamicOutputShapeException,
    UnsupportedFakeTensorException,
    UnsupportedOperatorException,
)
NUM_STEPS = 2
FORWARDS = 2  # of a step: in the second one gradients are there already


class ValuesNeededError(Exception):
    """A step cannot be followed without values: what the model does next depends on them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepShape:
    """The batch of a step, and how it is computed."""

    rows: int  # 16
    length: int  # 512; tokens of a row, the second half of them is the answer
    forward_tokens: int  # 4096; most tokens of one forward
    checkpointing: bool
    attacked_rows: int | None = None  # 8; of a step of the routers; None: all of them
    target: ConsistencyTarget = "round"  # what the routers' step compares them with
    joint: bool = False  # whether experts and routers train in the same step
    num_batches: int = 1  # of a step in this process

    @property
    def forward_rows(self) -> int:
        """Rows of one forward."""
        return min(self.rows, max(1, self.forward_tokens // self.length))


def follow_step(arm: Arm, model: PreTrainedModel, union: Sequence[Expert], shape: StepShape) -> StepMemory:
    """Bytes of a step of `arm`, which trains the experts of `union`, with the routers too, or everything.

    Without `union` the alternating arm trains its routers alone.

    `model` is on the meta device, as `meta_model` makes it, and is used up.

    Raises:
        ValuesNeededError: the model's own code asks for values.
        UsageError: the routers of the alternating arm cannot be trained.
    """
    dtype = model.dtype
    try:
        with _met_between_modules(), FakeTensorMode(allow_non_fake_inputs=True), LiveBytes() as live:
            fill_with_empty(model, as_float32=arm == "baseline")
            return run_step(arm, model, dtype, union, shape, live)
    except NEEDS_VALUES as error:
        raise ValuesNeededError(str(error).splitlines()[0] if str(error) else type(error).__name__) from error


@contextmanager
def _met_between_modules() -> Iterator[None]:
    """Inside the block an interruption is raised before the next module's forward, or at the end."""
    with deferred_interruption() as interrupted:

        def meet(*_: object) -> None:
            if interrupted.is_set():
                raise KeyboardInterrupt

        watching = register_module_forward_pre_hook(meet)
        try:
            yield
        finally:
            watching.remove()
        meet()


def run_step(
    arm: Arm, model: PreTrainedModel, dtype: torch.dtype, union: Sequence[Expert], shape: StepShape, live: LiveBytes
) -> StepMemory:
    """The bytes of two steps; experts' products in `dtype`, masters in float32, as training sets an arm up."""
    live.peak = live.now  # what building the model took counts for nothing
    model.train().set_experts_implementation(KERNEL)
    with ExitStack() as stack:
        if shape.checkpointing:
            stack.enter_context(enable_checkpointing(model))
        if arm == "baseline":
            trained = tuple(model.requires_grad_(True).parameters())
            stack.enter_context(dense_experts(model, dtype))
            row = StepRow(model, batch_of_shape(shape, shape.rows), trained, autocast=dtype is not torch.float32)
            return _stepped(row, live, None)
        slices = stack.enter_context(attach(model, union) if union else attach_none(model))
        if arm == "selective":
            return _stepped(
                StepRow(model, batch_of_shape(shape, shape.rows), tuple(slices.parameters.values())), live, dtype
            )
        layers = [layer.layer for layer in expert_layers(model)]
        return _alternated(slices, stack.enter_context(attach_routers(model, layers)), shape, live, dtype)


def _stepped(row: StepRow, live: LiveBytes, dtype: torch.dtype | None) -> StepMemory:
    for _ in range(NUM_STEPS):
        row.step()
    return _memory(row, live.peak, dtype)


def _alternated(
    slices: AttachedSlices, routers: RouterMasters, shape: StepShape, live: LiveBytes, dtype: torch.dtype
) -> StepMemory:
    """The bytes where steps of experts and of routers share one optimizer; of parts, the larger of both kinds."""
    trained = (*slices.parameters.values(), *routers.parameters.values())
    of_routers = _router_row(slices.model, shape, trained, routers)
    if shape.joint:
        return _joint(of_routers, shape, live, dtype)
    of_experts = StepRow(slices.model, batch_of_shape(shape, shape.rows), trained)
    of_routers.optimizer = of_experts.optimizer
    kinds = ((of_routers, ()), (of_experts, None)) if slices.parameters else ((of_routers, ()),)
    for _ in range(NUM_STEPS):
        for row, active in kinds:
            slices.activate(active)
            with row.during():
                row.step()
    if not slices.parameters:
        return _memory(of_routers, live.peak, dtype)
    experts = _memory(of_experts, live.peak, dtype)
    slices.activate(())
    of_router_masters = sum(master.nbytes for master in routers.parameters.values())
    return replace(_with_saved(experts, of_routers), gradients=max(experts.gradients, of_router_masters))


def _joint(of_routers: RouterRow, shape: StepShape, live: LiveBytes, dtype: torch.dtype) -> StepMemory:
    """The bytes where experts and routers train in the same steps."""
    batch = batch_of_shape(shape, shape.rows)
    row = JointRow(of_routers.model, batch, of_routers.trained, during=of_routers.during, routers=of_routers)
    for _ in range(NUM_STEPS):
        with row.during():
            row.step()
    memory = _with_saved(_memory(row, live.peak, dtype), of_routers)
    apart = memory.gradients if shape.num_batches > 1 else 0  # each batch has its own sum before it is added
    return replace(memory, peak=memory.peak + apart)


def _with_saved(memory: StepMemory, of_routers: RouterRow) -> StepMemory:
    """With what a forward of the routers keeps, if that is more."""
    counted, _ = step_bytes(of_routers)
    saved = counted.saved_for_backward or 0, counted.saved_by_loss or 0
    kept, by_loss = max((memory.saved, memory.saved_by_loss), saved)
    return replace(memory, saved=kept, saved_by_loss=by_loss)


def _router_row(
    model: PreTrainedModel, shape: StepShape, trained: tuple[nn.Parameter, ...], routers: RouterMasters
) -> RouterRow:
    """The routers' step; all plain rows of a batch are read before each forward where they are the target."""
    attacked_rows = shape.attacked_rows or shape.rows
    plain_rows = min(attacked_rows, shape.rows - attacked_rows) or attacked_rows
    return RouterRow(
        model,
        batch_of_shape(shape, attacked_rows),
        trained,
        during=routers.learning,
        plain=None if shape.target in STORED_TARGETS else _batch(shape, plain_rows),
        plain_learns=shape.target == "both",
    )


def batch_of_shape(shape: StepShape, rows: int) -> Batch:
    """So many rows of the shape, or as many as two forwards take: further ones need no more memory."""
    return _batch(shape, min(rows, FORWARDS * shape.forward_rows))


def _batch(shape: StepShape, rows: int) -> Batch:
    ids_BS = torch.zeros(rows, shape.length, dtype=torch.long)
    kept_A = torch.arange(shape.length - shape.length // 2 - 1, shape.length - 1)
    return Batch(ids_BS, kept_A, shape.forward_rows)


def _memory(row: StepRow, peak: int, dtype: torch.dtype | None) -> StepMemory:
    """The bytes of a row that has stepped; selected rows of `dtype` are kept on the host as they were found."""
    counted, _ = step_bytes(row)
    own = {id(parameter) for parameter in row.trained}
    host = 0 if dtype is None else counted.trained_params * dtype.itemsize
    return StepMemory(
        trained_params=counted.trained_params,
        weights=sum(
            tensor.nbytes for tensor in (*row.model.parameters(), *row.model.buffers()) if id(tensor) not in own
        ),
        masters=counted.masters,
        gradients=counted.gradients,
        moments=counted.moments,
        saved=counted.saved_for_backward or 0,
        saved_by_loss=counted.saved_by_loss or 0,
        host=host,
        peak=peak - host,
    )


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all storages that are alive, each once, and their largest sum."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(
        self,
        func: Callable[..., object],
        types: object,
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        run: Callable[..., object] = _grouped_product if func is GROUPED_PRODUCT else func
        out = run(*args, **(kwargs or {}))
        for tensor in tree_iter(out):
            if isinstance(tensor, Tensor):
                self._count(tensor)
        return out

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        address = storage._cdata
        if address not in self._sizes:
            self._sizes[address] = storage.nbytes()
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._drop, address)

    def _drop(self, address: int) -> None:
        self.now -= self._sizes.pop(address)


def _grouped_product(left: Tensor, right: Tensor, offs: Tensor | None = None, **_: object) -> Tensor:
    """[S, O] of [S, I] and [E, I, O], or [E, I, O] of [I, S] and [S, O]; torch's own takes fake bfloat16 alone."""
    if right.dim() == 3:
        return left.new_empty(left.shape[0], right.shape[2])
    if offs is None:
        raise ValueError("a grouped product of two matrices has offsets")
    return left.new_empty(offs.shape[0], left.shape[0], right.shape[1])
