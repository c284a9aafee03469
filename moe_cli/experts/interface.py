"""Plug the slices into a model through transformers' experts interface, and take them out again.

While attached nothing but the slices requires a gradient. Detaching leaves weights, flags, modules and the experts
implementation as they were found, also after an exception. Merging leaves a plain model with the slices' values in its
own dtype.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from types import TracebackType

import torch
from torch import Tensor, nn
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

from moe_cli.errors import UsageError
from moe_cli.experts.autograd import ExpertsCall, combine_output, compute_first_product, run_routed_experts
from moe_cli.experts.bank import bank_of
from moe_cli.experts.grouped_products import sort_by_expert
from moe_cli.experts.slices import ATTRIBUTE, LayerSlices, slice_name
from moe_cli.experts.trainable import freeze_rest
from moe_cli.model.topology import ExpertLayer, expert_layers, switch_experts
from moe_cli.records import Expert

IMPLEMENTATION = "moe_slices"  # the name under which transformers knows `experts_forward`


class AttachedSlices:
    """The slices of all selected experts of one model; made by `attach`, ends with `merge` or `detach`."""

    def __init__(
        self, model: nn.Module, layers: Sequence[tuple[ExpertLayer, LayerSlices]], undo: Callable[[], None]
    ) -> None:
        self.model = model
        self._layers = tuple(layers)
        self._undo: Callable[[], None] | None = undo
        self.parameters: dict[str, nn.Parameter] = {}
        self._of_expert: dict[Expert, tuple[str, ...]] = {}
        self._name_masters()

    def _name_masters(self) -> None:
        self.parameters.clear()
        self._of_expert.clear()
        for _, slices in self._layers:
            for expert, weight, master in slices.named_masters():
                name = slice_name(expert, weight)
                self.parameters[name] = master
                self._of_expert[expert] = (*self._of_expert.get(expert, ()), name)

    @property
    def experts(self) -> tuple[Expert, ...]:
        """All selected experts, in order."""
        return tuple(self._of_expert)

    @property
    def active(self) -> tuple[Expert, ...]:
        """The experts that get a gradient from the next forward."""
        return tuple(Expert(layer=s.layer, index=index) for _, s in self._layers for index in s.active)

    @property
    def attached(self) -> bool:
        """False after `merge` or `detach`."""
        return self._undo is not None

    @property
    def of_shares(self) -> bool:
        """Whether the banks are sharded: `sync` is called after whatever changes a slice."""
        return self._layers[0][1].of_shares

    @property
    def compute_dtype(self) -> torch.dtype | None:
        """The dtype of the experts' products in the last forward; None before one."""
        dtypes = {slices.compute_dtype for _, slices in self._layers}
        if len(dtypes) > 1:
            raise ValueError(f"the expert layers computed in different dtypes: {sorted(map(str, dtypes))}")
        return dtypes.pop()

    def names_of(self, experts: Collection[Expert]) -> tuple[str, ...]:
        """Names of the slices of these experts."""
        return tuple(name for expert in sorted(experts) for name in self._of_expert[expert])

    def extend(self, experts: Collection[Expert]) -> None:
        """Make further experts trainable, from the values that they have; those there are keep theirs.

        Raises:
            UsageError: an expert that the model does not have.
        """
        self._check_attached()
        layers = expert_layers(self.model)
        if experts:
            _check_experts(self.model, layers, sorted(experts))
        here = {layer.layer: slices for layer, slices in self._layers}
        for layer in layers:
            chosen = {expert.index for expert in experts if expert.layer == layer.layer}
            if chosen and layer.layer in here:
                here[layer.layer].add(layer, chosen)
            elif chosen:
                here[layer.layer] = LayerSlices(layer, chosen)
                layer.module.add_module(ATTRIBUTE, here[layer.layer])
        self._layers = tuple((layer, here[layer.layer]) for layer in layers if layer.layer in here)
        self._name_masters()

    def activate(self, experts: Collection[Expert] | None) -> None:
        """Choose the experts that get a gradient from the forwards that follow (None: all); the others' stays None.

        The choice in force in the forward of a micro-batch counts, whenever its backward comes. With no expert active a
        backward still runs, and gives no expert a gradient.
        """
        experts = None if experts is None else frozenset(experts)
        unknown = [] if experts is None else sorted(experts - self._of_expert.keys())
        if unknown:
            raise ValueError(f"{unknown[0]} has no slice: it was not selected when the slices were attached")
        for _, slices in self._layers:
            slices.active = tuple(
                index
                for index in slices.indices
                if experts is None or Expert(layer=slices.layer, index=index) in experts
            )
            slices.anchors = False
        self._layers[-1][1].anchors = not self.active
        if self.of_shares:  # the backward of every process gathers the same layers, whichever experts are active
            self._layers[0][1].anchors = True

    def take(self) -> dict[str, Tensor]:
        """Copies of all slices, on the CPU, in the masters' dtype."""
        return {name: master.detach().to("cpu", copy=True) for name, master in self.parameters.items()}

    @torch.no_grad()
    def put_back(self, values: Mapping[str, Tensor]) -> None:
        """Set all slices to values from `take`."""
        if values.keys() != self.parameters.keys():
            raise ValueError(f"not these slices: {sorted(values.keys() ^ self.parameters.keys())[:3]} ...")
        for name, master in self.parameters.items():
            if values[name].shape != master.shape:
                raise ValueError(f"{name} has shape {tuple(values[name].shape)}, expected {tuple(master.shape)}")
            master.copy_(values[name])
        self.sync()

    def sync(self) -> None:
        """Write the slices into the bank now. Every forward does it, unless the bank is sharded."""
        for layer, slices in self._layers:
            slices.write(layer.module)

    def merge(self) -> None:
        """Detach and keep the slices' values: a plain model, in the bank's dtype."""
        self._check_attached()
        self.sync()
        self._end()

    def detach(self) -> None:
        """Detach and restore the model as it was before `attach`, bit for bit."""
        self._check_attached()
        for layer, slices in self._layers:
            slices.restore(layer.module)
        self._end()

    def _check_attached(self) -> None:
        if not self.attached:
            raise ValueError("these slices were merged or detached already")

    def _end(self) -> None:
        for layer, _ in self._layers:
            delattr(layer.module, ATTRIBUTE)
        if self._undo is not None:
            self._undo()
        self._undo = None

    def __enter__(self) -> AttachedSlices:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.attached:
            self.detach()


def attach(model: nn.Module, experts: Sequence[Expert]) -> AttachedSlices:
    """Make the selected experts trainable and freeze everything else; as a context manager it detaches at the end.

    Raises:
        UsageError: no expert given, one that the model does not have, or a family that is not understood.
    """
    layers = expert_layers(model)
    _check_experts(model, layers, experts)
    chosen = {layer.layer: {expert.index for expert in experts if expert.layer == layer.layer} for layer in layers}
    return _attach(model, {layer: indices for layer in layers if (indices := chosen[layer.layer])})


def attach_none(model: nn.Module) -> AttachedSlices:
    """As `attach`, with every expert frozen: a backward goes through the experts and gives none of them a gradient.

    Raises:
        UsageError: a family that is not understood.
    """
    return _attach(model, {layer: set() for layer in expert_layers(model)})


def _attach(model: nn.Module, indices: Mapping[ExpertLayer, Collection[int]]) -> AttachedSlices:
    if any(hasattr(layer.module, ATTRIBUTE) for layer in expert_layers(model)):
        raise ValueError(f"{type(model).__name__} has slices attached already")
    pairs = [(layer, LayerSlices(layer, chosen)) for layer, chosen in indices.items()]
    thaw = freeze_rest(model, keep=())
    for layer, slices in pairs:
        layer.module.add_module(ATTRIBUTE, slices)
    ALL_EXPERTS_FUNCTIONS.register(IMPLEMENTATION, experts_forward)
    switch_back = switch_experts(model, IMPLEMENTATION)

    def undo() -> None:
        switch_back()
        thaw()

    return AttachedSlices(model, pairs, undo)


def _check_experts(model: nn.Module, layers: Sequence[ExpertLayer], experts: Sequence[Expert]) -> None:
    if not experts:
        raise UsageError("no expert is selected", hint="select at least one, for example with a lower threshold")
    sizes = {layer.layer: layer.num_experts for layer in layers}
    for expert in experts:
        if not 0 <= expert.index < sizes.get(expert.layer, 0):
            available = f"experts 0 to {max(sizes.values()) - 1} in the layers {', '.join(map(str, sizes))}"
            raise UsageError(
                f"there is no expert {expert.index} in layer {expert.layer}: {type(model).__name__} has {available}",
                hint="run moe prepare on this model",
            )


def experts_forward(module: nn.Module, tokens_TH: Tensor, experts_TK: Tensor, router_TK: Tensor) -> Tensor:
    """The experts function: transformers' `grouped_mm` experts, with gradients for the active slices."""
    slices: LayerSlices | None = getattr(module, ATTRIBUTE, None)
    if slices is not None and not slices.of_shares:
        slices.write(module)
    bank = bank_of(module)
    if not bank.frozen:
        raise ValueError("the experts of an attached model must stay frozen: their gradient is never computed")
    dispatch = sort_by_expert(experts_TK, bank.up.shape[0], biased=bank.up_bias is not None, sentinels=bank.sentinels)
    active = [] if slices is None else slices.active_masters()
    idle = [] if slices is None or active else slices.idle_masters()
    if torch.is_grad_enabled() and (active or idle or tokens_TH.requires_grad or router_TK.requires_grad):
        work = ExpertsCall(bank, dispatch, tuple(target for target, _ in active))
        out_TH = run_routed_experts(tokens_TH, router_TK, work, [master for _, master in active], idle=idle)
    else:
        first_SG = compute_first_product(tokens_TH, bank, dispatch)
        out_TH = combine_output(first_SG, router_TK, bank, dispatch, tokens_TH.dtype)
    if slices is not None:
        slices.compute_dtype = bank.up.dtype
    return out_TH
