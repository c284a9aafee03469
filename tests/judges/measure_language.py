"""How often the keyword judge takes another language for English, and English for another language.

    python -m tests.judges.measure_language [--gettext DIRECTORY]

The directory holds catalogues `LANGUAGE/LC_MESSAGES/*.mo`, such as those of an unpacked Django wheel. It prints the
table of docs/judges.md and, on stderr, the first texts of each row that were taken wrongly.
"""

from __future__ import annotations

import argparse
import gettext
import importlib
import inspect
import random
import sys
import time
from collections.abc import Collection, Iterator
from pathlib import Path

from moe_cli.judges.language_check import is_not_english
from moe_cli.tiny import harmful
from tests.judges.language_sentences import COMPLIANCES, ENGLISH, MIXED_FOREIGN, REFUSALS
from tests.studies.tiny_data import base_conversations

LATIN = ("German", "French", "Spanish", "Italian", "Portuguese", "Dutch", "Swedish", "Polish", "Czech", "Turkish")
LATIN += ("Vietnamese", "Indonesian")
CATALOGUES = ("de", "fr", "es", "it", "pt", "nl", "sv", "pl", "cs", "tr", "vi", "id", "ru", "zh_Hans", "ja", "ko", "ar")
NOT_IMPORTED = {"antigravity", "this", "idlelib", "turtledemo", "test"}
MIN_LETTERS = 20  # of a translated entry; less is a word or two


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gettext", type=Path, metavar="DIRECTORY")
    directory = parser.parse_args().gettext
    own = {name: [*REFUSALS[name], *COMPLIANCES[name]] for name in REFUSALS}
    print("| answers | n | wrong | taken wrongly as |\n| --- | --- | --- | --- |")
    row(
        f"own sentences in {len(LATIN)} other languages, Latin script",
        [text for name in LATIN for text in own[name]],
        foreign=True,
    )
    others = [name for name in own if name not in LATIN]
    texts = [text for name in others for text in own[name]]
    row(f"own sentences in {len(others)} other languages, other scripts", texts, foreign=True)
    row("another language with English words", MIXED_FOREIGN, foreign=True)
    row("English, short or odd: numbers, names, lists, code, quotes", ENGLISH, foreign=False)
    answers = {turn.content for turns in base_conversations(40_000, 1) for turn in turns if turn.role == "assistant"}
    row("the built-in model's language", answers, foreign=False)
    row("its words at random", list(word_salad(10_000)), foreign=False)
    paragraphs = docstrings()
    started = time.monotonic()
    row("English paragraphs of Python's documentation", paragraphs, foreign=False)
    seconds = time.monotonic() - started
    if directory is not None:
        english, translated = entries(directory)
        sentences = {text for text in translated if text.endswith((".", "!", "?", "\u3002"))}
        row("English entries of the catalogues", english, foreign=False)
        row(f"translated entries: sentences of {MIN_LETTERS} letters or more", sentences, foreign=True)
        row(f"translated entries: labels of {MIN_LETTERS} letters or more", translated - sentences, foreign=True)
    print(f"\n{1e4 * seconds / len(paragraphs):.1f} seconds for 10,000 paragraphs")


def row(name: str, texts: Collection[str], *, foreign: bool) -> None:
    """One row of the table."""
    wrong = [text for text in sorted(texts) if (is_not_english(text) is not None) is not foreign]
    print(f"| {name} | {len(texts):,} | {len(wrong)} | {'scored' if foreign else 'unscored'} |")
    for text in wrong[:12]:
        print(f"    {text[:60]!r}", file=sys.stderr)


def word_salad(count: int) -> Iterator[str]:
    """Words of the built-in model in no order, as a broken model of it may answer."""
    chosen = random.Random(0)
    lists = [value for value in vars(harmful).values() if isinstance(value, tuple)]
    words = [word for values in lists for word in values if isinstance(word, str)]
    for _ in range(count):
        yield " ".join(chosen.choices(words, k=chosen.choice((2, 3, 5, 8, 15))))


def docstrings() -> set[str]:
    """Paragraphs of the documentation of the standard library."""
    texts: set[str] = set()
    for name in sorted(sys.stdlib_module_names):
        if name.startswith("_") or name in NOT_IMPORTED:
            continue
        try:
            members = vars(importlib.import_module(name)).values()
        except ImportError:  # of another platform
            continue
        documented = [inspect.getdoc(member) or "" for member in members if callable(member)]
        texts.update(part for text in documented for part in text.split("\n\n") if part.strip())
    return texts


def entries(directory: Path) -> tuple[set[str], set[str]]:
    """English texts of catalogues, and what they are in other languages, without places to fill in."""
    english: set[str] = set()
    translated: set[str] = set()
    for language in CATALOGUES:
        for file in sorted(directory.rglob(f"{language}/LC_MESSAGES/*.mo")):
            with file.open("rb") as stream:
                catalogue = gettext.GNUTranslations(stream)
            for key in catalogue._catalog:  # type: ignore[attr-defined]  # there is no public way to its keys
                text = catalogue.gettext(key) if isinstance(key, str) else ""
                if text and text != key and not {"%", "{"} & set(text):
                    english.add(key)
                    translated |= {text} if sum(map(str.isalpha, text)) >= MIN_LETTERS else set()
    return english - translated, translated


if __name__ == "__main__":
    main()
