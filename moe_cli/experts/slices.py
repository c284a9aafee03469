"""The selected experts of one layer as trainable parameters, and the rows of the bank that hold their values.

`LayerSlices` has one parameter per expert and weight: a master in float32 or better. A master made from a row and
written back gives the row's bits; `write` touches the selected rows alone; `restore` puts back the rows as they were
found.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from moe_cli.experts.backward import BackwardTarget
from moe_cli.experts.bank import check_understood, weight_roles
from moe_cli.model.sharding import fetched_row, is_sharded, row_here
from moe_cli.model.topology import ExpertLayer
from moe_cli.records import Expert

ATTRIBUTE = "moe_slices"  # the name under which a layer's slices hang on its experts module


def slice_name(expert: Expert, weight: str) -> str:
    """Stable name of one slice: `layers.7.experts.31.gate_up_proj`."""
    return f"layers.{expert.layer}.experts.{expert.index}.{weight}"


class LayerSlices(nn.Module):
    """Masters of the selected experts of one layer, one child module per expert."""

    def __init__(self, layer: ExpertLayer, indices: Iterable[int]) -> None:
        super().__init__()
        check_understood(layer)
        self.layer = layer.layer
        self.indices: tuple[int, ...] = ()
        self.roles = weight_roles(layer.module)
        self.active: tuple[int, ...] = ()
        self.anchors = False  # nobody is active in the whole model, and the backward starts here
        self.compute_dtype: torch.dtype | None = None  # what the products of the last forward ran in
        self.of_shares = any(is_sharded(parameter) for parameter in layer.module.parameters(recurse=False))
        self._found: dict[int, dict[str, Tensor]] = {}
        self.add(layer, indices)

    def add(self, layer: ExpertLayer, indices: Iterable[int]) -> None:
        """Let further experts of the layer train, from the values that its rows have."""
        new = tuple(sorted(set(indices) - set(self.indices)))
        for index in new:
            rows = {w: fetched_row(getattr(layer.module, w), index).to("cpu", copy=True) for w in layer.weights}
            self._found[index] = rows
            self.add_module(str(index), _masters(layer, index))
        self.indices += new
        self.active = self.indices

    def named_masters(self) -> Iterator[tuple[Expert, str, nn.Parameter]]:
        """Expert, weight and master, in order."""
        for index in self.indices:
            for weight, master in self.get_submodule(str(index)).named_parameters():
                yield Expert(layer=self.layer, index=index), weight, master

    def active_masters(self) -> list[tuple[BackwardTarget, Tensor]]:
        """The masters that get a gradient from the current forward."""
        return [
            (BackwardTarget(index, role), getattr(self.get_submodule(str(index)), weight))
            for index in self.active
            for role, weight in self.roles.items()
        ]

    def idle_masters(self) -> list[Tensor]:
        """Where no expert is active here: the masters that take part without a gradient.

        Needed in the layer that starts the backward when nothing trains at all; and where checkpointing repeats a
        forward, which has to save as many tensors as the first time, whichever experts are active by now.
        """
        repeated = torch._C._current_graph_task_id() != -1  # inside a backward
        return list(self.parameters()) if self.anchors or repeated else []

    @torch.no_grad()
    def write(self, module: nn.Module) -> None:
        """Put the masters' values into the bank's rows, in the bank's dtype.

        Done in every forward: a fused optimizer changes parameters without raising their version counter, so nothing
        tells whether a master moved. It writes behind autograd's back, since equal values change nothing.

        Of a sharded bank each process writes the rows that it holds. That is done after every step and never in a
        forward, whose bank is a gathered copy that the backward gathers again.
        """
        rows: list[Tensor] = []
        masters: list[Tensor] = []
        for expert, weight, master in self.named_masters():
            if (row := row_here(getattr(module, weight), expert.index)) is not None:
                rows.append(row)
                masters.append(master)
        if rows:
            torch._foreach_copy_(rows, masters)

    @torch.no_grad()
    def restore(self, module: nn.Module) -> None:
        """Put back the rows as they were found."""
        for index, rows in self._found.items():
            for weight, row in rows.items():
                if (here := row_here(getattr(module, weight), index)) is not None:
                    here.copy_(row)


def _masters(layer: ExpertLayer, index: int) -> nn.Module:
    holder = nn.Module()
    for weight in layer.weights:
        row = fetched_row(getattr(layer.module, weight), index)
        dtype = torch.promote_types(row.dtype, torch.float32)
        holder.register_parameter(weight, nn.Parameter(row.to(dtype, copy=True).contiguous()))
    return holder
