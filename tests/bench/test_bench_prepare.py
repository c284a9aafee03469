"""The benchmark of prepare runs the whole stage in three ways that give the same answers, and times the recording."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from moe_cli.config import ModelConfig, MoeConfig, PrepareConfig
from moe_cli.model.engine import Prompt
from moe_cli.model.engines import TransformersEngine, greedy
from moe_cli.model.load import load_model
from moe_cli.prepare import stage
from moe_cli.records import Message, Progress
from moe_cli.views.console import stdout_console
from tests.studies import prepare_benchmark
from tests.studies.prepare_benchmark import prepare_bench_markdown, prepare_bench_view
from tests.studies.stage_benchmarks import Heard, HeardEngine, recording_cost

torch.set_num_threads(1)

CONFIG = MoeConfig(
    model=ModelConfig(name="tiny", device="cpu"),
    prepare=PrepareConfig(max_new_tokens=24, generation_batch_size=4, batch_size=4, resamples=20, null_draws=5),
)


@pytest.fixture(scope="module")
def seen() -> list[Progress]:
    return []


@pytest.fixture(scope="module")
def made(seen):
    return prepare_benchmark.run(CONFIG, 18, 2, seen.append, stage.run)


def test_every_row_runs_the_whole_stage_on_the_same_prompts_and_answers_the_same(made, seen):
    assert [(row.name, row.batch_size) for row in made.rows] == [
        ("one_at_a_time", 1),
        ("file_order", 4),
        ("by_length", 4),
    ]
    assert made.num_prompts == 18
    assert all(row.same_answers == (18, 18) for row in made.rows)
    assert all(len(row.seconds) == row.time.n == row.answering.n == 2 for row in made.rows)
    assert all(row.answering.median < row.time.median for row in made.rows)
    assert (made.rows[0].speedup.median, made.rows[0].answering_speedup.median) == (1.0, 1.0)
    assert [progress.done for progress in seen] == [1, 2, 3, 4, 5, 6]
    assert made.recording.ratio.n == 2 * prepare_benchmark.FORWARDS_PER_REPEAT


def test_ways_differ_in_which_prompts_are_answered_together_alone():
    loaded = load_model(ModelConfig(name="tiny", device="cpu"))
    texts = ("Repeat apple.", "Repeat apple, horse, bicycle.", "Repeat horse.", "Repeat apple, horse, bicycle, box.")
    prompts = [Prompt(text, (Message(role="user", content=text),)) for text in texts]
    engine = TransformersEngine(loaded, greedy(max_new_tokens=12, batch_size=2))
    groups = {}
    for way in ("file_order", "by_length"):
        heard = Heard(way)
        batches = HeardEngine(engine, heard).answers(prompts, ())
        groups[way] = [{answer.prompt_id for answer in batch} for batch in batches]
        assert set(heard.answers) == set(texts)
    assert groups["file_order"] == [set(texts[:2]), set(texts[2:])]
    assert groups["by_length"] == [{texts[1], texts[3]}, {texts[0], texts[2]}]


def test_another_answer_is_counted_as_another():
    def forgetful(config, store, notify, *, engine_of):
        found = stage.run(config, store, notify, engine_of=engine_of)
        heard = engine_of.__self__
        if heard.way == "by_length":
            heard.answers[next(iter(heard.answers))] = ()
        return found

    found = prepare_benchmark.run(CONFIG, 18, 1, lambda _: None, forgetful)
    assert [row.same_answers for row in found.rows] == [(18, 18), (18, 18), (17, 18)]


def test_the_recorded_forward_leaves_the_model_as_it_was():
    loaded = load_model(ModelConfig(name="tiny", device="cpu"))
    before = loaded.model.get_experts_implementation()
    cost = recording_cost(loaded, [((5, 6, 7, 8), 2), ((5, 6, 7), 1)], repeats=3)
    assert (cost.rows, cost.positions, cost.ratio.n) == (2, 4, 3)
    assert loaded.model.get_experts_implementation() == before


def test_terminal_and_page_show_the_same_cells_within_80_columns(made, capsys):
    stdout_console().print(prepare_bench_view(made))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    page = prepare_bench_markdown(made)
    for row in ("one at a time (1)", "in file order (4)", "by length (4)"):
        assert any(line.split("  ")[0].strip() == row for line in lines), row
        assert f"| {row} |" in page
    assert "18 / 18" in page
    slower = replace(made, rows=tuple(replace(row, same_answers=(17, 18)) for row in made.rows))
    assert "17 / 18" in prepare_bench_markdown(slower)


def test_the_command_prints_one_document(monkeypatch, capsys):
    small = ["--set", "prepare.batch_size=4", "--set", "prepare.resamples=20", "--set", "prepare.null_draws=5"]
    monkeypatch.setattr("sys.argv", ["it", "--prompts", "12", "--repeats", "1", "--threads", "1", "--json", *small])
    prepare_benchmark.main()
    document = json.loads(capsys.readouterr().out)
    assert (document["schema_version"], document["num_prompts"], document["model_name"]) == (1, 12, "tiny")
