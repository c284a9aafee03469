"""Tables of R are read, drawn tables, titles above a header, logs and annotations that were rejected are refused."""

import json

import pytest

from moe_cli.compare.import_files import SourceContent, read_columns
from moe_cli.data import AS_NAMED, column_map, of_kind, read_source
from moe_cli.errors import UsageError
from moe_cli.evaluate.read_answers import read_answers


def goals(tmp_path, content):
    (tmp_path / "x").write_text(content)
    return [entry.plain[-1].content for entry in of_kind(read_source(str(tmp_path / "x")), "harmful").entries]


def outcomes(tmp_path, content):
    (tmp_path / "x").write_text(content)
    columns = read_columns(tmp_path / "x", SourceContent()).columns
    return {column.name: {item.id: item.outcome for item in column.items} for column in columns}


@pytest.mark.parametrize("separator", [" ", "\t", ",", ";"])
@pytest.mark.parametrize("row_names", [True, False])
def test_what_write_table_of_r_writes_is_read_with_its_names_of_rows_left_out(tmp_path, separator, row_names):
    rows = [['"1"', r'"zorp the \"big\", glim"', '"Sure"'], ['"2"', '"flomp it"', '"Sure"']]
    lines = [['"goal"', '"target"'], *(row if row_names else row[1:] for row in rows)]
    content = "\n".join(map(separator.join, lines))
    assert goals(tmp_path, content) == ['zorp the "big", glim', "flomp it"]


def test_a_single_column_of_r_is_read(tmp_path):
    assert goals(tmp_path, '"goal"\n"1" "zorp it"\n"2" "glim it"\n') == ["zorp it", "glim it"]


@pytest.mark.parametrize(
    "content",
    [
        '"item" "full" "sel"\n"1" "a" 1 0\n"2" "b" 0 NA\n',
        '"full" "sel"\n"a" 1 0\n"b" 0 NA\n',  # the items are the names of the rows
        "item full sel\na 1 0\nb 0 NA\n",  # quote=FALSE, row.names=FALSE
        "  item  full sel\n0    a     1 0.0\n1    b     0 NaN\n",  # to_string of pandas
    ],
)
def test_a_table_of_outcomes_with_spaces_is_read(tmp_path, content):
    assert outcomes(tmp_path, content) == {"full": {"a": True, "b": False}, "sel": {"a": False, "b": None}}


@pytest.mark.parametrize(
    "content",
    [
        '"id","goal"\n1,What is it, really\n2,Zorp, now\n',  # a comma in an unquoted text
        '"goal","target"\n"zorp","Sure",\n"glim","Sure",\n',  # a separator at the end
        '"goal" "target"\n"zorp" "a" "b"\n"zorp" "c" "d"\n',  # names of rows differ
    ],
)
def test_a_header_that_is_one_cell_short_for_another_reason_moves_no_cell(tmp_path, content):
    try:
        read = goals(tmp_path, content)
    except UsageError:
        return
    assert not {" really", "Sure", "a"} & set(read)


DRAWN = {
    "sqlite box": "┌────┬──────┐\n│ id │ goal │\n├────┼──────┤\n│ 1  │ zorp │\n└────┴──────┘\n",
    "mysql": "+----+------+\n| id | goal |\n+----+------+\n|  1 | zorp |\n+----+------+\n",
    "psql": " id | goal \n----+------\n  1 | zorp\n(1 row)\n",
    "markdown": "| id | goal |\n|:---|---:|\n| 1 | zorp |\n",
    "sqlite column": "id  goal\n--  ----\n1   zorp\n",
}


@pytest.mark.parametrize("content", DRAWN.values(), ids=DRAWN)
@pytest.mark.parametrize("read", [goals, outcomes])
def test_a_drawn_table_is_called_one(tmp_path, content, read):
    with pytest.raises(UsageError, match="is a table drawn with lines") as refused:
        read(tmp_path, content)
    assert "write it as CSV" in refused.value.hint


@pytest.mark.parametrize("title", ["Our prompts, v2\n\n", "Our prompts,\n", "# written by glim\n", ",Texts,,\n"])
def test_a_title_above_the_header_is_named_by_the_line_of_the_header(tmp_path, title):
    line = title.count("\n") + 1
    with pytest.raises(UsageError, match=f":{line}: the header stands here, below other lines"):
        goals(tmp_path, f"{title}goal,target\nzorp,Sure\nglim,Sure\n")
    with pytest.raises(UsageError, match=f":{line}: the header stands here, below other lines"):
        outcomes(tmp_path, f"{title}item,full,sel\na,1,0\nb,0,0\n")


def test_prompts_that_name_columns_in_a_sentence_are_prompts(tmp_path):
    prompts = ["Zorp the glim", "Goal, prompt and text: explain", "question, answer", "Flomp it"]
    assert goals(tmp_path, "\n".join(prompts)) == prompts


def test_a_log_is_no_list_of_prompts(tmp_path):
    with pytest.raises(UsageError, match="is a log"):
        goals(tmp_path, "INFO 01-01 Received: 'zorp'\n2026-01-01 10:00:00 done\nmore\n")
    assert goals(tmp_path, "Information on glims\nError, what is it?\n") == [
        "Information on glims",
        "Error, what is it?",
    ]


@pytest.mark.parametrize(
    "content",
    [
        '"zorp the glim",\n"flomp it",\n',
        'prompts = [\n  "zorp the glim",\n  "flomp it"\n]\n',
        "<table><tr><td>goal</td></tr></table>\n",
        "id = 1\ngoal = zorp the glim\n",  # .mode line of SQLite
    ],
)
def test_lines_of_code_or_markup_are_no_prompts(tmp_path, content):
    with pytest.raises(UsageError, match="is code or markup"):
        goals(tmp_path, content)


@pytest.mark.parametrize("content", ["'zorp' it\nwhat is 'glim'\n", "x = 3, what is y?\nzorp it\n", '"zorp"\n"glim"\n'])
def test_prompts_with_quotes_or_formulas_are_prompts(tmp_path, content):
    assert len(goals(tmp_path, content)) == 2


@pytest.mark.parametrize("read", [goals, outcomes])
def test_columns_between_bars_are_refused_as_such(tmp_path, read):
    with pytest.raises(UsageError, match=r"its columns are separated by `\|`"):
        read(tmp_path, "goal|full|sel\nzorp|1|0\n" if read is goals else "question_nr|full|sel\na|1|0\n")


def test_percent_signs_are_fractions(tmp_path):
    read = outcomes(tmp_path, 'item,full,sel\na,50%,"12,5 %"\nb,100%,0%\n')
    assert read == {"full": {"a": 0.5, "b": 1.0}, "sel": {"a": 0.125, "b": 0.0}}


def test_a_last_row_that_counts_is_no_prompt(tmp_path):
    (tmp_path / "x").write_text("goal,target\nzorp,Sure\nTotal: 1,\n")
    (fault,) = read_source(str(tmp_path / "x")).faults
    assert (fault.place.number, fault.reason) == (2, "a prompt only sums up other rows")


def test_columns_without_a_name_do_not_take_the_place_of_the_index(tmp_path):
    assert outcomes(tmp_path, ",full,sel,\na,1,0,x\nb,0,0,x\n")["full"] == {"a": True, "b": False}


def test_a_table_of_weights_and_biases_is_read(tmp_path):
    table = {"columns": ["prompt", "response"], "data": [["zorp", "No."]], "_type": "table", "ncols": 2}
    (tmp_path / "x").write_text(json.dumps(table))
    (answer,) = read_answers(str(tmp_path / "x"), AS_NAMED).answers
    assert (answer.messages[0].content, answer.text) == ("zorp", "No.")


def prodigy(tmp_path, *answers):
    rows = [
        {"text": f"zorp {k}", "label": "HARMFUL", "_task_hash": k, "answer": said} for k, said in enumerate(answers)
    ]
    (tmp_path / "x").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path / "x"


def test_a_table_of_weights_and_biases_keeps_names_with_spaces_and_refuses_equal_ones(tmp_path):
    (tmp_path / "x").write_text(json.dumps({"columns": ["My text", "My answer"], "data": [["zorp", "No."]]}))
    columns = column_map(["prompt=My text,answer=My answer"])
    assert [answer.text for answer in read_answers(str(tmp_path / "x"), columns).answers] == ["No."]
    (tmp_path / "x").write_text(json.dumps({"columns": ["goal", "goal"], "data": [["zorp", "glim"]]}))
    with pytest.raises(UsageError, match="two of its columns have the same name"):
        read_source(str(tmp_path / "x"))


def test_aligned_columns_of_prompts_and_a_header_of_one_cell_are_refused_as_such(tmp_path):
    with pytest.raises(UsageError, match="its columns are separated by spaces"):
        goals(tmp_path, "            goal target\n0  zorp the glim   Sure\n1       flomp it   Sure\n")
    with pytest.raises(UsageError, match="its first line is one cell"):
        outcomes(tmp_path, "# A tibble: 1 x 2\n  item   full\n  <chr> <dbl>\n1 a        1\n")


def test_a_list_in_a_column_that_is_mapped_as_the_answer_is_one_answer(tmp_path):
    (tmp_path / "x").write_text('q,said\nzorp,"[""a"", ""b""]"\nglim,No.\n')
    read = read_answers(str(tmp_path / "x"), column_map(["prompt=q,answer=said"]))
    assert [answer.text for answer in read.answers] == ['["a", "b"]', "No."]


def test_rows_that_annotators_rejected_or_skipped_are_not_taken_with_their_label(tmp_path):
    with pytest.raises(UsageError, match="2 of 3 rows were rejected or skipped by their column `answer`"):
        read_source(str(prodigy(tmp_path, "accept", "reject", "ignore")))
    assert len(read_source(str(prodigy(tmp_path, "accept", "accept"))).entries) == 2
    with pytest.raises(UsageError, match="holds no answers that are recognised"):
        read_answers(str(prodigy(tmp_path, "accept", "accept")), AS_NAMED)


def test_labels_of_transformers_are_bare_until_someone_says_which_is_harmful(tmp_path):
    rows = [{"prompt": "zorp", "label": "LABEL_1"}, {"prompt": "glim", "label": "LABEL_0"}]
    (tmp_path / "x").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(UsageError, match="nothing says which of them is harmful"):
        read_source(str(tmp_path / "x"))
    reading = read_source(str(tmp_path / "x"), columns=column_map(["is_harmful=label"]))
    assert [entry.kind for entry in reading.entries] == ["harmful", "benign"]


def test_a_list_in_a_cell_is_one_answer_and_a_column_of_lists_is_refused(tmp_path):
    (tmp_path / "x").write_text('prompt,response\nzorp,"[""a"", ""b""]"\nglim,No.\n')
    assert [answer.text for answer in read_answers(str(tmp_path / "x"), AS_NAMED).answers] == ['["a", "b"]', "No."]
    (tmp_path / "x").write_text('prompt,response\nzorp,"[""a"", ""b""]"\nglim,"[\'c\', \'d\']"\n')
    with pytest.raises(UsageError, match="every answer is a printed list of texts"):
        read_answers(str(tmp_path / "x"), AS_NAMED)
    (tmp_path / "x").write_text(json.dumps({"prompt": "zorp", "response": ["a", "b"]}))
    assert [answer.text for answer in read_answers(str(tmp_path / "x"), AS_NAMED).answers] == ["a", "b"]
