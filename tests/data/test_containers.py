"""JSON, CSV, parquet and folders: what a file holds decides, every bad row has its place, and nothing is guessed."""

import json
import math
import os
import pickle
import subprocess
import sys

import pytest
from datasets import Dataset, DatasetDict

from moe_cli.data import read_source, read_table, source_of
from moe_cli.data.rows import Location
from moe_cli.errors import UsageError
from tests.data.sample_files import sample


def written(tmp_path, content, name="rows.jsonl"):
    file = tmp_path / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(file)


def table(tmp_path, content, name="rows.jsonl"):
    return read_table(source_of(written(tmp_path, content, name)), shape="table")


def rows(tmp_path, content, name="rows.jsonl"):
    found = table(tmp_path, content, name)
    assert found.faults == ()
    return [(place.number, row) for place, row in found.rows]


def faults(tmp_path, content, name="rows.jsonl"):
    return [str(fault).replace(str(tmp_path), "") for fault in table(tmp_path, content, name).faults]


def refusal_of(tmp_path, content, name="rows.jsonl"):
    with pytest.raises(UsageError) as refusal:
        read_source(written(tmp_path, content, name))
    assert refusal.value.hint
    return refusal.value.message.replace(str(tmp_path), "")


def test_lines_and_lists_give_the_same_rows(tmp_path):
    assert rows(tmp_path, '{"a": 1}\n{"a": 2}\n') == rows(tmp_path, '[{"a": 1},\n {"a": 2}]')


def test_empty_lines_are_skipped_and_counted(tmp_path):
    assert rows(tmp_path, '\n{"a": 1}\r\n  \n{"a": 2}') == [(2, {"a": 1}), (4, {"a": 2})]


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\x85"], ids=lambda mark: f"U+{ord(mark):04X}")
def test_only_a_newline_ends_a_row(tmp_path, mark):
    text = f"two{mark}lines"
    assert rows(tmp_path, f'{{"a": "{text}"}}\n{{"a": "b"}}') == [(1, {"a": text}), (2, {"a": "b"})]
    assert rows(tmp_path, f"a,b\n{text},1\nb,2\n") == [(1, {"a": text, "b": "1"}), (2, {"a": "b", "b": "2"})]


@pytest.mark.parametrize("text", ['{"goal": "1"}', "goal\n1\n", '[{"goal": "1"}]'])
def test_the_byte_order_mark_of_windows_is_no_part_of_the_first_row(tmp_path, text):
    assert rows(tmp_path, b"\xef\xbb\xbf" + text.encode()) == [(1, {"goal": "1"})]


@pytest.mark.parametrize(
    "line",
    ["{", "nonsense", "{'a': 1}", "null", "NaN", "3", '"text"', '[{"a": 1}]', "[" * 100_000, '{"a": "\\u12"}'],
    ids=lambda line: line[:10],
)
def test_a_line_that_is_no_row_is_named_by_file_and_line_and_the_others_are_kept(tmp_path, line):
    content = f'{{"a": 1}}\n\n{line}\n{{"a": 2}}'
    (fault,) = faults(tmp_path, content)
    assert fault.startswith("/rows.jsonl:3: ")
    assert [place.number for place, _ in table(tmp_path, content).rows] == [1, 4]


@pytest.mark.parametrize("around", ["{}", "[{}]"])
def test_what_pythons_own_writer_makes_of_missing_numbers_and_broken_emoji_is_read(tmp_path, around):
    row = json.dumps({"goal": "zorp", "target": math.nan, "output": "half an emoji: \ud83d"})
    ((_, found),) = rows(tmp_path, around.replace("{}", row))
    assert (found["goal"], found["target"]) == ("zorp", None)
    assert [entry.goal for entry in read_source(written(tmp_path, around.replace("{}", row))).entries] == ["zorp"]
    (fault,) = read_source(written(tmp_path, around.replace("{}", row.replace("zorp", "\\ud83d")))).faults
    assert fault.reason == "`goal` is a text with a broken character, not a text"


@pytest.mark.parametrize("element", ["null", "3", '"text"', "[]"])
def test_an_element_that_is_no_row_is_named_by_file_and_number(tmp_path, element):
    assert faults(tmp_path, f'[{{"a": 1}}, {element}]')[0].startswith("/rows.jsonl [element 2]: ")


def test_a_list_that_is_no_json_is_named_by_file_and_place(tmp_path):
    message = refusal_of(tmp_path, '[{"a": 1},\n {"a": ]')
    assert message.startswith("/rows.jsonl: not JSON") and "line 2" in message


@pytest.mark.parametrize("content", ["", "[]", "\n\n", "goal,target\n"])
def test_a_file_without_rows_is_refused(tmp_path, content):
    assert refusal_of(tmp_path, content) == "/rows.jsonl holds no rows"


def test_two_keys_that_differ_in_case_alone_are_a_bad_row(tmp_path):
    assert faults(tmp_path, '{"goal": "a", "Goal": "b"}') == ["/rows.jsonl:1: two keys are called `goal`"]


def test_cells_keep_quotes_commas_newlines_and_leading_zeros(tmp_path):
    content = 'id,goal\r\n007,"a, ""b""\r\nc"\r\n1.0,NA\r\n,None\r\n'
    assert [row for _, row in rows(tmp_path, content)] == [
        {"id": "007", "goal": 'a, "b"\r\nc'},
        {"id": "1.0", "goal": "NA"},
        {"id": None, "goal": "None"},
    ]


def test_a_row_is_counted_after_the_header_however_many_lines_it_takes(tmp_path):
    assert faults(tmp_path, 'a,b\n"1\n2\n3",4\n5\n6,7,8\n') == [
        "/rows.jsonl [row 2]: it has 1 cells, the header has 2",
        "/rows.jsonl [row 3]: it has 3 cells, the header has 2",
    ]


def test_the_index_of_pandas_and_empty_and_nan_cells_are_missing(tmp_path):
    assert rows(tmp_path, ",goal,note,more\n0,zorp,NaN,\n1,flomp,nan,x\n") == [
        (1, {"goal": "zorp", "note": None, "more": None}),
        (2, {"goal": "flomp", "note": None, "more": "x"}),
    ]


def test_a_quote_that_does_not_end_is_named_by_its_line(tmp_path):
    assert refusal_of(tmp_path, 'goal,target\nzorp,x\n"flomp,y\n').startswith("/rows.jsonl: not CSV at line 3")


def test_a_cell_may_be_longer_than_the_limit_of_the_csv_module(tmp_path):
    ((_, row),) = rows(tmp_path, f"goal,target\n{'x' * 200_000},y\n")
    assert len(row["goal"]) == 200_000


def test_a_cell_that_holds_turns_as_json_is_turns_and_other_brackets_are_text(tmp_path):
    turns = '[{""role"": ""user"", ""content"": ""Hi""}]'
    ((_, row),) = rows(tmp_path, f'safe,unsafe,other\n"{turns}","[1, 2]","[no"\n')
    assert row == {"safe": [{"role": "user", "content": "Hi"}], "unsafe": "[1, 2]", "other": "[no"}


def test_text_that_is_not_utf8_is_refused(tmp_path):
    assert "is not UTF-8 text" in refusal_of(tmp_path, "goal,target\nfür,x\n".encode("latin-1"))


@pytest.mark.parametrize("name", ["pairs.pkl", "pairs.pickle", "pairs.PKL", "model.pt", "model.pth", "model.bin"])
def test_a_pickle_is_refused_unread(tmp_path, name):
    class Harm:
        def __reduce__(self):
            return (open, (str(tmp_path / "harm"), "w"))

    assert refusal_of(tmp_path, pickle.dumps([Harm()]), name).startswith(f"/{name} looks like a pickle")
    assert not (tmp_path / "harm").exists()


def test_a_pickle_under_another_name_is_refused_unread(tmp_path):
    assert "is a pickle" in refusal_of(tmp_path, pickle.dumps([{"a": 1}]))


def test_a_missing_file_and_an_empty_folder_are_refused(tmp_path):
    for path, reason in ((tmp_path / "none.jsonl", "there is no file"), (tmp_path, "holds no file")):
        with pytest.raises(UsageError, match=reason):
            read_source(str(path))


def saved(tmp_path):
    rows_of_pairs = Dataset.from_list(
        [
            {"id": 1.0, "goal": "zorp", "safe": "a", "unsafe": [{"role": "user", "content": "b"}]},
            {"id": None, "goal": "flomp", "safe": "c", "unsafe": [{"role": "user", "content": "d"}]},
        ]
    )
    rows_of_pairs.to_parquet(tmp_path / "pairs.parquet")
    rows_of_pairs.save_to_disk(tmp_path / "alone")
    DatasetDict(train=rows_of_pairs, test=rows_of_pairs.select([0])).save_to_disk(tmp_path / "splits")
    DatasetDict(only=rows_of_pairs).save_to_disk(tmp_path / "one")


def test_parquet_and_folders_give_rows_with_their_numbers_and_whole_ids(tmp_path):
    saved(tmp_path)
    for name in ("pairs.parquet", "alone", "one", "one#only", "splits#train"):
        found = read_source(str(tmp_path / name))
        assert [(entry.place, entry.id) for entry in found.entries] == [
            (Location(str(tmp_path / name), 1, "row"), "1"),
            (Location(str(tmp_path / name), 2, "row"), None),
        ]
        assert found.entries[0].attacked[0].content == "b"
    assert read_source(str(tmp_path / "splits#test")).num_rows == 1


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("splits", "it has several splits: train, test"),
        ("splits#dev", "there is no split dev: train, test"),
        ("alone#train", "there are no splits to choose from"),
    ],
)
def test_a_split_is_never_guessed(tmp_path, name, said):
    saved(tmp_path)
    with pytest.raises(UsageError, match=said):
        read_source(str(tmp_path / name))


def test_a_damaged_parquet_file_or_folder_is_refused(tmp_path, capfd):
    saved(tmp_path)
    whole = (tmp_path / "pairs.parquet").read_bytes()
    for size in (40, len(whole) // 2, len(whole) - 1):
        assert "cannot be read as parquet" in refusal_of(tmp_path, whole[:size], "cut.parquet")
    (tmp_path / "alone/state.json").write_text("{")
    with pytest.raises(UsageError, match="damaged folder"):
        read_source(str(tmp_path / "alone"))
    assert capfd.readouterr().err == ""


OFFLINE = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")
NO_NETWORK = """
import socket, sys
def used(*_, **__): raise SystemExit("the network was used")
socket.socket.connect = socket.getaddrinfo = used
"""


def test_local_data_is_read_without_the_network_and_leaves_no_cache(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "home").mkdir()
    saved(tmp_path / "data")
    names = [str(tmp_path / "data/pairs.parquet"), str(tmp_path / "data/splits#train"), sample("advbench.csv")]
    before = sorted(tmp_path.rglob("*"))
    program = (
        f"{NO_NETWORK}from moe_cli.data import read_source\nfor name in {names!r}: assert read_source(name).entries"
    )
    online = {name: value for name, value in os.environ.items() if name not in OFFLINE}
    subprocess.run([sys.executable, "-c", program], check=True, env={**online, "HOME": str(tmp_path / "home")})
    left = set(tmp_path.rglob("*")) - set(before)
    assert [path for path in left if path.is_file()] == []


def test_equal_files_have_equal_digests_and_folders_have_one(tmp_path):
    saved(tmp_path)
    digests = [
        read_source(str(tmp_path / name)).sha256 for name in ("pairs.parquet", "alone", "splits#train", "splits#test")
    ]
    assert len(set(digests)) == 3  # a folder is one thing, whatever split is read
    assert read_source(str(tmp_path / "alone")).sha256 == digests[1]


def test_reading_any_kind_of_data_never_imports_torch(tmp_path):
    saved(tmp_path)
    names = [str(tmp_path / "pairs.parquet"), str(tmp_path / "alone"), sample("xstest.csv"), sample("pairs.jsonl")]
    program = (
        f"import sys; from moe_cli.prepare.prepare_summary import preview_of; from moe_cli.data import read_source\n"
        f"for name in {names!r}: read_source(name)\n"
        "assert 'datasets' in sys.modules and 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_json_and_csv_need_no_datasets_either():
    program = (
        f"import sys; from moe_cli.data import read_source; read_source({sample('pairs.csv')!r})\n"
        f"read_source({sample('goals.jsonl')!r})\n"
        "assert 'datasets' not in sys.modules and 'pandas' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
