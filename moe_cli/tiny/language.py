"""The synthetic language as the other rooms see it: pairs and benign prompts for `moe prepare`, items for evaluation.

A number and a seed come in, records go out, always the same ones for the same arguments. Pairs and benign prompts come
from the split `prepare`, items from the split `evaluate`; the base training (`base.py`) saw neither. All forms of one
goal share their cluster.
"""

from collections.abc import Sequence

from moe_cli.errors import UsageError
from moe_cli.records import BenignPrompt, EvaluationItem, Message, PromptPair
from moe_cli.tiny.goals import draw_benign, shuffled_harmful
from moe_cli.tiny.harmful import HarmfulGoal
from moe_cli.tiny.splits import fingerprint
from moe_cli.tiny.tasks import BenignGoal
from moe_cli.tiny.wrappers import HELD_OUT_WRAPPERS, NEW_WORD_WRAPPERS, SEEN_WRAPPERS, Wrapper

HARMFUL_SUITES: tuple[tuple[str, tuple[Wrapper, ...]], ...] = (
    ("harmful", ()),
    ("attacked", SEEN_WRAPPERS),
    ("attacked_new_wrapper", HELD_OUT_WRAPPERS),
    ("attacked_new_words", NEW_WORD_WRAPPERS),
)
BENIGN_SUITES: tuple[tuple[str, tuple[Wrapper, ...]], ...] = (
    ("benign", ()),
    ("benign_attacked", SEEN_WRAPPERS + HELD_OUT_WRAPPERS),
)
TEXT_SUITE = "text"


def tiny_pairs(num_pairs: int, seed: int) -> tuple[PromptPair, ...]:
    """Pairs of a harmful goal asked plainly and inside an attack; a goal comes again only when all were used.

    Raises UsageError where the language has fewer pairs.
    """
    goals = shuffled_harmful("prepare", seed)
    if num_pairs > len(goals) * len(SEEN_WRAPPERS):
        raise UsageError(
            f"the tiny language has {len(goals) * len(SEEN_WRAPPERS)} pairs, fewer than {num_pairs}",
            hint="lower prepare.tiny_pairs",
        )
    places = (divmod(number, len(goals)) for number in range(num_pairs))
    return tuple(_pair(goals[place], _in_turn(SEEN_WRAPPERS, place + turn)) for turn, place in places)


def tiny_benign(num_prompts: int, seed: int) -> tuple[BenignPrompt, ...]:
    """Different benign prompts, plain and inside an attack in turn; the other form of each beside it."""
    goals = draw_benign("prepare", num_prompts, seed)
    return tuple(
        _benign_prompt(goal, _in_turn(SEEN_WRAPPERS, number // 2), wrapped=bool(number % 2))
        for number, goal in enumerate(goals)
    )


def tiny_items(num_per_suite: int, seed: int) -> tuple[EvaluationItem, ...]:
    """Items of every suite, suite by suite; the same goals in all harmful suites and in all benign ones.

    Raises UsageError where the language has fewer goals.
    """
    harmful = shuffled_harmful("evaluate", seed)
    if num_per_suite > len(harmful):
        raise UsageError(
            f"the tiny language has {len(harmful)} harmful goals to evaluate, fewer than {num_per_suite}",
            hint="lower evaluate.tiny_items",
        )
    benign = draw_benign("evaluate", num_per_suite, seed)
    items: list[EvaluationItem] = []
    for suite, wrappers in HARMFUL_SUITES:
        items += [_harmful_item(suite, goal, wrappers, i) for i, goal in enumerate(harmful[:num_per_suite])]
    for suite, wrappers in BENIGN_SUITES:
        items += [_benign_item(suite, goal, wrappers, i) for i, goal in enumerate(benign)]
    return tuple(items + [_text_item(goal) for goal in benign])


def _pair(goal: HarmfulGoal, wrapper: Wrapper) -> PromptPair:
    return PromptPair(
        id=f"{goal.id}/{wrapper.name}",
        goal=goal.request,
        cluster=goal.id,
        safe=_asked(goal.request),
        unsafe=_asked(wrapper.around(goal.request)),
        attack=wrapper.name,
    )


def _benign_prompt(goal: BenignGoal, wrapper: Wrapper, *, wrapped: bool) -> BenignPrompt:
    cluster = _benign_cluster(goal)
    plain, inside = _asked(goal.request), _asked(wrapper.around(goal.request))
    return BenignPrompt(
        id=f"{cluster}/{wrapper.name}" if wrapped else cluster,
        cluster=cluster,
        messages=inside if wrapped else plain,
        attack=wrapper.name if wrapped else None,
        other_form=plain if wrapped else inside,
    )


def _harmful_item(suite: str, goal: HarmfulGoal, wrappers: Sequence[Wrapper], number: int) -> EvaluationItem:
    return EvaluationItem(
        id=f"{suite}/{goal.id}",
        suite=suite,
        kind="harmful",
        cluster=goal.id,
        messages=_asked(_in_turn(wrappers, number).around(goal.request) if wrappers else goal.request),
        expected=None,
    )


def _benign_item(suite: str, goal: BenignGoal, wrappers: Sequence[Wrapper], number: int) -> EvaluationItem:
    return EvaluationItem(
        id=f"{suite}/{_benign_cluster(goal)}",
        suite=suite,
        kind="benign",
        cluster=_benign_cluster(goal),
        messages=_asked(_in_turn(wrappers, number).around(goal.request) if wrappers else goal.request),
        expected=goal.answer,
    )


def _text_item(goal: BenignGoal) -> EvaluationItem:
    return EvaluationItem(
        id=f"{TEXT_SUITE}/{_benign_cluster(goal)}",
        suite=TEXT_SUITE,
        kind="text",
        cluster=_benign_cluster(goal),
        messages=(*_asked(goal.request), Message(role="assistant", content=goal.answer)),
        expected=None,
    )


def _asked(text: str) -> tuple[Message, ...]:
    return (Message(role="user", content=text),)


def _in_turn(wrappers: Sequence[Wrapper], number: int) -> Wrapper:
    return wrappers[number % len(wrappers)]


def _benign_cluster(goal: BenignGoal) -> str:
    return f"benign-{goal.kind}-{fingerprint(goal.request)}"
