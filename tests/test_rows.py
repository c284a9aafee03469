"""Rows of data files: every error names file and row, and pickles are refused unread."""

import pickle

import pytest

from moe_cli.errors import UsageError
from moe_cli.records import Message
from moe_cli.rows import Place, messages_of, rows_of, text_of

FORMATS = "accepted: one JSON object a line"


def written(tmp_path, content, name="rows.jsonl"):
    file = tmp_path / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


def rows(tmp_path, content, name="rows.jsonl"):
    return [(place.number, row) for place, row in rows_of(written(tmp_path, content, name), FORMATS)]


def refusal_of(tmp_path, content, name="rows.jsonl"):
    with pytest.raises(UsageError) as refusal:
        rows(tmp_path, content, name)
    assert FORMATS in refusal.value.hint
    return refusal.value.message.replace(str(tmp_path), "")


def test_lines_and_lists_give_the_same_rows(tmp_path):
    assert rows(tmp_path, '{"a": 1}\n{"a": 2}\n') == rows(tmp_path, '[{"a": 1},\n {"a": 2}]', "rows.json")


def test_empty_lines_are_skipped_and_counted(tmp_path):
    assert rows(tmp_path, '\n{"a": 1}\r\n  \n{"a": 2}') == [(2, {"a": 1}), (4, {"a": 2})]


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\x85"], ids=lambda mark: f"U+{ord(mark):04X}")
def test_only_a_newline_ends_a_row(tmp_path, mark):
    text = f"two{mark}lines"
    assert rows(tmp_path, f'{{"a": "{text}"}}\n{{"a": "b"}}') == [(1, {"a": text}), (2, {"a": "b"})]


def test_the_byte_order_mark_of_windows_is_no_part_of_the_first_row(tmp_path):
    assert rows(tmp_path, b'\xef\xbb\xbf{"a": 1}') == [(1, {"a": 1})]


@pytest.mark.parametrize("line", ["{", "nonsense", "{'a': 1}", '{"a": NaN}', "null", "3", '"text"', '[{"a": 1}]'])
def test_a_line_that_is_no_row_is_named_by_file_and_line(tmp_path, line):
    assert refusal_of(tmp_path, '{"a": 1}\n\n' + line).startswith("/rows.jsonl:3: ")


@pytest.mark.parametrize("element", ["null", "3", '"text"', "[]"])
def test_an_element_that_is_no_row_is_named_by_file_and_number(tmp_path, element):
    assert refusal_of(tmp_path, f'[{{"a": 1}}, {element}]', "rows.json").startswith("/rows.json [element 2]: ")


def test_a_list_that_is_no_json_is_named_by_file_and_place(tmp_path):
    message = refusal_of(tmp_path, '[{"a": 1},\n {"a": ]', "rows.json")
    assert message.startswith("/rows.json: not JSON") and "line 2" in message


@pytest.mark.parametrize("name", ["pairs.pkl", "pairs.pickle", "pairs.PKL", "model.pt", "model.pth", "model.bin"])
def test_a_pickle_is_refused_unread(tmp_path, name):
    class Harm:
        def __reduce__(self):
            return (open, (str(tmp_path / "harm"), "w"))

    message = refusal_of(tmp_path, pickle.dumps([Harm()]), name)
    assert message.startswith(f"/{name} looks like a pickle")
    assert not (tmp_path / "harm").exists()


def test_a_pickle_under_another_name_is_refused_unread(tmp_path):
    assert "is not UTF-8 text" in refusal_of(tmp_path, pickle.dumps([{"a": 1}]))


def test_a_missing_file_and_a_directory_are_no_files(tmp_path):
    for path in (tmp_path / "none.jsonl", tmp_path):
        with pytest.raises(UsageError, match="there is no file"):
            list(rows_of(path, FORMATS))


@pytest.mark.parametrize("value", [None, "", "  ", 3, ["x"]])
def test_a_missing_or_empty_text_names_the_field_and_the_row(tmp_path, value):
    place = Place(tmp_path / "rows.jsonl", 7)
    with pytest.raises(UsageError, match=r"rows\.jsonl:7: `goal`"):
        text_of({"goal": value}, "goal", place, FORMATS)


def test_a_text_is_one_user_turn_and_turns_end_with_the_user(tmp_path):
    place = Place(tmp_path, 1)
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    assert messages_of("Hi", "safe", place, FORMATS) == (Message(role="user", content="Hi"),)
    assert [turn.role for turn in messages_of(turns, "safe", place, FORMATS)] == ["system", "user"]


@pytest.mark.parametrize(
    "value",
    [
        None,
        " ",
        [],
        [{"role": "user"}],
        [{"role": "king", "content": "x"}],
        [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}],
    ],
    ids=str,
)
def test_turns_that_are_none_are_refused_with_field_and_row(tmp_path, value):
    with pytest.raises(UsageError, match=":4: `unsafe`"):
        messages_of(value, "unsafe", Place(tmp_path, 4), FORMATS)
