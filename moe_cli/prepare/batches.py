"""Fixed batches of training examples, made once and used unchanged by both arms.

Every batch is full and has the same composition, and the same seed gives the same batches for any order of the input.
Pure.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from moe_cli.artifacts.journal import VERDICTS
from moe_cli.config import MoeConfig
from moe_cli.errors import UsageError
from moe_cli.prepare.filtering import BENIGN_CUT_OFF, BENIGN_OPTION, drop_reasons, is_unscored
from moe_cli.records import AnsweredPrompt, BenignPrompt, Message, PromptPair, TrainingExample
from moe_cli.records.inputs import form_id

Item = TypeVar("Item", PromptPair, BenignPrompt)
Kind = Literal["refuse_plain", "refuse_attacked", "benign"]

FORM_OF: dict[Kind, str] = {"refuse_plain": "safe", "refuse_attacked": "unsafe", "benign": "benign"}


@dataclass(frozen=True, slots=True)
class Composition:
    """How many examples of each kind a batch holds."""

    num_plain: int  # plain goals, target: refusal
    num_benign: int  # benign prompts, target: the base model's own answer
    num_attacked: int  # attacked goals, target: refusal

    @property
    def num_pairs(self) -> int:
        """Number of pairs in a batch; the first ones give their plain form, too."""
        return max(self.num_plain, self.num_attacked)


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """The pairs and benign prompts of one batch."""

    pairs: tuple[PromptPair, ...]
    benign: tuple[BenignPrompt, ...]


def composition(batch_size: int, safe_ratio: float, benign_ratio: float) -> Composition:
    """`round(batch_size * safe_ratio)` safe examples, `round(... * benign_ratio)` of them benign; the rest attacked.

    Raises:
        UsageError: the ratios leave no room for a pair.
    """
    num_safe = round(batch_size * safe_ratio)
    num_benign = round(num_safe * benign_ratio)
    parts = Composition(num_safe - num_benign, num_benign, batch_size - num_safe)
    if parts.num_pairs == 0:
        raise UsageError(
            f"a batch of {batch_size} with safe ratio {safe_ratio} and benign ratio {benign_ratio} touches no pair",
            hint="lower --safe-ratio or --benign-ratio",
        )
    return parts


def refuse_no_full_batch(
    num_pairs: int, num_benign: int, parts: Composition, dropped: Mapping[str, int] | None = None, advice: str = ""
) -> None:
    """Refuse data that makes not even one full batch.

    `dropped` counts the offered pairs and prompts that were not kept, by reason; `advice` is put before the hint.

    Raises:
        UsageError: says what one batch needs, what there is, and why.
    """
    if num_pairs >= parts.num_pairs and num_benign >= parts.num_benign:
        return
    drop_lines = "".join(f"\n  - {number} dropped: {reason}" for reason, number in (dropped or {}).items())
    raise UsageError(
        f"no full batch: one batch needs {parts.num_pairs} pairs and {parts.num_benign} benign prompts, "
        f"and there are {num_pairs} and {num_benign}{' left' if dropped else ''}{drop_lines}",
        hint=f"{advice}lower --batch-size, bring more data (--pairs, --benign), or set another --benign-ratio"
        + ("; --keep-all keeps unfiltered pairs, and --resume uses the answers again" if dropped else ""),
    )


def plan_batches(
    pairs: Sequence[PromptPair], benign: Sequence[BenignPrompt], parts: Composition, *, seed: int
) -> tuple[BatchPlan, ...]:
    """As many full batches as the pairs and benign prompts allow, from a seeded shuffle."""
    pair_order = _shuffled(pairs, f"pairs {seed}")
    benign_order = _shuffled(benign, f"benign {seed}")
    by_benign = len(benign) // parts.num_benign if parts.num_benign else len(pairs)
    return tuple(
        BatchPlan(
            tuple(pair_order[b * parts.num_pairs : (b + 1) * parts.num_pairs]),
            tuple(benign_order[b * parts.num_benign : (b + 1) * parts.num_benign]),
        )
        for b in range(min(len(pairs) // parts.num_pairs, by_benign))
    )


def batch_examples(
    plan: BatchPlan, index: int, parts: Composition, refusals: Mapping[str, str], answers: Mapping[str, str]
) -> tuple[TrainingExample, ...]:
    """Examples of one batch: plain goals, benign prompts, attacked goals.

    `refusals` maps a pair's id to its target, `answers` a benign prompt's id to the base model's own answer.
    """
    plain = [_example(index, "refuse_plain", p, p.safe, refusals[p.id]) for p in plan.pairs[: parts.num_plain]]
    benign = [_example(index, "benign", prompt, prompt.messages, answers[prompt.id]) for prompt in plan.benign]
    attacked = [
        _example(index, "refuse_attacked", p, p.unsafe, refusals[p.id]) for p in plan.pairs[: parts.num_attacked]
    ]
    return (*plain, *benign, *attacked)


def _example(
    batch: int, kind: Kind, source: PromptPair | BenignPrompt, prompt: tuple[Message, ...], target: str
) -> TrainingExample:
    return TrainingExample(
        id=form_id(source.id, FORM_OF[kind]),
        batch_idx=batch,
        side="unsafe" if kind == "refuse_attacked" else "safe",
        kind=kind,
        cluster=source.cluster,
        messages=(*prompt, Message(role="assistant", content=target)),
    )


def _shuffled(items: Sequence[Item], seed: str) -> list[Item]:
    ordered = sorted(items, key=lambda item: item.id)
    random.Random(seed).shuffle(ordered)
    return ordered


def plan_kept(
    config: MoeConfig,
    pairs: Sequence[PromptPair],
    benign: Sequence[BenignPrompt],
    parts: Composition,
    rows: Sequence[AnsweredPrompt],
    *,
    by_harm: bool,
) -> tuple[BatchPlan, ...]:
    """The batches of those pairs and benign prompts that are kept.

    Raises:
        UsageError: they make no full batch.
    """
    kept = {(row.source_id, row.side) for row in rows if row.kept}
    pairs = [pair for pair in pairs if (pair.id, "safe") in kept]
    benign = [prompt for prompt in benign if (prompt.id, "benign") in kept]
    advice = _cut_off_advice(rows, config.prepare.benign_limit) if len(benign) < parts.num_benign else ""
    if any(is_unscored(row, by_harm=by_harm) for row in rows):
        advice += f"read why there is no verdict in {config.prepare.output_dir}/{VERDICTS}; or "
    refuse_no_full_batch(len(pairs), len(benign), parts, dropped=drop_reasons(rows), advice=advice)
    return plan_batches(pairs, benign, parts, seed=config.seed)


def _cut_off_advice(rows: Sequence[AnsweredPrompt], limit: int) -> str:
    """Start of the hint where benign answers were cut off."""
    benign = [row for row in rows if row.side == "benign"]
    if not (num_cut_off := sum(row.reason == BENIGN_CUT_OFF for row in benign)):
        return ""
    return (
        f"raise {BENIGN_OPTION} ({num_cut_off} of {len(benign)} benign answers were cut off at {limit} tokens) and add "
        "--resume, which keeps the answers that had ended; or "
    )


def examples_of_batches(
    plans: Sequence[BatchPlan], parts: Composition, refusals: Mapping[str, str], rows: Sequence[AnsweredPrompt]
) -> list[TrainingExample]:
    """The training examples of all batches, in order; `refusals` maps a pair's id to its target."""
    own_answers = {row.source_id: row.answer for row in rows if row.kept and row.side == "benign"}
    return [
        example
        for index, plan in enumerate(plans)
        for example in batch_examples(plan, index, parts, refusals, own_answers)
    ]
