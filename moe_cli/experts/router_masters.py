"""The routers' parameters as trainable float32 masters, beside the slices of the experts.

What trains is what a router's own logits depend on: weights and biases inside the router module. Correction biases,
scales behind the top-k and buffers stay as they are. A master made from a parameter and written back gives the
parameter's bits. While the routers learn, a forward computes with the masters, rounded to the checkpoint's dtype, and
their gradients are in the masters' dtype; otherwise it computes with what was last written. Detaching leaves values and
modules as they were found, also after an exception.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from types import TracebackType

import torch
from torch import Tensor, nn

from moe_cli.errors import UsageError
from moe_cli.experts.slices import ATTRIBUTE
from moe_cli.model.router_seam import RouterLogits, forward_probe, router_seam
from moe_cli.model.topology import ExpertLayer, expert_layers, router_module


@dataclass(frozen=True, slots=True)
class _RouterTensor:
    """One trained parameter of a router."""

    name: str  # "model.layers.7.mlp.gate.weight", in the model
    owner: nn.Module  # that holds it
    key: str  # "weight", there
    parameter: nn.Parameter  # as the model has it
    found: Tensor  # its values before training, on the CPU


class RouterMasters:
    """The masters of the routers of some layers of one model; made by `attach_routers`."""

    def __init__(self, model: nn.Module, layers: Sequence[ExpertLayer]) -> None:
        self.layers = tuple(layer.layer for layer in layers)
        self.parameters: dict[str, nn.Parameter] = {}  # by the parameter's name in the model
        self._of_router: list[tuple[nn.Module, list[_RouterTensor]]] = []
        self._instead: Mapping[str, Tensor] = {}  # what the forward computes with instead of the masters
        self.attached = True
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        reached = logit_parameters(model)
        for layer in layers:
            router = router_module(model, layer)
            own = [_router_tensor(router, key, names) for key in reached[layer.layer]]
            masters = [_master(tensor.parameter) for tensor in own]
            self.parameters |= {tensor.name: master for tensor, master in zip(own, masters, strict=True)}
            router.add_module(ATTRIBUTE, nn.ParameterList(masters))
            self._of_router.append((router, own))

    @contextmanager
    def learning(self) -> Iterator[None]:
        """Forwards and backwards inside compute with the masters, and give them gradients."""
        with ExitStack() as hooks:
            for router, tensors in self._of_router:
                hooks.callback(router.register_forward_pre_hook(partial(self._swap_in, tensors)).remove)
                hooks.callback(router.register_forward_hook(partial(_swap_out, tensors), always_call=True).remove)
            yield

    @contextmanager
    def computing_with(self, values: Mapping[str, Tensor]) -> Iterator[None]:
        """Inside `learning`: forwards compute with these values of the masters."""
        self._instead = values
        try:
            yield
        finally:
            self._instead = {}

    @torch.no_grad()
    def write(self) -> None:
        """Put the masters' values into the model, in its own dtype."""
        for tensor, master in self._pairs():
            tensor.parameter.copy_(master)

    def take(self) -> dict[str, Tensor]:
        """Copies of all masters, on the CPU."""
        return {name: master.detach().to("cpu", copy=True) for name, master in self.parameters.items()}

    def median_weight(self) -> float:
        """Median absolute value of the parameters."""
        return float(
            torch.cat([master.detach().abs().float().flatten() for master in self.parameters.values()]).median()
        )

    def merge(self) -> None:
        """Detach and keep the masters' values: a plain model, in its own dtype."""
        self.write()
        self._end()

    def detach(self) -> None:
        """Detach and restore the model as it was before `attach_routers`, bit for bit."""
        with torch.no_grad():
            for tensor, _ in self._pairs():
                tensor.parameter.copy_(tensor.found)
        self._end()

    def _pairs(self) -> Iterator[tuple[_RouterTensor, nn.Parameter]]:
        for _, tensors in self._of_router:
            for tensor in tensors:
                yield tensor, self.parameters[tensor.name]

    def _swap_in(self, tensors: Sequence[_RouterTensor], *_: object) -> None:
        for tensor in tensors:
            value = self._instead.get(tensor.name, self.parameters[tensor.name])
            tensor.owner._parameters[tensor.key] = value.to(tensor.parameter.dtype)  # type: ignore[assignment]

    def _end(self) -> None:
        for router, _ in self._of_router:
            delattr(router, ATTRIBUTE)
        self.attached = False

    def __enter__(self) -> RouterMasters:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.attached:
            self.detach()


def _swap_out(tensors: Sequence[_RouterTensor], *_: object) -> None:
    for tensor in tensors:
        tensor.owner._parameters[tensor.key] = tensor.parameter


def attach_routers(model: nn.Module, layers: Sequence[int]) -> RouterMasters:
    """Make the routers of these decoder layers trainable; as a context manager it detaches at the end.

    Raises:
        UsageError: a layer whose logits no parameter of its router reaches.
    """
    chosen = [layer for layer in expert_layers(model) if layer.layer in layers]
    return RouterMasters(model, chosen)


def logit_parameters(model: nn.Module) -> dict[int, tuple[str, ...]]:
    """Names in the router module of the parameters that its own logits depend on, by decoder layer.

    Found by a short forward and a backward from the logits of each layer.

    Raises:
        UsageError: a layer has none, or as `router_seam`.
    """
    layers = expert_layers(model)
    routers = [dict(router_module(model, layer).named_parameters()) for layer in layers]
    before = [(parameter, parameter.requires_grad) for own in routers for parameter in own.values()]
    reader = RouterLogits()
    try:
        for parameter, _ in before:
            parameter.requires_grad_(parameter.is_floating_point())
        with router_seam(model, reader), torch.enable_grad():
            forward_probe(model)
            reached = {
                layer.layer: _reached(reader.of_layer[index], routers[index]) for index, layer in enumerate(layers)
            }
    finally:
        for parameter, flag in before:
            parameter.requires_grad_(flag)
    if without := [layer for layer, names in reached.items() if not names]:
        raise UsageError(
            f"the routers of the layers {without} of {type(model).__name__} have no parameter that can be trained",
            hint="train the experts alone: moe train selective",
        )
    return reached


def _reached(logits_TC: Tensor, own: Mapping[str, nn.Parameter]) -> tuple[str, ...]:
    names = [name for name, parameter in own.items() if parameter.requires_grad]
    if not names or not logits_TC.requires_grad:
        return ()
    gradients = torch.autograd.grad(
        logits_TC.float().sum(), [own[name] for name in names], retain_graph=True, allow_unused=True
    )
    return tuple(name for name, gradient in zip(names, gradients, strict=True) if gradient is not None)


def _master(parameter: nn.Parameter) -> nn.Parameter:
    dtype = torch.promote_types(parameter.dtype, torch.float32)
    return nn.Parameter(parameter.detach().to(dtype, copy=True).contiguous())


def _router_tensor(router: nn.Module, name: str, names: Mapping[int, str]) -> _RouterTensor:
    place, _, key = name.rpartition(".")
    owner = router.get_submodule(place)
    parameter = owner.get_parameter(key)
    return _RouterTensor(names[id(parameter)], owner, key, parameter, parameter.detach().to("cpu", copy=True))
