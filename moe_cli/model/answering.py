"""Answers to all prompts of a run, including those that an interrupted run already has.

An answer made in the same way to the same prompts is never made again, and an answer of another model is never reused.
If only the token limit changed, the answers that ended by themselves within both limits are reused.

Each of several processes keeps what it has answered in a journal of its own; whatever their number is after an
interruption, all journals are read. When all is answered, they become the one that a single process writes.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

from moe_cli.artifacts.files import write_atomic
from moe_cli.artifacts.journal import (
    Journal,
    answer_journal,
    journals_in_place_of,
    other_answer_journals,
    own_journal,
)
from moe_cli.codec import encode_lines
from moe_cli.model.engine import Engine, Prompt
from moe_cli.ranks import num_ranks, on_first, this_rank
from moe_cli.records import Generation, Notice, Progress
from moe_cli.records.manifest import Notify
from moe_cli.rounds import alone

RAISE_LIMIT = "raise --max-new-tokens"
TELLING = 8  # answers, or all where there are fewer, after which a warning can be given
MANY = 0.25  # share of them that is worth one


def answer_all(
    engine: Engine,
    prompts: Sequence[Prompt],
    run: Path,
    *,
    notify: Notify,
    task: str = "answers",
    advice: str | None = None,
    kept: Mapping[str, Generation] | None = None,
) -> dict[str, Generation]:
    """Answer the prompts that are neither in `kept` nor in the run's hidden journal.

    Only prompts that are not in `kept` share batches. The journal is removed when the run is finished.
    """
    path = answer_journal(run, *_beside_limit(engine, prompts), limit=engine.settings.max_new_tokens)
    journal = Journal(path, Generation)
    return answer_in_batches(engine, prompts, journal, notify=notify, task=task, advice=advice, kept=kept)


def kept_answers(engine: Engine, prompts: Sequence[Prompt], run: Path) -> dict[str, Generation]:
    """Answers that an interrupted run made under other token limits and that ended by themselves within this one.

    In float32 they equal the answers under this limit: a token depends on the tokens before it and, when sampled, on
    seed, prompt and position. In bfloat16 it can depend on the batch, which was that of the other limit. An endpoint
    does not say how many tokens it made, so its answers are reused from smaller limits only.

    The choice is made once for each limit, before the first answer under it, and written down, so that a second
    interruption changes no batch.
    """
    return on_first(lambda: _kept_answers(engine.settings.max_new_tokens, run, *_beside_limit(engine, prompts)))


def _kept_answers(limit: int, run: Path, *whose: object) -> dict[str, Generation]:
    decided, begun = (answer_journal(run, *whose, limit=limit, kept=kept) for kept in (True, False))
    if not any(path.is_file() for path in (decided, begun, *journals_in_place_of(begun))):
        reusable: dict[str, Generation] = {}
        for path, other in other_answer_journals(run, *whose, limit=limit).items():
            for generation in Journal(path, Generation).records():
                if _ends_within(generation, limit, other):
                    reusable.setdefault(generation.prompt_id, generation)
        if reusable:
            write_atomic(decided, encode_lines(reusable.values()))
    return {generation.prompt_id: generation for generation in Journal(decided, Generation).records()}


def depends_on(engine: Engine, prompts: Sequence[Prompt]) -> tuple[object, ...]:
    """Everything that answers depend on; the name of a journal of answers is derived from it."""
    return *engine.depends_on, tuple(prompts), engine.settings


def answer_in_batches(
    engine: Engine,
    prompts: Sequence[Prompt],
    journal: Journal[Generation],
    *,
    notify: Notify,
    task: str = "answers",
    advice: str | None = RAISE_LIMIT,
    kept: Mapping[str, Generation] | None = None,
) -> dict[str, Generation]:
    """Answer the prompts that are neither in `kept` nor in the journal; `notify` gets a `Progress` after each group.

    As soon as many answers are cut off by the token limit, a warning says so once, with `advice`; None: without one.
    Of several processes the first alone asks an endpoint; all get all answers.
    """
    if engine.settings.engine == "openai":
        return alone(lambda: _answered(engine, prompts, journal, notify, task, advice, kept or {}))
    return _answered(engine, prompts, journal, notify, task, advice, kept or {})


def _answered(
    engine: Engine,
    prompts: Sequence[Prompt],
    journal: Journal[Generation],
    notify: Notify,
    task: str,
    advice: str | None,
    kept: Mapping[str, Generation],
) -> dict[str, Generation]:
    asked = [prompt for prompt in prompts if prompt.id not in kept]
    before = on_first(lambda: _all_of(journal))
    own = Journal(own_journal(journal.path, this_rank().index, num_ranks()), Generation)
    done, num_tokens, started = {**kept, **before}, 0, time.monotonic()
    answering = engine.answers(asked, tuple(before), own.append)
    for answers in chain([()], answering):  # what is there already is reported first
        done |= {generation.prompt_id: generation for generation in answers}
        num_tokens += sum(len(generation.token_ids) for generation in answers)
        speed = num_tokens / max(time.monotonic() - started, 1e-9) if answers else None
        num_cut_off = sum(not generation.finished for generation in done.values())
        progress = Progress(task=task, done=len(done), total=len(prompts), tokens_per_second=speed)
        notify(replace(progress, num_cut_off=num_cut_off))
        if advice is not None and len(done) >= min(TELLING, len(prompts)) and num_cut_off > MANY * len(done):
            limit = f"cut off at {engine.settings.max_new_tokens} tokens"
            notify(Notice(text=f"{num_cut_off} of {len(done)} answers so far were {limit}: {advice}", warning=True))
            advice = None  # once
    answers_of_all = on_first(lambda: _merged(journal, done, kept))
    if own.path != journal.path:
        own.path.unlink(missing_ok=True)  # which the first may not see yet, on a disk of another machine
    return answers_of_all


def _all_of(journal: Journal[Generation]) -> dict[str, Generation]:
    """The answers in the journal, and in those that several processes left in its place."""
    journals = (journal, *(Journal(path, Generation) for path in journals_in_place_of(journal.path)))
    return {answer.prompt_id: answer for of_one in journals for answer in of_one.records()}


def _merged(
    journal: Journal[Generation], answers: dict[str, Generation], kept: Mapping[str, Generation]
) -> dict[str, Generation]:
    """The answers, when those of all processes lie in one journal, in the order in which one process makes them."""
    if parts := journals_in_place_of(journal.path):
        made = [answer for name, answer in answers.items() if name not in kept]
        in_order = sorted(made, key=lambda answer: (-answer.num_prompt_tokens, answer.prompt_id))
        write_atomic(journal.path, encode_lines(in_order))
        for part in parts:
            part.unlink()
    return answers


def _beside_limit(engine: Engine, prompts: Sequence[Prompt]) -> tuple[object, ...]:
    """Everything that answers depend on except the token limit."""
    return *engine.depends_on, tuple(prompts), replace(engine.settings, max_new_tokens=0)


def _ends_within(answer: Generation, limit: int, old_limit: int) -> bool:
    """Whether an answer made under another limit is complete under this one."""
    return (
        answer.finished and len(answer.token_ids) <= limit and (old_limit < limit or answer.answer_ids == "generated")
    )
