"""Unsafe characters, which move the cursor, reorder text or are invisible, and their replacements.

On a terminal each is replaced by a visible character, as nobody reads the text back. In JSON and YAML, which programs
read, it is escaped: the value stays the same.
"""

from __future__ import annotations

import re
import unicodedata

VISIBLE = {"\n": "↵", "\t": " ", "\r": "␍"}
UNSAFE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}  # control, format (bidi), surrogate, private, unassigned, breaks
OTHER_THAN_ASCII = re.compile(r"[^\n -~]")


def escape_unsafe(text: str) -> str:
    """`text` with each unsafe character replaced by one visible character."""
    if text.isprintable():  # nothing of `UNSAFE` is
        return text
    return "".join(_visible(character) for character in text)


def is_unsafe(character: str) -> bool:
    """Whether a character is invisible or affects the display of others."""
    return unicodedata.category(character) in UNSAFE


def is_text(text: str) -> bool:
    """Whether a text can be encoded as UTF-8; arguments and file names may contain any bytes."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def escape_json(document: str, encoding: str = "utf-8") -> str:
    """The same JSON document in safe characters of `encoding`; line breaks between values stay."""
    return OTHER_THAN_ASCII.sub(lambda match: _in_json(match[0], encoding), document)


def escape_yaml(document: str) -> str:
    """The same for YAML in which all unsafe characters are in double quotes."""
    return OTHER_THAN_ASCII.sub(lambda match: _in_yaml(match[0]), document)


def _visible(character: str) -> str:
    if character in VISIBLE:
        return VISIBLE[character]
    return "�" if is_unsafe(character) else character


def _in_json(character: str, encoding: str) -> str:
    if not is_unsafe(character) and character.encode(encoding, "ignore"):
        return character
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[place : place + 2].hex()}" for place in range(0, len(units), 2))


def _in_yaml(character: str) -> str:
    if not is_unsafe(character):
        return character
    return f"\\u{ord(character):04x}" if ord(character) < 0x10000 else f"\\U{ord(character):08x}"
