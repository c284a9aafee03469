"""Every kind of results file is known by what it holds, and what is none is called by its name."""

import gzip
import json
import pickle
from zipfile import ZipFile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from moe_cli.errors import ArtifactError, MoeError, UsageError
from tests.compare.outcome_files import NOTICES, imported, pair, samples, written
from tests.data.inspect_log_files import eval_log, json_log, sample

ROWS = [{"Item": f"i{k}", "Full": k % 2, "selective": k % 3 > 0, "note": "zorp"} for k in range(8)]


def rates(comparison):
    return {column.name: column.imported.rate for column in comparison.columns}


def in_csv(path):
    cells = [list(ROWS[0]), *([str(value) for value in row.values()] for row in ROWS)]
    return written(path, cells)


def in_parquet(path):
    pq.write_table(pa.Table.from_pylist(ROWS), path)
    return path


def in_json(path):
    path.write_text(json.dumps(ROWS, indent=1))
    return path


def in_json_lines(path):
    path.write_text("\n".join(map(json.dumps, ROWS)))
    return path


@pytest.mark.parametrize("write", [in_csv, in_json, in_json_lines, in_parquet])
@pytest.mark.parametrize("name", ["results.csv", "results.json", "results"])
def test_one_table_is_compared_whatever_container_it_is_in(tmp_path, write, name):
    found = imported(words=[write(tmp_path / name)])
    assert rates(found) == {"Full": 0.5, "selective": 5 / 8}  # the names keep their case
    assert NOTICES[0].text.endswith("left out: note")


def test_a_row_of_json_without_a_key_is_unanswered(tmp_path):
    (tmp_path / "x.json").write_text(
        '[{"id": 1, "a": 1, "b": 0}, {"id": 2, "a": null}, {"id": 3, "a": NaN, "b": true}]'
    )
    found = imported(words=[tmp_path / "x.json"])
    assert [column.imported.unanswered for column in found.columns] == [2, 1]


def test_files_with_one_and_the_same_column_are_runs_called_after_their_files(tmp_path):
    a, b = (
        written(tmp_path / f"{name}.csv", [["id", "correct"], ["1", "1"], ["2", right]])
        for name, right in (("base", "1"), ("tuned", "0"))
    )
    assert rates(imported(words=[a, b])) == {"base": 1.0, "tuned": 0.5}
    assert rates(imported(words=[f"one={a}", f"two={b}"])) == {"one": 1.0, "two": 0.5}
    assert pair(imported(words=[b], against=[a]), "base", "tuned").rate_b == 0.5


def test_the_file_after_base_is_the_untrained_model(tmp_path):
    names = {"plain": "1", "full": "0", "sel": "1"}
    files = {name: written(tmp_path / f"{name}.csv", [["id", "c"], ["1", right]]) for name, right in names.items()}
    found = imported(words=[files["sel"]], against=[files["full"]], base=files["plain"])
    assert [arm.name for arm in found.arms] == ["plain", "full", "sel"]
    assert [column.training_mode for column in found.columns] == ["base", "imported", "imported"]


# -- graded


def test_fractions_are_compared_by_their_means_without_mcnemar(tmp_path):
    rows = [["item", "a", "b"], ["1", "0.25", "0.5"], ["2", "0.5", "0.75"], ["3", "", "1"], ["4", "1", "1e-1"]]
    found = imported(words=[written(tmp_path / "rouge.csv", rows)])
    change = pair(found, "a", "b")
    assert (change.graded, change.p_mcnemar, change.n) == (True, None, 4)
    assert (change.rate_a, change.rate_b) == (pytest.approx(1.75 / 4), pytest.approx(2.35 / 4))
    assert (change.lowest, change.highest) == (pytest.approx((2.35 - 2.75) / 4), pytest.approx((2.35 - 1.75) / 4))
    assert (found.columns[0].imported.graded, found.columns[0].imported.rate_answered) == (
        True,
        pytest.approx(1.75 / 3),
    )
    assert "fractions: a rate is their mean" in " ".join(found.conclusion)


def test_a_column_of_only_0_and_1_stays_yes_and_no(tmp_path):
    rows = [["item", "a", "b"], ["1", "0.0", "1.0"], ["2", "1", "1"]]
    found = imported(words=[written(tmp_path / "x.csv", rows)])
    assert not pair(found, "a", "b").graded and not found.columns[0].imported.graded


def test_fractions_beside_columns_of_yes_and_no_are_left_out_unless_they_are_named(tmp_path):
    rows = [["item", "a", "b", "confidence"], ["1", "0", "1", "0.7"], ["2", "1", "1", "0.9"]]
    path = written(tmp_path / "x.csv", rows)
    assert list(rates(imported(words=[path]))) == ["a", "b"]
    assert list(rates(imported(words=[path, "a", "confidence"]))) == ["a", "confidence"]


def test_percents_are_refused_until_their_scale_is_named(tmp_path):
    path = written(tmp_path / "x.csv", [["item", "a", "b"], ["1", "50", "87.5"], ["2", "100", "0"], ["3", "12", "20"]])
    with pytest.raises(UsageError) as caught:
        imported(words=[path])
    assert "--scale 100" in caught.value.hint and caught.value.message.endswith("x.csv holds no column of outcomes")
    with pytest.raises(UsageError, match=r"x\.csv \[row 1\]: a is '50', which is no outcome"):
        imported(words=[path, "a", "b"])
    assert rates(imported(words=[path], scale=100)) == {
        "a": pytest.approx(0.54),
        "b": pytest.approx(0.358333, abs=1e-5),
    }


def test_a_measure_whose_direction_its_name_leaves_open_needs_a_metric(tmp_path):
    files = [written(tmp_path / f"{name}.csv", [["id", "harm_score"], ["1", "0.5"]]) for name in "ab"]
    with pytest.raises(UsageError, match="whether a higher harm_score is better"):
        imported(words=files)
    change = pair(imported(words=files, metric="asr"), "a", "b")
    assert (change.metric, change.better) == ("attack success", "lower")


# -- inspect


def logs(folder, write, ending, **scores):
    folder.mkdir(exist_ok=True)
    return [
        write(folder / f"{run}{ending}", *(sample(str(k), scores=each) for k, each in enumerate(values)))
        for run, values in scores.items()
    ]


def of(*values):
    return [{"match": {"value": value}} for value in values]


@pytest.mark.parametrize(("write", "ending"), [(eval_log, ".eval"), (json_log, ".json")])
def test_logs_of_inspect_are_runs_and_their_letters_outcomes(tmp_path, write, ending):
    files = logs(tmp_path, write, ending, a=of("C", "I", "N", "C"), b=of("C", "C", "C", "I"))
    found = imported(words=files)
    assert rates(found) == {"a": 0.5, "b": 0.75}  # of one model, so they are called after their files
    assert found.columns[0].imported.unanswered == 1
    assert [flip.suite for flip in found.pairs[0].flips] == ["zorping"] * 3


def test_partial_credit_is_one_half(tmp_path):
    change = pair(imported(words=logs(tmp_path, eval_log, ".eval", a=of("P", "I"), b=of("C", "P"))), "a", "b")
    assert (change.graded, change.rate_a, change.rate_b) == (True, 0.25, 0.75)


def test_samples_that_failed_or_were_not_scored_are_unanswered(tmp_path):
    failed = sample("2", error={"message": "out of glims"}, scores={"match": {"value": "C"}})
    a = json_log(tmp_path / "a.json", sample("1"), failed, sample("3", scores={"match": {"value": float("nan")}}))
    b = json_log(tmp_path / "b.json", sample("1"), sample("2"), sample("3", scores={}))
    found = imported(words=[a, b])
    assert [column.imported.unanswered for column in found.columns] == [2, 1]
    change = pair(found, "a", "b")
    assert (change.lowest, change.highest) == (pytest.approx(-1 / 3), pytest.approx(2 / 3))


def test_epochs_of_a_sample_are_one_cluster(tmp_path):
    files = [
        eval_log(tmp_path / f"{run}.eval", *(sample(id, epoch) for id in "xyz" for epoch in (1, 2)))
        for run in ("a", "b")
    ]
    change = pair(imported(words=files), "a", "b")
    assert (change.n, change.clusters) == (6, 3)


def test_the_same_id_with_another_input_is_another_item(tmp_path):
    a, b = (json_log(tmp_path / f"{text}.json", sample("1", input=text)) for text in ("zorp", "glim"))
    with pytest.raises(ArtifactError, match="1 of the 1 common ids hold another item"):
        imported(words=[a, b])


def test_of_several_scores_one_is_named(tmp_path):
    both = [{"match": {"value": "C"}, "rubric": {"value": {"clarity": 0.5}}}]
    files = logs(tmp_path, json_log, ".json", a=both, b=both)
    with pytest.raises(UsageError, match=r"several scores: match, rubric\.clarity"):
        imported(words=files)
    assert rates(imported(words=files, measure="rubric.clarity")) == {"a": 0.5, "b": 0.5}
    with pytest.raises(UsageError, match="has no score glim"):
        imported(words=files, measure="glim")


def test_a_score_that_is_no_outcome_is_refused_without_its_words(tmp_path):
    files = logs(tmp_path, json_log, ".json", a=of("zorp the glim"), b=of("C"))
    with pytest.raises(UsageError, match="match of sample 0 is a text, which is no outcome"):
        imported(words=files)
    files = logs(tmp_path, json_log, ".json", a=of(7), b=of(10))
    with pytest.raises(UsageError, match=r"is 7\.0, which is no outcome"):
        imported(words=files)
    assert rates(imported(words=files, scale=10)) == {"a": 0.7, "b": 1}


def test_an_unfinished_log_is_named(tmp_path):
    a = eval_log(tmp_path / "a.eval", sample("1"), status="cancelled")
    imported(words=[a, eval_log(tmp_path / "b.eval", sample("1"))])
    assert [(notice.text, notice.warning) for notice in NOTICES] == [
        (f"{a}: the evaluation has the status 'cancelled': samples may be missing", True)
    ]


def test_a_folder_of_logs_is_a_run_with_a_suite_for_each_task(tmp_path):
    for run, value in (("a", "C"), ("b", "I")):
        (tmp_path / run).mkdir()
        for task in ("zorping", "glimming"):
            spec = {"task": task, "model": f"glim/{run}"}
            scored = sample("1", scores={"match": {"value": value}})
            eval_log(tmp_path / run / f"{task}.eval", scored, eval=spec)
    found = imported(words=[tmp_path / "a", tmp_path / "b"])
    assert rates(found) == {"glim/a": 1.0, "glim/b": 0.0}
    assert {change.metric for change in found.pairs[0].differences} == {
        "accuracy", "accuracy: glimming", "accuracy: zorping",
    }  # fmt: skip


# -- lm-eval


def test_a_folder_of_lm_eval_is_all_its_tasks_and_their_newest_samples(tmp_path):
    for run, outcome in (("full", 0), ("selective", 1)):
        for task, time in (("arc", "2026-01-01"), ("arc", "2026-02-01"), ("gsm", "2026-01-01")):
            folder = tmp_path / run / "glim__small"
            folder.mkdir(parents=True, exist_ok=True)
            outcomes = [1 - outcome] * 3 if (task, time) == ("arc", "2026-01-01") else [outcome] * 2
            samples(folder / f"samples_{task}_{time}T00-00-00.jsonl", outcomes)
    found = imported(words=[tmp_path / "full", tmp_path / "selective"])
    assert rates(found) == {"full": 0.0, "selective": 1.0}
    assert {change.metric: change.n for change in found.pairs[0].differences} == {
        "accuracy": 4, "accuracy: arc": 2, "accuracy: gsm": 2,
    }  # fmt: skip


def test_a_folder_of_several_models_is_a_run_for_each(tmp_path):
    (tmp_path / "out").mkdir()
    for model in ("full", "sel"):
        samples(tmp_path / "out" / model / "samples_arc.jsonl", [1, 0])
    assert list(rates(imported(words=[tmp_path / "out"]))) == ["full", "sel"]
    with pytest.raises(UsageError, match="holds 2 runs, so they cannot all be called x: full, sel"):
        imported(words=[f"x={tmp_path / 'out'}", tmp_path / "out"])


def test_a_filter_is_of_the_tasks_that_have_filters(tmp_path):
    for run in "ab":
        samples(tmp_path / run / "samples_gsm.jsonl", [1, 0], filters=("strict", "flexible"))
        samples(tmp_path / run / "samples_arc.jsonl", [1, 0])
    assert pair(imported(words=[tmp_path / "a", tmp_path / "b"], lm_filter="strict"), "a", "b").n == 4


def test_graded_metrics_of_lm_eval_are_read_and_one_can_be_named(tmp_path):
    files = [samples(tmp_path / run / "samples_sum.jsonl", [0.5, 0.25], metric="rouge1", f1=1.0) for run in "ab"]
    assert rates(imported(words=files)) == {"a": 0.375, "b": 0.375}
    assert rates(imported(words=files, measure="f1")) == {"a": 1.0, "b": 1.0}
    with pytest.raises(UsageError, match="has no measure glim"):
        imported(words=files, measure="glim")


@pytest.mark.parametrize("depth", [300, 1_000, 2_000, 100_000])
def test_samples_of_lm_eval_of_any_depth_are_read_or_refused_by_name(tmp_path, depth):
    files = [samples(tmp_path / run / "samples_sum.jsonl", [1, 0], doc_hash=None, doc="DEEP") for run in "ab"]
    for file in files:
        file.write_text(file.read_text().replace('"DEEP"', '{"a":' * depth + "1" + "}" * depth))
    try:
        assert rates(imported(words=files)) == {"a": 0.5, "b": 0.5}
    except MoeError as refused:
        assert depth >= 1_000 and "samples_sum.jsonl" in refused.message and refused.hint


def test_the_summary_of_lm_eval_points_to_its_samples(tmp_path):
    (tmp_path / "results.json").write_text('{"results": {"arc": {"acc,none": 0.5}}, "configs": {}}')
    with pytest.raises(UsageError, match="summary of lm-eval, which has no outcome for each item"):
        imported(words=[tmp_path / "results.json"])


@pytest.mark.parametrize("task", ["strong_reject", "xstest_v2", "AgentHarm", "wmdp_bio"])
def test_a_task_about_harm_leaves_the_direction_open_whatever_its_score_is_called(tmp_path, task):
    logged = []
    for run in "ab":
        spec = {"task": task, "model": "m"}
        logged.append(eval_log(tmp_path / f"{run}.eval", sample("1", scores={"judge": {"value": 0.5}}), eval=spec))
    sampled = [samples(tmp_path / run / f"samples_{task}.jsonl", [1, 0]) for run in "ab"]
    for files in (logged, sampled):
        with pytest.raises(UsageError, match=f"whether a higher {task} is better is not known here"):
            imported(words=files)
        assert imported(words=files, metric="asr").pairs[0].differences[0].better == "lower"


# -- HarmBench


def harmbench(path, labels, **changes):
    attack = {"test_case": "zorp the glim", "generation": "no"}
    value = {
        behavior: [
            {**attack, "test_case": f"{behavior} {n}", "label": label, **changes} for n, label in enumerate(each)
        ]
        for behavior, each in labels.items()
    }
    path.write_text(json.dumps(value))
    return path


def test_results_of_harmbench_are_attack_success_with_a_cluster_for_each_behavior(tmp_path):
    a = harmbench(tmp_path / "full.json", {"glim": [1, 1], "zorp": [1, 0]})
    b = harmbench(tmp_path / "sel.json", {"glim": [0, 0], "zorp": [None, 0]})
    found = imported(words=[b], against=[a])
    change = pair(found, "full", "sel")
    assert (change.metric, change.better, change.n, change.clusters, change.unpaired) == (
        "attack success", "lower", 3, 2, 1,
    )  # fmt: skip
    assert (change.rate_a, change.rate_b) == (pytest.approx(2 / 3), 0)
    with pytest.raises(UsageError, match="is not accuracy"):
        imported(words=[a, b], metric="accuracy")


def test_harmbench_without_labels_or_with_other_ones_is_refused(tmp_path):
    with pytest.raises(UsageError, match="completions of HarmBench without labels"):
        imported(words=[harmbench(tmp_path / "a.json", {"glim": [None]})])
    with pytest.raises(UsageError, match="attack 2 of glim: its label is neither 0 nor 1"):
        imported(words=[harmbench(tmp_path / "a.json", {"glim": [1, 0.5]})])


def test_attacks_with_other_words_are_other_items(tmp_path):
    a = harmbench(tmp_path / "a.json", {"glim": [1]})
    b = harmbench(tmp_path / "b.json", {"glim": [1]}, test_case="other words")
    with pytest.raises(ArtifactError, match="hold another item"):
        imported(words=[a, b])


def test_labels_of_attacks_are_not_mixed_with_outcomes_of_an_unknown_kind(tmp_path):
    a = harmbench(tmp_path / "a.json", {"glim": [1]})
    b = written(tmp_path / "b.csv", [["item", "b"], ["glim/1", "1"]])
    with pytest.raises(UsageError, match="other files do not say what it is"):
        imported(words=[a, b])


# -- what is none of these

OTHER = {
    "a pickle": pickle.dumps([1]),
    "a web page": b"\n<!DOCTYPE html><html>",
    "an SQLite database": b"SQLite format 3\x00rest",
    "a PDF": b"%PDF-1.7 \x00",
    "cannot be read as parquet": b"PAR1 zorp",
    "no text": b"item\x00\x01\x02",
    "is empty": b" \n",
    "is not UTF-8 text": "item,a,b\nü,1,0\n".encode("latin-1"),
    "is one JSON object that holds no rows": b'{"zorp": {"glim": 1}}',
    "no column says which item": b"zorp,glim\n1,0\n",
    "x.txt:2: not JSON": b'{"id": 1, "a": 1}\n{"id": 2, "a"',
}


@pytest.mark.parametrize(("reason", "content"), OTHER.items(), ids=list(OTHER))
def test_what_is_no_file_of_results_is_called_what_it_is(tmp_path, reason, content):
    (tmp_path / "x.txt").write_bytes(content)
    with pytest.raises(UsageError) as caught:
        imported(words=[tmp_path / "x.txt"])
    assert reason in caught.value.message
    assert ("as UTF-8" in caught.value.hint) == ("UTF" in reason)


def test_archives_without_a_log_are_called_what_they_are(tmp_path):
    workbook = {"[Content_Types].xml": "", "xl/workbook.xml": ""}
    for members, kind in ((workbook, "an Office document"), ({"a": "", "b": ""}, "a zip archive of 2 files")):
        with ZipFile(tmp_path / "x.csv", "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        with pytest.raises(UsageError, match=f"is {kind}"):
            imported(words=[tmp_path / "x.csv"])


def test_a_table_is_read_in_another_encoding_and_compressed(tmp_path):
    text = "item,a,b\nü,1,0\n"
    (tmp_path / "x.csv").write_bytes(text.encode("utf-16"))
    (tmp_path / "y.csv").write_bytes(gzip.compress(text.encode()))
    for name in ("x.csv", "y.csv"):
        assert rates(imported(words=[tmp_path / name])) == {"a": 1.0, "b": 0.0}


def test_lists_of_rows_by_id_are_items_of_their_id(tmp_path):
    by_id = {"glim": [{"a": 1, "b": 0, "test_case": "x"}], "zorp": [{"a": 0, "b": 0, "test_case": "y"}]}
    (tmp_path / "x.json").write_text(json.dumps(by_id))
    assert rates(imported(words=[tmp_path / "x.json"])) == {"a": 0.5, "b": 0.0}


def test_a_name_that_is_no_column_is_refused_with_those_there_are(tmp_path):
    path = written(tmp_path / "x.csv", [["item", "a", "length"], ["1", "1", "7"]])
    with pytest.raises(UsageError, match="no imported column is called sel") as caught:
        imported(words=[path, "a", "sel"])
    assert caught.value.hint == "there are: a, length"


def test_a_folder_without_results_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"a folder without samples_\*\.jsonl of lm-eval and without logs of inspect"):
        imported(tmp_path)


def test_a_file_on_one_side_of_vs_only_says_where_the_named_columns_are(tmp_path):
    rows = [["item", "s1", "s2", "f1", "f2", "base"], *([str(k), "1", "1", "0", "0", "1"] for k in range(8))]
    path = written(tmp_path / "t.csv", rows)
    before = imported(words=[path, "s1", "s2"], against=["f1", "f2"])
    behind = imported(words=["s1", "s2"], against=[path, "f1", "f2"])
    for found in (before, behind):
        assert [column.name for column in found.columns] == ["f1", "f2", "s1", "s2"]
    with pytest.raises(UsageError, match="no run stands before --vs"):
        imported(words=[path], against=["f1"])


def test_a_column_after_base_does_not_choose_among_the_others(tmp_path):
    path = written(tmp_path / "t.csv", [["item", "plain", "a", "b"], ["1", "1", "0", "1"], ["2", "1", "1", "0"]])
    assert [column.name for column in imported(words=[path], base="plain").columns] == ["plain", "a", "b"]


def test_no_cell_of_a_file_without_a_header_is_in_an_error(tmp_path):
    (tmp_path / "x.csv").write_text("zorp the glim,no\nflomp the hesk,no\n")
    with pytest.raises(UsageError, match="no column says which item a row is about") as refusal:
        imported(tmp_path / "x.csv")
    assert "zorp" not in refusal.value.message + refusal.value.hint
    (tmp_path / "y.csv").write_text("item,a,b\n1,1,0\n2,1,0\n3,zorp the glim,0\n")
    with pytest.raises(UsageError, match="a is a text, which is no outcome"):
        imported(tmp_path / "y.csv")
