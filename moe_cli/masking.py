"""Masks the keys that this process uses in all text from outside, before it is kept or shown.

A key is found as it is and in other cases; percent-encoded or escaped as in JSON, Python or HTML; in hexadecimal digits
and in base64; broken over lines. Part of a key, or one that was changed in another way, is not found.

In errors and warnings, typed text that has the form of a well-known service's key is masked, too.
"""

from __future__ import annotations

import html
import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterable, Mapping
from functools import cache

MASK = "(the key)"
WORD = re.compile(r"[A-Za-z]{1,16}|.{1,7}")  # such as EMPTY, which servers without keys are given
LONGEST_FORM = 2**14  # characters that a key may take: what is cut to fewer of them may end within one
GAP = r"(?:\s|\\[nrt]?|\0){0,8}"  # what breaks a key over lines, and the backslash before a backslash
GAP_OF_DIGITS = r"(?:[:\s]|\\[nrt]){0,4}"
SECRET_VARIABLE = re.compile(r"(?:.*_)?(?:KEY|TOKEN|SECRET|PASSWORD)", re.IGNORECASE)  # of the environment, by its name
SECRET_VALUE = re.compile(r"(?![/~.])[!-~]{16,}")  # no path of a file that holds one
OF_A_SERVICE = re.compile(
    r"(?:(?<![A-Za-z0-9])|(?<=%[0-9A-Fa-f][0-9A-Fa-f]))(?:sk-[A-Za-z0-9_-]{20,}|hf_[A-Za-z0-9]{30,}"
    r"|gsk_[A-Za-z0-9]{30,}|xai-[A-Za-z0-9]{30,}"
    r"|nvapi-[A-Za-z0-9_-]{30,}|pplx-[A-Za-z0-9]{30,}|gh[opsu]_[A-Za-z0-9]{30,}|github_pat_\w{30,}"
    r"|AIza[A-Za-z0-9_-]{35}|eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,})"
)

_KEYS: set[str] = set()


def keep_secret(key: str) -> None:
    """Mask this key from now on."""
    if key:
        _KEYS.add(key)


def keep_environment_secret(environment: Mapping[str, str]) -> None:
    """Mask from now on the values of variables that have the name of a key: `HF_TOKEN`, `OPENAI_API_KEY`."""
    for name, value in environment.items():
        if SECRET_VARIABLE.fullmatch(name) and SECRET_VALUE.fullmatch(value):
            keep_secret(value)


def mask_keys(text: str) -> str:
    """The text of an error or a log without any key."""
    dense = text.replace("\0", "")  # which UTF-16 has between the letters
    return OF_A_SERVICE.sub(MASK, _without(dense, sorted(_KEYS)))


def mask_answer(text: str) -> str:
    """The text of an answer or a reply without any key, except plain words, which occur in normal text."""
    return _without(text, [key for key in sorted(_KEYS) if not _is_word(key)])


def holds_key(text: str) -> bool:
    """Whether the text contains a key that is no plain word, or something that has the form of a key."""
    return mask_answer(text) != text or OF_A_SERVICE.search(text) is not None


def _without(text: str, keys: Iterable[str]) -> str:
    for key in keys:
        text = _pattern(key).sub(MASK, text)
    return text


def _is_word(key: str) -> bool:
    return WORD.fullmatch(key) is not None


@cache
def _pattern(key: str) -> re.Pattern[str]:
    gap = "" if _is_word(key) else GAP
    encoded = [gap.join(map(re.escape, part)) for part in _in_base64(key.encode()) if len(part) >= 8]
    forms = [
        gap.join(f"(?:{'|'.join(_forms(sign))})" for sign in key),
        GAP_OF_DIGITS.join(key.encode().hex()),
        *(f"(?-i:{part})" for part in encoded),
    ]
    return re.compile("|".join(forms), re.IGNORECASE)


def _forms(sign: str) -> set[str]:
    code = ord(sign)
    escaped = {rf"\\u{code:04x}", rf"\\x{code:02x}", f"%{code:02x}", f"&#0*{code};", f"&#x0*{code:x};"}
    return {re.escape(sign), re.escape(html.escape(sign)), *escaped}


def _in_base64(key: bytes) -> set[str]:
    """The base64 of the key at each of the three alignments, without the characters that depend on its surroundings."""
    forms = set()
    for before in range(3):
        first, end = -(-before * 8 // 6), (before + len(key)) * 8 // 6  # signs that the key alone decides
        for encode in (b64encode, urlsafe_b64encode):
            forms.add(encode(bytes(before) + key).decode()[first:end])
    return forms
