"""Prompts and answers of drawn lengths, and answers as transformers alone makes them.

Lengths are log-normal, with the medians and bounds that stand here; they are not anybody's data. Inside `ending_at` the
model still chooses the likeliest token, but for the end of turn, which comes at the drawn length and not before; it
does so for everything that calls `generate`. `FixedBatches` makes one call of `model.generate` for each batch, padded
on the left; every row of a batch runs until the last one has ended.

Letters: B rows, S positions, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import log
from random import Random

import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList

from moe_cli.model.answer_settings import greedy_settings
from moe_cli.model.chat import encode_prompt, end_of_turn_ids
from moe_cli.model.decoding import pad_id_of, up_to_end
from moe_cli.model.engine import Prompt
from moe_cli.model.load import LoadedModel
from moe_cli.model.token_rows import left_padded
from moe_cli.records import Message

Ids = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Lengths:
    """A log-normal distribution, cut off at both ends."""

    median: int
    spread: float  # standard deviation of the logarithm
    least: int
    most: int

    def drawn(self, random: Random) -> int:
        """One length."""
        return max(self.least, min(self.most, round(random.lognormvariate(log(self.median), self.spread))))

    def __str__(self) -> str:
        return f"{self.median} ({self.spread}; {self.least}-{self.most})"


PLAIN = _Lengths(30, 0.5, 8, 100)
ATTACKED = _Lengths(300, 0.5, 20, 1000)
REFUSAL = _Lengths(25, 0.5, 5, 500)
FULL_ANSWER = _Lengths(200, 0.7, 5, 500)
WHAT = (
    "lengths drawn, log-normal, median (sigma; bounds): "
    f"half of the prompts {PLAIN} tokens, half {ATTACKED}; half of the answers {REFUSAL}, half {FULL_ANSWER}"
)


@dataclass(frozen=True, slots=True)
class DrawnPrompts:
    """Prompts, and how long the answer to each is."""

    prompts: tuple[Prompt, ...]
    answer_lengths: Mapping[Ids, int]  # by the first ids of a prompt
    num_ids: int  # how many of them tell the prompts apart


def drawn_prompts(loaded: LoadedModel, num_prompts: int, seed: int, max_new_tokens: int) -> DrawnPrompts:
    """Random words of the model's vocabulary, as many as drawn; an answer is cut at `max_new_tokens`."""
    random = Random(seed)
    words = [i for i in range(len(loaded.tokenizer)) if i not in set(loaded.tokenizer.all_special_ids)]
    prompts, lengths = [], []
    for number in range(num_prompts):
        ids = random.choices(words, k=random.choice((PLAIN, ATTACKED)).drawn(random))
        text = loaded.tokenizer.decode(ids)
        prompts.append(Prompt(f"drawn/{number}", (Message(role="user", content=text),)))
        lengths.append(min(max_new_tokens, random.choice((REFUSAL, FULL_ANSWER)).drawn(random)))
    encoded = [encode_prompt(loaded.tokenizer, prompt.messages) for prompt in prompts]
    num_ids = _telling_apart(encoded)
    return DrawnPrompts(
        tuple(prompts), {ids[:num_ids]: length for ids, length in zip(encoded, lengths, strict=True)}, num_ids
    )


@contextmanager
def ending_at(loaded: LoadedModel, drawn: DrawnPrompts) -> Iterator[None]:
    """Whatever generates inside the block ends its answers at the drawn lengths."""
    model, ends = loaded.model, end_of_turn_ids(loaded.model, loaded.tokenizer)
    own = model.generate
    num_prompt = {ids[: drawn.num_ids]: len(ids) for ids in _encoded(loaded, drawn.prompts)}

    def generate(*, input_ids: Tensor, attention_mask: Tensor, **rest: object) -> object:
        first = attention_mask.argmax(-1).tolist()
        names = [tuple(row[at : at + drawn.num_ids]) for at, row in zip(first, input_ids.tolist(), strict=True)]
        last = [at + num_prompt[name] + drawn.answer_lengths[name] for at, name in zip(first, names, strict=True)]
        given = rest.pop("logits_processor", None) or LogitsProcessorList()
        ending = EndAt(torch.tensor(last, device=input_ids.device), ends)
        processors = LogitsProcessorList([*given, ending])  # type: ignore[misc]
        return own(input_ids=input_ids, attention_mask=attention_mask, logits_processor=processors, **rest)

    model.generate = generate  # type: ignore[assignment]
    try:
        yield
    finally:
        del model.generate


class EndAt(LogitsProcessor):
    """Lets a row end at its length, and not before."""

    def __init__(self, num_positions_B: Tensor, ends: Sequence[int]) -> None:
        """`num_positions_B` is how long each row is when it has ended, padding and prompt included."""
        self.num_positions_B1, self.ends = num_positions_B[:, None], list(ends)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """[B, V]: without the ends of turn, or the first of them alone."""
        going_BV = scores.clone()
        going_BV[:, self.ends] = -torch.inf
        ended_BV = torch.full_like(scores, -torch.inf)
        ended_BV[:, self.ends[0]] = 0.0
        return torch.where(self.num_positions_B1 <= input_ids.shape[1] + 1, ended_BV, going_BV)


def _encoded(loaded: LoadedModel, prompts: Sequence[Prompt]) -> list[Ids]:
    return [encode_prompt(loaded.tokenizer, prompt.messages) for prompt in prompts]


def _telling_apart(encoded: Sequence[Ids]) -> int:
    """The fewest first ids by which all prompts differ."""
    longest = min(map(len, encoded))
    found = next((n for n in range(1, longest + 1) if len({ids[:n] for ids in encoded}) == len(encoded)), None)
    if found is None:
        raise AssertionError("drawn prompts begin alike")
    return found


Answer = tuple[str, tuple[int, ...]]  # prompt id, and the ids of its answer


@dataclass(frozen=True, slots=True)
class FixedBatches:
    """The loaded model answers, greedily."""

    loaded: LoadedModel
    batch_size: int
    max_new_tokens: int

    def answers(self, prompts: Sequence[Prompt]) -> Iterator[Answer]:
        """Ids up to the first end of turn, that included."""
        for start in range(0, len(prompts), self.batch_size):
            yield from self._batch(prompts[start : start + self.batch_size])

    def _batch(self, prompts: Sequence[Prompt]) -> list[Answer]:
        loaded, ends = self.loaded, end_of_turn_ids(self.loaded.model, self.loaded.tokenizer)
        encoded = [encode_prompt(loaded.tokenizer, prompt.messages) for prompt in prompts]
        ids_BS, mask_BS = left_padded(encoded, filler=pad_id_of(loaded))
        wanted = greedy_settings(max_new_tokens=self.max_new_tokens, ends=ends, pad_id=pad_id_of(loaded))
        with torch.inference_mode():
            generated = loaded.model.generate(
                input_ids=ids_BS.to(loaded.device), attention_mask=mask_BS.to(loaded.device), generation_config=wanted
            )
        made = generated.sequences[:, ids_BS.shape[1] :].tolist()
        return [(prompt.id, up_to_end(row, ends)) for prompt, row in zip(prompts, made, strict=True)]
