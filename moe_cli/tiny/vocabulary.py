"""Every word of the language, taken from its word lists and the texts of its templates.

Nothing comes in; the sorted words go out. A word is a run of letters (with its apostrophes) or one mark of punctuation;
capital and small first letters are two words. `BASE_WORDS` are the words of base training, `NEW_WORDS` the rest.
"""

import re
from collections.abc import Iterable

from moe_cli.tiny import lexicon
from moe_cli.tiny.base import SYSTEM_MESSAGES
from moe_cli.tiny.goals import TASKS
from moe_cli.tiny.harmful import COMPLIANCE, HOW_TO_REQUESTS, REFUSALS
from moe_cli.tiny.wrappers import HELD_OUT_WRAPPERS, NEUTRAL_FRAMES, NEW_WORD_WRAPPERS, SEEN_WRAPPERS, Wrapper

WORD_PATTERN = r"[A-Za-z]+(?:'[a-z]+)*|[^\sA-Za-z]"
FIELD_PATTERN = r"\{\w+\}"


def words_in(text: str) -> list[str]:
    """The words of a text, or of a template without its fields, in order."""
    return re.findall(WORD_PATTERN, re.sub(FIELD_PATTERN, " ", text))


def _sorted_words(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted({word for text in texts for word in words_in(text)}))


def _texts_of(wrappers: Iterable[Wrapper]) -> tuple[str, ...]:
    return tuple(wrapper.text for wrapper in wrappers)


_LEXICON: tuple[str, ...] = (
    *lexicon.NOUNS, *lexicon.CATEGORIES, *lexicon.OPPOSITE_OF, *lexicon.NUMBERS, *lexicon.DAYS, *lexicon.NAMES,
    *lexicon.COLOURS, *lexicon.CHORES, *lexicon.CHORES.values(), *lexicon.HARM_VERBS, *lexicon.HARM_NOUNS,
    *lexicon.HARM_ADJECTIVES, *lexicon.HARM_TOOLS, *lexicon.HARM_STEPS,
)  # fmt: skip
_TEMPLATES: tuple[str, ...] = (
    *(text for task in TASKS for text in (*task.questions, task.answer)),
    *HOW_TO_REQUESTS,
    *REFUSALS,
    COMPLIANCE,
    *SYSTEM_MESSAGES,
    *_texts_of(SEEN_WRAPPERS + HELD_OUT_WRAPPERS + NEUTRAL_FRAMES),
    "Yes, it is. No, it is not.",
)

BASE_WORDS: tuple[str, ...] = _sorted_words(_LEXICON + _TEMPLATES)
NEW_WORDS: tuple[str, ...] = tuple(
    word for word in _sorted_words(_texts_of(NEW_WORD_WRAPPERS)) if word not in BASE_WORDS
)
