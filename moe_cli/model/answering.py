"""Answers to all prompts, the ones already in the journal included.

Comes in: prompts and a journal. Goes out: one `Generation` per prompt, in the order of the prompts. Always holds: an
answer that is in the journal is never generated again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from moe_cli.artifacts.journal import Journal
from moe_cli.model.generate import Prompt, generate_answers
from moe_cli.model.load import LoadedModel
from moe_cli.records import Generation, Progress


def answer_all(
    loaded: LoadedModel,
    prompts: Sequence[Prompt],
    journal: Journal[Generation],
    *,
    max_new_tokens: int,
    batch_size: int,
    notify: Callable[[object], None],
) -> list[Generation]:
    """Answer what the journal does not hold yet; `notify` is given a `Progress` after every batch."""
    done = {generation.prompt_id: generation for generation in journal.records()}
    missing = [prompt for prompt in prompts if prompt.id not in done]
    notify(Progress(task="answers", done=len(prompts) - len(missing), total=len(prompts)))
    for batch in generate_answers(loaded, missing, max_new_tokens=max_new_tokens, batch_size=batch_size):
        journal.append(batch)
        done |= {generation.prompt_id: generation for generation in batch}
        notify(Progress(task="answers", done=len(prompts) - len(missing) + _among(missing, done), total=len(prompts)))
    return [done[prompt.id] for prompt in prompts]


def _among(prompts: Sequence[Prompt], done: dict[str, Generation]) -> int:
    return sum(prompt.id in done for prompt in prompts)
