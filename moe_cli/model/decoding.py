"""Token after token, for a batch of prompts from which rows leave when they have ended.

Comes in: encoded prompts. Goes out: the ids of each answer. Always holds: a token is the argmax of the model's logits,
or drawn from them, whatever a checkpoint asks for (`generation_defaults`); a row that leaves changes no other.

Letters: B rows, S positions so far.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import Cache, DynamicCache, GenerationConfig, LogitsProcessor, LogitsProcessorList
from transformers.generation import GenerateDecoderOnlyOutput

from moe_cli.model.chat import end_of_turn_ids
from moe_cli.model.load import LoadedModel
from moe_cli.model.padding import left_padded
from moe_cli.model.sampling import FiniteLogits, SampledToken
from moe_cli.records import AnswerSettings

CHUNK = 16  # tokens after which the rows that have ended leave
FAMILIES = "transformers.models"  # where the layers of a cache lie that one family alone has
KEPT_BY_A_CACHE = vars(DynamicCache()).keys()
# What `generate` calls its cache, as a keyword and in its output: renamed in transformers 5.24.
CACHE = "cache" if "cache" in GenerateDecoderOnlyOutput.__dataclass_fields__ else "past_key_values"


@dataclass(slots=True)
class _Rows:
    """Rows that are being answered."""

    names: list[str]  # B
    ids_BS: Tensor
    mask_BS: Tensor
    num_before: int  # positions before the answers
    cache: Cache | None = None

    @property
    def num_made(self) -> int:
        """Answer tokens so far."""
        return self.ids_BS.shape[1] - self.num_before

    def keep(self, places: Sequence[int]) -> None:
        """Let all rows but those at `places` leave."""
        places_B = torch.tensor(places, device=self.ids_BS.device)
        self.names = [self.names[place] for place in places]
        self.ids_BS, self.mask_BS = self.ids_BS[places_B], self.mask_BS[places_B]
        if self.cache is not None:
            self.cache.reorder_cache(places_B)


def answer_rows(
    loaded: LoadedModel, prompts: Mapping[str, Sequence[int]], settings: AnswerSettings
) -> dict[str, tuple[int, ...]]:
    """Answer ids by prompt id: up to the first end of turn, that included, or `max_new_tokens` of them.

    Raises:
        NumericError: the model's logits are not finite.
    """
    ends = end_of_turn_ids(loaded.model, loaded.tokenizer)
    rows = _rows_of(prompts, pad_id_of(loaded), loaded.device)
    answers: dict[str, tuple[int, ...]] = {}
    while rows.names:
        _stretch(loaded, rows, ends, settings)
        at_limit = rows.num_made >= settings.max_new_tokens
        made = [up_to_end(row, ends) for row in rows.ids_BS[:, rows.num_before :].tolist()]
        going = [place for place, answer in enumerate(made) if not at_limit and answer[-1] not in ends]
        answers |= {rows.names[place]: answer for place, answer in enumerate(made) if place not in going}
        if not going:
            break
        if len(going) < len(made) and _rows_may_leave(loaded.model, rows.cache):
            rows.keep(going)
    return answers


def _stretch(loaded: LoadedModel, rows: _Rows, ends: tuple[int, ...], settings: AnswerSettings) -> None:
    """Make the next tokens of all rows."""
    wanted = GenerationConfig(
        max_new_tokens=min(CHUNK, settings.max_new_tokens - rows.num_made),
        do_sample=False,
        repetition_penalty=1.0,
        eos_token_id=list(ends),
        pad_token_id=pad_id_of(loaded),
        use_cache=True,
        return_dict_in_generate=True,
    )
    with torch.inference_mode():
        made = loaded.model.generate(
            input_ids=rows.ids_BS,
            attention_mask=rows.mask_BS,
            generation_config=wanted,
            logits_processor=LogitsProcessorList(_chosen(rows, settings)),
            **{CACHE: rows.cache},
        )
    num_new = made.sequences.shape[1] - rows.ids_BS.shape[1]
    rows.mask_BS = torch.cat([rows.mask_BS, rows.mask_BS.new_ones(len(rows.names), num_new)], dim=1)
    rows.ids_BS, rows.cache = made.sequences, getattr(made, CACHE)


def _chosen(rows: _Rows, settings: AnswerSettings) -> list[LogitsProcessor]:
    """What makes the token that is chosen the likeliest one."""
    names = tuple(rows.names)
    if settings.seed is None:
        return [FiniteLogits(names)]
    how = {"temperature": settings.temperature, "top_p": settings.top_p}
    return [FiniteLogits(names), SampledToken(names, rows.num_before, seed=settings.seed, **how)]


def _rows_may_leave(model: nn.Module, cache: Cache | None) -> bool:
    """Whether all that a model keeps of its rows is in the cache, and leaves with them.

    Some families keep their positions in themselves or bind them to the cache (Qwen4-exp in transformers 5.17), and
    some have layers with more in them than those of transformers let leave (DeepSeek-V4 in 5.17).
    """
    if cache is None or type(cache) is not DynamicCache or vars(cache).keys() != KEPT_BY_A_CACHE:
        return False
    in_model = any(hasattr(module, "rope_deltas") for module in model.modules())
    return not in_model and all(_all_of_it_leaves(type(layer)) for layer in cache.layers)


def _all_of_it_leaves(layer: type) -> bool:
    """Whether a layer of a cache is one of transformers' own, or says itself what leaves with a row."""
    own = [kind for kind in layer.__mro__ if kind.__module__.startswith(f"{FAMILIES}.")]
    return not own or any("reorder_cache" in vars(kind) for kind in own)


def _rows_of(prompts: Mapping[str, Sequence[int]], filler: int, device: torch.device) -> _Rows:
    ids_BS, mask_BS = left_padded(list(prompts.values()), filler=filler)
    return _Rows(list(prompts), ids_BS.to(device), mask_BS.to(device), ids_BS.shape[1])


def pad_id_of(loaded: LoadedModel) -> int:
    """What stands before a short prompt and behind a finished answer: any id with an embedding, as it is never seen."""
    pad, num_rows = loaded.tokenizer.pad_token_id, loaded.model.get_input_embeddings().weight.shape[0]
    return end_of_turn_ids(loaded.model, loaded.tokenizer)[0] if pad is None or pad >= num_rows else int(pad)


def up_to_end(row: Sequence[int], ends: tuple[int, ...]) -> tuple[int, ...]:
    """The ids of an answer: up to its first end of turn, that included."""
    length = next((place + 1 for place, token in enumerate(row) if token in ends), len(row))
    return tuple(row[:length])
