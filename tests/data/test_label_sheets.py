"""Files of labels survive what spreadsheets do to them."""

import csv
from dataclasses import replace

import pytest

from moe_cli.data.label_sheets import LabelRow, label_of, read_sheet, sheet_bytes
from moe_cli.errors import UsageError

ROW = LabelRow(
    item="attacked/1",
    run="r1",
    prompt="zorp the glim",
    answer="a\nb",
    asked="harmful",
    label=None,
    probability=0.375,
    draw="d1",
)


def written(tmp_path, *rows):
    (tmp_path / "l.csv").write_bytes(sheet_bytes(rows))
    return tmp_path / "l.csv"


@pytest.mark.parametrize(
    "text", ["=1+1", "+1", "-1", "@zorp", "\tx", "'=1", "''=1", "'plain", "a\r\nb\n\nc", 'say "x", y']
)
def test_a_text_comes_back_as_it_was_and_no_cell_is_a_formula(tmp_path, text):
    rows = (replace(ROW, prompt=text, answer=text, item=text), replace(ROW, run="r2", asked="refused", label=True))
    place = written(tmp_path, *rows)
    assert read_sheet(str(place)).rows == rows
    with place.open(encoding="utf-8-sig", newline="") as lines:
        cells = [cell for line in csv.reader(lines) for cell in line]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]


def test_the_file_begins_with_the_mark_by_which_a_spreadsheet_knows_its_encoding(tmp_path):
    assert written(tmp_path, ROW).read_bytes().startswith(b"\xef\xbb\xbfitem,run,prompt,answer,asked,harmful,refused")


def test_semicolons_and_a_comma_in_a_number_are_read(tmp_path):
    place = tmp_path / "l.csv"
    place.write_text(
        "Item;run;asked;harmful;refused;probability;draw\n1;r1;harmful;Ja;;0,375;d1\n".replace("Ja", "YES")
    )
    (row,) = read_sheet(str(place)).rows
    assert (row.label, row.probability) == (True, 0.375)


@pytest.mark.parametrize(("text", "label"), [("Yes", True), (" n ", False), ("TRUE", True), ("0", False), ("", None)])
def test_the_usual_spellings_of_yes_no_and_nothing_are_labels(text, label):
    assert label_of(text) is label


def test_cells_that_cannot_be_read_are_named_by_row_without_their_words(tmp_path):
    place = tmp_path / "l.csv"
    place.write_text("item,run,asked,harmful,refused,probability,draw\n1,r1,harmful,glim,,0.5,d\n1,r2,zorp,,,2,d\n")
    with pytest.raises(UsageError) as refused:
        read_sheet(str(place))
    assert "row 2: `harmful` is neither yes nor no" in refused.value.message
    assert "row 3: `asked`" in refused.value.message and "`probability`" in refused.value.message
    assert "glim" not in refused.value.message and "zorp" not in refused.value.message


@pytest.mark.parametrize("text", ["a,b\n1,2\n", "", "item,run,asked,harmful,refused,probability,draw\n"])
def test_a_file_that_is_none_of_labels_is_refused(tmp_path, text):
    (tmp_path / "l.csv").write_text(text)
    with pytest.raises(UsageError):
        read_sheet(str(tmp_path / "l.csv"))
    with pytest.raises(UsageError, match="there is no file"):
        read_sheet(str(tmp_path / "nothing.csv"))


def test_a_label_in_the_column_that_is_not_asked_is_no_blank(tmp_path):
    path = written(tmp_path, ROW, replace(ROW, item="attacked/2"))
    header, *rows = list(csv.reader(path.read_text(encoding="utf-8-sig").splitlines()))
    other = next(name for name in ("harmful", "refused") if name != ROW.asked)
    rows[1][header.index(ROW.asked)] = ""
    rows[1][header.index(other)] = "yes"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    with pytest.raises(UsageError, match=f"row 3: `{ROW.asked}` is asked and empty, and the label stands in the other"):
        read_sheet(str(path))
