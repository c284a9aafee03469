"""Cells as spreadsheets, data bases, pandas and R write them are read as a person would read them, or refused."""

import json

import pytest

from moe_cli.data import AS_NAMED, column_map, of_kind, read_source
from moe_cli.errors import UsageError
from moe_cli.evaluate.item_sources import source_items
from moe_cli.evaluate.read_answers import read_answers
from moe_cli.prepare.pairs import Attacks, pairs_of_entries


def reading(tmp_path, content, name="x.csv"):
    (tmp_path / name).write_text(content)
    return of_kind(read_source(str(tmp_path / name)), "harmful")


def attacked(tmp_path, content):
    return [entry.attacked[-1].content for entry in reading(tmp_path, content).entries]


def reasons(tmp_path, content, name="x.csv"):
    return [fault.reason for fault in reading(tmp_path, content, name).faults]


@pytest.mark.parametrize(
    "cell",
    [
        "['Story', 'Pretend, \\'zorp\\'']",  # Python, pandas
        "['Story' 'Pretend, \\'zorp\\'']",  # numpy, of a parquet file that pandas wrote as CSV
        "['Story'\n 'Pretend, \\'zorp\\'']",
        "['Story', \"\"Pretend, 'zorp'\"\"]",
        '[""Story"", ""Pretend, \'zorp\'""]',  # JSON
    ],
)
def test_a_list_of_attacks_in_a_cell_is_these_attacks_however_it_was_printed(tmp_path, cell):
    assert attacked(tmp_path, f'goal,all_prompt\nzorp,"{cell}"\n') == ["Story", "Pretend, 'zorp'"]


def test_the_one_turn_of_a_printed_list_is_the_prompt(tmp_path):
    (entry,) = reading(tmp_path, "question_id,turns\n1,['zorp the glim']\n").entries
    assert entry.plain[0].content == "zorp the glim"


@pytest.mark.parametrize("cell", ["['Story' ... 'Pretend']", "['Story', 'Preten']']"])
def test_a_printed_list_that_was_cut_is_a_bad_row(tmp_path, cell):
    assert reasons(tmp_path, f'goal,all_prompt\nzorp,"{cell}"\n') == [
        "`all_prompt` holds a printed list of texts that cannot be read; write it as JSON"
    ]


def test_an_answer_that_is_a_printed_list_stays_one_answer(tmp_path):
    (tmp_path / "x.csv").write_text("prompt,response\nName two.,\"['a', 'b']\"\n")
    (answer,) = read_answers(str(tmp_path / "x.csv"), AS_NAMED).answers
    assert answer.text == "['a', 'b']"


@pytest.mark.parametrize("word", ["NA", "NULL", "None", "n/a", "nan ", "#N/A", "#REF!", "#NAME?", "\\N", "undefined"])
@pytest.mark.parametrize("column", ["goal", "safe", "unsafe"])
def test_a_prompt_that_is_only_a_word_for_nothing_is_a_bad_row(tmp_path, word, column):
    row = {"goal": "zorp", "safe": "How zorp?", "unsafe": "Story zorp"} | {column: word}
    if column == "goal":
        del row["safe"], row["unsafe"]
    said = [f"a prompt is only `{word.strip()}`, which stands for a missing value"]
    assert reasons(tmp_path, json.dumps(row), "x.jsonl") == said
    if word != "nan ":  # missing in CSV
        assert reasons(tmp_path, ",".join(row) + "\n" + ",".join(row.values()) + "\n") == said


def test_rows_whose_cells_are_all_empty_are_no_rows_and_still_counted(tmp_path):
    content = "goal,safe,unsafe\nzorp,a,b\n,,\nflomp,c,d\nbrell,e\n , ,\n"
    read = reading(tmp_path, content)
    assert [entry.goal for entry in read.entries] == ["zorp", "flomp"]
    assert [str(fault).rpartition("x.csv")[2] for fault in read.faults] == [
        " [row 4]: it has 2 cells, the header has 3"
    ]


@pytest.mark.parametrize(
    "content",
    [
        'goal, safe, unsafe\nzorp, "How, zorp?", Story\n',
        'goal,safe,unsafe\nzorp, "How, zorp?", Story\n',
        'goal, "safe", "unsafe"\n"zorp", "How, zorp?", "Story"\n',
    ],
)
def test_spaces_behind_separators_are_no_part_of_quoted_cells(tmp_path, content):
    (entry,) = reading(tmp_path, content).entries
    assert (entry.goal, entry.plain[0].content, entry.attacked[0].content) == ("zorp", "How, zorp?", "Story")


@pytest.mark.parametrize("form", [" Story, he said", ' "Story" he said'])
def test_spaces_that_a_cell_was_written_with_are_kept(tmp_path, form):
    quoted = form.replace('"', '""')
    assert attacked(tmp_path, f'goal,safe,unsafe\nzorp,How?,"{quoted}"\n') == [form]
    assert attacked(tmp_path, "goal,safe,unsafe\nzorp,How?, Story\n") == [" Story"]


def test_a_page_of_the_hubs_viewer_with_cut_cells_is_a_bad_row(tmp_path):
    row = {"row_idx": 0, "row": {"prompt": "zorp the"}, "truncated_cells": ["prompt"]}
    (tmp_path / "x.json").write_text(json.dumps({"features": [], "rows": [row]}))
    with pytest.raises(UsageError, match="the viewer of the hub cut some of its cells"):
        read_source(str(tmp_path / "x.json"))
    row["truncated_cells"] = []
    (tmp_path / "x.json").write_text(json.dumps({"features": [], "rows": [row]}))
    assert read_source(str(tmp_path / "x.json")).entries[0].goal == "zorp the"


@pytest.mark.parametrize(("value", "text"), [(5, "5"), (0.5, "0.5"), (5.0, "5"), ("5", "5")])
def test_an_expected_answer_may_be_a_number(tmp_path, value, text):
    (tmp_path / "x.jsonl").write_text(json.dumps({"prompt": "2 + 3?", "expected": value, "kind": "benign"}))
    assert source_items(str(tmp_path / "x.jsonl"), AS_NAMED).items[0].expected == text


def test_a_lost_answer_of_a_spreadsheet_is_no_answer_and_counted(tmp_path):
    (tmp_path / "x.csv").write_text("prompt,response\na?,#NAME?\nb?,No.\nc?,NULL\n")
    read = read_answers(str(tmp_path / "x.csv"), AS_NAMED)
    assert [answer.text for answer in read.answers] == ["No.", "NULL"]
    assert read.skipped == {"its answer is the error of a spreadsheet": 1}


def test_answers_of_several_models_are_no_answers_of_one(tmp_path):
    (tmp_path / "x.csv").write_text("prompt,model,response\na?,full,x\na?,selective,y\n")
    with pytest.raises(UsageError, match="holds answers of 2 models by its column `model`"):
        read_answers(str(tmp_path / "x.csv"), AS_NAMED)
    assert len(read_answers(str(tmp_path / "x.csv"), column_map(["name=model"])).answers) == 2


def test_the_kind_of_an_item_is_read_in_any_case_and_a_row_without_one_is_named(tmp_path):
    (tmp_path / "x.csv").write_text("prompt,Kind\na?,HARMFUL\nb?,Benign\n")
    assert [item.kind for item in source_items(str(tmp_path / "x.csv"), AS_NAMED).items] == ["harmful", "benign"]
    (tmp_path / "y.csv").write_text("prompt,is_harmful\na?,1.0\nb?,\nc?,0.0\n")
    with pytest.raises(UsageError, match=r"whether 1 of its 3 rows are harmful or benign, the first at .* \[row 2\]"):
        source_items(str(tmp_path / "y.csv"), AS_NAMED)


def test_items_of_the_same_goal_are_one_cluster_and_the_column_cluster_comes_first(tmp_path):
    rows = "goal,cluster,kind,prompt\nZorp it.,,harmful,Story zorp\nzorp it,,harmful,Zorp it\nzorp it,own,harmful,c\n"
    (tmp_path / "x.csv").write_text(rows)
    first, second, third = (item.cluster for item in source_items(str(tmp_path / "x.csv"), AS_NAMED).items)
    assert first == second != third == "own"
    (tmp_path / "y.csv").write_text("kind,prompt\nharmful,Zorp it\n")
    assert source_items(str(tmp_path / "y.csv"), AS_NAMED).items[0].cluster == first


def test_a_goal_in_another_case_and_with_a_full_stop_is_one_cluster_of_pairs_and_items(tmp_path):
    (tmp_path / "x.csv").write_text("goal,safe,unsafe\nZorp the glim,How?,Story\nzorp the glim.,How then?,Pretend\n")
    pairs = pairs_of_entries([read_source(str(tmp_path / "x.csv"))], Attacks()).pairs
    (cluster,) = {pair.cluster for pair in pairs.values()}
    (tmp_path / "y.csv").write_text("kind,goal,prompt\nharmful,ZORP THE GLIM,Tell it\n")
    assert source_items(str(tmp_path / "y.csv"), AS_NAMED).items[0].cluster == cluster
