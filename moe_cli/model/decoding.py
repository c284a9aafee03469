"""Decoding token by token, for a batch of prompts from which rows leave when they have ended.

A token is the argmax of the model's logits or sampled from them, whatever a checkpoint asks for (`answer_settings`).
Sampling has no random state: the same seed gives the same number on every device, in every batch, before and after a
resume. A row that leaves changes no other. Logits without a likeliest token are an error.

Letters: B rows, S positions so far, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

import torch
from torch import Tensor, nn
from transformers import Cache, DynamicCache, LogitsProcessor, LogitsProcessorList
from transformers.generation import GenerateDecoderOnlyOutput

from moe_cli.errors import NumericError
from moe_cli.model.answer_settings import greedy_settings
from moe_cli.model.chat import end_of_turn_ids
from moe_cli.model.load import LoadedModel
from moe_cli.model.tensors import float64_device
from moe_cli.model.token_rows import left_padded
from moe_cli.records import AnswerSettings

UNITS = 2**53  # a float64 holds every multiple of 1 / UNITS below 1
CHUNK = 16  # tokens after which the rows that have ended leave
FAMILIES = "transformers.models"  # where the layers of a cache lie that one family alone has
KEPT_BY_A_CACHE = vars(DynamicCache()).keys()
# What `generate` calls its cache, as a keyword and in its output: renamed in transformers 5.24.
CACHE = "cache" if "cache" in GenerateDecoderOnlyOutput.__dataclass_fields__ else "past_key_values"

UNTOUCHED_CACHE = "untouched_cache"  # attribute of a cache: that of the model as it is, if it runs in step
MARKS = {UNTOUCHED_CACHE, "_is_user_defined"}  # attributes of a cache that hold nothing of a row; `generate` sets one


def uniform_of(seed: int, prompt_id: str, place: int) -> float:
    """The number in [0, 1) that decides the answer's token at position `place`."""
    digest = sha256(f"{seed} {place} {prompt_id}".encode()).digest()
    return (int.from_bytes(digest[:8]) >> 11) / UNITS


def seed_of(seed: int, prompt_id: str) -> int:
    """A seed in [0, 2^31) for an engine with its own sampling."""
    return int.from_bytes(sha256(f"{seed} {prompt_id}".encode()).digest()[:4]) >> 1


def sample_token(logits_BV: Tensor, uniform_B: Tensor, temperature: float, top_p: float) -> Tensor:
    """int64 [B]: the token at which the cumulative probability, likeliest token first, passes the row's number.

    Only the likeliest tokens that together reach `top_p` can be sampled (Holtzman et al. 2020); the first always can.
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
    """Checks that logits have a likeliest token; minus infinity, which forbids a token, is allowed."""

    def __init__(self, ids: Sequence[str]) -> None:
        """`ids` name the rows in order."""
        self.ids = ids

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """[B, V]: the scores, unchanged.

        Raises:
            NumericError: the maximum of a row is infinite or NaN (which it is if any value is NaN).
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
    """Samples a token for each row and leaves only that one, so that it is the argmax."""

    def __init__(self, ids: Sequence[str], num_before: int, *, seed: int, temperature: float, top_p: float) -> None:
        """`ids` name the rows in order; `num_before` is where their answers begin."""
        self.ids, self.num_before = ids, num_before
        self.seed, self.temperature, self.top_p = seed, temperature, top_p

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """[B, V]: 0 at the sampled token, else minus infinity."""
        place = input_ids.shape[1] - self.num_before
        device = float64_device(scores.device)
        uniform_B = torch.tensor(
            [uniform_of(self.seed, prompt_id, place) for prompt_id in self.ids], dtype=torch.float64, device=device
        )
        token_B = sample_token(scores.to(device), uniform_B, self.temperature, self.top_p).to(scores.device)
        return torch.full_like(scores, -torch.inf).scatter(1, token_B[:, None], 0.0)


@dataclass(slots=True)
class _Rows:
    """The rows of a batch that are still being answered."""

    names: list[str]  # B
    ids_BS: Tensor
    mask_BS: Tensor
    num_before: int  # positions before the answers
    cache: Cache | None = None

    @property
    def num_made(self) -> int:
        """Number of answer tokens so far."""
        return self.ids_BS.shape[1] - self.num_before

    def keep(self, places: Sequence[int]) -> None:
        """Remove all rows except those at the indices `places`."""
        places_B = torch.tensor(places, device=self.ids_BS.device)
        self.names = [self.names[place] for place in places]
        self.ids_BS, self.mask_BS = self.ids_BS[places_B], self.mask_BS[places_B]
        for cache in (self.cache, getattr(self.cache, UNTOUCHED_CACHE, None)):
            if cache is not None:
                cache.reorder_cache(places_B)


def answer_rows(
    loaded: LoadedModel, prompts: Mapping[str, Sequence[int]], settings: AnswerSettings
) -> dict[str, tuple[int, ...]]:
    """Answer ids by prompt id: up to and including the first end of turn, or `max_new_tokens` of them.

    Raises:
        NumericError: the model's logits are not finite.
    """
    ends = end_of_turn_ids(loaded.model, loaded.tokenizer)
    rows = _rows_of(prompts, pad_id_of(loaded), loaded.device)
    answers: dict[str, tuple[int, ...]] = {}
    while rows.names:
        _stretch(loaded, rows, ends, settings)
        at_limit = rows.num_made >= settings.max_new_tokens
        row_answers = [up_to_end(row, ends) for row in rows.ids_BS[:, rows.num_before :].tolist()]
        unfinished = [index for index, answer in enumerate(row_answers) if not at_limit and answer[-1] not in ends]
        answers |= {rows.names[index]: answer for index, answer in enumerate(row_answers) if index not in unfinished}
        if not unfinished:
            break
        if len(unfinished) < len(row_answers) and _rows_may_leave(loaded.model, rows.cache):
            rows.keep(unfinished)
    return answers


def _stretch(loaded: LoadedModel, rows: _Rows, ends: tuple[int, ...], settings: AnswerSettings) -> None:
    """Generate the next tokens of all rows."""
    limit = min(CHUNK, settings.max_new_tokens - rows.num_made)
    with torch.inference_mode():
        generated = loaded.model.generate(
            input_ids=rows.ids_BS,
            attention_mask=rows.mask_BS,
            generation_config=greedy_settings(max_new_tokens=limit, ends=ends, pad_id=pad_id_of(loaded)),
            logits_processor=LogitsProcessorList(_chosen(rows, settings)),
            **{CACHE: rows.cache},
        )
    num_new = generated.sequences.shape[1] - rows.ids_BS.shape[1]
    rows.mask_BS = torch.cat([rows.mask_BS, rows.mask_BS.new_ones(len(rows.names), num_new)], dim=1)
    rows.ids_BS, rows.cache = generated.sequences, getattr(generated, CACHE)


def _chosen(rows: _Rows, settings: AnswerSettings) -> list[LogitsProcessor]:
    """The logits processors under which the chosen token is the argmax."""
    names = tuple(rows.names)
    if settings.seed is None:
        return [FiniteLogits(names)]
    how = {"temperature": settings.temperature, "top_p": settings.top_p}
    return [FiniteLogits(names), SampledToken(names, rows.num_before, seed=settings.seed, **how)]


def _rows_may_leave(model: nn.Module, cache: Cache | None) -> bool:
    """Whether the whole state of a row is in the cache, from which rows can be removed.

    Some families keep positions in the model or bind them to the cache (Qwen4-exp in transformers 5.17), and some have
    cache layers with more state than transformers' own methods remove (DeepSeek-V4 in 5.17).
    """
    if cache is None or type(cache) is not DynamicCache or vars(cache).keys() - MARKS != KEPT_BY_A_CACHE:
        return False
    in_model = any(hasattr(module, "rope_deltas") for module in model.modules())
    return not in_model and all(_all_of_it_leaves(type(layer)) for layer in cache.layers)


def _all_of_it_leaves(layer: type) -> bool:
    """Whether a cache layer is one of transformers' own, or implements the removal of rows itself."""
    own = [kind for kind in layer.__mro__ if kind.__module__.startswith(f"{FAMILIES}.")]
    return not own or any("reorder_cache" in vars(kind) for kind in own)


def _rows_of(prompts: Mapping[str, Sequence[int]], filler: int, device: torch.device) -> _Rows:
    ids_BS, mask_BS = left_padded(list(prompts.values()), filler=filler)
    return _Rows(list(prompts), ids_BS.to(device), mask_BS.to(device), ids_BS.shape[1])


def pad_id_of(loaded: LoadedModel) -> int:
    """The id that pads short prompts and finished answers: any id with an embedding, as it is never seen."""
    pad, num_rows = loaded.tokenizer.pad_token_id, loaded.model.get_input_embeddings().weight.shape[0]
    return end_of_turn_ids(loaded.model, loaded.tokenizer)[0] if pad is None or pad >= num_rows else int(pad)


def up_to_end(row: Sequence[int], ends: tuple[int, ...]) -> tuple[int, ...]:
    """The ids of an answer up to and including its first end of turn."""
    length = next((place + 1 for place, token in enumerate(row) if token in ends), len(row))
    return tuple(row[:length])
