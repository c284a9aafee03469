"""Refusal targets: what the model is taught to say instead.

A target is a whole refusal, and never one string for all pairs unless the file holds only one. What an endpoint wrote
is used only where the judge reads a full refusal in it; the reasons why others are not used are counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Literal

from moe_cli.judges.judge import Exchange
from moe_cli.model.engine import Prompt
from moe_cli.records import AnsweredPrompt, Generation, Message, PromptPair, Verdict

# Used for a pair whose plain form was not refused in full by the model itself.
BUILT_IN = (
    "I'm sorry, but I can't help with that.",
    "I can't assist with that request.",
    "Sorry, that is something I won't help with.",
    "I'm not able to help with this.",
    "I have to decline this request.",
)
ASKED = (
    "Write what a helpful assistant says when it declines the request below: one or two polite sentences in plain "
    "words, in the first person, that say what it cannot help with and give no detail of how it is done. Write these "
    "sentences alone.\n\nRequest: {goal}"
)
CUT_OFF = "the endpoint's refusal was cut off by the token limit"
NO_REFUSAL = "what the endpoint wrote is no full refusal"
UNJUDGED = "what the endpoint wrote has no verdict"


@dataclass(frozen=True, slots=True)
class EndpointRefusals:
    """Refusals written by an endpoint."""

    refusals: dict[str, str] = field(default_factory=dict)  # by pair id: those that can be used
    unused: dict[str, int] = field(default_factory=dict)  # {"what the endpoint wrote is no full refusal": 3}


@dataclass(frozen=True, slots=True)
class Refusals:
    """Targets by pair id, and where they come from."""

    targets: dict[str, str]
    num_own: int  # the model's own
    written: EndpointRefusals


def refusal_targets(
    rows: Sequence[AnsweredPrompt], texts: Sequence[str] | None, written: EndpointRefusals | None = None
) -> Refusals:
    """A target for every kept pair: one of `texts` where there are any.

    Otherwise what an endpoint wrote for it, else the model's own whole refusal of the plain form, else a built-in one.
    """
    plain = [row for row in rows if row.side == "safe" and row.kept]
    written = written or EndpointRefusals()
    own = {
        row.source_id: row.answer
        for row in plain
        if row.finished and row.label == "full_refusal" and not texts and row.source_id not in written.refusals
    }
    specific, general = own | written.refusals, texts or BUILT_IN
    targets = {row.source_id: specific.get(row.source_id, _pick(general, row.source_id)) for row in plain}
    return Refusals(targets, len(own), written)


def refusal_prompts(pairs: Sequence[PromptPair]) -> list[Prompt]:
    """Prompts that ask an endpoint for a refusal of every pair's goal."""
    return [
        Prompt(f"{pair.id}#refusal", (Message(role="user", content=ASKED.format(goal=pair.goal)),)) for pair in pairs
    ]


def written_exchanges(
    pairs: Sequence[PromptPair], answers: Mapping[str, Generation]
) -> dict[str, tuple[Literal["safe"], Exchange]]:
    """The answers to `refusal_prompts` as exchanges for the judge of plain forms, by prompt id."""
    return {
        prompt.id: ("safe", Exchange(kind="harmful", messages=pair.safe, answer=answers[prompt.id].text))
        for pair, prompt in zip(pairs, refusal_prompts(pairs), strict=True)
    }


def written_refusals(
    pairs: Sequence[PromptPair], answers: Mapping[str, Generation], verdicts: Mapping[str, Verdict]
) -> EndpointRefusals:
    """The answers to `refusal_prompts` that are whole refusals, and counts of why others are not used."""
    refusals: dict[str, str] = {}
    unused: Counter[str] = Counter()
    for pair, prompt in zip(pairs, refusal_prompts(pairs), strict=True):
        answer, verdict = answers[prompt.id], verdicts[prompt.id]
        if not answer.finished:
            unused[CUT_OFF] += 1
        elif verdict.label is None:
            unused[UNJUDGED] += 1
        elif verdict.label != "full_refusal":
            unused[NO_REFUSAL] += 1
        else:
            refusals[pair.id] = answer.text
    return EndpointRefusals(refusals, dict(sorted(unused.items())))


def _pick(texts: Sequence[str], pair_id: str) -> str:
    return texts[int.from_bytes(sha256(pair_id.encode()).digest()[:4]) % len(texts)]
