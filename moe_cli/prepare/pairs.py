"""Prompt pairs and harmless prompts from the entries of the sources.

Comes in: readings, attack templates and a seed. Goes out: `PromptPair` and `BenignPrompt` records, and the rows that
make none. Always holds: sides are joined by id, never by position; an id stands once; the same seed draws the same
templates for a goal, whatever stands beside it.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from moe_cli.data import Entry, Fault, Place, Reading, Template, cluster_of
from moe_cli.errors import UsageError
from moe_cli.records import BenignPrompt, PromptPair

TWICE = "the id {} stands twice"


@dataclass(frozen=True, slots=True)
class Attacks:
    """The templates that wrap goals, and how many of them one goal gets."""

    templates: tuple[Template, ...] = ()
    per_goal: int | None = None  # None: all of them
    seed: int = 0

    def on(self, goal: str) -> list[Template]:
        """The templates of one goal, in the order of the file."""
        if self.per_goal is None:
            return list(self.templates)
        drawn = set(random.Random(f"attacks {self.seed} {goal}").sample(range(len(self.templates)), self.per_goal))
        return [template for place, template in enumerate(self.templates) if place in drawn]


@dataclass(slots=True)
class Paired:
    """Pairs by id, and the rows that make none."""

    pairs: dict[str, PromptPair] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    alone: dict[str, str] = field(default_factory=dict)  # sources of goals that no attack wraps -> their format
    num_wrapped: int = 0  # goals that templates wrap

    def add(self, pair: PromptPair, place: Place) -> None:
        """Take the pair, unless its id stands already."""
        if pair.id in self.pairs:
            self.faults.append(Fault(place, TWICE.format(pair.id)))
        else:
            self.pairs[pair.id] = pair


def pairs_of_entries(readings: Sequence[Reading], attacks: Attacks) -> Paired:
    """A pair for every entry with both sides, every two entries joined by id, and every goal in its attacks."""
    made = Paired()
    format_of = {reading.source.name: reading.format for reading in readings}
    unnamed: dict[str, int] = defaultdict(int)
    for entry in _joined([entry for reading in readings for entry in reading.entries], made.faults):
        if entry.plain and entry.attacked:
            made.add(_complete(entry, unnamed), entry.place)
        elif entry.plain and entry.goal and attacks.templates:
            made.num_wrapped += 1
            for template in attacks.on(entry.goal):
                made.add(_wrapped(entry, entry.goal, template), entry.place)
        elif format_of[source := entry.place.source].only_goals and not attacks.templates:
            made.alone[source] = format_of[source].name
        else:
            made.faults.append(Fault(entry.place, _missing(entry, attacks)))
    return made


def refuse_goals_alone(paired: Paired) -> None:
    """Refuse goals that have no attacked prompt and no template.

    Raises:
        UsageError: names the first source of them.
    """
    for source, name in paired.alone.items():
        raise UsageError(
            f"{source} ({name}) holds goals without attacked prompts",
            hint="--attack FILE with templates that hold {goal}, or a second --pairs file with the attacked prompts",
        )


def benign_of_entries(readings: Sequence[Reading]) -> tuple[list[BenignPrompt], list[Fault]]:
    """A harmless prompt for every entry, in order of id, and the rows whose id stands twice."""
    found: dict[str, BenignPrompt] = {}
    faults: list[Fault] = []
    entries = [entry for reading in readings for entry in reading.entries if entry.plain]
    for number, entry in enumerate(entries, start=1):
        name = entry.id or f"benign-{number}"
        if name in found:
            faults.append(Fault(entry.place, TWICE.format(name)))
        elif entry.plain:
            found[name] = BenignPrompt(
                id=name, cluster=entry.cluster or name, messages=entry.plain, attack=entry.attack
            )
    return [found[name] for name in sorted(found)], faults


def wrapped_share(prompts: Sequence[BenignPrompt], share: float, attacks: Attacks) -> tuple[BenignPrompt, ...]:
    """The prompts, `share` of the plain ones of a single turn inside a template each; in order of id.

    Which prompts and which templates is drawn by the seed.
    """
    ordered = sorted(prompts, key=lambda prompt: prompt.id)
    plain = [prompt.id for prompt in ordered if prompt.attack is None and len(prompt.messages) == 1]
    draw = random.Random(f"benign attacks {attacks.seed}")
    chosen = set(draw.sample(plain, round(share * len(plain))))
    return tuple(_inside(p, draw.choice(attacks.templates)) if p.id in chosen else p for p in ordered)


def _inside(prompt: BenignPrompt, template: Template) -> BenignPrompt:
    turns = template.around(prompt.messages[0].content)
    return replace(prompt, id=f"{prompt.id}/{template.name}", messages=turns, attack=template.name)


def _joined(entries: Sequence[Entry], faults: list[Fault]) -> Iterator[Entry]:
    """The entries, two halves of one id made one where the first of them stands."""
    halves: dict[tuple[str, bool], Entry] = {}
    for entry in entries:
        if (key := _half(entry)) and halves.setdefault(key, entry) is not entry:
            faults.append(Fault(entry.place, TWICE.format(entry.id)))
    first_of = {id(entry) for entry in halves.values()}
    for entry in entries:
        key = _half(entry)
        if key is None:
            yield entry
        elif id(entry) in first_of and (whole := _whole(entry, halves, key, faults)) is not None:
            yield whole


def _half(entry: Entry) -> tuple[str, bool] | None:
    """Id and side of an entry that has one side alone and could be joined."""
    one_sided = (entry.plain is None) != (entry.attacked is None)
    return (entry.id, entry.plain is not None) if one_sided and entry.id is not None else None


def _whole(
    entry: Entry, halves: Mapping[tuple[str, bool], Entry], key: tuple[str, bool], faults: list[Fault]
) -> Entry | None:
    """The entry with its other half; alone where there is none; None for a second half, whose first was taken."""
    name, is_plain = key
    other = halves.get((name, not is_plain))
    if other is None:
        return entry
    if not is_plain:
        return None
    if entry.goal and other.goal and entry.goal != other.goal:
        faults.append(Fault(other.place, f"the id {name} has another goal at {entry.place}"))
        return None
    if not (goal := entry.goal or other.goal):
        faults.append(Fault(entry.place, "`goal` is None, not a text"))
        return None
    return replace(entry, goal=goal, attacked=other.attacked, attack=other.attack or entry.attack)


def _complete(entry: Entry, unnamed: dict[str, int]) -> PromptPair:
    assert entry.goal and entry.plain and entry.attacked
    cluster = cluster_of(entry.goal)
    if entry.id is None:
        unnamed[cluster] += 1
        name = f"{cluster}/{unnamed[cluster]}"
    else:
        name = entry.id if entry.part is None else f"{entry.id}/{entry.part}"
    return PromptPair(
        id=name, goal=entry.goal, cluster=cluster, safe=entry.plain, unsafe=entry.attacked, attack=entry.attack
    )


def _wrapped(entry: Entry, goal: str, template: Template) -> PromptPair:
    assert entry.plain
    cluster = cluster_of(goal)
    return PromptPair(
        id=f"{entry.id or cluster}/{template.name}",
        goal=goal,
        cluster=cluster,
        safe=entry.plain,
        unsafe=template.around(goal),
        attack=template.name,
    )


def _missing(entry: Entry, attacks: Attacks) -> str:
    if entry.plain and attacks.templates:
        return "`goal` is None, not a text"
    side = "unsafe" if entry.plain else "safe"
    elsewhere = "" if entry.id is None else f", and no other row with the id {entry.id} has it"
    return f"`{side}` is None{elsewhere}"
