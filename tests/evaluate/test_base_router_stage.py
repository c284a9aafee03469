"""`--restore-router` as a stage: harmful items are answered and judged once more, where training moved the router."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console

from moe_cli.artifacts import Store, layout
from moe_cli.codec import decode_lines
from moe_cli.evaluate import stage
from moe_cli.evaluate.answers import answer_settings
from moe_cli.judges.deciding import judge_in_groups
from moe_cli.judges.judge import Exchange
from moe_cli.judges.keywords import KeywordJudge
from moe_cli.model.engine import Prompt
from moe_cli.model.engines import TransformersEngine
from moe_cli.model.load import load_model
from moe_cli.prepare import stage as prepare
from moe_cli.records import EvaluationRecord, Notice
from moe_cli.train import stage as train
from moe_cli.views.evaluated import evaluated_view

SETTINGS = {
    "prepare": {"resamples": 2, "null_draws": 2},
    "train": {"num_epochs": 1, "learning_rate": 1e-2},  # so much that attack success hangs on the router
    "evaluate": {"tiny_items": 12, "max_new_tokens": 12, "restore_router": True},
}


@pytest.fixture(scope="module")
def done(tmp_path_factory, small_settings):
    """Both arms and the bare model, evaluated; what each was told, and how often it answered, beside it."""
    torch.set_num_threads(1)
    directory = tmp_path_factory.mktemp("restored")
    config, store = small_settings(directory, **SETTINGS), Store(directory / "registry")
    found = SimpleNamespace(directory=directory, config=config)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        prepare.run(config, store, lambda _: None)
        for arm in ("selective", "baseline"):
            train.run(arm, config, store, lambda _: None)
        for words in ("tiny", "selective", "baseline"):
            setattr(found, words, evaluated(words, config, store))
    return found


def evaluated(words, config, store):
    told, answered = [], []
    real = TransformersEngine.answers

    def answers(self, prompts, done, keep):
        answered.append({prompt.id for prompt in prompts})
        return real(self, prompts, done, keep)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TransformersEngine, "answers", answers)
        made = stage.run(words, config, store, told.append)
    return SimpleNamespace(path=made.path.resolve(), summary=made.summary, told=told, answered=answered)


def records(evaluation, name):
    return {record.item.id: record for record in decode_lines(EvaluationRecord, evaluation.path / name)}


def trained_model(done):
    weights = done.directory / "baseline" / layout.FINAL_MODEL
    return load_model(done.config.model.model_copy(update={"name": str(weights)}))


def gates(loaded):
    return [layer.mlp.gate.weight for layer in loaded.model.model.layers]


def answers_by_hand(done, found, *, restore):
    """Text by id: the trained model asked directly, with each layer's gate copied from the base where `restore`."""
    loaded, base = trained_model(done), load_model(done.config.model)
    with torch.no_grad():
        for own, of_base in zip(gates(loaded), gates(base), strict=True):
            own.copy_(of_base if restore else own)
    engine = TransformersEngine(loaded, answer_settings(done.config))
    prompts = [Prompt(record.item.id, record.item.messages) for record in found.values()]
    return {answer.prompt_id: answer.text for group in engine.answers(prompts, ()) for answer in group}


def test_the_harmful_items_are_answered_by_the_trained_model_with_the_router_of_its_base(done):
    as_trained, restored = (records(done.baseline, name) for name in (layout.RECORDS, layout.RESTORED))
    assert {record.item for record in restored.values()} == {
        record.item for record in as_trained.values() if record.item.kind == "harmful"
    }
    by_hand = answers_by_hand(done, restored, restore=True)
    assert {name: record.answer for name, record in restored.items()} == by_hand
    own = answers_by_hand(done, restored, restore=False)
    assert {name: as_trained[name].answer for name in restored} == own
    assert own != by_hand


def test_the_new_answers_are_judged_anew(done):
    as_trained, restored = (records(done.baseline, name) for name in (layout.RECORDS, layout.RESTORED))
    exchanges = {
        name: Exchange(kind="harmful", messages=record.item.messages, answer=record.answer)
        for name, record in restored.items()
    }
    said = {line.id: line.verdict for group in judge_in_groups(KeywordJudge(), exchanges, set()) for line in group}
    assert {name: record.verdicts for name, record in restored.items()} == {name: (said[name],) for name in restored}
    assert any(as_trained[name].attack_succeeded != record.attack_succeeded for name, record in restored.items())


def test_the_summary_counts_what_the_two_files_hold(done):
    as_trained, restored = (records(done.baseline, name) for name in (layout.RECORDS, layout.RESTORED))
    attacks = [name for name, record in restored.items() if record.item.is_attack]
    outcomes = [(as_trained[name].attack_succeeded, restored[name].attack_succeeded) for name in attacks]
    before, after = ([pair[side] for pair in outcomes] for side in (0, 1))
    found = done.baseline.summary.restored_router
    for rate, told in ((found.attack_success_tuned, before), (found.attack_success, after)):
        assert (rate.k, rate.n, rate.unscored) == (told.count(True), len(told) - told.count(None), told.count(None))
    assert found.n == sum(None not in pair for pair in outcomes)
    assert (found.only_tuned, found.only_restored) == (outcomes.count((True, False)), outcomes.count((False, True)))
    base = gates(load_model(done.config.model))
    moved = sum(int((own != of_base).sum()) for own, of_base in zip(gates(trained_model(done)), base, strict=True))
    assert found.changed_params == moved > 0
    assert done.baseline.answered == [set(as_trained), set(restored)]


def test_a_router_that_training_left_alone_answers_nothing_again(done):
    found = done.selective
    assert (found.summary.restored_router.changed_params, found.summary.restored_router.attack_success) == (0, None)
    assert found.answered == [set(records(found, layout.RECORDS))]
    assert not (found.path / layout.RESTORED).exists()
    shown = Console(file=io.StringIO(), width=200)
    shown.print(evaluated_view(found.summary))
    assert "router unchanged" in shown.file.getvalue()


def test_a_bare_model_has_nothing_to_restore_and_says_so(done):
    found = done.tiny
    assert found.summary.restored_router is None
    assert found.answered == [set(records(found, layout.RECORDS))]
    assert not (found.path / layout.RESTORED).exists()
    notices = [notice for notice in found.told if isinstance(notice, Notice) and "router restoration" in notice.text]
    assert [(notice.text, notice.warning) for notice in notices] == [
        ("router restoration: not measured, a bare model has its own router", True)
    ]
