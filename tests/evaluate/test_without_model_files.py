"""`moe evaluate --answers`: verdicts on answers of files, a summary that claims no model, and a gate that knows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from moe_cli.artifacts import Store, finished_run, layout
from moe_cli.codec import decode, decode_lines, encode
from moe_cli.compare import stage as compare_stage
from moe_cli.compare.fairness import check_fairness
from moe_cli.config import EvaluateConfig
from moe_cli.errors import ArtifactError, StoppedError, UsageError
from moe_cli.evaluate.evaluation_items import items_digest, load_items
from moe_cli.evaluate.without_model import evaluate_answers
from moe_cli.records import EvaluationRecord, EvaluationSummary
from moe_cli.views.evaluated import evaluated_view
from tests.builders import column, evaluation
from tests.evaluate.answer_files import COMPLIES, HARMBENCH, JAILBREAKBENCH, REFUSES, XSTEST, lines, written
from tests.views.test_evaluated_views import shown


@pytest.fixture
def judge_files(tmp_path, monkeypatch, small_settings):
    """`judge_files(*files, **settings)` in a directory of its own."""
    monkeypatch.chdir(tmp_path)

    def run(*files, resume=False, notify=lambda _: None, **settings):
        config = small_settings(tmp_path, evaluate={"answers": tuple(map(str, files)), **settings})
        return evaluate_answers(config, Store(tmp_path / ".moe/registry"), notify, resume=resume)

    return run


def test_a_summary_of_answers_from_files_claims_no_weights_and_no_settings(judge_files, tmp_path):
    made = judge_files(written(tmp_path / "full.json", HARMBENCH), written(tmp_path / "x.csv", XSTEST))
    summary = made.summary
    assert (summary.model, summary.base, summary.run, summary.generation) == (None, None, None, {})
    assert (summary.training_mode, summary.title) == ("imported", "full-x")
    assert (summary.drift, summary.routing_drift, summary.weight_drift, summary.restored_router) == (None,) * 4
    assert [file.format for file in summary.answer_files] == ["HarmBench completions", "XSTest completions"]
    assert (summary.attack_success.k, summary.attack_success.n, summary.over_refusal.n) == (1, 3, 1)
    assert (summary.plain_compliance.k, summary.plain_compliance.n) == (0, 1)
    run = finished_run(made.path, "evaluation")
    assert run.manifest.parents == {f"answers {file.name}": file.sha256 for file in summary.answer_files}
    assert (run.manifest.model_name, run.manifest.base_fingerprint) == (None, None)
    assert made.path == Path("evaluations/full-x/default")


def test_lengths_and_ends_that_no_file_says_have_no_number(judge_files, tmp_path):
    made = judge_files(written(tmp_path / "full.json", HARMBENCH))
    (suite,) = made.summary.suites
    assert (suite.mean_answer_tokens, suite.cut_off.rate, suite.cut_off.unscored) == (None, None, 3)
    records = decode_lines(EvaluationRecord, made.path / layout.RECORDS)
    assert {(record.num_answer_tokens, record.finished) for record in records} == {(None, None)}
    text = " ".join(shown(evaluated_view(made.summary)).split())
    assert "cut off │ - (0 scored, 3 unscored)" in text
    assert "not measured (the answers come from a file: no model was loaded)" in text


def test_what_a_file_says_of_its_ends_is_counted_and_the_rest_stays_unknown(judge_files, tmp_path):
    rows = [{"prompt": f"zorp {i}", "response": REFUSES, "stop_reason": why} for i, why in enumerate(("length", ""))]
    made = judge_files(written(tmp_path / "x.jsonl", lines(*rows)), kind="harmful")
    cut = made.summary.suites[0].cut_off
    assert (cut.k, cut.n, cut.unscored) == (1, 1, 1)


def test_rows_that_are_left_out_are_said_while_judging_and_in_the_view(judge_files, tmp_path):
    heard = []
    made = judge_files(written(tmp_path / "jbb.json", JAILBREAKBENCH), notify=heard.append)
    assert sum("1 of 3 rows are left out" in getattr(each, "text", "") for each in heard) == 2
    text = " ".join(shown(evaluated_view(made.summary)).split())
    assert "skipped 1 of 3" in text and "vark-7b" in text and "kinds of" in text


def test_verdicts_go_on_where_they_stopped_and_the_same_answers_are_never_judged_again(judge_files, tmp_path):
    answers = written(tmp_path / "full.json", HARMBENCH)

    def stop(record):
        if getattr(record, "done", None) == 3:
            raise KeyboardInterrupt

    with pytest.raises(StoppedError):
        judge_files(answers, notify=stop)
    with pytest.raises(ArtifactError, match="interrupted"):
        judge_files(answers)
    made = judge_files(answers, resume=True)
    assert made.summary.seconds is None and made.summary.attack_success.n == 3
    assert judge_files(answers).summary.taken == {"judge keywords": "default"}


@pytest.mark.parametrize("asked", [{"capability": ("arc_easy",)}, {"restore_router": True}])
def test_what_only_a_model_can_be_asked_is_refused(judge_files, tmp_path, asked):
    with pytest.raises(UsageError, match="needs the weights of a model"):
        judge_files(written(tmp_path / "full.json", HARMBENCH), **asked)
    assert not (tmp_path / "evaluations").exists()


def test_a_comparison_of_answers_from_files_never_says_that_their_conditions_are_the_same(
    judge_files, tmp_path, small_settings
):
    safe = {name: [{**row, "generation": REFUSES} for row in rows] for name, rows in HARMBENCH.items()}
    judge_files(written(tmp_path / "full.json", HARMBENCH))
    judge_files(written(tmp_path / "safe.json", safe))
    pages = compare_stage.Pages(markdown=lambda _: "", report=lambda *_: "")
    made = compare_stage.run(
        ["full", "safe"], small_settings(tmp_path), Store(tmp_path / ".moe/registry"), lambda _: None, pages=pages
    )
    checks = {check.name: check for check in made.comparison.fairness}
    assert checks["answers"].values == ("from a file; settings unknown",) * 2
    for name in ("answers", "base model", "chat template", "model settings", "dtype"):
        assert checks[name].status == "unknown", name
    assert checks["items"].status == "same"
    assert not any(name.startswith("training") for name in checks)  # nothing says that anything was trained
    said = " ".join(made.comparison.conclusion)
    assert "conditions of a fair comparison that were checked are the same" not in said
    assert "The answers of full and safe were read from files" in said
    assert "training seed" not in said
    (difference,) = (found for found in made.comparison.pairs[0].differences if found.metric == "attack success")
    assert (difference.n, difference.rate_a, difference.rate_b) == (3, 1 / 3, 0.0)


def test_a_claim_about_answers_from_files_says_that_their_settings_are_not_known(judge_files, tmp_path, small_settings):
    for name, answer in (("full", COMPLIES), ("safe", REFUSES)):
        rows = {f"zorp_{i}": [{"test_case": f"zorp {i}", "generation": answer}] for i in range(40)}
        judge_files(written(tmp_path / f"{name}.json", rows))
    pages = compare_stage.Pages(markdown=lambda _: "", report=lambda *_: "")
    made = compare_stage.run(
        ["full", "safe"], small_settings(tmp_path), Store(tmp_path / ".moe/registry"), lambda _: None, pages=pages
    )
    (claim,) = (text for text in made.comparison.conclusion if "is safer than" in text)
    assert claim.startswith("safe is safer than full, on answers whose settings are not known, by the word of a smoke")


def test_answers_to_all_items_of_an_evaluation_are_of_the_very_same_items(judge_files, tmp_path):
    items = written(
        tmp_path / "items.jsonl",
        lines(
            {"id": "1", "suite": "s", "kind": "harmful", "prompt": "zorp", "cluster": "c"},
            {"id": "2", "kind": "text", "prompt": "brell", "answer": "a brell"},
        ),
    )
    answers = written(tmp_path / "x.jsonl", lines({"prompt": "zorp", "response": COMPLIES}))
    made = judge_files(answers, items=(str(items),))
    (record,) = decode_lines(EvaluationRecord, made.path / layout.RECORDS)
    assert (record.item.id, record.item.suite, record.item.cluster) == ("s/1", "s", "c")
    asked = load_items(EvaluateConfig(items=(str(items),)), "owner/model")
    assert made.summary.items_digest == items_digest(asked)  # as an evaluation of a model on these items has


def test_the_gate_tells_loaded_weights_from_files(judge_files, tmp_path):
    of_file = judge_files(written(tmp_path / "full.json", HARMBENCH)).summary
    columns = [column("tiny", "base"), column("full", "imported", evaluation=of_file)]
    checks = {check.name: check for check in check_fairness(columns, [None, None])}
    assert checks["answers"].values == ("of the loaded weights", "from a file; settings unknown")
    assert checks["answers"].status == checks["generation: max new tokens"].status == "unknown"
    both = [column(name, "base") for name in ("a", "b")]
    assert "answers" not in {check.name for check in check_fairness(both, [None, None])}


def test_a_summary_without_files_reads_back_as_one_that_was_made_before_there_were_any():
    summary = evaluation()
    old = orjson.loads(encode(summary))
    for name in ("subject", "answer_files", "unanswered"):
        del old[name]
    assert decode(EvaluationSummary, orjson.dumps(old), source="x") == replace(summary, answer_files=())
