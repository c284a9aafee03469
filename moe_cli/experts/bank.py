"""One experts module read as a bank of fused weights, the same for every model family.

`Bank` holds the weights, the two products with their input gradients, and the gate of a module that carries the flags
of `use_experts_implementation`. Nothing is copied and nothing is changed. Flags that an older transformers lacks count
as False; a module whose weights do not match its flags is refused.

Letters: S rows sorted by expert, E experts, H hidden, F expert width, G what the first product gives (2F with a gate).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn

from moe_cli.errors import UsageError
from moe_cli.experts.grouped_products import multiply_grouped
from moe_cli.model.topology import ExpertLayer

UP, DOWN, UP_BIAS, DOWN_BIAS = "up", "down", "up_bias", "down_bias"


@dataclass(frozen=True, slots=True, eq=False)
class Bank:
    """The weights of one layer's experts, as they lie in the model."""

    up: Tensor  # [E, G, H], or [E, H, G] where transposed
    down: Tensor  # [E, H, F], or [E, F, H] where transposed
    up_bias: Tensor | None  # [E, G]
    down_bias: Tensor | None  # [E, H]
    transposed: bool
    activate: Callable[[Tensor], Tensor]  # [S, G] -> [S, F]
    norm: Callable[[Tensor], Tensor] | None  # [S, H] -> [S, H], after every expert
    sentinels: bool  # expert parallel: ids >= E may occur

    @property
    def frozen(self) -> bool:
        """Whether no weight requires a gradient, which would never be computed."""
        inside = self.norm.parameters() if isinstance(self.norm, nn.Module) else ()
        own = (self.up, self.down, self.up_bias, self.down_bias)
        return not any(weight is not None and weight.requires_grad for weight in (*own, *inside))

    def up_product(self, rows_SH: Tensor, offsets_E: Tensor, expert_S: Tensor | None) -> Tensor:
        """[S, G]: the first product."""
        return _biased(multiply_grouped(rows_SH, self._inward(self.up), offsets_E), self.up_bias, expert_S)

    def down_product(self, rows_SF: Tensor, offsets_E: Tensor, expert_S: Tensor | None) -> Tensor:
        """[S, H]: the second product."""
        return _biased(multiply_grouped(rows_SF, self._inward(self.down), offsets_E), self.down_bias, expert_S)

    def up_gradient(self, grad_SG: Tensor, offsets_E: Tensor) -> Tensor:
        """[S, H]: gradient of the first product's input."""
        return multiply_grouped(grad_SG, self._inward(self.up).transpose(-2, -1), offsets_E)

    def down_gradient(self, grad_SH: Tensor, offsets_E: Tensor) -> Tensor:
        """[S, F]: gradient of the second product's input."""
        return multiply_grouped(grad_SH, self._inward(self.down).transpose(-2, -1), offsets_E)

    def _inward(self, weight: Tensor) -> Tensor:
        """The weight as [E, I, O], in whichever order the family stores it."""
        return weight if self.transposed else weight.transpose(-2, -1)

    def only(self, experts: Tensor) -> Bank:
        """The bank of a few experts (a copy of their rows)."""
        return replace(
            self,
            up=self.up[experts],
            down=self.down[experts],
            up_bias=None if self.up_bias is None else self.up_bias[experts],
            down_bias=None if self.down_bias is None else self.down_bias[experts],
        )


def _biased(out_SO: Tensor, bias_EO: Tensor | None, expert_S: Tensor | None) -> Tensor:
    return out_SO if bias_EO is None else out_SO.add_(bias_EO[expert_S])


def weight_roles(module: nn.Module) -> dict[str, str]:
    """Role -> name of the parameter in this family: {"up": "gate_up_proj", "down": "down_proj"}."""
    up = "gate_up_proj" if getattr(module, "has_gate", True) else "up_proj"
    roles = {UP: up, DOWN: "down_proj"}
    if getattr(module, "has_bias", False):
        roles |= {UP_BIAS: f"{up}_bias", DOWN_BIAS: "down_proj_bias"}
    return roles


def bank_of(module: nn.Module) -> Bank:
    """The bank with the module's current tensors (parameters may have been moved since the last forward)."""
    weights = {role: getattr(module, name) for role, name in weight_roles(module).items()}
    return Bank(
        up=weights[UP],
        down=weights[DOWN],
        up_bias=weights.get(UP_BIAS),
        down_bias=weights.get(DOWN_BIAS),
        transposed=getattr(module, "is_transposed", False),
        activate=getattr(module, "_apply_gate" if getattr(module, "has_gate", True) else "act_fn"),
        norm=cast(nn.Module, module.post_expert_norm) if getattr(module, "has_post_expert_norm", False) else None,
        sentinels=getattr(module, "_is_expert_parallel", False),
    )


def check_understood(layer: ExpertLayer) -> None:
    """Refuse a family whose weights do not match its flags: it must never be trained wrongly.

    Raises:
        UsageError: a weight is missing, unknown, of another shape, or stored in a dtype that cannot be trained.
    """
    present, announced = {name for name, _ in layer.module.named_parameters()}, _announced_names(layer.module)
    if present != announced:
        raise _not_understood(layer, f"holds {sorted(present)}, but its flags announce {sorted(announced)}")
    for name, shape in _announced_shapes(layer).items():
        weight = layer.module.get_parameter(name)
        if tuple(weight.shape) != shape:
            raise _not_understood(layer, f"holds {name} as {list(weight.shape)}, but its flags announce {list(shape)}")
        if weight.dtype not in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
            raise UsageError(
                f"{layer.name}.{name} is stored as {str(weight.dtype).removeprefix('torch.')}, which cannot be trained",
                hint="load the model in bfloat16 or float32, not quantised",
            )


def _announced_names(module: nn.Module) -> set[str]:
    norm = getattr(module, "post_expert_norm", None) if getattr(module, "has_post_expert_norm", False) else None
    inside = norm.named_parameters(prefix="post_expert_norm") if isinstance(norm, nn.Module) else ()
    return {*weight_roles(module).values(), *(name for name, _ in inside)}


def _announced_shapes(layer: ExpertLayer) -> dict[str, tuple[int, ...]]:
    """Name -> expected shape; the flags give the layout, the first weight the sizes."""
    roles, experts = weight_roles(layer.module), layer.num_experts
    transposed, gates = getattr(layer.module, "is_transposed", False), 1 + getattr(layer.module, "has_gate", True)
    hidden, out = layer.module.get_parameter(roles[UP]).shape[-2:][:: 1 if transposed else -1]
    width = out // gates

    def lying(rows: int, columns: int) -> tuple[int, ...]:
        return (experts, columns, rows) if transposed else (experts, rows, columns)

    shapes = {UP: lying(gates * width, hidden), DOWN: lying(hidden, width)}
    shapes |= {UP_BIAS: (experts, gates * width), DOWN_BIAS: (experts, hidden)}
    return {name: shapes[role] for role, name in roles.items()}


def _not_understood(layer: ExpertLayer, what: str) -> UsageError:
    return UsageError(
        f"{layer.name} ({type(layer.module).__name__}) {what}",
        hint="this family is laid out in a way that moe does not know; it is not trained",
    )
