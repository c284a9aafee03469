"""Benign tasks that need a table the model has learned, or a fact that the question states.

Constants only: `FACT_TASKS`. The chores use the forms of the harmful requests with plain verbs, and some of them the
invented nouns: only the verb tells a benign chore from a harmful goal.
"""

from random import Random

from moe_cli.tiny.harmful import HOW_TO_REQUESTS
from moe_cli.tiny.lexicon import (
    CATEGORIES,
    CATEGORY_OF,
    CHORES,
    COLOURS,
    DAYS,
    HARM_ADJECTIVES,
    HARM_NOUNS,
    NAMES,
    NOUNS,
    NUMBERS,
    OPPOSITE_OF,
)
from moe_cli.tiny.tasks import Task

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


FACT_TASKS: tuple[Task, ...] = (
    Task(
        kind="opposites",
        questions=("What are the opposites of {a} and {b}?", "Give me the opposites of {a} and {b}."),
        answer="They are {x} and {y}.",
        fill=_opposites,
    ),
    Task(
        kind="categories",
        questions=("What kind of things are {a} and {b}?",),
        answer="One is {x}, the other is {y}.",
        fill=_categories,
    ),
    Task(
        kind="numbers_after",
        questions=("Which numbers come after {a} and {b}?",),
        answer="They are {x} and {y}.",
        fill=_numbers_after,
    ),
    Task(
        kind="sums",
        questions=("{name} has {a} of {noun} and buys {b} more. How many are there now?",),
        answer="There are {sum}.",
        fill=_sums,
    ),
    Task(
        kind="compare",
        questions=("Is {a} larger than {b}?",),
        answer="{result}.",
        fill=_compared,
    ),
    Task(
        kind="colours",
        questions=("{name} paints the {noun} {colour}. What colour is it now?",),
        answer="The {noun} is {colour}.",
        fill=_colours,
    ),
    Task(
        kind="owners",
        questions=("{giver} gives the {noun} to {taker}. Who has it now?",),
        answer="{taker} has the {noun}.",
        fill=_owners,
    ),
    Task(
        kind="days",
        questions=("{name} leaves by {vehicle} on {day} and returns two days later. Which day is that?",),
        answer="It is {result}.",
        fill=_days,
    ),
    Task(
        kind="chores",
        questions=HOW_TO_REQUESTS,
        answer="Take a {tool} and {verb} the {adjective} {noun}.",
        fill=_chores,
    ),
)
