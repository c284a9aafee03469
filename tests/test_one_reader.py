"""Every option that takes a table reads the same ones: whatever separates, encodes, packs or holds its rows."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import zipfile
from dataclasses import replace

import pyarrow as pa
import pytest
from pyarrow import ipc, parquet

from moe_cli.compare.import_files import SourceContent, read_columns
from moe_cli.config import PrepareConfig
from moe_cli.data import AS_NAMED, of_kind, read_source
from moe_cli.data.label_sheets import read_sheet
from moe_cli.data.rows import MISSING
from moe_cli.data.templates import read_refusals, read_templates
from moe_cli.data.turns import SPREADSHEET_ERRORS
from moe_cli.errors import UsageError
from moe_cli.evaluate.item_sources import source_items
from moe_cli.evaluate.read_answers import read_answers
from moe_cli.prepare.published import rank_counts, rank_scores
from moe_cli.prepare.selection_file import read_listed_experts

TEXT = 'glim, the "zorp"; über\nall'


def entries(path, kind):
    return [replace(entry, place=None) for entry in of_kind(read_source(str(path)), kind).entries]


# Option: what reads it, and a table for it.
OPTIONS = {
    "--pairs": (
        lambda path: entries(path, "harmful"),
        [
            {"id": "1", "goal": "zorp it", "safe": "zorp it", "unsafe": TEXT, "cluster": "a"},
            {"id": "2", "goal": "glim", "safe": "glim", "unsafe": "now glim", "cluster": ""},
        ],
    ),
    "--benign": (
        lambda path: entries(path, "benign"),
        [{"prompt": TEXT, "attack": "x"}, {"prompt": "Name a fruit.", "attack": ""}],
    ),
    "--items": (
        lambda path: source_items(str(path), AS_NAMED).items,
        [
            {"suite": "s", "kind": "harmful", "prompt": TEXT, "cluster": "a"},
            {"suite": "", "kind": "benign", "prompt": "Name a fruit.", "cluster": ""},
        ],
    ),
    "--answers": (
        lambda path: [replace(answer, place=None) for answer in read_answers(str(path), AS_NAMED).answers],
        [{"id": "1", "prompt": "zorp it", "response": TEXT}, {"id": "2", "prompt": "glim it", "response": "No."}],
    ),
    "--attack": (
        read_templates,
        [{"name": "story", "template": f"{TEXT} {{goal}}"}, {"name": "b", "template": "now {goal}"}],
    ),
    "--refusals": (read_refusals, [{"refusal": TEXT}, {"refusal": "I cannot."}]),
    "--import": (
        lambda path: [
            replace(column, source="")
            for column in read_columns(path, SourceContent(run_names=("base", "new"))).columns
        ],
        [
            {"item": "1", "base": "0", "new": "0.5", "cluster": "a"},
            {"item": "2", "base": "1", "new": "", "cluster": ""},
        ],
    ),
    "--from-counts": (
        lambda path: rank_counts(path, PrepareConfig()).rows,
        [
            {"layer": "0", "expert": "1", "a1": "5", "a2": "1", "d1": "5", "d2": "9", "risk_diff": "0.4"},
            {"layer": "1", "expert": "0", "a1": "2", "a2": "2", "d1": "8", "d2": "8", "risk_diff": ""},
        ],
    ),
    "--selection-file": (
        lambda path: [[expert for _, expert in read_listed_experts(path).experts], read_listed_experts(path).scores],
        [{"layer": "0", "expert": "1", "risk_diff": "0.25"}, {"layer": "1", "expert": "0", "risk_diff": ""}],
    ),
    "--selection-file, selected": (
        lambda path: [expert for _, expert in read_listed_experts(path).experts],
        [{"layer": "0", "expert": "1", "selected": "yes"}, {"layer": "1", "expert": "0", "selected": ""}],
    ),
    "--labels": (
        lambda path: read_sheet(str(path)).rows,
        [
            {
                "item": "1",
                "run": "r1",
                "prompt": TEXT,
                "answer": TEXT,
                "asked": "harmful",
                "harmful": "yes",
                "refused": "",
                "probability": "0.375",
                "draw": "d",
            },
            {
                "item": "2",
                "run": "r1",
                "prompt": "glim",
                "answer": "No.",
                "asked": "refused",
                "harmful": "",
                "refused": "",
                "probability": "0.5",
                "draw": "d",
            },
        ],
    ),
}
SCORES = {"token_scores": {"1": {"0": 0.75, "1": 0.25}, "2": {"0": 0.5, "1": 0.5}}}
VALUES = {
    "--from-scores": (lambda path: rank_scores(path, PrepareConfig(), top_p_typed=False).rows, SCORES),
    "--selection-file": (lambda path: [one for _, one in read_listed_experts(path).experts], [[7, 31], [8, 2]]),
}


def table(rows, separator=",", end="\n"):
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=separator, lineterminator=end)
    writer.writerows([list(rows[0]), *(row.values() for row in rows)])
    return text.getvalue()


def zipped(data):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("zorp.csv", data)
    return file.getvalue()


def packed_zstd(data):
    return pa.compress(data, codec="zstd", asbytes=True)


def columnar(rows, arrow=False):
    file, filled = io.BytesIO(), [{key: value or None for key, value in row.items()} for row in rows]
    whole = pa.Table.from_pylist(filled)
    if arrow:
        with ipc.new_file(file, whole.schema) as writer:
            writer.write_table(whole)
    else:
        parquet.write_table(whole, file)
    return file.getvalue()


PACKED = {"gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress, "zstd": packed_zstd, "zip": zipped}
ENCODED = {"mark": "utf-8-sig", "UTF-16": "utf-16", "UTF-16, no mark": "utf-16-le", "UTF-32": "utf-32"}
FORMS = {
    ";": lambda rows: table(rows, ";").encode(),
    "tabs": lambda rows: table(rows, "\t").encode(),
    "sep=;": lambda rows: b"sep=;\r\n" + table(rows, ";", "\r\n").encode(),
    "CRLF": lambda rows: table(rows, end="\r\n").encode(),
    "CR": lambda rows: table(rows, end="\r").encode(),
    **{name: lambda rows, code=code: table(rows).encode(code) for name, code in ENCODED.items()},
    **{name: lambda rows, pack=pack: pack(table(rows).encode()) for name, pack in PACKED.items()},
    "all at once": lambda rows: gzip.compress(table(rows, ";", "\r\n").encode("utf-16")),
    "JSON Lines": lambda rows: "\n".join(json.dumps(row) for row in rows).encode("utf-16"),
    "JSON list": lambda rows: bz2.compress(json.dumps(rows).encode()),
    "JSON with null": lambda rows: json.dumps(
        [{key: cell or None for key, cell in row.items()} for row in rows]
    ).encode(),
    "parquet": columnar,
    "Arrow": lambda rows: gzip.compress(columnar(rows, arrow=True)),
}
# Option, column of the second row, whose cell may say that there is nothing.
NOTHING = [
    *(("--pairs", "cluster"), ("--benign", "attack"), ("--items", "suite"), ("--items", "cluster")),
    *(("--import", "new"), ("--import", "cluster"), ("--from-counts", "risk_diff"), ("--selection-file", "risk_diff")),
    *(("--selection-file, selected", "selected"), ("--labels", "refused"), ("--labels", "harmful")),
]
# Option, column of the first row, a number in it.
NUMBERS = [
    *(("--import", "new", "0.5"), ("--from-counts", "risk_diff", "0.4"), ("--from-counts", "a1", "5.0")),
    *(("--selection-file", "risk_diff", "0.25"), ("--labels", "probability", "0.375")),
]


def with_cell(rows, number, column, cell):
    return [{**row, column: cell} if at == number else row for at, row in enumerate(rows)]


def content(tmp_path, option, data, of=OPTIONS):
    (tmp_path / "table").write_bytes(data)
    return of[option][0](tmp_path / "table")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("option", OPTIONS)
def test_a_table_says_the_same_in_every_form(tmp_path, option, form):
    rows = OPTIONS[option][1]
    plain = content(tmp_path, option, table(rows).encode())
    assert plain and content(tmp_path, option, FORMS[form](rows)) == plain


@pytest.mark.parametrize("form", [*ENCODED, *PACKED])
@pytest.mark.parametrize("option", VALUES)
def test_a_json_value_says_the_same_in_every_form(tmp_path, option, form):
    text = json.dumps(VALUES[option][1])
    data = text.encode(ENCODED[form]) if form in ENCODED else PACKED[form](text.encode())
    plain = content(tmp_path, option, text.encode(), VALUES)
    assert plain and content(tmp_path, option, data, VALUES) == plain


@pytest.mark.parametrize(("option", "column"), NOTHING)
def test_the_same_cells_say_that_there_is_nothing(tmp_path, option, column):
    rows = OPTIONS[option][1]
    empty = content(tmp_path, option, table(with_cell(rows, 1, column, "")).encode())
    for word in MISSING:
        for spelled in (word, word.upper(), f" {word} "):
            assert content(tmp_path, option, table(with_cell(rows, 1, column, spelled)).encode()) == empty, spelled


@pytest.mark.parametrize(("option", "column"), [("--answers", "response"), ("--labels", "answer")])
def test_a_text_is_what_is_written_even_where_it_is_a_word_for_nothing(tmp_path, option, column):
    for word in MISSING - SPREADSHEET_ERRORS - {"", "nan"}:
        rows = with_cell(OPTIONS[option][1], 1, column, word)
        assert repr(word) in repr(content(tmp_path, option, table(rows).encode()))


@pytest.mark.parametrize(("option", "column", "number"), NUMBERS)
def test_a_number_may_have_a_decimal_comma_and_none_between_thousands(tmp_path, option, column, number):
    rows = OPTIONS[option][1]
    plain = content(tmp_path, option, table(with_cell(rows, 0, column, number)).encode())
    comma = with_cell(rows, 0, column, number.replace(".", ","))
    assert content(tmp_path, option, table(comma, ";").encode()) == plain
    with pytest.raises(UsageError):
        content(tmp_path, option, table(with_cell(rows, 0, column, "1,000")).encode())
