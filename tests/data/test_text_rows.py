"""Texts that are no JSON: headers, separators, quotes, and what is no list of prompts."""

from __future__ import annotations

import bz2
import gzip
import lzma

import pytest
from fsspec.compression import compr

from moe_cli.data import column_map, read_source
from moe_cli.data.templates import read_refusals
from moe_cli.errors import UsageError
from tests.data.shapes import GOAL, OTHER, table, written

PACKERS = {"gzip": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "none": bytes}
HEADERS = [
    ["goal", "Unnamed: 0"],
    ["goal", "1-category", "2-category"],
    ["goal", "0", "1"],
    ["goal", "GPT-4 (score)", "Human's label"],
    ["goal", "Was the answer harmful?"],
    ["Goal ", "n°", "größe"],
    ["goal", ""],
]


def goals(name, **options):
    return [entry.goal for entry in read_source(name, **options).entries]


def refusal(tmp_path, content):
    with pytest.raises(UsageError) as caught:
        read_source(written(tmp_path, content))
    assert "zorp" not in f"{caught.value.message} {caught.value.hint}"
    return caught.value.message


@pytest.mark.parametrize("header", HEADERS, ids=",".join)
def test_a_header_is_known_by_one_name_whatever_the_others_look_like(tmp_path, header):
    content = table(header, [GOAL, *("x" for _ in header[1:])])
    assert goals(written(tmp_path, content)) == [GOAL]


@pytest.mark.parametrize("sep", [",", ";", "\t"], ids=["comma", "semicolon", "tab"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["lf", "crlf", "cr"])
def test_separator_encoding_and_line_ends_make_no_difference(tmp_path, sep, encoding, end):
    content = table(["goal", "note"], [GOAL, f"a{sep} b"], [OTHER, "ü"], sep=sep)
    (tmp_path / "rows").write_bytes(content.replace("\n", end).encode(encoding))
    assert goals(str(tmp_path / "rows")) == [GOAL, OTHER]


@pytest.mark.parametrize("packer", [*PACKERS, "zstd"])
@pytest.mark.parametrize("content", [table(["goal"], [GOAL]), f'{{"goal": "{GOAL}"}}'], ids=["csv", "json"])
def test_a_compression_is_told_by_its_bytes(tmp_path, packer, content):
    if packer == "zstd":
        with open(tmp_path / "rows", "wb") as file, compr["zstd"](file, mode="wb") as packed:
            packed.write(content.encode("utf-16"))
    else:
        (tmp_path / "rows").write_bytes(PACKERS[packer](content.encode("utf-16")))
    assert goals(str(tmp_path / "rows")) == [GOAL]


@pytest.mark.parametrize("name", ["objective", "Harmful Behaviour Text?", "This is: a column - 1", "queries"])
def test_map_names_a_column_of_any_name_and_any_number_of_columns(tmp_path, name):
    columns = column_map([f"goal={name}"])
    for content in (table([name], [GOAL]), table([name, "theme"], [GOAL, "x"])):
        assert goals(written(tmp_path, content), columns=columns) == [GOAL]


@pytest.mark.parametrize(
    "rows",
    [
        [[GOAL, "unsafe"], [OTHER, "safe"]],
        [[GOAL, "jailbreak"], [OTHER, "benign"]],
        [["1", GOAL], ["2", OTHER]],
        [[GOAL, "Sure, here is"], [OTHER, "Sure, here"]],
        [[GOAL, "question", "x"], [OTHER, "question", "y"]],
    ],
)
def test_a_table_without_a_header_is_refused_and_its_first_row_is_not_shown(tmp_path, rows):
    assert "without a header" in refusal(tmp_path, table(*rows))


@pytest.mark.parametrize(
    "content",
    [
        f"1. {GOAL}\n2. {OTHER}\n",
        f"- {GOAL}\n* {OTHER}\n",
        f"{GOAL}\n---\n{OTHER}\n",
        f"# {GOAL}\n{OTHER}\n",
        f"---\nlicense: mit\n---\n{GOAL}\n",
        f"goals:\n- {GOAL}\n- {OTHER}\n",
        f"- goal: {GOAL}\n  target: x\n",
        f"```\n{GOAL}\n```\n",
    ],
)
def test_lines_that_are_not_one_prompt_each_are_refused(tmp_path, content):
    assert refusal(tmp_path, content)


@pytest.mark.parametrize(
    "text",
    ["What is 2 - 1?", "Zorp: the glim", "* is a star, what is +?", "1.5 glims are how many?", "#glims are what?"],
)
def test_marks_inside_a_line_belong_to_its_prompt(tmp_path, text):
    assert goals(written(tmp_path, f"{text}\n{GOAL}\n")) == [text, GOAL]


def test_marked_lines_are_no_refusals_either(tmp_path):
    for content in ("1. I cannot.\n2. No, sorry.\n", f'{GOAL},"Sure, no."\n{OTHER},"Sure, not."\n'):
        with pytest.raises(UsageError):
            read_refusals(tmp_path / written(tmp_path, content))
    assert len(read_refusals(tmp_path / written(tmp_path, "I cannot, sorry.\nNo, sorry.\n"))) == 2
