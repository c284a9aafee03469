"""Capability as a stage: checked before anything is answered, written for pairing, resumed task by task."""

import json

import pytest

from moe_cli.artifacts import Store, layout
from moe_cli.codec import decode_lines
from moe_cli.compare import stage as compare
from moe_cli.config import MoeConfig
from moe_cli.errors import StoppedError, UsageError
from moe_cli.evaluate import capability, stage
from moe_cli.model.topology import expert_layers, experts_computed_by, experts_function
from moe_cli.records import CapabilitySample

pytest.importorskip("lm_eval", reason="needs the extra `capability`")

TASK = """
task: {name}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {data}
test_split: test
num_fewshot: 0
output_type: multiple_choice
doc_to_text: "Repeat {{{{question}}}}."
doc_to_choice: "{{{{choices}}}}"
doc_to_target: answer
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
"""
WORDS = ("red", "blue", "apple", "horse", "bicycle")


@pytest.fixture
def evaluate(tmp_path, monkeypatch, small_settings):
    """`evaluate(name, *tasks)` of the tiny model, with two tasks of five questions each: `first` and `second`."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "tasks"
    folder.mkdir()
    rows = [{"question": word, "choices": WORDS, "answer": place} for place, word in enumerate(WORDS)]
    for name in ("first", "second"):
        data = folder / f"{name}.jsonl"
        data.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        (folder / f"{name}.yaml").write_text(TASK.format(name=name, data=data))
    store = Store(tmp_path / ".moe/registry")

    def run(name, *tasks, resume=False, **more):
        values = {"tiny_items": 2, "max_new_tokens": 4, "capability": tasks, "capability_tasks": folder, "name": name}
        values |= more
        return stage.run("tiny", small_settings(tmp_path, evaluate=values), store, lambda _: None, resume=resume)

    return run


def test_scores_stand_in_the_summary_and_questions_in_a_file_for_pairing(evaluate):
    found = evaluate("default", "first")
    (score,) = found.summary.capability
    samples = list(decode_lines(CapabilitySample, found.path / layout.CAPABILITY))
    assert (score.task, score.n, score.correct.n, len(samples)) == ("first", 5, 5, 5)
    assert score.correct.k == sum(sample.correct for sample in samples)


def test_two_runs_are_compared_question_by_question(evaluate, tmp_path):
    paths = [str(evaluate(name, "first", "second").path) for name in ("a", "b")]
    config = MoeConfig.model_validate({"compare": {"output_dir": tmp_path / "comparison"}})
    made = compare.run(paths, config, Store(tmp_path / ".moe/registry"), lambda _: None)
    found = {difference.metric: difference for difference in made.comparison.pairs[0].differences}
    assert (found["accuracy: first"].n, found["accuracy: first"].difference) == (5, 0.0)
    assert found["accuracy"].n == 10 + 4  # two benign suites of two items each


def test_a_task_that_only_one_run_measured_is_named_in_the_conclusion_and_not_compared(evaluate, tmp_path):
    paths = [str(evaluate("a", "first", "second").path), str(evaluate("b", "first").path)]
    config = MoeConfig.model_validate({"compare": {"output_dir": tmp_path / "comparison"}})
    made = compare.run(paths, config, Store(tmp_path / ".moe/registry"), lambda _: None)
    assert any("second is not compared: it was not measured for" in text for text in made.comparison.conclusion)
    assert "accuracy: second" not in {found.metric for found in made.comparison.pairs[0].differences}


def test_a_task_named_twice_is_refused_before_anything_is_answered(evaluate, tmp_path):
    with pytest.raises(UsageError, match="first is named twice"):
        evaluate("a", "first", "first")
    assert not (tmp_path / "evaluations").exists()


def test_an_interrupted_evaluation_measures_only_the_tasks_that_are_missing(evaluate, monkeypatch):
    measured = []
    real = capability.capability_of

    def watched(loaded, task, **settings):
        if measured == ["first"] and task == "second":
            measured.append("interrupted")
            raise KeyboardInterrupt
        measured.append(task)
        return real(loaded, task, **settings)

    monkeypatch.setattr(capability, "capability_of", watched)
    with pytest.raises(StoppedError):
        evaluate("a", "first", "second")
    found = evaluate("a", "first", "second", resume=True)
    assert measured == ["first", "interrupted", "second"]
    assert [score.task for score in found.summary.capability] == ["first", "second"]


def test_capability_is_that_of_the_steered_router(evaluate, tmp_path, monkeypatch):
    file = tmp_path / "steer.json"
    file.write_text(json.dumps({"activate": [[layer, index] for layer in range(4) for index in range(8)]}))
    honest, chosen = capability.capability_of, []

    def watching(loaded, *args, **settings):
        before = experts_function(expert_layers(loaded.model)[0])

        def run(module, hidden_TH, experts_TK, weights_TK):
            chosen[-1] |= set(experts_TK.unique().tolist())
            return before(module, hidden_TH, experts_TK, weights_TK)

        chosen.append(set())
        with experts_computed_by(loaded.model, run):
            return honest(loaded, *args, **settings)

    monkeypatch.setattr(capability, "capability_of", watching)
    plain = evaluate("plain", "first").summary
    steered = evaluate("steered", "first", steer=file).summary
    assert plain.capability[0].n == steered.capability[0].n == len(WORDS)
    assert "capability first" not in steered.taken
    of_plain, of_steered = chosen
    assert of_plain - set(range(8)) and of_steered <= set(range(8))
