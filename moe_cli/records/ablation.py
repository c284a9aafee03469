"""Interventions on experts, and `moe ablate`: what the model still does without the experts that were selected."""

from __future__ import annotations

import hashlib
from typing import Literal

from moe_cli.records.preparation import Expert
from moe_cli.records.record import record

InterventionKind = Literal["reroute", "zero", "mean"]
TokenScope = Literal["all", "prompt", "answer"]


@record
class Intervention:
    """Experts that are taken away, and how."""

    experts: tuple[Expert, ...]
    kind: InterventionKind  # others are chosen instead; their output is 0; or it is their mean over harmless texts
    tokens: TokenScope  # the tokens at which they are taken away

    @property
    def digest(self) -> str:
        """A sha256 of what is done, the same for any order of the experts."""
        return _sha256(f"{self.kind} {self.tokens} {_names(self.experts)}")


@record
class Steering:
    """Experts whose logits are raised above all others of a token, or lowered below them."""

    activate: tuple[Expert, ...]
    deactivate: tuple[Expert, ...]
    epsilon: float  # 0.01; how far above or below

    @property
    def digest(self) -> str:
        """A sha256 of what is done, the same for any order of the experts."""
        return _sha256(f"steer {self.epsilon!r} up {_names(self.activate)} down {_names(self.deactivate)}")


def _names(experts: tuple[Expert, ...]) -> str:
    return " ".join(f"{expert.layer},{expert.index}" for expert in sorted(experts))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
