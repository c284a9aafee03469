"""Sampling that does not know its neighbours: a token depends on (seed, prompt, place) and the model alone.

Comes in: logits of the next token, and whose they are. Goes out: one token for each row. Always holds: no random
generator has a state; the same seed gives the same number on every device, in every batch, before and after a resume;
logits that name no token are an error.

Letters: B rows, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

import torch
from torch import Tensor
from transformers import LogitsProcessor

from moe_cli.errors import NumericError
from moe_cli.model.float64 import float64_device

UNITS = 2**53  # a float64 holds every multiple of 1 / UNITS below 1


def uniform_of(seed: int, prompt_id: str, place: int) -> float:
    """The number in [0, 1) that decides the answer's token at `place`."""
    digest = sha256(f"{seed} {place} {prompt_id}".encode()).digest()
    return (int.from_bytes(digest[:8]) >> 11) / UNITS


def seed_of(seed: int, prompt_id: str) -> int:
    """A seed in [0, 2^31) for an engine that draws by itself."""
    return int.from_bytes(sha256(f"{seed} {prompt_id}".encode()).digest()[:4]) >> 1


def sample_token(logits_BV: Tensor, uniform_B: Tensor, temperature: float, top_p: float) -> Tensor:
    """int64 [B]: the token at which the cumulative probability, likeliest token first, passes the row's number.

    Only the likeliest tokens that reach `top_p` together can be drawn (Holtzman et al. 2020); the first always can.
    """
    probabilities_BV = (logits_BV.double() / temperature).softmax(-1)
    probabilities_BV, token_BV = probabilities_BV.sort(dim=-1, descending=True, stable=True)
    reached_BV = probabilities_BV.cumsum(-1)
    inside_BV = reached_BV - probabilities_BV < top_p
    mass_B1 = probabilities_BV.where(inside_BV, 0.0).sum(-1, keepdim=True)
    passed_BV = inside_BV & (reached_BV <= uniform_B[:, None] * mass_B1)
    place_B1 = torch.minimum(passed_BV.sum(-1, keepdim=True), inside_BV.sum(-1, keepdim=True) - 1)
    return token_BV.gather(-1, place_B1).squeeze(-1)


class FiniteLogits(LogitsProcessor):
    """Lets only logits pass that have a likeliest token; minus infinity, which forbids a token, may be among them."""

    def __init__(self, ids: Sequence[str]) -> None:
        """`ids` name the rows in order."""
        self.ids = ids

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """[B, V]: as given.

        Raises:
            NumericError: the largest of a row is NaN, which any NaN in it makes it, or infinite.
        """
        bad = (~scores.amax(-1).isfinite()).nonzero().flatten().tolist()
        if bad:
            raise NumericError(
                f"the next token's logits are not finite for {len(bad)} of {len(self.ids)} prompts answered together, "
                f"the first of them {self.ids[bad[0]]}",
                hint="check the model's weights, or compute in another type: --set model.dtype=float32",
            )
        return scores


class SampledToken(LogitsProcessor):
    """Leaves each row only the token that is drawn for it, so that the likeliest one is it."""

    def __init__(self, ids: Sequence[str], num_before: int, *, seed: int, temperature: float, top_p: float) -> None:
        """`ids` name the rows in order; `num_before` is where their answers begin."""
        self.ids, self.num_before = ids, num_before
        self.seed, self.temperature, self.top_p = seed, temperature, top_p

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """[B, V]: 0 at the token that is drawn, else minus infinity."""
        place = input_ids.shape[1] - self.num_before
        device = float64_device(scores.device)
        uniform_B = torch.tensor(
            [uniform_of(self.seed, prompt_id, place) for prompt_id in self.ids], dtype=torch.float64, device=device
        )
        token_B = sample_token(scores.to(device), uniform_B, self.temperature, self.top_p).to(scores.device)
        return torch.full_like(scores, -torch.inf).scatter(1, token_B[:, None], 0.0)
