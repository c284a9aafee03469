"""Every stage goes on where it stopped, and takes what an earlier evaluation of the same weights has."""

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import moe_cli.tiny
from moe_cli.artifacts import Store, finished_run, layout
from moe_cli.artifacts.journal import Journal
from moe_cli.codec import decode_lines
from moe_cli.config import MoeConfig
from moe_cli.errors import StoppedError
from moe_cli.evaluate import capability, model_drift, stage
from moe_cli.judges.keywords import KeywordJudge
from moe_cli.model.engines import TransformersEngine
from moe_cli.records import EvaluationRecord, GroupDrift, Notice, WeightDrift
from tests.evaluate.two_models import tiny


@pytest.fixture
def evaluate(tmp_path, monkeypatch, small_settings):
    """`evaluate(words="tiny", again=(), **settings)` in a directory of its own."""
    monkeypatch.chdir(tmp_path)
    store = Store(tmp_path / ".moe/registry")

    def run(words="tiny", *, again=(), resume=False, notify=lambda _: None, **settings):
        config = small_settings(tmp_path, model={"name": words}, evaluate={"max_new_tokens": 8, **settings})
        return stage.run(words, config, store, notify, resume=resume, again=again)

    return run


@pytest.fixture
def model_directory(tmp_path):
    """The tiny model as a directory of its own."""
    checkpoint = Path(moe_cli.tiny.__file__).parent / "checkpoint"
    return Path(shutil.copytree(checkpoint, tmp_path / "model"))


def records(evaluated):
    return list(decode_lines(EvaluationRecord, evaluated.path / layout.RECORDS))


def refuse(*_, **__):
    raise AssertionError("this was done already")


def test_a_second_evaluation_of_the_same_weights_takes_answers_and_verdicts(evaluate, monkeypatch):
    first = evaluate()
    monkeypatch.setattr(TransformersEngine, "answers", nothing_is_missing)
    monkeypatch.setattr(KeywordJudge, "verdicts", refuse)
    told = []
    with pytest.raises(AssertionError):
        evaluate(again=("generate",), name="anew")
    second = evaluate(notify=told.append)
    assert (first.path.name, second.path.name) == ("default", "default_2")
    assert records(second) == records(first)
    assert second.summary.taken == {"generate": "default", "judge keywords": "default"}
    assert (first.summary.taken, first.summary.seconds is None, second.summary.seconds) == ({}, False, None)
    assert sum("taken from the evaluation" in notice.text for notice in told if isinstance(notice, Notice)) == 2
    parents = finished_run(second.path, "evaluation").manifest.parents
    assert parents == {"evaluation default": finished_run(first.path, "evaluation").digest}


def test_judging_again_never_generates_again(evaluate, monkeypatch):
    evaluate()
    monkeypatch.setattr(TransformersEngine, "answers", nothing_is_missing)
    judged = evaluate(again=("judge",), name="judged_again")
    assert judged.summary.taken == {"generate": "default"}


def test_other_settings_or_other_items_take_no_answers(evaluate):
    evaluate()
    assert evaluate(max_new_tokens=9).summary.taken == {}
    assert evaluate(tiny_seed=8).summary.taken == {}


def test_another_checkpoint_at_the_same_path_is_evaluated_anew(evaluate, model_directory):
    first = evaluate(str(model_directory), items=(str(items_file(model_directory)),))
    weights = model_directory / "model.safetensors"
    save_file({name: tensor + 0.01 * torch.ones_like(tensor) for name, tensor in load_file(weights).items()}, weights)
    second = evaluate(str(model_directory), items=(str(items_file(model_directory)),))
    assert first.summary.model.fingerprint != second.summary.model.fingerprint
    assert second.summary.taken == {}
    assert second.path.name == "default_2"


def items_file(directory):
    path = directory.with_suffix(".jsonl")
    path.write_text('{"id": "1", "suite": "plain", "kind": "benign", "prompt": "name the colour of snow"}\n')
    return path


def test_a_damaged_earlier_evaluation_is_never_taken(evaluate):
    first = evaluate()
    for answers in (first.path / layout.STAGES).glob("answers-*"):
        answers.write_bytes(answers.read_bytes().replace(b'"finished":true', b'"finished":false'))
    told = []
    second = evaluate(notify=told.append)
    assert second.summary.taken == {"judge keywords": "default"}
    assert records(second) == records(first)
    warnings = [notice.text for notice in told if isinstance(notice, Notice) and notice.warning]
    assert any("changed since the run wrote it" in text and "nothing of it is taken" in text for text in warnings)


def test_an_earlier_evaluation_that_cannot_be_read_is_said_and_left_alone(evaluate):
    first = evaluate()
    manifest = first.path / layout.MANIFEST
    manifest.write_bytes(manifest.read_bytes().replace(b'"schema_version": 2', b'"schema_version": 9'))
    told = []
    assert evaluate(notify=told.append).summary.taken == {}
    assert any("schema version 9" in notice.text for notice in told if isinstance(notice, Notice))


def test_epochs_ask_every_item_again_with_other_draws_in_the_same_cluster(evaluate):
    found = records(evaluate(epochs=3, temperature=2.0, max_new_tokens=16))
    items = {record.item.id: record for record in found}
    first = [record for record in found if "#" not in record.item.id]
    assert len(found) == 3 * len(first)
    for record in first:
        repeats = [items[f"{record.item.id}#{epoch}"] for epoch in (2, 3)]
        assert {repeat.item for repeat in repeats} == {replace(record.item, id=f"{record.item.id}#{n}") for n in (2, 3)}
    assert any(record.answer != items[f"{record.item.id}#2"].answer for record in first)


def test_epochs_of_greedy_answers_are_refused(evaluate):
    with pytest.raises(ValueError, match="greedy answers to one item are all the same"):
        evaluate(epochs=2)


def test_an_interrupted_judging_goes_on_without_generating(evaluate, monkeypatch):
    whole = evaluate(name="whole")
    wanted = records(whole)
    shutil.rmtree(whole.path)

    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(KeywordJudge, "verdicts", interrupt)
        with pytest.raises(StoppedError, match="kept"):
            evaluate()
    monkeypatch.setattr(TransformersEngine, "answers", nothing_is_missing)
    assert records(evaluate(resume=True)) == wanted


def nothing_is_missing(self, prompts, done, keep):
    assert len(done) == len(prompts), "these were answered already"
    return iter(())


@pytest.mark.parametrize(
    ("file", "before", "after"),
    [
        ("config.json", '"num_experts_per_tok": 4', '"num_experts_per_tok": 3'),
        ("generation_config.json", '"eos_token_id": ', '"eos_token_id": 1'),
        ("tokenizer_config.json", '"eos_token": "<end>"', '"eos_token": "<user>"'),
        ("chat_template.jinja", "{%", "{# another #}{%"),
    ],
)
def test_what_else_decides_an_answer_is_part_of_the_model(evaluate, model_directory, file, before, after):
    items = (str(items_file(model_directory)),)
    first = evaluate(str(model_directory), items=items)
    path = model_directory / file
    assert before in path.read_text()
    path.write_text(path.read_text().replace(before, after, 1))
    second = evaluate(str(model_directory), items=items)
    assert first.summary.model.fingerprint == second.summary.model.fingerprint
    assert first.summary.model.settings != second.summary.model.settings
    assert "generate" not in second.summary.taken


def test_another_number_of_threads_takes_no_answers(evaluate):
    evaluate()
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 1)
        assert "generate" not in evaluate().summary.taken
    finally:
        torch.set_num_threads(threads)


def test_tasks_are_measured_once_for_the_same_weights_and_anew_for_others(evaluate, model_directory, monkeypatch):
    pytest.importorskip("lm_eval", reason="needs the extra `capability`")
    measured = []

    def measure(loaded, task, **settings):
        measured.append(loaded.identity.fingerprint)
        return (), ()

    monkeypatch.setattr(capability, "capability_of", measure)
    monkeypatch.setattr(capability, "refuse_unknown_tasks", lambda tasks, path: None)
    settings = {"items": (str(items_file(model_directory)),), "capability": ("task",)}
    evaluate(str(model_directory), **settings)
    assert evaluate(str(model_directory), **settings).summary.taken["capability task"] == "default"
    weights = model_directory / "model.safetensors"
    save_file({name: tensor + 0.01 for name, tensor in load_file(weights).items()}, weights)
    assert "capability task" not in evaluate(str(model_directory), **settings).summary.taken
    assert len(measured) == len(set(measured)) == 2


def test_drift_is_known_by_both_models_and_by_the_selection(monkeypatch):
    monkeypatch.setattr(model_drift, "measure_text_drift", lambda *_, **__: iter(()))
    monkeypatch.setattr(model_drift, "measure_prompt_drift", lambda *_, **__: iter(()))
    monkeypatch.setattr(model_drift, "measure_weight_drift", lambda *_: ())
    base = tiny()
    tuned = replace(base, identity=replace(base.identity, fingerprint="another"))
    selection = np.zeros((4, 16), dtype=bool)
    one = names_of_drift(base, tuned, selection)
    assert one == names_of_drift(base, tuned, selection)
    for other in (names_of_drift(tuned, tuned, selection), names_of_drift(base, base, selection)):
        assert not set(one) & set(other)
    assert names_of_drift(base, tuned, ~selection)[2] != one[2]


def names_of_drift(base, tuned, selected_LE):
    names = []

    class Named:
        def journal(self, stage, label, record_type, *whose, file=None):
            names.append(whose)
            return SimpleNamespace(records=list, append=lambda made: None)

    training = SimpleNamespace(base=base.identity)
    models = SimpleNamespace(target=SimpleNamespace(training=training), base=lambda: base, tuned=lambda: tuned)
    items = model_drift.drift_items(models, (), MoeConfig(), Named())
    prompts = model_drift.prompt_drift_items(models, (), MoeConfig(), Named())
    model_drift.measure_drift(models, items, prompts, selected_LE, MoeConfig(), Named())
    return names


def test_weight_drift_that_was_cut_short_on_disk_is_measured_again_whole(monkeypatch, tmp_path):
    groups = tuple(
        GroupDrift(group=name, num_params=10, num_changed=place, relative_l2=0.0, largest=0.0)
        for place, name in enumerate(("router", "norms"))
    )
    measured = []
    monkeypatch.setattr(model_drift, "measure_weight_drift", lambda *_: measured.append(1) or groups)
    path = tmp_path / "weights.jsonl"
    work = SimpleNamespace(journal=lambda *_, record_type=WeightDrift, **__: Journal(path, record_type))
    base = tiny()
    training = SimpleNamespace(base=base.identity)
    models = SimpleNamespace(target=SimpleNamespace(training=training), base=lambda: base, tuned=lambda: base)

    def found():
        return model_drift.measure_drift(models, (), (), None, MoeConfig(), work).weights

    assert (found(), found(), len(measured)) == (groups, groups, 1)
    path.write_bytes(path.read_bytes()[:-5])
    assert (found(), len(measured)) == (groups, 2)
