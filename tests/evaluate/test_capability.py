"""lm-eval's tasks on the loaded model: its own scores, an outcome for every question, and nothing left behind."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from moe_cli.config import ModelConfig
from moe_cli.errors import EnvironmentFaultError, UsageError
from moe_cli.evaluate import capability
from moe_cli.evaluate.capability import capability_of, refuse_unknown_tasks
from moe_cli.model.load import load_model
from moe_cli.stats.proportions import wilson_interval
from moe_cli.tiny.language import tiny_items

lm_eval = pytest.importorskip("lm_eval", reason="needs the extra `capability`")

WORDS = ("red", "blue", "apple", "horse", "bicycle")
COMMON = """
dataset_path: json
dataset_kwargs:
  data_files:
    test: {data}
test_split: test
num_fewshot: 0
metadata:
  version: 3.5
"""
CHOICE = """
task: choice
output_type: multiple_choice
doc_to_text: "Repeat {{question}}."
doc_to_choice: "{{choices}}"
doc_to_target: answer
metric_list:
  - metric: acc_norm
    aggregation: mean
    higher_is_better: true
  - metric: acc
    aggregation: mean
    higher_is_better: true
"""
WRITTEN = """
task: written
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: "{{answer}}"
generation_kwargs:
  until: ["\\n"]
  max_gen_toks: 24
  do_sample: false
metric_list:
  - metric: exact_match
    aggregation: mean
    higher_is_better: true
"""
GROUP = """
group: everything
task: [choice, written]
aggregate_metric_list:
  - metric: acc
    weight_by_size: true
metadata:
  version: 1.0
"""


@pytest.fixture(scope="module")
def loaded():
    torch.set_num_threads(1)
    return load_model(ModelConfig(name="tiny", device="cpu"))


@pytest.fixture(scope="module")
def benign():
    return [item for item in tiny_items(6, seed=3) if item.suite == "benign"]


@pytest.fixture(scope="module")
def tasks(tmp_path_factory, benign):
    """A directory of task definitions over data of this machine."""
    folder = tmp_path_factory.mktemp("tasks")
    choices = [{"question": word, "choices": WORDS, "answer": place} for place, word in enumerate(WORDS)]
    answers = [{"question": item.messages[-1].content, "answer": item.expected} for item in benign]
    for name, task, rows in (("choice", CHOICE, choices), ("written", WRITTEN, answers)):
        data = folder / f"{name}.jsonl"
        data.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        (folder / f"{name}.yaml").write_text(task + COMMON.format(data=data))
    (folder / "everything.yaml").write_text(GROUP)
    return folder


def measured(loaded, task, tasks, **changes):
    return capability_of(
        loaded, task, **({"limit": None, "batch_size": 3, "chat": False, "include_path": tasks, "seed": 1} | changes)
    )


def log_likelihood(loaded, context, option):
    """Of the option's tokens behind the context, without lm-eval."""
    before = loaded.tokenizer(context, add_special_tokens=False)["input_ids"]
    ids = torch.tensor(loaded.tokenizer(context + option, add_special_tokens=False)["input_ids"])
    with torch.inference_mode():
        logits = loaded.model(ids[None]).logits[0, len(before) - 1 : -1].log_softmax(-1)
    return float(logits.gather(1, ids[len(before) :, None]).sum())


def test_an_option_is_chosen_by_its_likelihood_and_the_score_is_the_share_of_right_ones(loaded, tasks):
    (score,), samples = measured(loaded, "choice", tasks)
    chosen = [max(WORDS, key=lambda option: log_likelihood(loaded, f"Repeat {word}.", f" {option}")) for word in WORDS]
    assert [sample.answer.strip() for sample in samples] == chosen
    assert [sample.correct for sample in samples] == [one == word for one, word in zip(chosen, WORDS, strict=True)]
    assert score.score == score.correct.rate == sum(sample.correct for sample in samples) / len(WORDS)
    assert (score.task, score.version, score.metric, score.num_fewshot, score.n) == ("choice", "3.5", "acc,none", 0, 5)
    assert [sample.id for sample in samples] == [f"choice/{place}" for place in range(len(WORDS))]


def test_what_is_written_in_the_chat_template_is_what_the_model_answers_and_is_counted_by_hand(loaded, tasks, benign):
    (score,), samples = measured(loaded, "written", tasks, chat=True)
    right = [sample.answer == item.expected for sample, item in zip(samples, benign, strict=True)]
    assert [sample.correct for sample in samples] == right
    assert (score.correct.k, score.n, score.score) == (sum(right), 6, sum(right) / 6)
    assert (score.correct.lower, score.correct.upper) == wilson_interval(sum(right), 6)
    assert score.score > 0.5
    plain, without = measured(loaded, "written", tasks)
    assert plain[0].score < score.score
    assert {sample.digest for sample in samples}.isdisjoint(sample.digest for sample in without)


def test_the_standard_error_is_lm_eval_s_own(loaded, tasks):
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    (score,), _ = measured(loaded, "choice", tasks)
    found = lm_eval.simple_evaluate(
        model=HFLM(pretrained=loaded.model, tokenizer=deepcopy(loaded.tokenizer), batch_size=2),
        tasks=["choice"],
        task_manager=TaskManager(include_path=str(tasks), include_defaults=False),
    )["results"]["choice"]
    assert (score.score, score.stderr) == pytest.approx((found["acc,none"], found["acc_stderr,none"]), abs=1e-12)


def test_a_group_gives_itself_and_its_tasks_and_every_question_once(loaded, tasks):
    scores, samples = measured(loaded, "everything", tasks)
    assert [(score.task, score.n) for score in scores] == [("choice", 5), ("everything", 5), ("written", 6)]
    assert len({sample.id for sample in samples}) == len(samples) == 11


def test_the_limit_takes_the_first_questions_and_the_batch_changes_none(loaded, tasks):
    _, every = measured(loaded, "choice", tasks, batch_size=1)
    scores, first = measured(loaded, "choice", tasks, limit=2)
    assert first == every[:2]
    assert scores[0].n == 2


def test_model_and_tokenizer_are_as_they_were_and_nothing_is_printed(loaded, tasks, capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # no checkout, of which git complains
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    other = replace(loaded, tokenizer=deepcopy(loaded.tokenizer))
    other.tokenizer.pad_token = None  # lm-eval chooses one for itself
    weights = {name: value.clone() for name, value in loaded.model.state_dict().items()}
    before = state(other)
    loaded.model.train()
    measured(other, "written", tasks)
    assert loaded.model.training
    loaded.model.eval()
    assert state(other) == before
    assert all(torch.equal(value, weights[name]) for name, value in loaded.model.state_dict().items())
    assert capfd.readouterr() == ("", "")


def state(loaded):
    tokenizer, model = loaded.tokenizer, loaded.model
    return (
        (tokenizer.pad_token, tokenizer.padding_side, tokenizer.truncation_side),
        (model.generation_config.to_dict(), model.config.to_dict(), str(model.device), model.dtype),
    )


def test_without_lm_eval_the_extra_is_named(monkeypatch, tasks):
    monkeypatch.setattr(capability, "find_spec", lambda name: None)
    with pytest.raises(EnvironmentFaultError, match="not installed") as caught:
        refuse_unknown_tasks(["choice"], tasks)
    assert caught.value.hint == "pip install 'moe-selective-repair[capability]'"


def test_an_unknown_task_is_refused_with_the_nearest_names(tasks, monkeypatch):
    from moe_cli.evaluate import capability_tasks

    few = capability_tasks.TaskSet(include_path=str(tasks), include_defaults=False)
    monkeypatch.setattr(capability_tasks, "_every", lambda include_path: few)
    refuse_unknown_tasks(["choice", "everything"], tasks)
    with pytest.raises(UsageError, match="lm-eval has no task choise") as caught:
        refuse_unknown_tasks(["choice", "choise"], tasks)
    assert caught.value.hint == "did you mean one of: choice"
    with pytest.raises(UsageError, match="is no directory"):
        refuse_unknown_tasks(["choice"], tasks / "nowhere")


def test_data_that_cannot_be_loaded_and_code_of_a_model_are_refused(loaded, tasks, tmp_path):
    from moe_cli.evaluate.capability_tasks import TaskSet

    (tmp_path / "lost.yaml").write_text(CHOICE.replace("choice\n", "lost\n", 1) + COMMON.format(data="nowhere.jsonl"))
    asking = lm_eval.evaluator.get_git_commit_hash
    with pytest.raises(EnvironmentFaultError, match="the data of the task lost cannot be loaded") as caught:
        measured(loaded, "lost", tmp_path)
    assert lm_eval.evaluator.get_git_commit_hash is asking
    assert "--capability-tasks" in caught.value.hint
    manager = TaskSet(include_path=str(tasks), include_defaults=False)
    task = manager.load(["choice"])["tasks"]["choice"]
    task.UNSAFE_CODE = True
    with pytest.raises(UsageError, match="choice would run code that the model writes"):
        manager.load([task])
