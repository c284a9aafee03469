"""The sources of a run are readable at 80 columns, whatever their names and reasons hold."""

import unicodedata

import pytest
from rich.cells import cell_len

from moe_cli.records import BadRow, DataPreview, ItemsPreview, SourceCount, UnreadableSource
from moe_cli.views.console import stdout_console
from moe_cli.views.source_tables import items_preview_view, preview_view
from tests.views.test_view_tables import NASTY, UNSAFE, made


@pytest.fixture
def drawn(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")

    def run(preview):
        stdout_console().print(preview_view(preview))
        return capsys.readouterr().out

    return run


@pytest.mark.parametrize("text", NASTY.values(), ids=NASTY)
def test_a_preview_stays_in_80_columns_and_lets_nothing_unsafe_out(drawn, text):
    out = drawn(made(DataPreview, text))
    assert max(map(cell_len, out.split("\n"))) <= 80
    assert not [c for c in out if c != "\n" and unicodedata.category(c) in UNSAFE]


def test_every_bad_row_is_listed_and_every_reason_to_skip_is_counted(drawn):
    rows = tuple(BadRow(place=f"a.csv [row {number}]", reason="`goal` is None") for number in range(1, 41))
    source = made(SourceCount, name="a.csv", skipped={"its attack failed": 1234}, bad_rows=rows)
    out = drawn(DataPreview(sources=(source,), unreadable=(), counts=None, refused=None))
    assert [f"bad row: a.csv [row {number}]: `goal` is None" in out for number in range(1, 41)] == [True] * 40
    assert "skipped 1,234: a.csv: its attack failed" in out
    assert "What they offer" not in out


def test_what_is_not_read_and_what_cannot_be_used_is_named(drawn):
    source = made(SourceCount, name="a.csv", unread=("category", "source"))
    broken = UnreadableSource(role="benign", name="b.bin", reason="b.bin is a picture", hint="bring text")
    out = drawn(DataPreview(sources=(source,), unreadable=(broken,), counts=None, refused="b.bin is a picture"))
    assert "not read: a.csv: the columns category, source" in out
    assert "cannot be used: --benign b.bin: b.bin is a picture" in out and "hint: bring text" in out


@pytest.mark.parametrize("text", NASTY.values(), ids=NASTY)
def test_a_preview_of_items_stays_in_80_columns_and_lets_nothing_unsafe_out(monkeypatch, capsys, text):
    monkeypatch.setenv("COLUMNS", "80")
    stdout_console().print(items_preview_view(made(ItemsPreview, text)))
    out = capsys.readouterr().out
    assert max(map(cell_len, out.split("\n"))) <= 80
    assert not [c for c in out if c != "\n" and unicodedata.category(c) in UNSAFE]
