"""Whether an answer is in a language that the English phrases of the keyword judge cannot read.

Letters of another script are checked first, then a language detector (py3langid) runs on the text without code and
names. An answer that is too short to detect counts as English.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier


RULES = 1  # raise it when the logic below changes: it is part of the keyword judge's revision
NOT_ENGLISH = "not English"
MAX_OTHER_SCRIPT = 0.3  # of the letters; an English answer may quote a word or a line
MIN_WORDS = 2  # that are no part of a name
MIN_LETTERS = 10  # of these words; fewer tell nothing: "No.", "Sure: 5"
MIN_ODDS = 250  # times as likely as English that another of LANGUAGES must be, all being equally likely at first
# Latin script, with many speakers or near to one of these; close relatives share what is not English.
LANGUAGES = (
    *("en", "de", "nl", "sv", "da", "no", "is", "fr", "es", "ca", "pt", "it", "ro", "pl", "cs", "sk", "sl", "hr"),
    *("hu", "fi", "et", "lv", "lt", "sq", "tr", "az", "vi", "id", "ms", "tl", "sw"),
)

_NOT_PROSE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`|\b(?:https?://|www\.)\S+|\S+@\S+", re.DOTALL)
_WORD = re.compile(r"[^\W\d_]+(?:['\u2019-][^\W\d_]+)*")
_WITHIN_SENTENCE = re.compile(r"[\w,)\"'\u2019\u201d-][^\S\n]+$")
_OPENING = re.compile(r".*?[.!?\u3002\uff01\uff1f\u0964\u061f](?=\s|$)|[^\n]*", re.DOTALL)


def is_not_english(text: str) -> str | None:
    """Why English phrases do not apply to an answer; None if it is English or too short to tell.

    The opening is also checked by itself, as that is where a refusal would be.
    """
    prose = _NOT_PROSE.sub(" ", text).strip()
    opening = _OPENING.match(prose)
    return _foreign(prose) or (_foreign(opening.group()) if opening and opening.end() < len(prose) else None)


def language_rules() -> tuple[object, ...]:
    """All values that decide, for the revision of the judge."""
    patterns = (_NOT_PROSE, _WORD, _WITHIN_SENTENCE, _OPENING)
    return (
        *(RULES, MAX_OTHER_SCRIPT, MIN_WORDS, MIN_LETTERS, MIN_ODDS, LANGUAGES),
        *(tuple(pattern.pattern for pattern in patterns), version("py3langid")),
    )


def _foreign(prose: str) -> str | None:
    words = [match.group() for match in _WORD.finditer(prose)]
    letters = [letter for word in words for letter in word if _is_of_language(letter, word)]
    other = sum(not _is_latin(letter) for letter in letters)
    if letters and other / len(letters) > MAX_OTHER_SCRIPT:
        return f"{NOT_ENGLISH}: {other} of {len(letters)} letters are of another script"
    plain = _without_names(prose)
    if len(plain) < MIN_WORDS or sum(letter.isalpha() for word in plain for letter in word) < MIN_LETTERS:
        return None
    ranking = dict(_detector().rank(" ".join(plain)))
    likeliest = max(ranking, key=lambda language: ranking[language])
    if ranking[likeliest] < MIN_ODDS * ranking["en"]:
        return None
    return f"{NOT_ENGLISH}: more likely {likeliest}"


def _without_names(prose: str) -> list[str]:
    """The words without names; a name is capitalised within a sentence."""
    return [
        match.group()
        for match in _WORD.finditer(prose)
        if not (match.group().istitle() and _WITHIN_SENTENCE.search(prose[max(0, match.start() - 8) : match.start()]))
    ]


def _is_of_language(letter: str, word: str) -> bool:
    """Whether a letter is part of a text, not a symbol.

    A symbol is a letter of another alphabet that is alone or beside Latin ones: "the angle β", "5 µm".
    """
    if not letter.isalpha():
        return False
    has_case = unicodedata.category(letter) != "Lo"  # Han, kana, Hangul, Arabic and Hindi letters have none
    return _is_latin(letter) or not has_case or (sum(map(str.isalpha, word)) > 1 and not any(map(_is_latin, word)))


@cache
def _is_latin(letter: str) -> bool:
    return "LATIN" in unicodedata.name(unicodedata.normalize("NFKC", letter)[0], "")


@cache
def _detector() -> LanguageIdentifier:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # its model takes a second to load

    detector = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    detector.set_languages(list(LANGUAGES))
    return detector
