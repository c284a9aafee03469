"""What flipped, for the report: by pair, measure and suite, the worst first.

Comes in: `Comparison` and the words behind some of its flips. Goes out: groups of flips. Always holds: a group says how
many of its flips are shown; a long text is cut and says so.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from moe_cli.records import Comparison, FlipText
from moe_cli.views.compared_pairs import flip_counts
from moe_cli.views.report.forest import ordered_pairs

MOST_LETTERS = 1500  # of a prompt or an answer


@dataclass(frozen=True, slots=True)
class FlipWords:
    """A prompt or an answer."""

    title: str
    text: str | None  # None: only outcomes are known
    left_out: int  # letters that are not shown


@dataclass(frozen=True, slots=True)
class ShownFlip:
    """One flip."""

    item: str
    direction: str  # class name and word
    outcome: str
    words: tuple[FlipWords, ...]


@dataclass(frozen=True, slots=True)
class FlipGroup:
    """The flips of one measure and suite."""

    name: str  # "attack success: attacked"
    worse: int
    better: int
    shown: tuple[ShownFlip, ...]


@dataclass(frozen=True, slots=True)
class FlipPair:
    """The flips of one pair."""

    a: str
    b: str
    groups: tuple[FlipGroup, ...]


def flip_pairs(comparison: Comparison, texts: Sequence[FlipText]) -> tuple[FlipPair, ...]:
    """Every pair, those of two trained arms first."""
    of_group: defaultdict[tuple[str, str, str], list[FlipText]] = defaultdict(list)
    for text in texts:
        of_group[text.pair, text.flip.metric, text.flip.suite].append(text)
    found = []
    for pair in ordered_pairs(comparison):
        groups = tuple(
            FlipGroup(
                name=f"{metric}: {suite}",
                worse=worse,
                better=better,
                shown=tuple(_shown(text) for text in of_group[f"{pair.b} against {pair.a}", metric, suite]),
            )
            for metric, suite, worse, better in flip_counts(pair)
        )
        found.append(FlipPair(pair.a, pair.b, groups))
    return tuple(found)


def _shown(text: FlipText) -> ShownFlip:
    flip = text.flip
    return ShownFlip(
        item=flip.item,
        direction=flip.direction,
        outcome=f"{_said(flip.share_a)} in A, {_said(flip.share_b)} in B",
        words=tuple(_words(text)),
    )


def _said(share: float) -> str:
    return {0.0: "no", 1.0: "yes"}.get(share, f"yes in {100 * share:.0f} % of the runs")


def _words(text: FlipText) -> Iterator[FlipWords]:
    for title, words in (("prompt", text.prompt), ("A answered", text.answer_a), ("B answered", text.answer_b)):
        yield FlipWords(
            title, words if words is None else words[:MOST_LETTERS], max(0, len(words or "") - MOST_LETTERS)
        )
