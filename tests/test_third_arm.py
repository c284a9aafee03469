"""The alternating arm beside the two others: evaluated, compared, exported, described and listed."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from moe_cli.artifacts import Store, finished_run
from moe_cli.artifacts.listing import listing_of
from moe_cli.compare import stage as compare
from moe_cli.compare.evidence import Evidence
from moe_cli.errors import UsageError
from moe_cli.evaluate import stage as evaluate
from moe_cli.export.push import facts_of_run
from moe_cli.export.stage import full_checkpoint
from moe_cli.prepare import stage as prepare
from moe_cli.stats.metrics import ATTACK_SUCCESS
from moe_cli.train import stage as train
from moe_cli.views.compared import compared_markdown
from moe_cli.views.model_card import model_card
from moe_cli.views.report.page import report_page


@pytest.fixture(scope="module")
def done(tmp_path_factory, small_settings):
    """Prepare, all three arms, evaluations with the router of the base, and a comparison."""
    torch.set_num_threads(1)
    directory = tmp_path_factory.mktemp("third")
    rounds = {"output_dir": directory / "alternating", "num_rounds": 2, "router_learning_rate": 3e-3}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        config = small_settings(directory, alternating=rounds, evaluate={"restore_router": True})
        store = Store(directory / "registry")
        prepare.run(config, store, lambda _: None)
        arms = {arm: train.run(arm, config, store, lambda _: None) for arm in ("baseline", "selective", "alternating")}
        evaluated = {
            name: evaluate.run(str(name), config, store, lambda _: None)
            for name in ("tiny", *(a.path for a in arms.values()))
        }
        compared = compare.run(
            ["tiny", "baseline", "selective", "alternating"],
            config,
            store,
            lambda _: None,
            pages=compare.Pages(markdown=compared_markdown, report=report_page),
        )
    return SimpleNamespace(
        directory=directory, config=config, store=store, arms=arms, evaluated=evaluated, comparison=compared.comparison
    )


def test_its_training_on_the_answers_is_that_of_the_other_arms_and_the_gate_says_so(done):
    training = [check for check in done.comparison.fairness if check.name in ("steps", "tokens", "answer tokens")]
    training += [check for check in done.comparison.fairness if check.name in ("training data", "batch order")]
    training += [check for check in done.comparison.fairness if check.name.startswith("training: ")]
    assert len(training) > 10
    assert {check.status for check in training} == {"same"}
    summaries = [done.arms[arm].summary for arm in ("baseline", "selective", "alternating")]
    assert len({summary.num_steps for summary in summaries}) == 1
    assert len({summary.final_answer_step for summary in summaries}) == 1 < summaries[2].final_step


def test_the_conclusion_and_the_tables_say_what_its_routers_were_given_beside(done):
    summary = done.arms["alternating"].summary
    steps, tokens = summary.routers.num_steps, f"{summary.num_router_tokens:,}"
    said = [sentence for sentence in done.comparison.conclusion if "also trained its routers" in sentence]
    assert said == [
        f"alternating also trained its routers, in {steps} further steps, with forwards over {tokens} tokens of the"
        " same goals: a difference to an arm without them may be theirs."
    ]
    page = (done.directory / "comparison" / "comparison.md").read_text()
    assert f"{steps} steps at 0.003, forwards over {tokens} tokens" in page
    assert "alternating optimization" in page
    assert "different steps" not in page  # every final model is that of the last step
    report = (done.directory / "comparison" / "report.html").read_text()
    assert f"{steps} steps at 0.003" in report


def test_a_claim_about_an_arm_of_experts_alone_says_that_the_other_had_further_steps(done):
    comparison = done.comparison
    evidence = Evidence.of(comparison.columns, comparison.arms, comparison.fairness, 0.05)
    further = {
        (pair.a, pair.b): "with further steps, of routers, in one arm alone" in evidence.caveats(pair, ATTACK_SUCCESS)
        for pair in comparison.pairs
    }
    assert further[("selective", "alternating")]
    assert not further[("baseline", "selective")]
    assert not further[("tiny", "alternating")]


def test_only_selected_experts_and_routers_drift_and_the_router_of_the_base_can_be_put_back(done):
    summary = done.evaluated[done.arms["alternating"].path].summary
    moved = {group.group: group.num_changed for group in summary.weight_drift}
    assert {name for name, num in moved.items() if num} == {"router", "selected experts"}
    assert summary.restored_router.changed_params == moved["router"] > 0
    selective = done.evaluated[done.arms["selective"].path].summary
    assert selective.restored_router.changed_params == 0


def test_its_export_is_its_final_model_and_its_card_names_the_routers(done, tmp_path):
    run = done.arms["alternating"]
    made = full_checkpoint(run.path, tmp_path / "merged", done.config.model, done.store, card=model_card)
    assert made.fingerprint == run.summary.trained_fingerprint
    assert made.num_experts == run.summary.total_unique_unsafe_experts
    assert made.num_params == run.summary.trainable_params
    page = (tmp_path / "merged" / "README.md").read_text()
    assert "of its experts, and its routers, trained" in page
    assert "| arm | selective experts and routers |" in page
    assert "routers: learning" in page
    delta = model_card(facts_of_run(finished_run(run.path), done.store, "delta"))
    assert "The weights of these experts and routers alone are here" in delta


@pytest.mark.parametrize(("source", "scale"), [("alternating/expert_delta.safetensors", 1.0), ("alternating", 0.5)])
def test_the_card_of_a_delta_without_its_run_names_the_routers_too(done, tmp_path, source, scale):
    place, base = done.directory / source, done.config.model
    made = full_checkpoint(place, tmp_path / "merged", base, done.store, scale=scale, card=model_card)
    assert made.routers
    page = (tmp_path / "merged" / "README.md").read_text()
    assert "of its experts, and its routers, trained" in page
    assert "| arm | selective experts and routers |" in page
    without = full_checkpoint(done.arms["selective"].path, tmp_path / "selective", base, done.store)
    assert not without.routers


def test_it_is_listed_and_its_change_can_be_scaled(done):
    (record,) = done.store.records("alternating")
    assert listing_of(record).result.num_steps == done.arms["alternating"].summary.num_steps
    half = done.config.model_copy(
        update={
            "evaluate": done.config.evaluate.model_copy(update={"scale": 0.5, "name": "half", "restore_router": False})
        }
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(done.directory)
        scaled = evaluate.run("alternating", half, done.store, lambda _: None).summary
        with pytest.raises(UsageError, match="no run with a delta to scale"):
            evaluate.run("baseline", half, done.store, lambda _: None)
    moved = {group.group: group for group in scaled.weight_drift}
    whole = {group.group: group for group in done.evaluated[done.arms["alternating"].path].summary.weight_drift}
    assert moved["router"].relative_l2 == pytest.approx(whole["router"].relative_l2 / 2, rel=1e-3)
