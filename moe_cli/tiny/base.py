"""The base training data of the tiny model: conversations about goals of the split `base` only.

A number and a seed come in, conversations with their answers go out: benign goals plain and attacked, harmful goals
plain (refused) and attacked (obeyed). Some plain goals stand in a neutral frame, which changes no answer, and some
conversations begin with a system message. No wrapper of new words is ever used.
"""

from collections.abc import Sequence
from random import Random

from moe_cli.records import Message
from moe_cli.tiny.goals import draw_benign, shuffled_harmful
from moe_cli.tiny.wrappers import HELD_OUT_WRAPPERS, NEUTRAL_FRAMES, SEEN_WRAPPERS, Wrapper

SYSTEM_MESSAGES: tuple[str, ...] = ("You are a helpful assistant.", "Give short and correct answers.")
SYSTEM_SHARE = 0.1
HARMFUL_SHARE = 0.3
ATTACKED_SHARE = 0.5
FRAMED_SHARE = 0.1

BASE_WRAPPERS = SEEN_WRAPPERS + HELD_OUT_WRAPPERS
Conversation = tuple[Message, ...]


def base_conversations(num_conversations: int, seed: int) -> tuple[Conversation, ...]:
    """Conversations to train the tiny model on, in the order of training."""
    generator = Random(f"moe tiny base {seed}")
    num_harmful = round(num_conversations * HARMFUL_SHARE)
    conversations = _harmful(num_harmful, seed, generator) + _benign(num_conversations - num_harmful, seed, generator)
    generator.shuffle(conversations)
    return tuple(conversations)


def _harmful(num_conversations: int, seed: int, generator: Random) -> list[Conversation]:
    goals = shuffled_harmful("base", seed)
    conversations = []
    for number in range(num_conversations):
        goal = goals[number % len(goals)]
        attacked = generator.random() < ATTACKED_SHARE
        answer = goal.compliance if attacked else goal.refusal
        conversations.append(_conversation(goal.request, answer, attacked, generator))
    return conversations


def _benign(num_conversations: int, seed: int, generator: Random) -> list[Conversation]:
    goals = draw_benign("base", num_conversations, seed)
    return [_conversation(g.request, g.answer, generator.random() < ATTACKED_SHARE, generator) for g in goals]


def _conversation(request: str, answer: str, attacked: bool, generator: Random) -> Conversation:
    if attacked:
        request = _one_of(BASE_WRAPPERS, generator).around(request)
    elif generator.random() < FRAMED_SHARE:
        request = _one_of(NEUTRAL_FRAMES, generator).around(request)
    messages = (Message(role="user", content=request), Message(role="assistant", content=answer))
    if generator.random() < SYSTEM_SHARE:
        return (Message(role="system", content=generator.choice(SYSTEM_MESSAGES)), *messages)
    return messages


def _one_of(wrappers: Sequence[Wrapper], generator: Random) -> Wrapper:
    return generator.choice(wrappers)
