"""Whatever a file holds, it is read or refused as one error that shows no word of a prompt; none is a crash."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moe_cli.data import read_source, read_templates, refuse_bad_rows
from moe_cli.data.column_names import ANSWER_COLUMNS, OTHER_NAMES, ROW_MARKS, UNREADABLE_COLUMNS
from moe_cli.data.labels import BENIGN_IF_TRUE, HARMFUL_IF_TRUE, LOOSELY_WORDED, WORDED
from moe_cli.data.templates import read_refusals
from moe_cli.errors import MoeError, UsageError
from tests.data.shapes import table, written

SECRET = "zorp the glim"
LABELS = {*WORDED, *LOOSELY_WORDED, *HARMFUL_IF_TRUE, *BENIGN_IF_TRUE}
NAMES = sorted(
    ROW_MARKS | OTHER_NAMES | LABELS | {*UNREADABLE_COLUMNS, *ANSWER_COLUMNS, "jailbroken", "judge_result", "role"}
)
TEXTS = [
    *(
        SECRET,
        f"{SECRET}?",
        f"{SECRET}, {SECRET}; x",
        f"a\n{SECRET}",
        f"Human: {SECRET}\n\nAssistant:",
        f"{{query}} {SECRET}",
    ),
    *(
        f'[{{"role": "{SECRET}"}}]',
        f"Sure, {SECRET}",
        f"- {SECRET}",
        f"\ud83d {SECRET}",
        "",
        " ",
        "safe",
        "unsafe",
        "1",
        "AIM",
    ),
]
MARKS = [
    b"PK\x03\x04",
    b"\x1f\x8b",
    b"BZh",
    b"\xfd7zXZ\x00",
    b"\x28\xb5\x2f\xfd",
    b"PAR1",
    b"ARROW1",
    b"\xff\xff\xff\xff",
]

texts = st.sampled_from(TEXTS)
keys = st.sampled_from([*NAMES, "a", "1", f"please {SECRET} now"])
scalars = st.one_of(texts, st.booleans(), st.integers(-1, 3), st.none(), st.floats())
turns = st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant", SECRET, 1]), "content": scalars})
values = st.recursive(
    st.one_of(scalars, st.lists(turns, max_size=2)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=3)),
    max_leaves=8,
)
rows = st.dictionaries(keys, values, max_size=5)
tables = st.tuples(
    st.lists(st.sampled_from(NAMES), min_size=1, max_size=4, unique=True),
    st.lists(st.lists(texts, max_size=4), max_size=3),
)
contents = st.one_of(
    values.map(json.dumps).map(str.encode),
    st.lists(rows, max_size=4).map(json.dumps).map(str.encode),
    st.lists(rows, max_size=4).map(lambda some: "\n".join(map(json.dumps, some)).encode()),
    tables.map(lambda parts: table(parts[0], *parts[1]).encode("utf-8", "surrogatepass")),
    st.lists(texts, max_size=5).map(lambda lines: "\n".join(lines).encode("utf-8", "surrogatepass")),
    st.tuples(st.sampled_from([b"", b"[", b'{"goal":', b"\xff\xfe", *MARKS]), st.binary(max_size=40)).map(b"".join),
)


@given(contents)
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_content_is_read_or_refused_without_a_word_of_it(tmp_path, content):
    (tmp_path / "rows").write_bytes(content)
    for reader in (read_source, read_templates, read_refusals):
        shown = []
        try:
            found = reader(tmp_path / "rows" if reader is not read_source else str(tmp_path / "rows"))
            shown = [*(fault.reason for fault in found.faults), *found.unread] if reader is read_source else []
        except MoeError as error:
            shown = [error.message, str(error.hint)]
        assert not any(SECRET in one.replace("_", " ").lower() for one in shown)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\x80\x04\x95zorp", "is a pickle"),
        (b"%PDF-1.7 zorp", "is a PDF"),
        (b"SQLite format 3\x00zorp", "an SQLite database"),
        (b"\x1f\x8b\x08zorp", "is damaged: its gzip data"),
        (b"PK\x03\x04zorp", "a zip archive that cannot be unpacked"),
        (b"PAR1zorp", "cannot be read as parquet"),
        (b"goal\nf\xfcr zorp\n", "is not UTF-8 text: byte 6"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS"),
        (b"zo\x00rp and more of it\x00", "NUL bytes"),
    ],
)
def test_what_is_no_text_is_refused_for_what_it_is(tmp_path, content, reason):
    Path(written(tmp_path, "")).write_bytes(content)
    with pytest.raises(UsageError, match=reason) as refusal:
        read_source(str(tmp_path / "rows"))
    assert "zorp" not in refusal.value.message


@pytest.mark.parametrize("value", ["zorp", {"goal": ["zorp", 1]}, [("a", None)], {1, 2}])
def test_a_printable_pickle_is_refused_as_what_it_is(tmp_path, value):
    (tmp_path / "rows").write_bytes(pickle.dumps(value, 0))
    with pytest.raises(UsageError, match="is a pickle, which could run code"):
        read_source(str(tmp_path / "rows"))


def test_a_text_that_ends_with_a_point_is_no_pickle(tmp_path):
    (tmp_path / "rows").write_text("zorp the glim p0\nflomp the hesk p0\nrest.")
    assert len(read_source(str(tmp_path / "rows")).entries) == 3


def test_a_list_of_nothing_is_json_without_rows(tmp_path):
    (tmp_path / "rows").write_text("[null, null]")
    with pytest.raises(UsageError):
        refuse_bad_rows(read_source(str(tmp_path / "rows")).faults, 0, hint="")
