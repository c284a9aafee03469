"""The loss by turn is the loss that trains, of these rows alone; measuring it changes no bit of the training."""

from __future__ import annotations

import random
from dataclasses import replace
from io import StringIO

import orjson
import pytest
import torch
from rich.console import Console

from moe_cli.artifacts import layout
from moe_cli.codec import decode, decode_lines, encode
from moe_cli.config import ModelConfig
from moe_cli.model.chat import encode_answered
from moe_cli.model.load import load_model
from moe_cli.records import StepRecord, TrainingExample, TrainingSummary, TurnLoss
from moe_cli.train import stage as train
from moe_cli.train.open_step import OpenStep, RowLoss, turn_losses
from moe_cli.train.training_summary import turn_trainings
from moe_cli.views.trained import trained_view
from tests.resume_everywhere import ARMS
from tests.train.several_turns import of_several_turns, with_earlier_turns


def run_of(experiments, arm, name, *, measured):
    settings = experiments.settings(name, gradient_accumulation_steps=2, warmup_steps=0)
    with of_several_turns(measured=measured):
        made = train.run(arm, settings, experiments.store, lambda _: None)
    return made, list(decode_lines(StepRecord, made.path / layout.STEPS))


@pytest.fixture(scope="module", params=ARMS)
def both(request, experiments):
    """A training that measures the loss by turn, and the same one that does not."""
    return [run_of(experiments, request.param, f"turns-{measured}", measured=measured) for measured in (True, False)]


def test_measuring_it_changes_no_bit_of_the_losses_and_of_the_weights(both):
    (one, steps), (other, others) = both
    assert one.summary.trained_fingerprint == other.summary.trained_fingerprint
    assert [replace(step, seconds=0.0, turns=()) for step in steps] == [replace(step, seconds=0.0) for step in others]
    assert all(step.turns for step in steps)
    assert other.summary.turns == ()


def test_the_losses_of_the_turns_make_up_the_loss_of_the_step(both):
    for step in both[0][1]:
        assert sum(one.num_answer_tokens for one in step.turns) == step.num_answer_tokens
        assert [one.turn for one in step.turns] == [1, 2, 3]
        total = sum(one.loss * one.num_answer_tokens for one in step.turns)
        assert total / step.num_answer_tokens == pytest.approx(step.loss, rel=1e-5)


def test_the_loss_of_a_turn_is_that_of_its_rows_one_by_one(both, experiments):
    loaded = load_model(ModelConfig(name="tiny", threads=1))
    step = both[0][1][0]  # before which nothing was trained
    path = experiments.directory / "prepared" / layout.training_examples("tiny")
    examples = with_earlier_turns(list(decode_lines(TrainingExample, path)))
    losses = {1: [], 2: [], 3: []}
    for told in examples:
        if told.batch_idx in step.batches:
            row = encode_answered(loaded.tokenizer, told.messages)
            with torch.no_grad():
                logits_SV = loaded.model(input_ids=torch.tensor([row.token_ids])).logits[0]
            probabilities_SV = logits_SV.log_softmax(-1)
            turn = sum(message.role == "assistant" for message in told.messages)
            answer = range(row.num_prompt, len(row.token_ids))
            losses[turn].append([-float(probabilities_SV[place - 1, row.token_ids[place]]) for place in answer])
    for one in step.turns:
        by_token = [loss for row in losses[one.turn] for loss in row]
        assert (one.num_rows, one.num_answer_tokens) == (len(losses[one.turn]), len(by_token))
        assert one.loss == pytest.approx(sum(by_token) / len(by_token), rel=1e-4)


def test_the_summary_has_the_means_of_the_first_and_the_last_epoch(both):
    (one, steps), _ = both
    assert decode(TrainingSummary, (one.path / layout.METADATA).read_bytes(), source="it") == one.summary
    for turn in one.summary.turns:
        first, last = (
            [found for step in part for found in step.turns if found.turn == turn.turn]
            for part in (steps[:3], steps[3:])
        )
        assert (turn.num_rows, turn.num_answer_tokens) == (
            sum(found.num_rows for found in last),
            sum(found.num_answer_tokens for found in last),
        )
        for mean, part in ((turn.first_loss, first), (turn.final_loss, last)):
            assert mean == pytest.approx(
                sum(found.loss * found.num_answer_tokens for found in part) / turn.num_answer_tokens
            )
    assert sum(turn.num_rows for turn in one.summary.turns) == 48
    whole = sum(turn.final_loss * turn.num_answer_tokens for turn in one.summary.turns)
    assert whole / sum(turn.num_answer_tokens for turn in one.summary.turns) == pytest.approx(one.summary.final_loss)


def test_of_a_single_epoch_nothing_is_said_to_have_fallen(both):
    (one, steps), _ = both
    single = turn_trainings(steps[:3])
    assert [turn.first_loss for turn in single] == [None] * 3
    text = StringIO()
    Console(file=text, width=80).print(trained_view(replace(one.summary, turns=single)))
    assert f"{single[0].final_loss:.4f}, the only epoch" in " ".join(text.getvalue().replace("│", " ").split())


def test_the_view_shows_it_only_where_there_are_several_turns(both):
    shown = []
    for made, _ in both:
        text = StringIO()
        Console(file=text, width=80).print(trained_view(made.summary))
        shown.append(" ".join(text.getvalue().replace("│", " ").split()))
    assert "answer no. 3" in shown[0] and "16 rows" in shown[0]
    assert "answer no." not in shown[1]


def test_several_processes_have_the_losses_of_one_bit_for_bit():
    draw = random.Random(3)
    batches = [
        [RowLoss(draw.randint(1, 3), draw.randint(1, 9), draw.expovariate(0.1)) for _ in range(5)] for _ in "12345"
    ]
    shares = [OpenStep(rows=batches[rank::2]) for rank in range(2)]
    joined = shares[0].joined(shares)
    assert joined.rows == batches
    assert turn_losses(joined.rows) == turn_losses(batches) == turn_losses(batches[::-1])


def test_a_step_without_it_as_earlier_runs_wrote_it_reads_and_leaves_the_summary_without(both):
    steps = both[0][1]
    earlier = orjson.loads(encode(steps[0]))
    del earlier["turns"]
    read = decode(StepRecord, orjson.dumps(earlier), source="a step")
    assert read == replace(steps[0], turns=())
    assert turn_trainings([read, *steps[1:]]) == ()
    assert turn_trainings(steps) != ()


def test_a_turn_without_a_row_in_a_step_is_left_out_of_it():
    assert turn_losses([[RowLoss(3, 2, 5.0)], []]) == (TurnLoss(turn=3, num_rows=1, num_answer_tokens=2, loss=2.5),)
    assert turn_losses([[], []]) == ()
