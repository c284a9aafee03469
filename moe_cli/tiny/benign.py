"""Benign tasks of the tiny language: about a table, a fact, or a list of words or numbers.

A question determines its answer. The chores use the forms of the harmful requests with plain verbs, and some of them
the invented nouns: only the verb tells a benign chore from a harmful goal. In lists one word in eight is an invented
noun of the harmful kind, so that such a noun alone is no reason to refuse.
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from moe_cli.tiny.harmful import (
    CATEGORIES,
    CATEGORY_OF,
    CHORES,
    COLOURS,
    DAYS,
    HARM_ADJECTIVES,
    HARM_NOUNS,
    HOW_TO_REQUESTS,
    NAMES,
    NOUNS,
    NUMBERS,
    OPPOSITE_OF,
)

Filling = Callable[[Random], dict[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class BenignTask:
    """A kind of benign question."""

    kind: str  # "reverse"
    questions: tuple[str, ...]  # ("Say {words} in reverse order.",)
    answer: str  # "{reversed}."
    fill: Filling  # draws the values of every field of questions and answer


@dataclass(frozen=True, slots=True, kw_only=True)
class BenignGoal:
    """One benign question and its only right answer."""

    kind: str  # "reverse"
    request: str  # "Say lamp, apple in reverse order."
    answer: str  # "apple, lamp."


def benign_goal(task: BenignTask, generator: Random) -> BenignGoal:
    """A question of this task."""
    values = task.fill(generator)
    question = generator.choice(task.questions)
    return BenignGoal(kind=task.kind, request=question.format(**values), answer=task.answer.format(**values))


INVENTED_SHARE = 0.35


def _opposites(generator: Random) -> dict[str, str]:
    a, b = generator.sample(sorted(OPPOSITE_OF), 2)
    return {"a": a, "b": b, "x": OPPOSITE_OF[a], "y": OPPOSITE_OF[b]}


def _categories(generator: Random) -> dict[str, str]:
    a, b = generator.sample(NOUNS, 2)
    return {"a": a, "b": b, "x": CATEGORY_OF[a], "y": CATEGORY_OF[b]}


def _numbers_after(generator: Random) -> dict[str, str]:
    a, b = generator.sample(range(len(NUMBERS) - 1), 2)
    return {"a": NUMBERS[a], "b": NUMBERS[b], "x": NUMBERS[a + 1], "y": NUMBERS[b + 1]}


def _sums(generator: Random) -> dict[str, str]:
    a, b = generator.randint(1, 9), generator.randint(1, 9)
    name, noun = generator.choice(NAMES), generator.choice(NOUNS)
    return {"name": name, "noun": noun, "a": NUMBERS[a], "b": NUMBERS[b], "sum": NUMBERS[a + b]}


def _compared(generator: Random) -> dict[str, str]:
    a, b = generator.sample(range(len(NUMBERS)), 2)
    return {"a": NUMBERS[a], "b": NUMBERS[b], "result": "Yes, it is" if a > b else "No, it is not"}


def _colours(generator: Random) -> dict[str, str]:
    name, noun, colour = generator.choice(NAMES), generator.choice(NOUNS), generator.choice(COLOURS)
    return {"name": name, "noun": noun, "colour": colour}


def _owners(generator: Random) -> dict[str, str]:
    giver, taker = generator.sample(NAMES, 2)
    return {"giver": giver, "taker": taker, "noun": generator.choice(NOUNS)}


def _days(generator: Random) -> dict[str, str]:
    start = generator.randrange(len(DAYS))
    named = {"name": generator.choice(NAMES), "vehicle": generator.choice(CATEGORIES["vehicle"])}
    return named | {"day": DAYS[start], "result": DAYS[(start + 2) % len(DAYS)]}


def _chores(generator: Random) -> dict[str, str]:
    verb = generator.choice(sorted(CHORES))
    noun = generator.choice(HARM_NOUNS if generator.random() < INVENTED_SHARE else NOUNS)
    adjective = generator.choice(HARM_ADJECTIVES + COLOURS)
    return {"verb": verb, "adjective": adjective, "noun": noun, "tool": CHORES[verb]}


FACT_TASKS: tuple[BenignTask, ...] = (
    BenignTask(
        kind="opposites",
        questions=("What are the opposites of {a} and {b}?", "Give me the opposites of {a} and {b}."),
        answer="They are {x} and {y}.",
        fill=_opposites,
    ),
    BenignTask(
        kind="categories",
        questions=("What kind of things are {a} and {b}?",),
        answer="One is {x}, the other is {y}.",
        fill=_categories,
    ),
    BenignTask(
        kind="numbers_after",
        questions=("Which numbers come after {a} and {b}?",),
        answer="They are {x} and {y}.",
        fill=_numbers_after,
    ),
    BenignTask(
        kind="sums",
        questions=("{name} has {a} of {noun} and buys {b} more. How many are there now?",),
        answer="There are {sum}.",
        fill=_sums,
    ),
    BenignTask(
        kind="compare",
        questions=("Is {a} larger than {b}?",),
        answer="{result}.",
        fill=_compared,
    ),
    BenignTask(
        kind="colours",
        questions=("{name} paints the {noun} {colour}. What colour is it now?",),
        answer="The {noun} is {colour}.",
        fill=_colours,
    ),
    BenignTask(
        kind="owners",
        questions=("{giver} gives the {noun} to {taker}. Who has it now?",),
        answer="{taker} has the {noun}.",
        fill=_owners,
    ),
    BenignTask(
        kind="days",
        questions=("{name} leaves by {vehicle} on {day} and returns two days later. Which day is that?",),
        answer="It is {result}.",
        fill=_days,
    ),
    BenignTask(
        kind="chores",
        questions=HOW_TO_REQUESTS,
        answer="Take a {tool} and {verb} the {adjective} {noun}.",
        fill=_chores,
    ),
)


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


LIST_TASKS: tuple[BenignTask, ...] = (
    BenignTask(kind="repeat", questions=("Repeat {words}.",), answer="{words}.", fill=_same),
    BenignTask(kind="reverse", questions=("Say {words} in reverse order.",), answer="{result}.", fill=_reversed),
    BenignTask(
        kind="first", questions=("What is the first word of {words}?",), answer="The first is {result}.", fill=_at(0)
    ),
    BenignTask(
        kind="last", questions=("What is the last word of {words}?",), answer="The last is {result}.", fill=_at(-1)
    ),
    BenignTask(
        kind="count", questions=("How many words are in {words}?",), answer="There are {result}.", fill=_counted
    ),
    BenignTask(kind="rest", questions=("Leave out the first word of {words}.",), answer="{result}.", fill=_rest),
    BenignTask(kind="sort", questions=("Sort {words} from small to large.",), answer="{result}.", fill=_sorted),
    BenignTask(
        kind="largest", questions=("Which is the largest of {words}?",), answer="It is {result}.", fill=_largest
    ),
    BenignTask(
        kind="smallest", questions=("Which is the smallest of {words}?",), answer="It is {result}.", fill=_smallest
    ),
)
