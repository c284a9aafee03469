"""The sources of a run are readable at 80 columns, whatever their names and reasons hold."""

import unicodedata

import pytest
from rich.cells import cell_len

from moe_cli.records import BadRow, DataPreview, SourceCount
from moe_cli.views.console import stdout_console
from moe_cli.views.sources import preview_view
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
    out = drawn(DataPreview(sources=(source,), counts=None, refused=None))
    assert [f"bad row: a.csv [row {number}]: `goal` is None" in out for number in range(1, 41)] == [True] * 40
    assert "skipped 1,234: a.csv: its attack failed" in out
    assert "would refuse" not in out and "What they offer" not in out
