"""What each arm unfreezes, and the proof that it is exactly that.

Both arms keep float32 masters and compute their experts in the checkpoint's dtype. The selective arm leaves everything
else byte-identical. After `finish` the model is plain again and holds the trained values in the checkpoint's own
dtype.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from moe_cli.activity import begin_activity
from moe_cli.config import MoeConfig
from moe_cli.errors import EnvironmentFaultError
from moe_cli.experts import AttachedSlices, attach, attach_none, check_budget, count_trainable, frozen_digest
from moe_cli.experts.dense import IMPLEMENTATION as DENSE
from moe_cli.experts.dense import dense_experts
from moe_cli.experts.interface import IMPLEMENTATION as SLICES
from moe_cli.experts.router_masters import RouterMasters, attach_routers
from moe_cli.experts.trainable import least_bytes, refuse_underflow
from moe_cli.model.interventions import refuse_fixed_routing
from moe_cli.model.load import LoadedModel, resolve_device
from moe_cli.model.memory import total_bytes
from moe_cli.model.sharding import has_shares
from moe_cli.model.skeleton import meta_model
from moe_cli.model.tensors import digest_of_tensors, stored_tensors
from moe_cli.ranks import num_ranks, this_rank
from moe_cli.records import Arm, Expert, Selection, TrainableCount


@dataclass(slots=True)
class ArmSetup:
    """A model ready to be trained by one arm."""

    trained: dict[str, nn.Parameter]  # by name; float32 masters
    count: TrainableCount
    implementation: str  # of the experts
    experts_dtype: Callable[[], torch.dtype | None]  # what the experts' products of the last forward ran in
    finish: Callable[[], None]  # ends the arm: a plain model with the trained values
    slices: AttachedSlices | None  # None in the baseline
    frozen_digest: Callable[[], str] | None  # None in the baseline: over everything that must not move
    num_moved: Callable[[], int] | None  # baseline only: parameters that differ from the beginning
    routers: RouterMasters | None = None  # alternating only; None there: the routers stay locked

    def recount(self, model: nn.Module) -> None:
        """Count what trains once more, as further experts may have begun to."""
        if self.routers is not None:
            self.count = count_with_routers(model, self.slices, self.routers)

    @property
    def trained_experts(self) -> tuple[Expert, ...]:
        """The experts that train, in whichever round; none in the baseline, which trains all parameters."""
        return self.slices.experts if self.slices is not None else ()

    def write(self) -> None:
        """Put the trained values into the model."""
        if self.slices is not None:
            self.slices.sync()
        if self.routers is not None:
            self.routers.write()

    def take(self) -> dict[str, Tensor]:
        """What a delta holds: copies of the trained masters by name, on the CPU."""
        slices = self.slices.take() if self.slices is not None else {}
        return slices | (self.routers.take() if self.routers is not None else {})


def refuse_too_large(arm: Arm, config: MoeConfig, params_of_union: int) -> None:
    """Refuse a model whose weights fit nowhere together with the masters, gradients and moments of what trains.

    Nothing is loaded: the sizes follow from the config of the model and, but for the baseline, the parameters that are
    known to be selected. Activations, which come on top, are not counted.

    Raises:
        EnvironmentFaultError: it cannot fit.
        as `meta_model`.
    """
    model = meta_model(config.model)
    params, dtype = sum(parameter.numel() for parameter in model.parameters()), model.dtype
    baseline = arm == "baseline"
    shares = num_ranks() if config.train.placement == "sharded" else 1
    least = least_bytes(
        frozen_bytes=0 if baseline else params * dtype.itemsize // shares,
        trained_params=params // shares if baseline else params_of_union,
    )
    device = torch.device(resolve_device(config.model))
    room = sum(total_bytes(device)) // (this_rank().local_total if device.type == "cpu" else 1)
    if least <= room:
        return
    state, weights = "masters, gradients and moments", f"weights in {dtype}".replace("torch.", "")
    selected = f" and the {state} of {params_of_union / 1e6:,.1f} M selected parameters" if params_of_union else ""
    what = state if baseline else weights + selected
    may_share = num_ranks() > 1 and shares == 1 and arm != "alternating"
    shared = "--set train.placement=sharded shares it out; " if may_share else ""
    smaller = shared if baseline or dtype.itemsize == 2 else f"{shared}--set model.dtype=bfloat16 halves the weights; "
    each = f" for each of {num_ranks()} processes" if num_ranks() > 1 else ""
    raise EnvironmentFaultError(
        f"the {arm} arm of {config.model.name} needs at least {least / 1e9:.1f} GB for its {what}, and "
        f"{device} has {room / 1e9:.1f} GB{each}",
        hint=f"{smaller}use more or larger cards (--gpu); moe plan {config.model.name} shows what each arm needs",
    )


@contextmanager
def selective_arm(loaded: LoadedModel, selection: Selection, budget: float | None) -> Iterator[ArmSetup]:
    """Train the union of the selection as slices, with everything else frozen.

    Raises:
        UsageError: an empty union, a selection for another model, or more than the budget.
    """
    compute_dtype(loaded)
    with attach(loaded.model, selection.union) as slices:
        setup = _of_slices(loaded, slices)
        check_budget(setup.count, requested_params=selection.trainable_params, budget=budget)
        yield setup


@contextmanager
def _frozen_experts(loaded: LoadedModel) -> Iterator[ArmSetup]:
    """Train no expert; what trains beside them is added."""
    compute_dtype(loaded)
    with attach_none(loaded.model) as slices:
        yield _of_slices(loaded, slices)


def _of_slices(loaded: LoadedModel, slices: AttachedSlices) -> ArmSetup:
    return ArmSetup(
        trained=slices.parameters,
        count=count_trainable(loaded.model, slices),
        implementation=SLICES,
        experts_dtype=lambda: slices.compute_dtype,
        finish=slices.merge,
        slices=slices,
        frozen_digest=lambda: frozen_digest(loaded.model, slices.experts),
        num_moved=None,
    )


@contextmanager
def alternating_arm(
    loaded: LoadedModel, selection: Selection | None, budget: float | None, router_layers: Sequence[int]
) -> Iterator[ArmSetup]:
    """Train the union of the selection and the routers of these layers; the budget is for the experts.

    Without a selection the routers train alone.

    Raises:
        UsageError: as `selective_arm`, a router that cannot be trained, or a layer whose experts no router chooses.
    """
    refuse_fixed_routing(loaded.model, np.array([layer.layer in router_layers for layer in loaded.layers]))
    with (
        _frozen_experts(loaded) if selection is None else selective_arm(loaded, selection, budget) as setup,
        attach_routers(loaded.model, router_layers) as routers,
    ):

        def finish() -> None:
            routers.merge()
            setup.finish()

        yield replace(
            setup,
            trained=setup.trained | routers.parameters,
            count=count_with_routers(loaded.model, setup.slices, routers),
            finish=finish,
            frozen_digest=lambda: frozen_digest(loaded.model, setup.trained_experts, routers.parameters.keys()),
            routers=routers,
        )


def count_with_routers(model: nn.Module, slices: AttachedSlices | None, routers: RouterMasters) -> TrainableCount:
    """The slices that there are now, and the routers."""
    count = count_trainable(model, slices)
    trainable = count.trainable_params + sum(master.numel() for master in routers.parameters.values())
    return replace(count, trainable_params=trainable, trainable_ratio=trainable / count.total_params)


@contextmanager
def baseline_arm(loaded: LoadedModel) -> Iterator[ArmSetup]:
    """Train every parameter, as float32 masters; the experts compute in the checkpoint's dtype."""
    dtype, model = compute_dtype(loaded), loaded.model
    dtypes = _dtypes(model)
    model.float().requires_grad_(True)
    before = _digests(model)
    with dense_experts(model, dtype) as experts:
        yield ArmSetup(
            trained=dict(model.named_parameters()),
            count=count_trainable(model),
            implementation=DENSE,
            experts_dtype=lambda: experts.compute_dtype,
            finish=lambda: _cast(model, dtypes),
            slices=None,
            frozen_digest=None,
            num_moved=lambda: sum(before[name] != digest for name, digest in _digests(model).items()),
        )


def compute_dtype(loaded: LoadedModel) -> torch.dtype:
    """The dtype of the checkpoint, in which both arms compute their experts.

    Raises:
        UsageError: a dtype whose gradients would underflow.
    """
    dtype: torch.dtype = getattr(torch, loaded.identity.dtype)
    refuse_underflow(dtype, loaded.identity.name)
    return dtype


def _dtypes(model: nn.Module) -> dict[str, torch.dtype]:
    """Dtype of every tensor.

    Some checkpoints keep single tensors, such as a router's correction bias, in float32 among bfloat16 ones.
    """
    return {name: tensor.dtype for name, tensor in _tensors(model)}


def _cast(model: nn.Module, dtypes: Mapping[str, torch.dtype]) -> None:
    """Cast every tensor back to its own dtype."""
    if has_shares(model):  # FSDP keeps shares of its own, which it renews where a module's tensors are replaced
        of_tensor = {id(tensor): dtypes[name] for name, tensor in _tensors(model)}
        model._apply(lambda tensor: tensor.to(of_tensor.get(id(tensor), tensor.dtype)))
        return
    for name, tensor in _tensors(model):
        tensor.data = tensor.data.to(dtypes[name])


def _tensors(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    yield from model.named_parameters()
    yield from model.named_buffers()


def _digests(model: nn.Module) -> dict[str, str]:
    names = {name for name, _ in model.named_parameters()}
    with begin_activity("hashing the weights"):
        return {name: digest_of_tensors([(name, tensor)]) for name, tensor in stored_tensors(model) if name in names}
