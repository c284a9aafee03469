"""Results made elsewhere: published tables give their numbers, whatever their form; what is no outcome is refused."""

import pytest

from moe_cli.errors import ArtifactError, UsageError
from tests.compare.outcome_files import NOTICES, imported, pair, samples, table, written
from tests.compare.test_paired import GSM8K, MMLU


@pytest.mark.parametrize(
    ("runs", "rates", "p_value"),
    [(GSM8K, (0.64, 0.33, 0.65), 1.8315432726012666e-06), (MMLU, (0.42, 0.07, 0.40), 1.0258372640237214e-07)],
)
def test_published_tables_give_their_rates_and_exact_p(tmp_path, runs, rates, p_value):
    found = imported(written(tmp_path / "table.csv", table(runs)))
    assert tuple(column.imported.rate for column in found.columns) == rates
    change = pair(found, "full", "selective")
    assert (change.rate_a, change.rate_b, change.n, change.unpaired) == (*rates[1:], 100, 0)
    assert change.p_mcnemar == pytest.approx(p_value, rel=1e-3)
    assert change.verdict == "better"


def test_unanswered_items_are_wrong_and_counted_with_the_bounds_both_ways(tmp_path):
    found = imported(written(tmp_path / "mmlu.csv", table(MMLU)))
    full = next(column.imported for column in found.columns if column.name == "full")
    assert (full.n, full.unanswered, full.rate) == (100, 77, 0.07)
    assert full.rate_answered == pytest.approx(0.304, abs=0.0005)
    assert (full.lowest, full.highest) == (0.07, 0.84)
    change = pair(found, "full", "selective")
    assert (change.lowest, change.highest) == (pytest.approx(0.40 - 0.84), pytest.approx(0.33))
    assert "77 of 100 items unanswered" in " ".join(found.conclusion)


def test_unanswered_attacks_are_neither_safe_nor_unsafe(tmp_path):
    rows = [["id", "a", "b"], ["1", "1", "0"], ["2", "", "0"], ["3", "1", "0"]]
    found = imported(written(tmp_path / "x.csv", rows), metric="asr")
    change = pair(found, "a", "b")
    assert (change.metric, change.n, change.unpaired, change.rate_a) == ("attack success", 2, 1, 1.0)
    assert found.columns[0].imported.rate == 1.0


OTHER_FORMS = {
    "other order of columns": {"order": ["selective", "item", "full", "base"]},
    "header in capitals": {"header": str.upper},
    "byte order mark": {"encoding": "utf-8-sig"},
    "windows line ends": {"end": "\r\n"},
    "old mac line ends": {"end": "\r"},
    "semicolons": {"separator": ";"},
    "tabs": {"separator": "\t"},
    "booleans": {"words": {"1": "True", "0": "FALSE", "": "nan"}},
    "floats": {"words": {"1": "1.0", "0": "0.0", "": " "}},
    "spaces": {"words": {"1": " 1", "0": "0 ", "": ""}},
    "another name of the item": {"header": lambda name: "question_id" if name == "item" else name},
    "an index without a name": {"header": lambda name: "" if name == "item" else name},
}


@pytest.mark.parametrize("form", OTHER_FORMS.values(), ids=OTHER_FORMS)
def test_other_forms_of_a_table_give_the_same_numbers(tmp_path, form):
    rows = table(MMLU)
    order = [rows[0].index(name) for name in form.get("order", rows[0])]
    words, header = form.get("words", {}), form.get("header", str)
    names = [header(name) for name in rows[0]]
    changed = [[*row[:1], *(words.get(cell, cell) for cell in row[1:])] for row in rows[1:]]
    moved = [[row[place] for place in order] for row in [names, *changed]]
    options = {key: form[key] for key in ("separator", "end", "encoding") if key in form}
    found = imported(written(tmp_path / "x.csv", moved, **options))
    expected = imported(written(tmp_path / "y.csv", rows))
    assert {c.name.casefold(): c.imported.rate for c in found.columns} == {
        c.name: c.imported.rate for c in expected.columns
    }
    by_name = {name.casefold(): name for name in (c.name for c in found.columns)}
    first, second = sorted([by_name["full"], by_name["selective"]], key=[c.name for c in found.columns].index)
    assert abs(pair(found, first, second).difference) == pytest.approx(0.33)


def test_extra_columns_are_named_and_left_out(tmp_path):
    rows = [
        ["item", "subject", "full", "length", "selective", "note"],
        ["a", "law", "0", "12", "1", ""],
        ["b", "art", "0", "1", "1", "x"],
        ["c", "art", "", "7", "0", ""],
    ]
    found = imported(written(tmp_path / "x.csv", rows))
    assert [column.name for column in found.columns] == ["full", "selective"]
    assert [notice.text.partition(": ")[2] for notice in NOTICES] == [
        "no columns of outcomes, left out: subject, length, note"
    ]


def test_words_name_the_columns_and_their_arms_whatever_their_case(tmp_path):
    rows = [["item", "sel_1", "sel_2", "full_1", "full_2"], *([str(k), "1", str(k % 2), "0", "0"] for k in range(9))]
    found = imported(written(tmp_path / "x.csv", rows), words=("SEL_1", "sel_2"), against=("Full_1", "full_2"))
    assert [(arm.name, arm.runs) for arm in found.arms] == [
        ("full", ("full_1", "full_2")),
        ("sel", ("sel_1", "sel_2")),
    ]
    change = pair(found, "full", "sel")
    assert (change.rate_a, change.rate_b) == (0, pytest.approx((9 + 4) / 18))
    with pytest.raises(UsageError, match="no imported column is called sel_3"):
        imported(tmp_path / "x.csv", words=("sel_3", "sel_1"))


def test_equal_outcomes_have_one_digest_whatever_their_file_and_order(tmp_path):
    rows = [["1", "1", "0"], ["2", "0", "0"], ["3", "", "0"]]
    parts = [written(tmp_path / "x.csv", [["item", "a", "b"], *rows])]
    parts.append(written(tmp_path / "y.csv", [["item", "c", "d"], *rows[::-1]]))
    a, b, c, d = (column.imported.sha256 for column in imported(*parts).columns)
    assert (a, b) == (c, d) and a != b


def test_items_of_one_cluster_are_judged_together(tmp_path):
    rows = [["item", "cluster", "a", "b"], *([str(k), str(k // 3), "1", "0"] for k in range(12))]
    change = pair(imported(written(tmp_path / "x.csv", rows)), "a", "b")
    assert (change.n, change.clusters, change.p_value, change.p_mcnemar) == (12, 4, 2 / 2**4, 2 / 2**12)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            [["item", "a", "b"], ["1", "1", "0"], ["2", "0", "2"], ["3", "1", "1"]],
            "x.csv [row 2]: b is '2', which is no",
        ),
        ([["item", "a", "b"], ["1", "1", "0"], ["2", "0", "-0.5"], ["3", "1", "1"]], "x.csv [row 2]: b is '-0.5'"),
        (
            [["item", "a", "b"], ["1", "1", "0"], ["2", "0", "0"], ["1", "1", "1"]],
            "x.csv [row 3]: the item 1 stands in row 1",
        ),
        ([["item", "a", "b"], ["1", "1", "0"], ["", "0", "0"]], "x.csv [row 2]: the item has no name"),
        ([["item", "a", "b"], ["1", "1"]], "x.csv [row 1]: it has 2 cells, the header has 3"),
        ([["a", "b"], ["1", "0"]], "no column says which item"),
        ([["item", "a", "A"], ["1", "1", "0"]], "x.csv: the column `a` stands twice"),
        ([["item", "a", "b"]], "holds no rows"),
        ([["item", "a", "b"], ["1", "1", "x"]], "holds 1 column of outcomes to compare: a"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_line(tmp_path, rows, said):
    with pytest.raises(UsageError) as caught:
        imported(written(tmp_path / "x.csv", rows))
    assert said in caught.value.message


def test_a_row_counts_once_however_many_lines_it_takes(tmp_path):
    (tmp_path / "x.csv").write_text('item,note,a,b\n1,"two\nlines",1,0\n1,,1,0\n')
    with pytest.raises(UsageError, match=r"x\.csv \[row 2\]: the item 1 stands in row 1"):
        imported(tmp_path / "x.csv")


def test_sample_files_of_lm_eval_are_runs_named_by_their_directory(tmp_path):
    name = "samples_arc_easy_2026-11-22T10-11-12.123456.jsonl"
    a, b = samples(tmp_path / "base" / name, [1.0, 0.0, 1.0]), samples(tmp_path / "sel" / name, [1.0, 1.0, 1.0])
    found = imported(a, b)
    change = pair(found, "base", "sel")
    assert (change.n, change.only_a, change.only_b) == (3, 0, 1)
    assert [flip.suite for flip in found.pairs[0].flips] == ["arc_easy"]


def test_tasks_of_one_directory_are_suites_of_one_run(tmp_path):
    files = [
        samples(tmp_path / run / f"samples_{task}_2026-11-22T10-11-12.jsonl", outcomes)
        for run, outcomes in (("a", [1.0, 0.0]), ("b", [1.0, 1.0]))
        for task in ("arc", "mmlu")
    ]
    metrics = {change.metric: change.n for change in imported(*files).pairs[0].differences}
    assert metrics == {"accuracy": 4, "accuracy: arc": 2, "accuracy: mmlu": 2}


def test_a_task_that_one_run_lacks_is_left_out_with_intersect(tmp_path):
    files = [samples(tmp_path / "a" / f"samples_{task}.jsonl", [1, 0]) for task in ("arc", "mmlu")]
    other = samples(tmp_path / "b" / "samples_arc.jsonl", [1, 1])
    with pytest.raises(ArtifactError, match="2 are only in a"):
        imported(*files, other)
    assert pair(imported(*files, other, intersect=True), "a", "b").n == 2


def test_numbers_that_are_no_json_but_pythons_own_are_read(tmp_path):
    a, b = (samples(tmp_path / f"{name}.jsonl", [1, 0]) for name in "ab")
    a.write_text(a.read_text().replace('{"question":"?"}', "[NaN, -Infinity]"))
    assert pair(imported(a, b), "a", "b").n == 2


def test_a_file_of_several_filters_needs_one_named(tmp_path):
    files = [
        f"{run}={samples(tmp_path / f'{run}.jsonl', [1, 0], filters=('strict', 'flexible'), metric='exact_match')}"
        for run in "ab"
    ]
    with pytest.raises(UsageError, match="several filters: flexible, strict"):
        imported(*files)
    assert pair(imported(*files, lm_filter="strict"), "a", "b").n == 2
    with pytest.raises(UsageError, match="has no filter other"):
        imported(*files, lm_filter="other")


def test_an_answer_that_lm_eval_could_not_read_is_unanswered_and_wrong(tmp_path):
    a = samples(tmp_path / "a.jsonl", [1, 0, 0], unread=(2,))
    found = imported(a, samples(tmp_path / "b.jsonl", [1, 0, 0]))
    assert (found.columns[0].imported.unanswered, found.columns[0].imported.n) == (1, 3)
    assert pair(found, "a", "b").n == 3


def test_other_items_under_the_same_number_are_refused_or_left_out(tmp_path):
    a, b = samples(tmp_path / "a.jsonl", [1, 0]), samples(tmp_path / "b.jsonl", [1, 0], doc_hash="other")
    with pytest.raises(ArtifactError, match="2 of the 2 common ids hold another item"):
        imported(a, b)
    longer = samples(tmp_path / "c.jsonl", [1, 0, 1])
    with pytest.raises(ArtifactError, match="1 only in c"):
        imported(a, longer)
    assert pair(imported(a, longer, intersect=True), "a", "c").n == 2


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "a.jsonl: not JSON"),
        ('{"doc_id": 1, "filter": "none"}\n{"item": 1}', ":2: it has no doc_id"),
        (
            '{"doc_id": 1, "metrics": ["bleu"], "bleu": [0.3]}',
            "no metric with a fraction from 0 to 1 for each item, only",
        ),
        (
            '{"doc_id": 1, "metrics": ["bleu"], "bleu": 38.1}',
            "no metric with a fraction from 0 to 1 for each item, only",
        ),
        ('{"doc_id": 1, "acc": 1}\n{"doc_id": 1, "acc": 0}', ":2: the item 1 stands in line 1"),
        ('{"doc_id": 1, "filter": "none", "acc": 1}\n{"doc_id": 2, "acc": 1.5}', ":2: acc is '1.5'"),
    ],
)
def test_what_is_no_sample_is_refused_with_its_line(tmp_path, line, said):
    (tmp_path / "a.jsonl").write_text(line)
    with pytest.raises(UsageError) as caught:
        imported(tmp_path / "a.jsonl")
    assert said in caught.value.message


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UsageError, match="there is no file"):
        imported(tmp_path / "none.csv")
