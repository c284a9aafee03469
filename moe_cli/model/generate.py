"""Prompts to answers by the model itself: batched, repeatable.

Comes in: conversations that end with a user turn. Goes out: a `Generation` for each. Always holds: prompts of like
length are answered together, every batch is handed over as soon as it is done, and in float32 an answer does not
depend on its neighbours; the batches are those of all prompts, also where some are answered already.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from moe_cli.model.chat import answer_text, encode_prompt, end_of_turn_ids
from moe_cli.model.decoding import answer_rows
from moe_cli.model.engine import Prompt
from moe_cli.model.length_batches import length_batches
from moe_cli.model.load import LoadedModel
from moe_cli.records import AnswerSettings, Generation


@dataclass(frozen=True, slots=True)
class TransformersEngine:
    """The loaded model answers."""

    loaded: LoadedModel
    settings: AnswerSettings

    @property
    def depends_on(self) -> tuple[object, ...]:
        """The model that answers, and the machine it runs on."""
        return self.loaded.depends_on

    def answers(self, prompts: Sequence[Prompt], done: Collection[str] = ()) -> Iterator[tuple[Generation, ...]]:
        """Answers, batch by batch, longest prompts first; a batch that is done in part is answered as a whole."""
        encoded = {prompt.id: encode_prompt(self.loaded.tokenizer, prompt.messages) for prompt in prompts}
        ids = sorted(encoded)
        room = self.settings.max_new_tokens
        batches = length_batches(
            [len(encoded[prompt_id]) + room for prompt_id in ids],
            max_rows=self.settings.batch_size or len(ids),
            max_tokens=self.settings.batch_tokens,
        )
        for places in batches:
            batch = {ids[place]: encoded[ids[place]] for place in places}
            if missing := batch.keys() - set(done):
                made = answer_rows(self.loaded, batch, self.settings)
                yield tuple(
                    self._generation(prompt_id, batch[prompt_id], made[prompt_id])
                    for prompt_id in batch
                    if prompt_id in missing
                )

    def _generation(self, prompt_id: str, prompt: tuple[int, ...], answer: tuple[int, ...]) -> Generation:
        return Generation(
            prompt_id=prompt_id,
            text=answer_text(self.loaded.tokenizer, prompt, answer),
            token_ids=answer,
            num_prompt_tokens=len(prompt),
            finished=bool(answer) and answer[-1] in end_of_turn_ids(self.loaded.model, self.loaded.tokenizer),
            answer_ids="generated",
        )


def greedy(*, max_new_tokens: int, batch_size: int, batch_tokens: int | None = None) -> AnswerSettings:
    """The likeliest token at every place, by the model itself."""
    return AnswerSettings(
        engine="transformers",
        base_url=None,
        api_model=None,
        decoding="greedy",
        temperature=0.0,
        top_p=1.0,
        seed=None,
        max_new_tokens=max_new_tokens,
        batch_size=batch_size,
        batch_tokens=batch_tokens,
        answer_ids="generated",
    )


def generate_answers(
    loaded: LoadedModel, prompts: Sequence[Prompt], *, max_new_tokens: int, batch_size: int
) -> Iterator[tuple[Generation, ...]]:
    """Greedy answers, batch by batch, longest prompts first."""
    return TransformersEngine(loaded, greedy(max_new_tokens=max_new_tokens, batch_size=batch_size)).answers(prompts)
