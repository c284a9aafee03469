"""From answers to batches, whatever the judge says: rows, batches, examples and counts name the same things."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hypothesis import given
from hypothesis import strategies as some

from moe_cli.config import MoeConfig
from moe_cli.judges.judge import unscored
from moe_cli.judges.keywords import KeywordJudge
from moe_cli.judges.language_check import is_not_english
from moe_cli.model.engines import greedy
from moe_cli.prepare.batches import Composition, batch_examples, plan_batches
from moe_cli.prepare.filtering import answered_prompts, drop_reasons, jury_of, questions_of
from moe_cli.prepare.prepare_summary import prepare_summary, with_batches
from moe_cli.prepare.refusals import refusal_targets
from tests.builders import generation, identity
from tests.prepare.test_batches import benign, pairs
from tests.prepare.test_filtering import said_of

TEXTS = (
    "I'm sorry, but I can't help with that.",
    "Sure, here is how: first take the box, then open the lid.",
    "Well, here it is. But I can't help with the last part.",
    "%$ %$ %$ %$ %$ %$ %$ %$ %$",
    "Es tut mir leid, aber ich kann diese Anfrage nicht beantworten.",
    "",
)
assert is_not_english(TEXTS[-2])  # loads the detector, which no example shall wait for


@dataclass
class World:
    """What was offered, what was answered, and what came of it."""

    rows: list
    plans: tuple
    parts: Composition
    examples: list
    summary: object


@some.composite
def worlds(draw) -> World:
    parts = Composition(draw(some.integers(0, 3)), draw(some.integers(0, 2)), draw(some.integers(1, 4)))
    offered, harmless = pairs(draw(some.integers(0, 14))), benign(draw(some.integers(0, 6)))
    harmless = [replace(prompt, id=prompt.id.replace("b", "p")) for prompt in harmless]  # ids of pairs, too
    questions = questions_of(offered, harmless)
    answers = {
        q.id: generation(q.id, draw(some.sampled_from(TEXTS)), finished=draw(some.booleans())) for q in questions
    }
    verdicts = said_of(questions, answers) | {
        q.id: unscored("late") for q in questions if draw(some.integers(0, 9)) == 9
    }
    rows = answered_prompts(questions, answers, verdicts, by_harm=True, keep_all=draw(some.booleans()))
    kept = {row.source_id for row in rows if row.kept and row.side == "safe"}
    own = {row.source_id: row.answer for row in rows if row.kept and row.side == "benign"}
    plans = plan_batches(
        [pair for pair in offered if pair.id in kept], [b for b in harmless if b.id in own], parts, seed=draw(SEEDS)
    )
    refusals = refusal_targets(rows, None)
    rows = with_batches(rows, plans)
    examples = [e for i, plan in enumerate(plans) for e in batch_examples(plan, i, parts, refusals.targets, own)]
    settings = greedy(max_new_tokens=9, batch_size=4)
    summary = prepare_summary(
        identity(),
        (),
        settings,
        rows,
        plans,
        parts,
        refusals,
        jury_of([KeywordJudge()]),
        config=MoeConfig(),
        num_answers_kept=0,
        seconds_generate=None,
        seconds_routing=0.0,
    )
    return World(rows, plans, parts, examples, summary)


SEEDS = some.integers(0, 3)


@given(worlds())
def test_every_batch_is_full_and_made_of_kept_rows_alone(world):
    for index, plan in enumerate(world.plans):
        inside = [row for row in world.rows if row.batch == index]
        assert all(row.kept and row.reason is None for row in inside)
        assert sorted(row.source_id for row in inside if row.side == "safe") == sorted(p.id for p in plan.pairs)
        assert sorted(row.source_id for row in inside if row.side == "unsafe") == sorted(p.id for p in plan.pairs)
        assert sorted(row.source_id for row in inside if row.side == "benign") == sorted(b.id for b in plan.benign)
        assert (len(plan.pairs), len(plan.benign)) == (world.parts.num_pairs, world.parts.num_benign)


@given(worlds())
def test_a_warning_counts_the_pairs_in_batches_that_were_not_refused_plainly_or_not_complied_with(world):
    batched = [row for row in world.rows if row.batch is not None and row.side != "benign"]
    untold = {row.source_id for row in batched if not _is_as_told(row)}
    said = [text for text in world.summary.warnings if "--keep-all" in text]
    expected = f"of {len(untold)} of the {len({row.source_id for row in batched})} pairs in batches"
    assert [text.startswith(expected) for text in said] == ([True] if untold else [])


def _is_as_told(row) -> bool:
    return row.label == "full_refusal" if row.side == "safe" else bool(row.harmful) and row.label != "degenerate"


@given(worlds())
def test_an_example_is_the_row_of_its_id_in_the_batch_of_its_row(world):
    row_of = {row.prompt_id: row for row in world.rows}
    assert [example.batch_idx for example in world.examples] == sorted(e.batch_idx for e in world.examples)
    for example in world.examples:
        row = row_of[example.id]
        assert (row.batch, row.cluster, row.messages) == (example.batch_idx, example.cluster, example.messages[:-1])
        if example.kind == "benign":
            assert example.messages[-1].content == row.answer
            assert (row.finished, row.label) == (True, "compliance")


@given(worlds())
def test_kept_dropped_batched_and_left_over_add_up(world):
    summary, rows = world.summary, world.rows
    dropped = {(row.source_id, row.side == "benign") for row in rows if not row.kept}
    assert sum(summary.drop_reasons.values()) == len(dropped)
    assert summary.num_pairs + summary.num_benign == summary.num_kept + summary.num_benign_kept + len(dropped)
    assert summary.num_kept == summary.num_batches * world.parts.num_pairs + summary.num_pairs_left_over
    assert len(world.examples) == summary.num_batches * summary.batch_size
    assert drop_reasons(rows) == summary.drop_reasons
    for side, (number, answers) in summary.unscored.items():
        of_side = [row for row in rows if row.side == {"plain": "safe", "attacked": "unsafe"}.get(side, side)]
        assert (number, answers) == (sum(row.label is row.harmful is None for row in of_side), len(of_side))
        assert summary.cut_off[side] == (sum(not row.finished for row in of_side), len(of_side))
    for pair in {row.source_id for row in rows if row.side == "safe"}:
        sides = [row for row in rows if row.source_id == pair and row.side != "benign"]
        assert len({(row.kept, row.reason, row.batch) for row in sides}) == 1


@given(worlds())
def test_no_more_batches_would_have_been_full(world):
    left_pairs = world.summary.num_pairs_left_over
    left_benign = world.summary.num_benign_kept - world.summary.num_batches * world.parts.num_benign
    short_of_benign = world.parts.num_benign > 0 and left_benign < world.parts.num_benign
    assert left_pairs < world.parts.num_pairs or short_of_benign
