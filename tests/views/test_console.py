"""What takes long has a line on a terminal while it goes on, and leaves nothing behind."""

from __future__ import annotations

import io
import re
import time

import pytest
from rich.console import Console

from moe_cli.activity import Activity, begin_activity, count_items, listening_to
from moe_cli.views import console
from moe_cli.views.console import Reporter, count_text


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def reporter(monkeypatch):
    """`reporter(terminal, silence)`, and what it wrote to stderr as `.written()`."""

    def made(*, terminal: bool = True, silence: float = 0.0) -> Reporter:
        file = Terminal() if terminal else io.StringIO()
        talk = Console(file=file, force_terminal=terminal, width=100, _environ={"TERM": "xterm"})
        monkeypatch.setattr(console, "stderr_console", lambda: talk)
        reporter = Reporter(tables=True, silence=silence)
        reporter.written = file.getvalue
        return reporter

    return made


def wait_for(text: str, written) -> bool:
    end = time.monotonic() + 5
    while text not in written() and time.monotonic() < end:
        time.sleep(0.01)
    return text in written()


def test_a_long_activity_has_a_line_with_its_count_and_takes_it_away(reporter):
    with reporter() as drawn:
        with begin_activity("loading the model [zorp]", total=2_000_000_000, unit="bytes") as loading:
            loading.advance(500_000_000)
            assert wait_for("500 MB of 2.00 GB", drawn.written)
            assert "loading the model [zorp]" in drawn.written()
        assert not drawn.bars.tasks and not drawn.bars.live.is_started
    after = drawn.written().rpartition("\x1b[2K")[2]
    assert not re.sub(r"\x1b\[[?0-9;]*[A-Za-z]|\r", "", after), "the line is erased"


def test_a_short_activity_draws_nothing(reporter):
    with reporter(silence=60.0) as drawn, begin_activity("hashing the weights"):
        pass
    assert drawn.written() == "" and not drawn.lines


def test_without_a_terminal_no_activity_is_drawn(reporter):
    with reporter(terminal=False) as drawn, begin_activity("hashing the weights"):
        time.sleep(0.05)
        assert not drawn.lines
    assert drawn.written() == ""


def test_an_activity_that_fails_leaves_no_line(reporter):
    with pytest.raises(OSError, match="broken"), reporter() as drawn, begin_activity("hashing the weights"):
        assert wait_for("hashing the weights", drawn.written)
        raise OSError("broken")
    assert not drawn.lines and not drawn.bars.live.is_started


def test_items_are_counted_in_the_activity_that_counts_nothing_yet_and_else_in_one_of_their_own():
    told: list[tuple[str, int | None]] = []

    class Listener:
        def began(self, begun: Activity) -> None:
            told.append((begun.text, begun.total))

        def ended(self, begun: Activity) -> None:
            told.append((begun.text, begun.done))

    with listening_to(Listener()):
        with begin_activity("loading zorp") as loading:
            assert list(count_items("abc", "loading weights")) == ["a", "b", "c"]
            assert (loading.done, loading.total) == (3, 3)
        assert list(count_items("ab", "writing shards")) == ["a", "b"]
    with begin_activity("nobody listens"):
        pass
    assert told == [("loading zorp", None), ("loading zorp", 3), ("writing shards", 2), ("writing shards", 2)]


@pytest.mark.parametrize(
    ("counting", "text"),
    [
        (Activity("a"), ""),
        (Activity("a", done=1200), "1,200"),
        (Activity("a", 3000, done=1200), "1,200 of 3,000"),
        (Activity("a", 2 * 10**9, "bytes", 10**6), "1 MB of 2.00 GB"),
    ],
)
def test_a_count_says_what_is_known(counting, text):
    assert count_text(counting) == text
