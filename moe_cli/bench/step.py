"""One optimizer step of one row, of its weights or of its routers, and the bytes that it keeps.

A step clears the gradients first, so that they can be counted afterwards. What has to be active during a step
(autocast, an experts function, checkpointing) is entered outside of the timed part.

Bytes are measured, never estimated: every storage counts once, and parameters and buffers are not counted as saved
for the backward.

A step of the routers is that of the alternating arm, as training takes it, on rows of one length. The loss is that of
`consistency_over` = `pair`: the divergence of the mean distribution over the answer of every row, mean over the layers.
The experts are attached and idle, and the optimizer holds both. In a joint step both train.

Letters of shapes: B rows, S positions, A answer positions, L expert layers, C classes of a router.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from inspect import signature
from typing import cast

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import PreTrainedModel

from moe_cli.bench.bench_model import Batch
from moe_cli.model.router_seam import RouterLogits, kl_divergences, log_distribution, router_seam
from moe_cli.model.token_rows import LOGITS_TO_KEEP
from moe_cli.records import StepBytes

CLIP = 1.0
LEARNING_RATE = 1e-5  # its size costs nothing
GROUPED = "grouped_mm"  # in the name of torch's operator and of transformers' fallback
STEP_COUNTER = "step"  # AdamW's name


@dataclass(slots=True, eq=False)
class StepRow:
    """A model with its batch and optimizer, ready to be stepped; `step` is what is timed."""

    model: PreTrainedModel
    batch: Batch
    trained: tuple[nn.Parameter, ...] = ()  # what the optimizer moves
    backward: bool = True
    autocast: bool = False  # the forward in bfloat16, over float32 masters
    during: Callable[[], AbstractContextManager[object]] = nullcontext
    before_update: Callable[[], None] = lambda: None
    optimizer: torch.optim.AdamW | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        """Make the optimizer that the Trainer uses by default."""
        if self.trained:
            self.optimizer = torch.optim.AdamW(self.trained, lr=LEARNING_RATE, weight_decay=0.0, fused=True)

    def step(self) -> None:
        """Run the forwards, and the backwards, clipping and update if the row has them."""
        if self.optimizer is not None:
            self.optimizer.zero_grad(set_to_none=True)
        self.train_parts()
        if self.optimizer is not None:
            self.before_update()
            torch.nn.utils.clip_grad_norm_(self.trained, CLIP)
            self.optimizer.step()

    def train_parts(self) -> None:
        """The forwards of the step, and the backwards if it has them."""
        for part_BS in self.batch.parts():
            loss = self.forward(part_BS)
            if self.backward:
                loss.backward()

    def forward(self, part_BS: Tensor) -> Tensor:
        """The part of the step's loss that comes from these rows of the batch."""
        with torch.set_grad_enabled(self.backward):
            return self.loss(self.outputs(part_BS), part_BS)

    def outputs(self, part_BS: Tensor) -> Tensor:
        """[B, A, V], the logits that the loss is taken of."""
        batch = self.batch
        with torch.autocast(part_BS.device.type, torch.bfloat16, enabled=self.autocast):
            keeps = LOGITS_TO_KEEP in signature(self.model.forward).parameters
            options = {LOGITS_TO_KEEP: batch.kept_A} if keeps else {}
            logits_BAV = self.model(input_ids=part_BS, use_cache=False, **options).logits
            logits_BAV = logits_BAV if keeps else logits_BAV[:, batch.kept_A]
        return cast("Tensor", logits_BAV)

    def loss(self, outputs: Tensor, part_BS: Tensor) -> Tensor:
        """The loss of these rows, of what `outputs` returned for them."""
        return self.batch.loss(outputs, part_BS)


@dataclass(slots=True, eq=False)
class RouterRow(StepRow):
    """A row whose step trains the routers: `during` it their masters learn."""

    plain: Batch | None = None  # rows whose routing is the target, read anew for every forward; None: it is stored
    plain_learns: bool = False  # whether they get a gradient, too

    def outputs(self, part_BS: Tensor) -> Tensor:
        """[2, L, B, C], ln of the mean distribution over the answer of every row, for every layer: target and row."""
        target_LBC: Tensor | None = None
        if self.plain is not None:
            with torch.set_grad_enabled(self.backward and self.plain_learns):
                target_LBC = torch.cat([self._means(plain_BS) for plain_BS in self.plain.parts()], dim=1)
        Q_LBC = self._means(part_BS)
        if target_LBC is None:
            return torch.stack([torch.zeros_like(Q_LBC).log_softmax(-1), Q_LBC])
        return torch.stack([target_LBC.mean(1, keepdim=True).expand_as(Q_LBC), Q_LBC])

    def loss(self, outputs: Tensor, part_BS: Tensor) -> Tensor:
        """Divergence of these rows' routing from a target, in nats."""
        return kl_divergences(outputs[0], outputs[1]).mean(0).sum() / len(self.batch.ids_BS)

    def _means(self, part_BS: Tensor) -> Tensor:
        Q_LBC = torch.stack([log_p_BSC[:, self.batch.kept_A + 1].logsumexp(1) for log_p_BSC in self._routing(part_BS)])
        return Q_LBC - math.log(len(self.batch.kept_A))

    def _routing(self, part_BS: Tensor) -> Sequence[Tensor]:
        """ln p [B, S, C] of every layer."""
        options: dict[str, bool | int] = {"use_cache": False}
        if LOGITS_TO_KEEP in signature(self.model.forward).parameters:
            options[LOGITS_TO_KEEP] = 1
        reader = RouterLogits()
        with router_seam(self.model, reader) as modes:
            self.model(input_ids=part_BS, attention_mask=torch.ones_like(part_BS), **options)
        return [
            log_distribution(reader.of_layer[index].reshape(*part_BS.shape, -1), mode.score_calls, self.model)
            for index, mode in enumerate(modes)
        ]


@dataclass(slots=True, eq=False)
class JointRow(StepRow):
    """A row whose step trains experts and routers by one loss: on its own batch, and on that of `routers`."""

    routers: RouterRow | None = None

    def train_parts(self) -> None:
        """The forwards and backwards of both terms, whose gradients add up."""
        StepRow.train_parts(self)
        if self.routers is not None:
            StepRow.train_parts(self.routers)


def step_bytes(row: StepRow) -> tuple[StepBytes, str | None]:
    """Bytes of a row that has already stepped, and the dtype of its grouped products; runs one more forward.

    Raises:
        AssertionError: grouped products of one row ran in several dtypes.
    """
    with row.during():
        kept, by_loss, dtypes = _saved_in_forward(row)
    if len(dtypes) > 1:
        raise AssertionError(f"the grouped products of one row ran in several dtypes: {sorted(dtypes)}")
    states = [] if row.optimizer is None else [row.optimizer.state[parameter] for parameter in row.trained]
    counted = StepBytes(
        trained_params=sum(parameter.numel() for parameter in row.trained),
        gradients=_bytes(parameter.grad for parameter in row.trained),
        moments=_bytes(value for state in states for name, value in state.items() if name != STEP_COUNTER),
        masters=_bytes(row.trained),
        step_counters=_bytes(state.get(STEP_COUNTER) for state in states),
        saved_for_backward=kept if row.backward else None,
        saved_by_loss=by_loss if row.backward else None,
    )
    return counted, next(iter(dtypes), None)


def _saved_in_forward(row: StepRow) -> tuple[int, int, set[str]]:
    """Bytes that a forward has saved for its backward when it ends, those that the loss adds, dtypes of products."""
    own = {_storage(tensor)[0] for tensor in (*row.model.parameters(), *row.model.buffers(), row.batch.ids_BS)}
    kept: list[weakref.ref[Tensor]] = []  # a part of the graph that the loss does not need is freed on the way

    def keep(tensor: Tensor) -> Tensor:
        alias = tensor.detach()  # an output that saved itself would never be freed
        kept.append(weakref.ref(alias))
        return alias

    def saved() -> int:
        alive = dict(_storage(tensor) for ref in kept if (tensor := ref()) is not None)
        return sum(size for address, size in alive.items() if address not in own)

    products, part_BS = _Products(), row.batch.parts()[0]
    with ExitStack() as watching:
        watching.enter_context(torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor))
        watching.enter_context(products)
        watching.enter_context(torch.set_grad_enabled(row.backward))
        outputs = row.outputs(part_BS)
        before = saved()
        loss = row.loss(outputs, part_BS)
    after = saved()
    del outputs, loss
    return after, after - before, products.dtypes


class _Products(TorchDispatchMode):
    """Records the dtypes of the grouped products that run inside the block."""

    def __init__(self) -> None:
        super().__init__()
        self.dtypes: set[str] = set()

    def __torch_dispatch__(
        self,
        func: Callable[..., object],
        types: object,
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        if GROUPED in str(func) and isinstance(args[0], Tensor):
            self.dtypes.add(str(args[0].dtype).removeprefix("torch."))
        return func(*args, **(kwargs or {}))


def _bytes(tensors: Iterable[object]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors if isinstance(tensor, Tensor))


def _storage(tensor: Tensor) -> tuple[int, int]:
    storage = tensor.untyped_storage()
    return storage._cdata, storage.nbytes()  # a tensor without values has no address of its data
