"""The models of an evaluation: loaded when a stage asks for them, given up where a judge needs the memory.

Comes in: a target. Goes out: the trained model, and its base. Always holds: each is loaded at most once between two
releases, and its weights are checked every time.
"""

from __future__ import annotations

import gc

import torch

from moe_cli.evaluate.target import EvaluationTarget, load_base, load_target
from moe_cli.model.load import LoadedModel
from moe_cli.model.memory import available_bytes

ROOM = 1.1  # times the weights: what a second model takes
FORWARDS = 6 << 30  # bytes: the logits of a batch of texts from both models, and what a forward keeps


def has_room_for_another(loaded: LoadedModel) -> bool:
    """Whether a second model of this size fits beside it; several cards, or the machine's memory, are not asked."""
    if loaded.device.type != "cuda" or len({weight.device for weight in loaded.model.parameters()}) > 1:
        return True
    size: int = sum(weight.nbytes for weight in loaded.model.parameters())
    return available_bytes(loaded.device) >= ROOM * size + FORWARDS


class ModelPool:
    """What is evaluated, and what it was trained from."""

    def __init__(self, target: EvaluationTarget) -> None:
        self.target = target
        self._tuned: LoadedModel | None = None
        self._base: LoadedModel | None = None

    def tuned(self) -> LoadedModel:
        """The model of the target. Raises as `load_target`."""
        if self._tuned is None:
            self._tuned = load_target(self.target)
        return self._tuned

    def base(self) -> LoadedModel:
        """The model before training, in the machine's memory where the card has no room. Raises as `load_base`."""
        if self._base is None:
            self._base = load_base(self.target, on_host=not has_room_for_another(self.tuned()))
        return self._base

    def release(self) -> None:
        """Give the memory back; the next stage that asks loads them again."""
        self._tuned = None
        self.release_base()

    def release_base(self) -> None:
        """Give back what the base takes."""
        self._base = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
