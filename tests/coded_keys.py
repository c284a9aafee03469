"""A key in all forms in which a server may repeat it, and whether it can be read from a text."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Callable
from urllib.parse import quote, unquote

KEY = "sk-Zorp0.the+Glim/7=="
KEY_OF_A_SERVICE = "sk-proj-QuovaNib0123456789_-aBzx"
PART = 8  # signs of a key that are as bad as the key


def _base64(before: str, after: str = "") -> Callable[[str], str]:
    return lambda key: base64.b64encode(f"{before}{key}{after}".encode()).decode()


def _lines(text: str, width: int, end: str) -> str:
    return end.join(text[start : start + width] for start in range(0, len(text), width))


FORMS: dict[str, Callable[[str], str]] = {
    "as it is": lambda key: key,
    "after Bearer": lambda key: f"Authorization: Bearer {key}",
    "in capitals": str.upper,
    "in small letters": str.lower,
    "percent-encoded": lambda key: quote(key, safe=""),
    "percent-encoded, every sign": lambda key: "".join(f"%{ord(sign):02x}" for sign in key),
    "escaped": lambda key: "".join(f"\\u{ord(sign):04X}" for sign in key),
    "half escaped": lambda key: f"\\u{ord(key[0]):04x}{key[1:]}",
    "escaped by Python": lambda key: "".join(f"\\x{ord(sign):02x}" for sign in key),
    "with escaped slashes": lambda key: key.replace("/", "\\/"),
    "escaped as HTML": lambda key: "".join(f"&#{ord(sign)};" for sign in key),
    "escaped as HTML, in hexadecimal digits": lambda key: "".join(f"&#x{ord(sign):X};" for sign in key),
    "over lines": lambda key: _lines(key, 5, "\n"),
    "over folded lines": lambda key: _lines(key, 9, "\r\n  "),
    "over lines that are escaped": lambda key: _lines(key, 7, "\\r\\n"),
    "in base64": _base64(""),
    "in base64 after Bearer": _base64("Bearer "),
    "in base64 as a password": _base64("me:", "@"),
    "in base64 for addresses": lambda key: base64.urlsafe_b64encode(f"x{key}".encode()).decode(),
    "in base64 over lines": lambda key: _lines(base64.b64encode(key.encode()).decode(), 10, "\n"),
    "in hexadecimal digits": lambda key: key.encode().hex(),
    "in hexadecimal capitals": lambda key: key.encode().hex().upper(),
    "in hexadecimal digits with colons": lambda key: key.encode().hex(":"),
}


def visible(text: str, key: str = KEY) -> str | None:
    """A part of the key that stands in the text in any of the forms; None: there is none."""
    plain = html.unescape(unquote(_unescaped(text)))
    for read in (text, plain):
        dense = re.sub(r"\s|\\[nrt]|[\0\\]", "", read)
        if found := _part(dense.lower(), key.lower(), PART) or _part(dense, base64.b64encode(key.encode()).decode()):
            return found
        digits = re.sub(r"[:\s]|\\[nrt]", "", read.lower())
        if found := _part(digits, key.encode().hex(), 2 * PART):
            return found
        for before in ("x", "xy"):
            if found := _part(dense, base64.b64encode((before + key).encode()).decode()[2:]):
                return found
            if found := _part(dense, base64.urlsafe_b64encode((before + key).encode()).decode()[2:]):
                return found
    return None


def _part(text: str, whole: str, length: int = 12) -> str | None:
    pieces = (whole[start : start + length] for start in range(len(whole) - length + 1))
    return next((piece for piece in pieces if piece in text), None)


def _unescaped(text: str) -> str:
    return re.sub(r"\\u([0-9a-fA-F]{4})|\\x([0-9a-fA-F]{2})", lambda m: chr(int(m[1] or m[2], 16)), text)
