"""Harmless prompts in both forms, plain and inside an attack: what a wrapper does where there is no harm.

Each has one answer, the model's own to the form that it was asked in, and both forms are replayed with it. They are
benign prompts, which are answered anyway, and prompts that pairs bring for this alone. Pure.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from moe_cli.model.engine import Prompt
from moe_cli.records import AnsweredPrompt, BenignPrompt, Generation, Message, PromptPair


@dataclass(frozen=True, slots=True)
class HarmlessPrompts:
    """A harmless prompt in both forms, and the one answer that both are replayed with."""

    id: str  # "benign-4"
    cluster: str  # "benign-4"
    plain: tuple[Message, ...]
    wrapped: tuple[Message, ...]  # inside an attack
    answer: Generation


def harmless_of(
    benign: Iterable[BenignPrompt],
    rows: Iterable[AnsweredPrompt],
    answers: Mapping[str, Generation],
    *,
    most: int,
    seed: int,
) -> list[HarmlessPrompts]:
    """The kept benign prompts of which both forms are known, at most `most` of them, drawn by the seed; in order of id.

    `answers` is keyed by `{prompt id}#benign`.
    """
    kept = {row.source_id for row in rows if row.kept and row.side == "benign"}
    candidates = sorted(
        (prompt for prompt in benign if prompt.id in kept and prompt.other_form), key=lambda prompt: prompt.id
    )
    chosen = random.Random(f"harmless {seed}").sample(range(len(candidates)), min(most, len(candidates)))
    return [_of_benign(candidates[index], answers[f"{candidates[index].id}#benign"]) for index in sorted(chosen)]


def harmless_prompts(pairs: Iterable[PromptPair]) -> list[Prompt]:
    """The plain harmless prompts to answer, of the pairs that bring one in both forms."""
    return [Prompt(f"{pair.id}#harmless", pair.benign) for pair in pairs if pair.benign and pair.benign_attacked]


def harmless_of_pairs(pairs: Iterable[PromptPair], answers: Mapping[str, Generation]) -> list[HarmlessPrompts]:
    """Harmless prompts of the pairs with the answers to `harmless_prompts`; they share the pair's cluster."""
    return [
        HarmlessPrompts(
            f"{pair.id}#harmless", pair.cluster, pair.benign, pair.benign_attacked, answers[f"{pair.id}#harmless"]
        )
        for pair in pairs
        if pair.benign and pair.benign_attacked
    ]


def wraps(pairs: Iterable[PromptPair], benign: Iterable[BenignPrompt]) -> bool:
    """Whether there is any harmless prompt of which both forms are known."""
    return any(prompt.other_form for prompt in benign) or any(pair.benign_attacked for pair in pairs)


def most_extra_replays(pairs: Sequence[PromptPair], benign: Iterable[BenignPrompt], num_batched: int) -> int:
    """Upper bound of the replays beside those of the forms with their own answers: the model's answers drop nothing."""
    num_known = min(num_batched, sum(prompt.other_form is not None for prompt in benign))
    num_brought = min(num_batched, len(harmless_prompts(pairs)))
    return 2 * (num_batched + num_known + num_brought)  # both forms of each


def _of_benign(prompt: BenignPrompt, answer: Generation) -> HarmlessPrompts:
    other = prompt.other_form or ()
    plain, wrapped = (prompt.messages, other) if prompt.attack is None else (other, prompt.messages)
    return HarmlessPrompts(prompt.id, prompt.cluster, plain, wrapped, answer)
