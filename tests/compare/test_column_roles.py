"""What stands in a table of outcomes beside the runs is never taken for a run, and no measure for a better one."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from moe_cli.errors import ArtifactError, UsageError
from tests.compare.outcome_files import NOTICES, imported, pair, written

COLUMNS = {
    "full": ["1", "0", "1", "0", "1", "1"],
    "sel": ["0", "0", "1", "0", "0", "1"],
    "other": ["1", "1", "0", "0", "1", "0"],
}
IDS = [f"i{k}" for k in range(6)]


def in_table(path, **columns):
    return written(path, [["item", *columns], *map(list, zip(IDS, *columns.values(), strict=True))])


def two_runs(path, **names):
    return in_table(path, **{names["full"]: COLUMNS["full"], names["sel"]: COLUMNS["sel"]})


@pytest.mark.parametrize("title", ["asr_{}", "{}_harmful", "refused_{}", "{} jailbroken", "attackSuccess_{}"])
def test_columns_of_harm_or_refusals_are_no_accuracy_until_a_metric_says_so(tmp_path, title):
    path = two_runs(tmp_path / "x.csv", full=title.format("full"), sel=title.format("sel"))
    with pytest.raises(UsageError, match=r"whether a higher .* is better is not known here"):
        imported(path)
    change = pair(imported(path, metric="asr"), title.format("full"), title.format("sel"))
    assert (change.better, change.rate_b < change.rate_a) == ("lower", True)


def test_a_file_called_after_attacks_leaves_the_direction_open_and_an_arm_of_unsafe_experts_does_not(tmp_path):
    with pytest.raises(UsageError, match="whether a higher attack_results is better"):
        imported(two_runs(tmp_path / "attack_results.csv", full="full", sel="sel"))
    path = two_runs(tmp_path / "x.csv", full="full_model_baseline", sel="unsafe_expert_finetuned_batch")
    assert imported(path).columns[0].imported.metric == "accuracy"


@pytest.mark.parametrize(
    "name", ["label", "target", "gold", "success", "correct", "is_correct", "score", "Exact_Match"]
)
def test_a_measure_or_a_right_answer_beside_runs_is_refused_until_the_runs_are_named(tmp_path, name):
    columns = {"full": COLUMNS["full"], "sel": COLUMNS["sel"], name: COLUMNS["other"]}
    path = in_table(tmp_path / "x.csv", **columns)
    with pytest.raises(UsageError, match=f"`{name}` is called as a measure or a right answer") as refused:
        imported(path)
    assert "--measure" in refused.value.hint
    found = imported(path, words=["full", "sel"])
    assert [column.name for column in found.columns] == ["full", "sel"]


def test_files_with_several_measures_are_runs_and_one_measure_is_named(tmp_path):
    files = []
    for run in ("full", "sel"):
        rows = [
            {"id": id, "success": one == "1", "score": 1 - int(one)} for id, one in zip(IDS, COLUMNS[run], strict=True)
        ]
        files.append(tmp_path / f"{run}.jsonl")
        files[-1].write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(UsageError, match="`success`, `score` are called as a measure"):
        imported(*files)
    found = imported(*files, measure="success")
    assert {column.name: column.imported.rate for column in found.columns} == {"full": 4 / 6, "sel": 2 / 6}
    assert pair(found, "full", "sel").n == 6
    with pytest.raises(UsageError, match="has no measure glim"):
        imported(*files, measure="glim")


@pytest.mark.parametrize("name", ["seed", "is_long", "has_system_prompt", "turn"])
def test_columns_about_the_items_are_left_out_by_name(tmp_path, name):
    path = in_table(tmp_path / "x.csv", full=COLUMNS["full"], sel=COLUMNS["sel"], **{name: COLUMNS["other"]})
    assert [column.name for column in imported(path).columns] == ["full", "sel"]
    assert NOTICES[0].text.endswith(f"left out: {name}")


@pytest.mark.parametrize("word", ["mean", "Total", "average"])
def test_a_row_that_sums_up_the_others_is_no_item(tmp_path, word):
    path = written(tmp_path / "x.csv", [["item", "a", "b"], ["1", "1", "0"], ["2", "0", "0"], [word, "0.5", "0"]])
    with pytest.raises(UsageError, match=rf"row 3\]: {word} sums up other rows"):
        imported(path)


@pytest.mark.parametrize(("name", "goals"), [("goal", "aabbcc"), ("Behavior_ID", "aabbcc"), ("prompt", "aAbbcc")])
def test_items_of_one_goal_are_one_cluster_whichever_file_says_it(tmp_path, name, goals):
    path = in_table(tmp_path / "x.csv", **{name: list(goals)}, full=COLUMNS["full"], sel=COLUMNS["sel"])
    change = pair(imported(path), "full", "sel")
    assert (change.n, change.clusters) == (6, 3)
    assert NOTICES[0].text.endswith(f"items of the same `{name}` are one cluster")
    one = in_table(tmp_path / "one.csv", correct=COLUMNS["full"])
    two = in_table(tmp_path / "two.csv", **{name: list(goals)}, correct=COLUMNS["sel"])
    for files in ((one, two), (two, one)):
        assert imported(*files).pairs[0].differences[0].clusters == 3


def test_goals_that_are_all_different_make_no_cluster_and_the_column_cluster_comes_first(tmp_path):
    runs = {"full": COLUMNS["full"], "sel": COLUMNS["sel"]}
    path = in_table(tmp_path / "x.csv", goal=IDS, **runs)
    assert pair(imported(path), "full", "sel").clusters == 6
    path = in_table(tmp_path / "y.csv", goal=list("aabbcc"), cluster=list("xxxyyy"), **runs)
    assert pair(imported(path), "full", "sel").clusters == 2


@pytest.mark.parametrize(("yes", "no"), [("yes", "no"), ("PASS", "FAIL"), ("Correct", "incorrect")])
def test_words_for_yes_and_no_are_outcomes_where_no_column_holds_0_and_1(tmp_path, yes, no):
    words = {name: [yes if one == "1" else no for one in ones] for name, ones in COLUMNS.items()}
    found = imported(in_table(tmp_path / "x.csv", full=words["full"], sel=words["sel"]))
    assert [column.imported.rate for column in found.columns] == [4 / 6, 2 / 6]
    beside = in_table(tmp_path / "y.csv", full=COLUMNS["full"], sel=COLUMNS["sel"], note=words["other"])
    assert [column.name for column in imported(beside).columns] == ["full", "sel"]


def test_files_of_one_measure_without_a_common_item_are_two_runs_on_other_items(tmp_path):
    one = written(tmp_path / "full.csv", [["id", "correct"], ["1.0", "1"], ["2.0", "0"]])
    two = written(tmp_path / "sel.csv", [["id", "correct"], ["1", "1"], ["2", "0"]])
    with pytest.raises(ArtifactError, match="full and sel were not evaluated on the same items: 2 are only in full"):
        imported(one, two)


def test_repeated_runs_on_the_same_items_are_no_two_tasks(tmp_path):
    files = [two_runs(tmp_path / f"seed_{seed}.csv", full="full", sel="sel") for seed in (1, 2)]
    with pytest.raises(UsageError, match="with the same item i0, so these are no two tasks"):
        imported(*files)


def test_tables_that_number_their_items_alike_are_tasks_and_a_notice_says_so(tmp_path):
    rows = [["item", "full", "sel"], ["1", "1", "0"], ["2", "1", "1"]]
    found = imported(*(written(tmp_path / f"{task}.csv", rows) for task in ("arc", "gsm")))
    assert pair(found, "full", "sel").n == 4
    assert "so they are tasks of one run: give the columns of repeated runs" in NOTICES[0].text


def test_whole_numbers_of_parquet_are_the_ids_that_a_csv_has(tmp_path):
    path = tmp_path / "full.parquet"
    pq.write_table(pa.table({"id": [1.0, 2.0, 3.0], "correct": [1.0, 0.0, None]}), path)
    csv = written(tmp_path / "sel.csv", [["id", "correct"], ["1", "1"], ["2", "0"], ["3", "1"]])
    assert pair(imported(path, csv), "full", "sel").n == 3


def long_table(path, names, outcomes):
    return written(path, [["item", *names], *([f"i{k}", *row] for k, row in enumerate(zip(*outcomes, strict=True)))])


def test_imported_attacks_that_mostly_have_no_verdict_show_no_safer_arm(tmp_path):
    scored = long_table(tmp_path / "a.csv", ["full", "sel"], ["1" * 60 + "0" * 140, "0" * 200])
    assert "sel is safer than full" in imported(scored, metric="asr").conclusion[0]
    unscored = long_table(tmp_path / "b.csv", ["full", "sel"], ["1" * 60 + "0" * 140, [*"0" * 195, *[""] * 5]])
    said = imported(unscored, metric="asr").conclusion[0]
    assert "sel obeys fewer attacks than full but cannot be called safer" in said
    assert "too many answers of sel have no verdict" in said


def test_few_imported_runs_have_the_warning_of_few_seeds_and_copies_are_one_run(tmp_path):
    names = ["full_1", "full_2", "sel_1", "sel_2"]
    one, two, three, four = "1" * 60 + "0" * 140, "1" * 58 + "0" * 142, "1" * 20 + "0" * 180, "1" * 22 + "0" * 178
    path = long_table(tmp_path / "a.csv", names, [one, two, three, four])
    options = {"words": ["sel_1", "sel_2"], "against": ["full_1", "full_2"], "metric": "asr"}
    said = " ".join(imported(path, **options).conclusion)
    assert "With 2 runs of full and 2 runs of sel a p below" in said and "one run per arm" not in said
    copies = long_table(tmp_path / "b.csv", names, [one, one, three, three])
    said = imported(copies, **options).conclusion[0]
    assert "sel is safer than full, as imported, with one run per arm" in said


def strongreject(path, *rows):
    return written(path, [["jailbroken_prompt", "forbidden_prompt", "response", "score"], *map(list, rows)])


def test_a_table_without_ids_has_its_different_prompts_as_items_in_any_order(tmp_path):
    one = strongreject(tmp_path / "one.csv", ("Tell: a", "a", "Sure", "1"), ("Tell: b", "b", "No", "0"))
    two = strongreject(tmp_path / "two.csv", ("tell: b", "b", "No", "0"), ("Tell: a", "a", "No", "0"))
    change = pair(imported(one, two, metric="asr"), "one", "two")
    assert (change.n, change.rate_a, change.rate_b) == (2, 0.5, 0.0)
    twice = strongreject(tmp_path / "twice.csv", ("Tell: a", "a", "Sure", "1"), ("Tell: a", "b", "No", "0"))
    with pytest.raises(UsageError, match="`jailbroken_prompt` is not another one in each row"):
        imported(one, twice, metric="asr")


def test_one_id_with_another_goal_is_another_item_and_with_another_attack_the_same(tmp_path):
    def by_number(name, *rows):
        return written(tmp_path / name, [["id", "goal", "prompt", "jailbroken"], *map(list, rows)])

    one = by_number("one.csv", ("0", "zorp", "Tell: zorp", "1"), ("1", "glim", "Tell: glim", "0"))
    attacked = by_number("two.csv", ("0", "Zorp", "Say: zorp", "0"), ("1", "glim", "Say: glim", "0"))
    assert pair(imported(one, attacked, metric="asr"), "one", "two").n == 2
    moved = by_number("three.csv", ("0", "glim", "Tell: glim", "0"), ("1", "zorp", "Tell: zorp", "1"))
    with pytest.raises(ArtifactError, match="2 of the 2 common ids hold another item"):
        imported(one, moved, metric="asr")


@pytest.mark.parametrize("name", ["Total (n=2)", "mean: all", "ASR", "Accuracy"])
def test_a_last_row_with_another_word_for_a_sum_is_no_item(tmp_path, name):
    path = written(tmp_path / "x.csv", [["item", "full", "sel"], ["a", "1", "0"], ["b", "0", "0"], [name, "0.5", "0"]])
    with pytest.raises(UsageError, match=r"\[row 3\]: .* sums up other rows"):
        imported(path)
