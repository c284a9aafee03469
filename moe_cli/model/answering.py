"""Answers to all prompts of a run, the ones that an interrupted run already has included.

Comes in: prompts and the run's directory. Goes out: one `Generation` per prompt, by id. Always holds: an answer that
the same model gave to the same prompts is never generated again, and an answer of another model is never taken.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from moe_cli.artifacts.journal import Journal, answer_journal
from moe_cli.model.generate import Prompt, generate_answers
from moe_cli.model.load import LoadedModel
from moe_cli.records import Generation, Progress


def answer_all(
    loaded: LoadedModel,
    prompts: Sequence[Prompt],
    run: Path,
    *,
    max_new_tokens: int,
    batch_size: int,
    notify: Callable[[object], None],
) -> dict[str, Generation]:
    """Answer what the run's journal does not hold yet; `notify` is given a `Progress` after every batch."""
    whose = (loaded.identity.fingerprint, tuple(prompts), max_new_tokens, batch_size)
    journal = Journal(answer_journal(run, *whose), Generation)
    done = {generation.prompt_id: generation for generation in journal.records()}
    notify(Progress(task="answers", done=len(done), total=len(prompts)))
    missing = [prompt for prompt in prompts if prompt.id not in done]
    for batch in generate_answers(loaded, missing, max_new_tokens=max_new_tokens, batch_size=batch_size):
        journal.append(batch)
        done |= {generation.prompt_id: generation for generation in batch}
        notify(Progress(task="answers", done=len(done), total=len(prompts)))
    return done
