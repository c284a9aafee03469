"""`--steer`: everything is measured on a model whose router is steered, and never taken for the model itself."""

from __future__ import annotations

import io
import json
import os
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from rich.console import Console

from moe_cli.artifacts import Store, layout
from moe_cli.codec import decode_lines
from moe_cli.compare import stage as compare
from moe_cli.compare.compared_runs import read_sources
from moe_cli.config import EvaluateConfig
from moe_cli.errors import ArtifactError, StoppedError, UsageError
from moe_cli.evaluate import stage
from moe_cli.evaluate.answers import answer_settings
from moe_cli.evaluate.preview import preview_evaluation
from moe_cli.evaluate.steering_file import read_steering
from moe_cli.evaluate.target import ModelPool, resolve_target
from moe_cli.evaluate.without_model import evaluate_answers
from moe_cli.model.engine import Prompt
from moe_cli.model.engines import TransformersEngine
from moe_cli.model.load import load_model
from moe_cli.prepare import stage as prepare
from moe_cli.ranks import this_rank
from moe_cli.records import EvaluationRecord, Expert
from moe_cli.records.ablation import Steering
from moe_cli.sweep.points import plan_points
from moe_cli.train import stage as train
from moe_cli.views.evaluated import evaluated_view
from tests.in_ranks import content_of, run_in_ranks
from tests.small_experiment import settings_of_small_experiment

UP, DOWN, EPSILON = [[0, 3], [1, 7]], [[0, 1], [1, 2]], 0.5


@pytest.fixture(scope="module")
def trained(tmp_path_factory, small_settings):
    """A selective run, evaluated as it is and with a steered router; the file says how."""
    torch.set_num_threads(1)
    directory = tmp_path_factory.mktemp("steered")
    config = small_settings(directory, train={"prepared": directory / "prepared"}, evaluate={"max_new_tokens": 8})
    store = Store(directory / "registry")
    file = directory / "steer.json"
    file.write_text(json.dumps({"activate": UP, "deactivate": DOWN, "epsilon": EPSILON}))
    prepare.run(config, store, lambda _: None)
    run = train.run("selective", config, store, lambda _: None).path
    made = SimpleNamespace(directory=directory, config=config, store=store, file=file, run=run)
    made.plain = evaluate(made)
    made.steered = evaluate(made, steer=file)
    return made


def settings(made, **values):
    return made.config.model_copy(update={"evaluate": made.config.evaluate.model_copy(update=values)})


def evaluate(made, target=None, *, notify=lambda _: None, resume=False, **values):
    return stage.run(str(target or made.run), settings(made, **values), made.store, notify, resume=resume)


def answers(path):
    records = decode_lines(EvaluationRecord, path / layout.RECORDS)
    return {record.item.id: (record.item, record.answer) for record in records}


def answers_by_hand(made, items):
    """The run's weights with routers that follow the published formula: s = log softmax(z), max + eps, min - eps."""
    loaded = load_model(made.config.model.model_copy(update={"name": str(made.run / layout.FINAL_MODEL)}))

    def published(layer, gate):
        raised, lowered = ([index for at, index in side if at == layer] for side in (UP, DOWN))

        def forward(hidden):
            flat = hidden.reshape(-1, hidden.shape[-1])
            scores = torch.log_softmax(flat @ gate.weight.T, dim=-1)
            highest, lowest = scores.amax(-1, keepdim=True), scores.amin(-1, keepdim=True)
            scores[:, raised], scores[:, lowered] = highest + EPSILON, lowest - EPSILON
            weights = torch.softmax(scores, dim=-1, dtype=torch.float)
            top, chosen = torch.topk(weights, gate.top_k, dim=-1)
            if gate.norm_topk_prob:
                top = top / top.sum(-1, keepdim=True)
            return scores, top.to(scores.dtype), chosen

        return forward

    for layer, block in enumerate(loaded.model.model.layers):
        block.mlp.gate.forward = published(layer, block.mlp.gate)
    engine = TransformersEngine(loaded, answer_settings(made.config))
    prompts = [Prompt(item.id, item.messages) for item in items]
    return {answer.prompt_id: answer.text for group in engine.answers(prompts, ()) for answer in group}


def test_the_answers_are_those_of_a_router_that_follows_the_published_formula(trained):
    steered = answers(trained.steered.path)
    by_hand = answers_by_hand(trained, [item for item, _ in steered.values()])
    assert {name: answer for name, (_, answer) in steered.items()} == by_hand
    plain = answers(trained.plain.path)
    assert plain.keys() == steered.keys() and plain != steered


def test_drift_is_of_the_steered_model_against_a_base_that_is_not(trained):
    plain, steered = trained.plain.summary, trained.steered.summary
    assert steered.drift.kl_mean.value > plain.drift.kl_mean.value
    assert steered.drift.perplexity_base == plain.drift.perplexity_base
    lines = [json.loads(line) for line in (trained.steered.path / layout.DRIFT).read_text().splitlines()]
    of_base, of_tuned = (np.array([line[f"experts_{model}"] for line in lines]).sum(0) for model in ("base", "tuned"))
    num_tokens = sum(line["num_tokens"] for line in lines)
    for layer, index in UP:
        assert of_tuned[layer, index] == num_tokens > of_base[layer, index]
    for layer, index in DOWN:
        assert of_tuned[layer, index] == 0 < of_base[layer, index]
    assert steered.weight_drift == plain.weight_drift  # no weight is touched


def test_it_has_an_identity_a_name_and_journals_of_its_own(trained):
    plain, steered = trained.plain.summary, trained.steered.summary
    assert steered.model.fingerprint != plain.model.fingerprint
    assert steered.unsteered_model == plain.model == plain.unsteered_model
    assert (steered.steering, plain.steering) == (read_steering(trained.file), None)
    assert trained.steered.path.name == steered.name == steered.steering.name
    stages = [
        {file.name for file in (made.path / layout.STAGES).iterdir()} for made in (trained.plain, trained.steered)
    ]
    assert all(stages) and not {name for name in stages[0] & stages[1] if not name.startswith("verdicts")}
    assert not steered.taken
    again = evaluate(trained, steer=trained.file, name="again").summary
    assert again.taken["generate"] == trained.steered.path.name and again.model == steered.model
    other = trained.directory / "other.json"
    other.write_text(json.dumps({"activate": UP, "deactivate": DOWN, "epsilon": 2 * EPSILON}))
    changed = evaluate(trained, steer=other).summary
    assert changed.model.fingerprint != steered.model.fingerprint
    assert not changed.taken.keys() - {"judge keywords"}  # which hangs on the words alone
    assert changed.name != steered.name


def test_it_goes_on_where_it_stopped(trained, monkeypatch):
    honest, answered = TransformersEngine.answers, []

    def stopping(self, prompts, done, keep):
        for group in honest(self, prompts, done, keep):
            yield group
            answered.extend(group)
            if len(answered) < 20:
                raise StoppedError("stopped", hint="add --resume")

    monkeypatch.setattr(TransformersEngine, "answers", stopping)
    with pytest.raises(StoppedError):
        evaluate(trained, steer=trained.file, name="stopped", batch_size=4)
    monkeypatch.undo()
    resumed = evaluate(trained, steer=trained.file, name="stopped", batch_size=4, resume=True)
    whole = evaluate(trained, steer=trained.file, name="whole", batch_size=4)
    assert answers(resumed.path) == answers(whole.path)
    assert resumed.summary.attack_success == whole.summary.attack_success


def hooks(model):
    return sum(len(module._forward_pre_hooks) + len(module._forward_hooks) for module in model.modules())


def test_nothing_stays_on_the_model(trained):
    def logits(model):
        with torch.no_grad():
            return model(input_ids=torch.arange(12)[None]).logits

    plain = resolve_target(str(trained.run), trained.config.model, trained.store)
    steering = read_steering(trained.file)
    before = logits(ModelPool(plain).tuned().model)
    models = ModelPool(replace(plain, steering=steering))
    model = models.tuned().model
    assert hooks(model) > 0 and not torch.equal(logits(model), before)
    models.close()
    assert hooks(model) == 0 and torch.equal(logits(model), before)
    again = models.tuned()
    assert again.model is not model and not torch.equal(logits(again.model), before)
    models.close()
    assert hooks(again.model) == 0


def test_a_comparison_takes_it_only_where_it_is_named_and_shows_it(trained):
    (source,) = read_sources([str(trained.run)], None, trained.store)
    assert source.column.evaluation.steering is None
    assert trained.steered.path.name in {path.name for path in source.steered} and source.passed_over == ()
    (named,) = read_sources([str(trained.steered.path)], None, trained.store)
    (by_name,) = read_sources([str(trained.run)], trained.steered.path.name, trained.store)
    assert named.column.name == by_name.column.name == f"selective {trained.steered.path.name}"
    output = trained.directory / "compared"
    config = trained.config.model_copy(
        update={"compare": trained.config.compare.model_copy(update={"output_dir": output, "evaluation": None})}
    )
    words = [str(trained.plain.path), str(trained.steered.path)]
    comparison = compare.run(words, config, trained.store, lambda _: None).comparison
    checks = {check.name: check for check in comparison.fairness}
    assert checks["router steering"].status == "differs"
    assert checks["router steering"].values == ("none", trained.steered.summary.steering.title)
    assert [checks[name].status for name in ("base model", "items", "steps")] == ["same"] * 3
    assert any("was steered while it was measured" in sentence for sentence in comparison.conclusion)


def test_a_bare_model_is_steered_too_and_is_never_taken_by_its_name(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    steered = evaluate(trained, "tiny", steer=trained.file)
    assert steered.summary.base is None and steered.summary.drift is None
    assert steered.summary.unsteered_model == trained.plain.summary.base
    with pytest.raises(ArtifactError, match="the router was steered"):
        read_sources(["tiny"], None, trained.store)
    plain = evaluate(trained, "tiny")
    evaluate(trained, "tiny", steer=trained.file, name="newer")
    (source,) = read_sources(["tiny"], None, trained.store)
    assert source.column.evaluation.name == plain.summary.name
    assert [path.name for path in source.steered] == ["newer"]
    assert source.column.evaluation.model != steered.summary.model


def test_a_part_of_the_change_is_steered_and_is_not_the_run(trained):
    half = evaluate(trained, steer=trained.file, scale=0.5, name="half")
    assert half.summary.unsteered_fingerprint != trained.plain.summary.model.fingerprint
    with pytest.raises(ArtifactError, match="of other weights"):
        read_sources([str(half.path)], None, trained.store)


def test_the_terminal_shows_it(trained):
    shown = Console(file=io.StringIO(), width=200)
    shown.print(evaluated_view(trained.steered.summary))
    assert f"the router was steered in all of this ({trained.steered.summary.steering.title})" in shown.file.getvalue()
    plain = Console(file=io.StringIO(), width=200)
    plain.print(evaluated_view(trained.plain.summary))
    assert "steered" not in plain.file.getvalue()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"activat": [[0, 1]]}', "`activat`, did you mean activate"),
        ('{"activate": [[0, 1]], "note": 1}', "the key `note`; the keys are"),
        ("{}", "names no expert"),
        ('{"activate": [], "deactivate": []}', "names no expert"),
        ('{"activate": [[0, 1], [0, 1]]}', "expert 1 of layer 0 stands there 2 times"),
        ('{"activate": [[0, 1]], "deactivate": [[0, 1]]}', "expert 1 of layer 0 stands there 2 times"),
        ('{"activate": [[0, 1]], "activate": [[0, 2]]}', "`activate` stands twice"),
        ('{"activate": [[0]]}', "activate: entry 1 is no"),
        ('{"activate": [[0, 1], [0, -1]]}', "activate: entry 2 is no"),
        ('{"activate": [[0, 1.0]]}', "activate: entry 1 is no"),
        ('{"activate": [[0, true]]}', "activate: entry 1 is no"),
        ('{"activate": [[NaN, 1]]}', "activate: entry 1 is no"),
        ('{"deactivate": {"0": [1]}}', "deactivate is no list"),
        ('{"deactivate": null}', "deactivate is no list"),
        ('{"activate": [[0, 1]], "epsilon": NaN}', "epsilon is nan"),
        ('{"activate": [[0, 1]], "epsilon": 1e999}', "epsilon is inf"),
        ('{"activate": [[0, 1]], "epsilon": 0}', "epsilon is 0"),
        ('{"activate": [[0, 1]], "epsilon": -0.1}', "epsilon is -0.1"),
        ('{"activate": [[0, 1]], "epsilon": true}', "epsilon is no number"),
        ('{"activate": [[0, 1]], "epsilon": "0.01"}', "epsilon is no number"),
        ("[[0, 1]]", "holds no JSON object"),
        ("layer,expert", "not JSON"),
        ("", "not JSON"),
    ],
)
def test_a_file_that_is_not_understood_is_refused_by_name(tmp_path, text, message):
    file = tmp_path / "steer.json"
    file.write_text(text)
    with pytest.raises(UsageError) as caught:
        read_steering(file)
    assert message in caught.value.message and "steer.json" in caught.value.message


def test_a_list_may_be_missing_and_epsilon_is_a_hundredth(tmp_path):
    file = tmp_path / "steer.json"
    file.write_text('{"deactivate": [[1, 2], [0, 5]]}')
    down = (Expert(layer=1, index=2), Expert(layer=0, index=5))
    assert read_steering(file) == Steering(activate=(), deactivate=down, epsilon=0.01)


def test_what_is_no_file_is_refused(tmp_path):
    for place in (tmp_path / "none.json", tmp_path):
        with pytest.raises(UsageError) as caught:
            read_steering(place)
        assert str(place) in caught.value.message


def test_an_expert_that_the_model_does_not_have_is_refused(trained):
    file = trained.directory / "absent.json"
    file.write_text('{"activate": [[0, 999]]}')
    with pytest.raises(UsageError, match="no expert 999 in layer 0"):
        evaluate(trained, steer=file)


def test_what_cannot_be_steered_is_refused(trained):
    with pytest.raises(ValueError, match=r"evaluate\.restore_router puts another router in"):
        EvaluateConfig(steer=trained.file, restore_router=True)
    with pytest.raises(UsageError, match="--steer needs the weights"):
        evaluate(trained, steer=trained.file, engine="openai")
    of_files = settings(trained, steer=trained.file, answers=("answers.json",))
    with pytest.raises(UsageError, match="--steer needs the weights"):
        evaluate_answers(of_files, trained.store, lambda _: None)
    with pytest.raises(UsageError, match=r"evaluate\.steer would steer"):
        plan_points(settings(trained, steer=trained.file))


def test_a_dry_run_reads_the_file(trained):
    assert preview_evaluation(str(trained.run), settings(trained, steer=trained.file), trained.store)[1] is None
    absent = settings(trained, steer=trained.directory / "none.json")
    _, refusal = preview_evaluation(str(trained.run), absent, trained.store)
    assert isinstance(refusal, UsageError) and "none.json" in refusal.message


def steered_in(directory, name, file):
    """In every process: an evaluation of the bare model that is steered by a file below a directory of its own."""
    here = directory / str(this_rank().index)
    os.chdir(here if here.is_dir() else directory)
    values = {"tiny_items": 4, "max_new_tokens": 8, "batch_size": 4, "steer": file, "name": name}
    config = settings_of_small_experiment(directory, model={"threads": 1}, evaluate=values)
    stage.run("tiny", config, Store(directory / "registry"), lambda _: None)


def test_two_processes_write_the_files_of_one(trained, tmp_path):
    contents = []
    for total in (1, 2):
        place = tmp_path / str(total)
        place.mkdir()
        shutil.copy(trained.file, place / "steer.json")
        assert run_in_ranks(total, steered_in, place, "steered", "steer.json").codes == [0] * total
        contents.append(content_of(place / "evaluations/tiny/steered"))
    assert contents[0] == contents[1]
    assert contents[0]["summary.json"]["steering"]["epsilon"] == EPSILON


def test_processes_whose_files_differ_are_refused(trained, tmp_path):
    for rank, epsilon in enumerate((0.5, 0.25)):
        (tmp_path / str(rank)).mkdir()
        text = json.dumps({"activate": UP, "epsilon": epsilon})
        (tmp_path / str(rank) / "steer.json").write_text(text)
    ended = run_in_ranks(2, steered_in, tmp_path, "steered", "steer.json")
    assert 0 not in ended.codes
    assert "the processes differ in the content of the file of evaluate.steer" in ended.said
