"""Which goals a split offers: all its harmful goals, and as many different benign goals as asked for.

A split, a number and a seed come in, different goals of that split go out. The same arguments always give the same
goals, and a shorter draw is the beginning of a longer one.
"""

from random import Random

from moe_cli.tiny.facts import FACT_TASKS
from moe_cli.tiny.harmful import HarmfulGoal, harmful_goals
from moe_cli.tiny.lists import LIST_TASKS
from moe_cli.tiny.splits import Split, split_of
from moe_cli.tiny.tasks import BenignGoal, benign_goal

TASKS = LIST_TASKS + FACT_TASKS
MAX_DRAWS_PER_GOAL = 100


def shuffled_harmful(split: Split, seed: int) -> tuple[HarmfulGoal, ...]:
    """All harmful goals of the split, in a seeded order."""
    goals = list(harmful_goals(split))
    Random(f"moe tiny harmful {split} {seed}").shuffle(goals)
    return tuple(goals)


def draw_benign(split: Split, num_goals: int, seed: int) -> tuple[BenignGoal, ...]:
    """Different benign goals of the split, the tasks in turn.

    Raises ValueError where the language has too few goals.
    """
    generator = Random(f"moe tiny benign {split} {seed}")
    goals: dict[str, BenignGoal] = {}
    for draw in range(MAX_DRAWS_PER_GOAL * num_goals):
        goal = benign_goal(TASKS[draw % len(TASKS)], generator)
        if split_of(goal.request) == split:
            goals.setdefault(goal.request, goal)
        if len(goals) == num_goals:
            break
    if len(goals) < num_goals:
        raise ValueError(f"the tiny language has fewer than {num_goals} benign goals in split {split!r}")
    return tuple(goals.values())
