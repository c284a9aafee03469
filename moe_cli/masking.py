"""Keys that this process uses, masked in whatever comes from outside before it is kept or shown.

A key is found as it is and in other cases, percent-encoded or escaped as JSON, in hexadecimal digits and in base64.
What cannot be found is a part of a key, or one that was changed in another way.
"""

from __future__ import annotations

import re
from base64 import b64encode, urlsafe_b64encode
from functools import cache

MASK = "(the key)"
WORD = re.compile(r"[A-Za-z]{1,16}|.{1,7}")  # such as EMPTY, which servers without keys are given

_KEYS: set[str] = set()


def keep_secret(key: str) -> None:
    """Mask this key from now on."""
    if key:
        _KEYS.add(key)


def masked(text: str) -> str:
    """The text of an error or a log without any key."""
    return _without(text, sorted(_KEYS))


def masked_answer(text: str) -> str:
    """The text of an answer or a reply without any key, but for plain words, which are no secret and stand in texts."""
    return _without(text, [key for key in sorted(_KEYS) if WORD.fullmatch(key) is None])


def _without(text: str, keys: list[str]) -> str:
    for key in keys:
        text = _pattern(key).sub(MASK, text)
    return text


@cache
def _pattern(key: str) -> re.Pattern[str]:
    signs = (rf"(?:{re.escape(sign)}|\\u{ord(sign):04x}|%{ord(sign):02x})" for sign in key)
    encoded = [rf"(?-i:{re.escape(part)})" for part in _in_base64(key.encode()) if len(part) >= 8]
    return re.compile("|".join(["".join(signs), *encoded, key.encode().hex()]), re.IGNORECASE)


def _in_base64(key: bytes) -> set[str]:
    """What every base64 holds of a text with the key in it, wherever in it the key begins."""
    found = set()
    for before in range(3):
        first, end = -(-before * 8 // 6), (before + len(key)) * 8 // 6  # signs that the key alone decides
        for encode in (b64encode, urlsafe_b64encode):
            found.add(encode(bytes(before) + key).decode()[first:end])
    return found
