"""Foreign text moves no cursor, changes no colour, writes no markup and keeps its reading order."""

import io
import unicodedata

import pytest
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from moe_cli.characters import escape_unsafe
from moe_cli.views.text import safe_text

UNSAFE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}  # control, format, surrogate, private, unassigned, line breaks

HOSTILE = {
    # escape sequences: colour, cursor, screen, title, clipboard, links, device answers
    "colour": "\x1b[31mred\x1b[0m",
    "clear the screen": "\x1b[2J\x1b[H",
    "cursor up and overwrite": "safe\x1b[1A\x1b[2Kunsafe",
    "hide the cursor": "\x1b[?25l",
    "other screen": "\x1b[?1049h",
    "window title": "\x1b]0;pwned\x07",
    "clipboard": "\x1b]52;c;cm0gLXJm\x07",
    "link": "\x1b]8;;http://evil\x1b\\click\x1b]8;;\x1b\\",
    "device status": "\x1b[6n",
    "full reset": "\x1bc",
    "sixel": "\x1bPq#0;2;0;0;0\x1b\\",
    "bare escape": "\x1b",
    "escape at the end": "text\x1b[",
    "charset": "\x1b(0lqqk",
    # the same in one byte (C1)
    "C1 sequence": "\x9b31mred",
    "C1 command": "\x9d0;pwned\x9c",
    "C1 link": "\x9d8;;http://evil\x9cclick",
    "C1 string": "\x90q\x9c",
    "C1 next line": "one\x85two",
    # C0
    "carriage return": "safe\runsafe",
    "backspace": "unsafe\b\b\b\b\b\bsafe",
    "bell": "\a\a\a",
    "tab": "a\tb",
    "vertical tab": "a\vb",
    "form feed": "a\fb",
    "null": "a\0b",
    "shift out": "\x0e\x0f",
    "delete": "a\x7fb",
    "newlines": "\n\n\n",
    "a table line": "x\n│ fake │ row │\n",
    "windows newline": "a\r\nb",
    "separators": "a\x1c\x1d\x1e\x1fb",
    # reading order
    "right to left": "\u202egnp.exe",
    "left to right": "\u202dabc",
    "embedding": "\u202aabc\u202b",
    "isolates": "\u2066abc\u2069\u2067def\u2068",
    "open override": "abc\u202e",
    "marks": "\u200e\u200f\u061c",
    # invisible
    "zero width": "a\u200bb\u200cc\u200dd",
    "word joiner": "a\u2060b",
    "byte order mark": "\ufeffabc",
    "soft hyphen": "a\u00adb",
    "invisible operators": "\u2061\u2062\u2063",
    "tags": "a\U000e0041\U000e0042\U000e007f",
    "interlinear": "\ufff9a\ufffab\ufffb",
    "line separator": "a\u2028b",
    "paragraph separator": "a\u2029b",
    "private use": "\ue000\U000f0000",
    "lone surrogate": "\ud800",
    "not a character": "\uffff\ufdd0",
    # rich's own markup
    "markup": "[red]x[/red]",
    "closing markup": "[/]",
    "unknown closing": "[/nonsense]",
    "unopened": "[/bold]",
    "markup link": "[link=http://evil]x[/link]",
    "open bracket": "[",
    "backslash": "\\[red]",
    "action": "[@click=app.quit]x[/]",
    "emoji code": ":smile:",
    # plain, but hard
    "wide": "漢字" * 60,
    "emoji": "👩‍👩‍👧" * 20,
    "combining": "a" + "\u0301" * 40,
    "very long": "x" * 2000,
    "long words": "lorem ipsum " * 60,
    "empty": "",
    "spaces": "   ",
    "right-to-left letters": "שלום עולם",
    "percent and braces": "{0} %s %(x)s {x!r}",
}


def drawn(renderable, width=80):
    """Text on a terminal that could do everything."""
    file = io.StringIO()
    console = Console(file=file, width=width, force_terminal=True, color_system="truecolor", emoji=False, markup=False)
    console.print(renderable)
    return file.getvalue()


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_no_unsafe_character_is_left(text):
    shown = escape_unsafe(text)
    assert not [character for character in shown if unicodedata.category(character) in UNSAFE]
    assert len(shown) == len(text)  # each character is replaced by one: nothing vanishes


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_cell_and_a_title_draw_foreign_text_as_it_is_and_stay_in_80_columns(text):
    table = Table("a", "b", title=safe_text(text))
    table.add_row(safe_text(text), "end")
    table.columns[0].overflow = "fold"
    for renderable in (table, safe_text(text)):
        out = drawn(renderable)
        bare = (
            out.replace("\x1b[1m", "").replace("\x1b[3m", "").replace("\x1b[0m", "")
        )  # the table's own head and title
        assert not [c for c in bare if c != "\n" and unicodedata.category(c) in UNSAFE]
        assert max(map(cell_len, bare.splitlines()), default=0) <= 80


@pytest.mark.parametrize("text", ["[red]x[/red]", "[/]", "[link=http://evil]x[/link]", ":smile:", "\\[red]"])
def test_markup_is_drawn_letter_by_letter(text):
    assert drawn(safe_text(text)) == f"{text}\n"


@pytest.mark.parametrize("text", ["Straße", "naïve café", "漢字", "😀", "a\u0301", "שלום", "x² + y² ≤ z", "'\"<>&"])
def test_harmless_text_is_left_alone(text):
    assert escape_unsafe(text) == text


def test_line_breaks_stay_visible():
    assert escape_unsafe("a\nb\r\tc") == "a↵b␍ c"


def test_all_of_unicode_comes_out_safe():
    shown = escape_unsafe("".join(map(chr, range(0x110000))))
    assert not {unicodedata.category(character) for character in set(shown)} & UNSAFE


def test_text_without_an_unsafe_character_is_known_at_once():
    printable = [character for character in map(chr, range(0x110000)) if character.isprintable()]
    assert not {unicodedata.category(character) for character in printable} & UNSAFE


def test_any_value_can_be_shown():
    assert [str(safe_text(value)) for value in (3, None, 0.5, b"\x1b")] == ["3", "None", "0.5", "b'\\x1b'"]
    assert safe_text("x", style="yellow").style == "yellow"
