"""Held-out batches: never learnt from, measured at every checkpoint; the final model is the checkpoint best on them."""

from __future__ import annotations

import io
import shutil
from dataclasses import replace
from functools import cache
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from moe_cli.artifacts import ScratchFiles, finished_run, layout
from moe_cli.codec import decode, decode_lines
from moe_cli.compare.fairness import check_fairness
from moe_cli.errors import ArtifactError, NumericError, RunCompleteError, StoppedError, UsageError
from moe_cli.model.chat import encode_answered
from moe_cli.records import TrainingExample, TrainingPlan, TrainingSummary
from moe_cli.train import checkpoint, loop
from moe_cli.train import stage as train
from moe_cli.train.prepared_run import split_held_out
from moe_cli.views.trained import plan_view, trained_view
from tests.builders import column, example, user
from tests.resume_everywhere import (
    ARMS,
    NUM_BATCHES,
    Configuration,
    GoneError,
    ask_to_stop_after,
    differences,
    step_records,
)

HELD_OUT = 3
SETTINGS = {"validation_batches": HELD_OUT, "num_epochs": 4, "learning_rate": 1e-2, "warmup_steps": 0}
NUM_STEPS = 12


@pytest.fixture(scope="module")
def trained(experiments):
    """A run of an arm with held-out batches whose checkpoints were all kept, made once."""

    @cache
    def run(arm):
        plans = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(checkpoint, "drop_checkpoints", lambda *_, **__: None)
            patch.setattr(train, "SCRATCH", ScratchFiles(names=checkpoint.CHECKPOINTS))
            config = experiments.settings("held_out", **SETTINGS)
            made = train.run(arm, config, experiments.store, lambda event: _keep(plans, event))
        return SimpleNamespace(path=made.path, summary=made.summary, plan=plans[0], config=config)

    return run


def _keep(plans, event):
    if isinstance(event, TrainingPlan):
        plans.append(event)


def examples(experiments) -> list[TrainingExample]:
    return list(decode_lines(TrainingExample, experiments.directory / "prepared" / layout.training_examples("tiny")))


@pytest.mark.parametrize("arm", ARMS)
def test_the_final_model_holds_the_very_weights_of_the_checkpoint_with_the_lowest_loss(trained, arm):
    run = trained(arm)
    summary = run.summary
    assert [found.step for found in summary.validation] == [3, 6, 9, 12]
    assert summary.final_step == min(summary.validation, key=lambda found: found.loss).step < NUM_STEPS
    best, last = (
        load_file(run.path / f"checkpoint-{step}" / checkpoint.PARAMETERS) for step in (summary.final_step, 12)
    )
    if arm == "selective":
        final = load_file(run.path / layout.DELTA)
    else:
        final = dict(AutoModelForCausalLM.from_pretrained(run.path / layout.FINAL_MODEL).named_parameters())
    assert final.keys() == best.keys()
    assert all(torch.equal(final[name], best[name]) for name in best)
    assert not any(torch.equal(final[name], last[name]) for name in last)
    assert decode(TrainingSummary, (run.path / layout.METADATA).read_bytes(), source="metadata") == summary


@pytest.mark.parametrize("arm", ARMS)
def test_the_recorded_loss_is_that_of_the_final_model_on_the_held_out_examples(experiments, trained, arm):
    run = trained(arm)
    model = AutoModelForCausalLM.from_pretrained(run.path / layout.FINAL_MODEL).eval()
    tokenizer = AutoTokenizer.from_pretrained(run.path / layout.FINAL_MODEL)
    total, num_tokens = 0.0, 0
    for told in examples(experiments):
        if told.batch_idx >= NUM_BATCHES - HELD_OUT:
            row = encode_answered(tokenizer, told.messages, max_length=run.config.train.max_length)
            with torch.no_grad():
                logits_SV = model(input_ids=torch.tensor([row.token_ids])).logits[0]
            for position, label in enumerate(row.labels):
                if label >= 0:
                    total -= float(logits_SV[position - 1].log_softmax(-1)[label])
                    num_tokens += 1
    (recorded,) = [found.loss for found in run.summary.validation if found.step == run.summary.final_step]
    assert recorded == pytest.approx(total / num_tokens, rel=1e-4)


def test_what_is_held_out_is_neither_trained_on_nor_selected_nor_counted(trained, selection):
    run = trained("selective")
    training = selection.batches[: NUM_BATCHES - HELD_OUT]
    union = {expert for experts in training for expert in experts}
    assert len(union) < len(selection.union)  # some experts were selected by held-out batches alone
    assert {batch for step in step_records(run.path) for batch in step.batches} == set(range(len(training)))
    assert run.summary.num_steps == NUM_STEPS == run.plan.num_steps
    assert run.plan.num_batches == len(training)
    assert run.plan.union_size == run.summary.total_unique_unsafe_experts == len(union)
    assert run.plan.count == run.summary.count
    assert run.summary.trainable_params == len(union) * selection.params_per_expert
    assert run.plan.null_union_mean is None
    trained_experts = {tuple(name.split(".")[1:4:2]) for name in load_file(run.path / layout.DELTA)}
    assert trained_experts == {(str(expert.layer), str(expert.index)) for expert in union}


def test_both_arms_hold_out_the_same_batches_and_a_comparison_sees_a_difference(trained):
    selective, baseline = (trained(arm).summary for arm in ARMS)
    assert selective.hyperparameters == baseline.hyperparameters
    assert selective.hyperparameters["validation_batches"] == HELD_OUT
    other = replace(baseline, hyperparameters={**baseline.hyperparameters, "validation_batches": 0})
    for second, status in ((baseline, "same"), (other, "differs")):
        checks = check_fairness([column("a"), column("b")], [selective, second])
        assert [check.status for check in checks if check.name == "training: validation batches"] == [status]


def test_measuring_changes_no_step_even_with_dropout(experiments, monkeypatch):
    settings = {"validation_batches": 2, "num_epochs": 1, "checkpoint_every": 1}
    measured = experiments.uninterrupted("selective", True, tuple(settings.items()))
    losses = iter([4.0, 3.0, 2.0, 1.0])
    monkeypatch.setattr(loop, "validation_loss", lambda *_: next(losses))  # the last is the lowest
    config = experiments.settings("unmeasured", dropout=True, **settings)
    unmeasured = experiments.to_the_end("selective", config, lambda _: None)
    found = set(differences(measured, unmeasured)) - {"final model"}
    assert found == {"schedule"}  # `state.json`, which holds the losses


@pytest.mark.parametrize(
    ("arm", "how", "stop_after"),
    [
        ("selective", "crash", 9),
        ("baseline", "crash", 9),
        ("baseline", "signal", 7),
        ("selective", "crash", NUM_STEPS),
    ],
)
def test_a_resumed_run_remembers_the_best_checkpoint_and_ends_bit_for_bit(experiments, arm, how, stop_after):
    case = Configuration(f"held out {how} {stop_after}", stop_after, how, SETTINGS)
    outcome = experiments.outcome(arm, case)
    assert outcome.resumed_with == stop_after + 1
    assert outcome.differences == ()


def test_the_best_and_the_newest_checkpoint_are_kept_and_a_damaged_best_one_is_refused(experiments, trained):
    best = min(trained("baseline").summary.validation, key=lambda found: found.loss).step
    config = experiments.settings("two_kept", **SETTINGS)
    with pytest.raises(StoppedError):
        train.run("baseline", config, experiments.store, lambda event: ask_to_stop_after(11, event))
    run = config.train.baseline_dir
    assert {path.name for path in run.glob("checkpoint-*")} == {f"checkpoint-{best}", "checkpoint-11"}
    (run / f"checkpoint-{best}" / checkpoint.PARAMETERS).write_bytes(b"")
    with pytest.raises(ArtifactError, match=f"checkpoint-{best}/parameters.safetensors is damaged") as error:
        train.run("baseline", config, experiments.store, lambda _: None, resume=True)
    assert error.value.hint == f"remove every checkpoint in {run}; --resume then begins again"
    checkpoint.drop_checkpoints(run)
    plans = []
    again = train.run("baseline", config, experiments.store, lambda event: _keep(plans, event), resume=True)
    assert plans[0].first_step == 1
    assert again.summary.trained_fingerprint == trained("baseline").summary.trained_fingerprint
    assert not list(run.glob("checkpoint-*"))


@pytest.mark.parametrize("number", [1, 2])
def test_a_run_that_is_gone_while_it_removes_its_checkpoints_is_complete_and_resuming_it_removes_the_rest(
    experiments, trained, monkeypatch, number
):
    config = experiments.settings(f"gone_{number}", **SETTINGS)
    run, done = config.train.selective_dir, []

    def removed_in_part(path):
        if (run / layout.MANIFEST).exists():
            done.append(path)
            if len(done) == number:
                next(path.iterdir()).unlink()
                raise GoneError
        shutil.rmtree(path)

    monkeypatch.setattr(checkpoint, "shutil", SimpleNamespace(rmtree=removed_in_part, copyfile=shutil.copyfile))
    with pytest.raises(GoneError):
        train.run("selective", config, experiments.store, lambda _: None)
    with pytest.raises(RunCompleteError, match="nothing left to do"):
        train.run("selective", config, experiments.store, lambda _: None, resume=True)
    made = decode(TrainingSummary, finished_run(run).file(layout.METADATA).read_bytes(), source="summary")
    assert made.trained_fingerprint == trained("selective").summary.trained_fingerprint
    assert str(run) in [record.path for record in experiments.store.records("selective")]
    assert not [path for path in run.rglob("*") if "checkpoint" in path.name]


def test_the_tables_say_what_is_held_out_and_which_step_is_final(trained):
    run = trained("baseline")
    losses = [found.loss for found in run.summary.validation]
    before, after = (shown(view) for view in (plan_view(run.plan), trained_view(run.summary)))
    assert f"{HELD_OUT} more batches are held out" in before
    assert f"{min(losses):.4f} after step {run.summary.final_step}, the lowest of 4" in after
    assert "held-out" not in shown(trained_view(replace(run.summary, validation=())))
    assert "resumed: every step is done" in shown(plan_view(replace(run.plan, first_step=NUM_STEPS + 1)))


def shown(view) -> str:
    text = io.StringIO()
    Console(file=text, width=120).print(view)
    return text.getvalue()


def test_without_held_out_batches_the_last_step_is_final_and_nothing_is_measured(experiments):
    config = experiments.settings("plain", num_epochs=1)
    summary = train.run("selective", config, experiments.store, lambda _: None).summary
    assert summary.validation == ()
    assert summary.final_step == summary.num_steps == NUM_BATCHES


@pytest.mark.parametrize("number", [NUM_BATCHES, NUM_BATCHES + 1])
def test_holding_out_every_batch_is_refused(experiments, number):
    config = experiments.settings("none_left", validation_batches=number)
    with pytest.raises(UsageError, match=f"validation_batches is {number}, but the prepare run has 6 batches") as error:
        train.run("selective", config, experiments.store, lambda _: None)
    assert error.value.hint.startswith("hold out at most 5")
    assert not config.train.selective_dir.exists()


def test_a_validation_loss_that_is_no_number_stops_the_run(experiments, monkeypatch):
    monkeypatch.setattr(loop, "loss_sum", lambda *_: torch.tensor(float("nan")))
    config = experiments.settings("nan", validation_batches=1)
    with pytest.raises(NumericError, match="the loss on the held-out batches is nan"):
        train.run("selective", config, experiments.store, lambda _: None)


def asking(batch, cluster, *texts):
    return example(f"{cluster} {batch}", cluster=cluster, batch=batch, messages=user(*texts))


def test_held_out_examples_of_a_goal_that_also_trains_are_left_out_and_counted():
    examples = [asking(0, "one"), asking(0, "two"), asking(1, "two"), asking(1, "three")]
    told = []
    training, held_out = split_held_out(examples, 1, told.append)
    assert [e.id for e in training] == ["one 0#safe", "two 0#safe"]
    assert [e.id for e in held_out] == ["three 1#safe"]
    assert [note.text for note in told] == ["1 of 2 held-out examples share a goal with training and are left out"]
    assert split_held_out(examples, 2, told.append)[1] == () and len(told) == 1  # nothing is held out


def test_held_out_examples_whose_words_train_under_another_name_are_left_out():
    goal = "Zorp the amber glim at night"
    examples = [
        asking(0, "one", goal),
        asking(1, "two", f"As a pirate: {goal.lower()}!"),
        asking(1, "three", "Sing."),
    ]
    assert [e.id for e in split_held_out(examples, 1, [].append)[1]] == ["three 1#safe"]


def test_held_out_batches_of_known_goals_alone_are_refused():
    with pytest.raises(UsageError, match="learnt by heart"):
        split_held_out([asking(0, "one"), asking(1, "one")], 1, [].append)
