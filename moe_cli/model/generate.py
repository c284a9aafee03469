"""Prompts to answers: batched, greedy, repeatable.

Comes in: conversations that end with a user turn. Goes out: a `Generation` for each. Always holds: prompts of like
length are answered together, every batch is handed over as soon as it is done, and in float32 an answer does not
depend on its neighbours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from transformers import GenerationConfig

from moe_cli.model.chat import encode_prompt, end_of_turn_ids
from moe_cli.model.load import LoadedModel
from moe_cli.records import Generation, Message


@dataclass(frozen=True, slots=True)
class Prompt:
    """A conversation to be answered."""

    id: str
    messages: tuple[Message, ...]


def generate_answers(
    loaded: LoadedModel, prompts: Sequence[Prompt], *, max_new_tokens: int, batch_size: int
) -> Iterator[tuple[Generation, ...]]:
    """Answers, batch by batch, longest prompts first; greedy, ended by the end of turn or after `max_new_tokens`."""
    encoded = {prompt.id: encode_prompt(loaded.tokenizer, prompt.messages) for prompt in prompts}
    order = sorted(encoded, key=lambda prompt_id: (-len(encoded[prompt_id]), prompt_id))
    ends = end_of_turn_ids(loaded.model, loaded.tokenizer)
    for start in range(0, len(order), batch_size):
        ids = order[start : start + batch_size]
        answers = _answer_batch(loaded, [encoded[prompt_id] for prompt_id in ids], ends, max_new_tokens)
        yield tuple(
            Generation(
                prompt_id=prompt_id,
                text=loaded.tokenizer.decode(answer, skip_special_tokens=True).strip(),
                token_ids=answer,
                num_prompt_tokens=len(encoded[prompt_id]),
                finished=bool(answer) and answer[-1] in ends,
            )
            for prompt_id, answer in zip(ids, answers, strict=True)
        )


def _answer_batch(
    loaded: LoadedModel, prompts: Sequence[tuple[int, ...]], ends: tuple[int, ...], max_new_tokens: int
) -> Iterator[tuple[int, ...]]:
    """Answer ids of left-padded prompts; everything after the first end of turn is dropped."""
    pad = loaded.tokenizer.pad_token_id if loaded.tokenizer.pad_token_id is not None else ends[0]
    longest = max(len(ids) for ids in prompts)
    padded = torch.tensor([[pad] * (longest - len(ids)) + list(ids) for ids in prompts], device=loaded.device)
    mask = torch.tensor([[0] * (longest - len(ids)) + [1] * len(ids) for ids in prompts], device=loaded.device)
    settings = GenerationConfig(
        max_new_tokens=max_new_tokens, do_sample=False, eos_token_id=list(ends), pad_token_id=pad, use_cache=True
    )
    with torch.inference_mode():
        output = loaded.model.generate(input_ids=padded, attention_mask=mask, generation_config=settings)
    for row in output[:, longest:].tolist():
        length = next((i + 1 for i, token in enumerate(row) if token in ends), len(row))
        yield tuple(row[:length])
