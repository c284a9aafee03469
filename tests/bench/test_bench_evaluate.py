"""`tests.studies.evaluate_benchmark`: three ways of answering the same prompts, equal answers counted."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from moe_cli.config import EvaluateConfig, ModelConfig, MoeConfig
from moe_cli.model.chat import encode_prompt
from moe_cli.model.engine import Prompt
from moe_cli.model.engines import TransformersEngine, greedy
from moe_cli.model.load import load_model
from moe_cli.tiny.language import tiny_items
from moe_cli.views.console import stdout_console
from tests.studies import evaluate_benchmark
from tests.studies.drawn_lengths import ATTACKED, FULL_ANSWER, PLAIN, REFUSAL, FixedBatches, drawn_prompts, ending_at
from tests.studies.evaluate_benchmark import evaluate_bench_markdown, evaluate_bench_view
from tests.studies.stage_benchmarks import same_answers, turns

torch.set_num_threads(1)

CONFIG = MoeConfig(
    model=ModelConfig(name="tiny", device="cpu"), evaluate=EvaluateConfig(max_new_tokens=40, batch_size=4)
)


@pytest.fixture(scope="module")
def loaded():
    return load_model(CONFIG.model)


@pytest.fixture(scope="module")
def made():
    return evaluate_benchmark.run(CONFIG, 10, 2, lambda record: None)


def own_prompts():
    return [Prompt(item.id, item.messages) for item in tiny_items(2, seed=3) if item.kind != "text"]


def test_every_row_gives_the_answers_of_the_fixed_batches(made):
    assert [row.name for row in made.rows] == ["fixed", "file_order", "by_length"]
    assert all(row.same_answers == (10, 10) for row in made.rows)
    assert all(len(row.seconds) == row.speedup.n == 2 for row in made.rows)
    assert made.rows[0].speedup.median == 1.0
    assert [row.batch_tokens for row in made.rows] == [None, None, CONFIG.evaluate.batch_tokens]
    assert made.clock == "processor time"
    assert made.rows[1].tokens_per_second == pytest.approx(made.num_answer_tokens / made.rows[1].time.median)


def test_the_model_s_own_items_are_answered_as_moe_evaluate_answers_them(loaded):
    found = evaluate_benchmark.run(CONFIG, own_prompts(), 1, lambda record: None)
    assert found.prompts == evaluate_benchmark.ITEMS
    assert all(row.same_answers == (12, 12) for row in found.rows)
    answers = TransformersEngine(loaded, greedy(max_new_tokens=40, batch_size=4)).answers(own_prompts())
    assert found.num_answer_tokens == sum(len(answer.token_ids) for batch in answers for answer in batch)


def test_drawn_answers_end_at_their_lengths_for_transformers_and_for_the_engine(loaded):
    drawn = drawn_prompts(loaded, 6, seed=1, max_new_tokens=40)
    lengths = [
        drawn.answer_lengths[encode_prompt(loaded.tokenizer, prompt.messages)[: drawn.num_ids]]
        for prompt in drawn.prompts
    ]
    with ending_at(loaded, drawn):
        fixed = dict(FixedBatches(loaded, 4, 40).answers(drawn.prompts))
        engine = TransformersEngine(loaded, greedy(max_new_tokens=40, batch_size=4)).answers(drawn.prompts)
        ours = {answer.prompt_id: answer.token_ids for batch in engine for answer in batch}
    assert [len(fixed[prompt.id]) for prompt in drawn.prompts] == lengths
    assert all(ids[-1] == loaded.tokenizer.eos_token_id for ids in fixed.values())
    assert ours == fixed
    assert len(set(lengths)) > 2
    free = dict(FixedBatches(loaded, 4, 40).answers(drawn.prompts))
    assert free != fixed  # the model is itself again


def test_lengths_are_drawn_within_their_bounds_and_differ_with_the_seed(loaded):
    drawn = drawn_prompts(loaded, 200, seed=1, max_new_tokens=512)
    answers = sorted(drawn.answer_lengths.values())
    assert (
        min(REFUSAL.least, FULL_ANSWER.least) <= answers[0] < REFUSAL.median < FULL_ANSWER.median < answers[-1] <= 500
    )
    words = sorted(len(encode_prompt(loaded.tokenizer, prompt.messages)) for prompt in drawn.prompts)
    assert PLAIN.least <= words[0] < PLAIN.median + 10 < ATTACKED.median < words[-1]
    assert drawn == drawn_prompts(loaded, 200, seed=1, max_new_tokens=512)
    assert drawn.prompts != drawn_prompts(loaded, 200, seed=2, max_new_tokens=512).prompts


def test_another_answer_is_counted_as_another_in_any_repeat():
    answers = {"a": (1, 2), "b": (3,)}
    assert same_answers(answers, [answers, answers]) == (2, 2)
    assert same_answers(answers, [answers, {"a": (1, 2), "b": (4,)}]) == (1, 2)


def test_no_row_always_follows_the_same_one():
    assert list(turns("abc", 2)) == [(0, "a"), (0, "b"), (0, "c"), (1, "c"), (1, "b"), (1, "a")]


def test_terminal_and_page_show_the_same_cells_within_80_columns(made, capsys):
    stdout_console().print(evaluate_bench_view(made))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    page = evaluate_bench_markdown(made)
    for row in ("fixed batches (4)", "in file order (4)", "by length (4)"):
        assert any(line.split("  ")[0].strip() == row for line in lines), row
        assert f"| {row} |" in page
    assert "log-normal" in page
    other = replace(made, rows=tuple(replace(row, same_answers=(9, 10)) for row in made.rows))
    assert "9 / 10" in evaluate_bench_markdown(other)


def test_the_command_answers_the_items_that_the_settings_name(monkeypatch, capsys):
    small = ["--set", "evaluate.tiny_items=1", "--repeats", "1", "--threads", "1", "--json"]
    monkeypatch.setattr("sys.argv", ["it", *small])
    evaluate_benchmark.main()
    document = json.loads(capsys.readouterr().out)
    assert (document["schema_version"], document["num_prompts"], document["model_name"]) == (1, 6, "tiny")
