"""Tables of libraries that hold nothing, two columns of one name, damaged pages or files of other types."""

from contextlib import suppress

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from moe_cli.data.reading import read_source
from moe_cli.errors import UsageError


def refusal(path):
    with pytest.raises(UsageError) as found:
        read_source(str(path))
    assert str(path) in found.value.message and "\n" not in found.value.message
    return found.value.message


@pytest.mark.parametrize(
    "table", [pa.table({}), pa.table({"prompt": pa.array([], pa.string())})], ids=["columns", "rows"]
)
def test_a_table_without_rows_or_columns_is_refused_by_name(tmp_path, table):
    pq.write_table(table, tmp_path / "x.parquet")
    assert "holds no rows" in refusal(tmp_path / "x.parquet")


@pytest.mark.parametrize("names", [["prompt", "prompt"], ["prompt", "Prompt"]], ids=str)
@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_a_column_that_stands_twice_is_refused(tmp_path, kind, names):
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=names)
    file = tmp_path / f"x.{kind}"
    if kind == "parquet":
        pq.write_table(table, file)
    else:
        with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
    assert "the column `prompt` stands twice in the table" in refusal(file)


def test_damaged_pages_are_refused_by_name(tmp_path):
    file = tmp_path / "x.parquet"
    pq.write_table(pa.table({"prompt": [f"text {n}" for n in range(1000)]}), file)
    whole = file.read_bytes()
    file.write_bytes(whole[:40] + b"\xff" * 160 + whole[200:])
    assert "cannot be read as parquet" in refusal(file)


@pytest.mark.parametrize("name", ["state.json", "dataset_info.json"])
@pytest.mark.parametrize("content", ["[]", "3", "null", "{", '"a"'])
def test_a_folder_whose_own_files_are_of_another_type_is_refused_by_name(tmp_path, name, content):
    datasets.Dataset.from_dict({"prompt": ["a"]}).save_to_disk(tmp_path / "d")
    (tmp_path / "d" / name).write_text(content)
    assert "is a damaged folder of `datasets`" in refusal(tmp_path / "d")


def test_values_of_great_depth_end_in_no_traceback(tmp_path):
    file = tmp_path / "x.json"
    for text in ("[" * 900 + "]" * 900, '{"prompt":' * 900 + "1" + "}" * 900, "[" * 100_000):
        file.write_text(text)
        with suppress(UsageError):  # else its rows are counted as bad ones
            assert read_source(str(file)).faults
