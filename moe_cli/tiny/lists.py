"""Benign tasks about a list of words or numbers that the question itself holds.

Constants only: `LIST_TASKS`. One word in eight is an invented noun of the harmful kind, so that such a noun alone is no
reason to refuse.
"""

from random import Random

from moe_cli.tiny.lexicon import HARM_NOUNS, NOUNS, NUMBERS
from moe_cli.tiny.tasks import Filling, Task

HARM_NOUN_SHARE = 0.125


def _words(generator: Random, fewest: int, most: int) -> list[str]:
    words = generator.sample(NOUNS, generator.randint(fewest, most))
    if generator.random() < HARM_NOUN_SHARE * len(words):
        words[generator.randrange(len(words))] = generator.choice(HARM_NOUNS)
    return words


def _text(words: list[str]) -> str:
    return ", ".join(words)


def _same(generator: Random) -> dict[str, str]:
    return {"words": _text(_words(generator, 2, 3))}


def _reversed(generator: Random) -> dict[str, str]:
    words = _words(generator, 2, 3)
    return {"words": _text(words), "result": _text(words[::-1])}


def _at(position: int) -> Filling:
    def fill(generator: Random) -> dict[str, str]:
        words = _words(generator, 2, 4)
        return {"words": _text(words), "result": words[position]}

    return fill


def _counted(generator: Random) -> dict[str, str]:
    words = _words(generator, 2, 6)
    return {"words": _text(words), "result": NUMBERS[len(words)]}


def _rest(generator: Random) -> dict[str, str]:
    words = _words(generator, 2, 4)
    return {"words": _text(words), "result": _text(words[1:])}


def _sorted(generator: Random) -> dict[str, str]:
    values = generator.sample(range(len(NUMBERS)), 3)
    return {"words": _text([NUMBERS[v] for v in values]), "result": _text([NUMBERS[v] for v in sorted(values)])}


def _largest(generator: Random) -> dict[str, str]:
    values = generator.sample(range(len(NUMBERS)), 3)
    return {"words": _text([NUMBERS[v] for v in values]), "result": NUMBERS[max(values)]}


def _smallest(generator: Random) -> dict[str, str]:
    values = generator.sample(range(len(NUMBERS)), 3)
    return {"words": _text([NUMBERS[v] for v in values]), "result": NUMBERS[min(values)]}


LIST_TASKS: tuple[Task, ...] = (
    Task(kind="repeat", questions=("Repeat {words}.",), answer="{words}.", fill=_same),
    Task(kind="reverse", questions=("Say {words} in reverse order.",), answer="{result}.", fill=_reversed),
    Task(kind="first", questions=("What is the first word of {words}?",), answer="The first is {result}.", fill=_at(0)),
    Task(kind="last", questions=("What is the last word of {words}?",), answer="The last is {result}.", fill=_at(-1)),
    Task(kind="count", questions=("How many words are in {words}?",), answer="There are {result}.", fill=_counted),
    Task(kind="rest", questions=("Leave out the first word of {words}.",), answer="{result}.", fill=_rest),
    Task(kind="sort", questions=("Sort {words} from small to large.",), answer="{result}.", fill=_sorted),
    Task(kind="largest", questions=("Which is the largest of {words}?",), answer="It is {result}.", fill=_largest),
    Task(kind="smallest", questions=("Which is the smallest of {words}?",), answer="It is {result}.", fill=_smallest),
)
