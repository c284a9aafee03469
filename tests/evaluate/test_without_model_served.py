"""`moe evaluate --engine openai`: an endpoint answers, and nothing is claimed of the weights behind it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from moe_cli.artifacts import Store, finished_run, layout
from moe_cli.codec import decode_lines
from moe_cli.compare import stage as compare_stage
from moe_cli.compare.caveats import state_caveats
from moe_cli.compare.fairness import check_fairness
from moe_cli.errors import StoppedError, UsageError
from moe_cli.evaluate import stage
from moe_cli.records import AnswerServer, EvaluationRecord
from moe_cli.views.evaluated import evaluated_view
from tests.builders import column, evaluation, training
from tests.compare.runs_on_disk import records, trained
from tests.evaluate.answer_files import COMPLIES, REFUSES, lines, written
from tests.model.served import Reply, completion, served
from tests.views.test_evaluated_views import shown

KEY = "sk-not-to-be-seen"


@pytest.fixture
def evaluate(tmp_path, monkeypatch, small_settings):
    """`evaluate(url, **settings)` of a model of which this machine has no file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("THE_KEY", KEY)
    rows = [{"id": str(i), "kind": "harmful" if i < 3 else "benign", "prompt": f"zorp {i}"} for i in range(5)]
    text = {"id": "t", "kind": "text", "prompt": "brell", "answer": "a brell"}
    items = written(tmp_path / "items.jsonl", lines(*rows, text))

    def run(url, *, name="owner/glim", notify=lambda _: None, resume=False, again=(), **settings):
        config = small_settings(
            tmp_path,
            evaluate={"items": (str(items),), "engine": "openai", **settings},
            endpoint={"base_url": url, "key_env": "THE_KEY", "concurrency": 1, "retries": 0},
        )
        return stage.run(name, config, Store(tmp_path / ".moe/registry"), notify, resume=resume, again=again)

    return run


def answer(asked, number):
    return completion(
        COMPLIES if asked.prompt == "zorp 0" else REFUSES, "length" if asked.prompt == "zorp 1" else "stop"
    )


def test_what_an_endpoint_answers_is_judged_and_no_weights_are_claimed(evaluate, tmp_path):
    with served(answer) as server:
        made = evaluate(server.url)
    summary = made.summary
    assert {(asked.key, asked.body["model"], asked.body["max_tokens"]) for asked in server.asked} == {
        (f"Bearer {KEY}", "owner/glim", 24)
    }
    assert (summary.model, summary.base, summary.run, summary.title) == (None, None, None, "owner/glim")
    assert summary.server == AnswerServer(url=server.url, model="owner/glim")
    assert (summary.drift, summary.routing_drift, summary.weight_drift) == (None, None, None)
    assert (summary.plain_compliance.k, summary.plain_compliance.n, summary.over_refusal.k) == (1, 3, 2)
    assert summary.attack_success is None  # items without a suite are plain goals
    cut = next(suite.cut_off for suite in summary.suites if suite.kind == "harmful")
    assert (cut.k, cut.n) == (1, 3)
    assert "batch_size" not in summary.generation and "dtype" not in summary.generation
    run = finished_run(Path("evaluations/owner--glim/default"), "evaluation")
    assert run.manifest.base_fingerprint is None
    assert not [file for file in tmp_path.rglob("*") if file.is_file() and KEY.encode() in file.read_bytes()]


def test_what_was_not_measured_says_why(evaluate):
    with served(answer) as server:
        text = " ".join(shown(evaluated_view(evaluate(server.url).summary)).split())
    assert "routing drift, router restoration: not measured (a server answered: no weights were loaded" in text
    assert f"answers: by owner/glim at {server.url}; that it serves the weights of owner/glim is not checked" in text


def test_lengths_are_those_that_the_server_counts_and_unknown_where_it_counts_none(evaluate):
    with served(answer) as server:
        made = evaluate(server.url)
    assert {suite.mean_answer_tokens for suite in made.summary.suites} == {None}

    def counted(asked, number):
        body = completion(REFUSES).body
        return Reply(body=body[:-1] + b', "usage": {"prompt_tokens": 4, "completion_tokens": 9}}')

    with served(counted) as server:
        made = evaluate(server.url)
    assert {suite.mean_answer_tokens for suite in made.summary.suites} == {9.0}
    records = decode_lines(EvaluationRecord, made.path / layout.RECORDS)
    assert {record.num_answer_tokens for record in records} == {9}


def test_answers_go_on_where_they_stopped_and_are_taken_over_with_a_word_about_the_weights(evaluate):
    def stop(record):
        if getattr(record, "task", None) == "answers" and record.done == 3:
            raise KeyboardInterrupt

    heard = []
    with served(answer) as server:
        with pytest.raises(StoppedError):
            evaluate(server.url, notify=stop)
        first = evaluate(server.url, resume=True)
        times = Counter(asked.prompt for asked in server.asked)
        assert [times[asked.prompt] for asked in server.asked[:3]] == [1, 1, 1]
        num_asked = len(server.asked)
        again = evaluate(server.url, notify=heard.append)
        assert len(server.asked) == num_asked
        anew = evaluate(server.url, again=("generate",))
        assert len(server.asked) == num_asked + 5
    assert (first.summary.seconds, again.summary.taken["generate"], "generate" in anew.summary.taken) == (
        None,
        "default",
        False,
    )
    assert any("that the weights are is not known" in getattr(each, "text", "") for each in heard)


def test_another_server_or_name_is_never_answered_for_by_an_earlier_one(evaluate):
    with served(answer) as one:
        evaluate(one.url)
    with served(answer) as other:
        made = evaluate(other.url)
    assert len(other.asked) == 5 and "generate" not in made.summary.taken


def test_an_endpoint_that_is_not_named_and_what_needs_weights_are_refused_before_anything_is_made(evaluate, tmp_path):
    with pytest.raises(UsageError, match="none is named"):
        evaluate(None)
    for asked, option in (({"restore_router": True}, "--restore-router"), ({"capability": ("arc_easy",)}, "--cap")):
        with pytest.raises(UsageError, match=f"{option}.* needs the weights"):
            evaluate("http://localhost:1/v1", **asked)
    assert not (tmp_path / "evaluations").exists()


def test_a_run_that_a_server_answers_for_keeps_its_name_and_is_compared_as_such(evaluate, tmp_path, small_settings):
    for name in ("full", "sel"):
        trained(tmp_path, name, records(2), arm="baseline" if name == "full" else "selective")
    with served(answer) as server:
        made = [evaluate(server.url, name=name) for name in ("full", "sel")]
    assert [each.path for each in made] == [Path(f"{name}/evaluations/default_2") for name in ("full", "sel")]
    assert [each.summary.training_mode for each in made] == ["full_model_baseline", "selective_experts"]
    assert {asked.body["model"] for asked in server.asked} == {"full/final_model", "sel/final_model"}
    pages = compare_stage.Pages(markdown=lambda _: "", report=lambda *_: "")
    store = Store(tmp_path / ".moe/registry")
    found = compare_stage.run(["full", "sel"], small_settings(tmp_path), store, lambda _: None, pages=pages).comparison
    assert [run.evaluation.name for run in found.columns] == ["default_2", "default_2"]
    assert {check.name: check.status for check in found.fairness}["answers"] == "unknown"
    assert sum("come from a server" in text for text in found.conclusion) == 2


def served_column(name, mode="selective_experts", **changes):
    by = AnswerServer(url="http://localhost:8000/v1", model=name)
    changes = {"training_mode": mode, "model": None, "base": None, "server": by, "subject": name, **changes}
    return column(name, mode, evaluation=evaluation(run=name, **changes))


def test_the_gate_tells_the_engines_apart_and_never_calls_the_weights_of_servers_the_same():
    trainings = [training(), training()]
    mixed = check_fairness([column("full"), served_column("selective")], trainings)
    by_name = {check.name: check for check in mixed}
    assert (by_name["engine"].status, by_name["engine"].values) == ("differs", ("transformers", "openai"))
    assert by_name["answers"].status == by_name["dtype"].status == "unknown"
    both = {check.name: check for check in check_fairness([served_column("a"), served_column("b")], trainings)}
    assert both["engine"].status == "same"
    assert (both["answers"].status, both["answers"].values) == ("unknown", ("from a server; weights unknown",) * 2)


def test_the_conclusion_says_that_a_servers_weights_are_not_checked():
    said = list(state_caveats([column("full"), served_column("selective")], []))
    assert [text for text in said if "server" in text] == [
        "The answers of selective come from a server, which calls its model 'selective': that it serves the weights of"
        " selective is not checked, and drift is not measured."
    ]
