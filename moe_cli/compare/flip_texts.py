"""Prompts and answers of the worst flips, for a person who asks to see them.

They are handed to the view and written only into the report. Outcomes that were made elsewhere have no texts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

from moe_cli.compare.compared_runs import ComparedRun
from moe_cli.records import Comparison, EvaluationRecord, Flip, FlipText, PairComparison

Records = Mapping[str, EvaluationRecord]


def select_flip_texts(comparison: Comparison, sources: Sequence[ComparedRun], num: int) -> tuple[FlipText, ...]:
    """The `num` worst flips of each pair, with the prompt and the answers of the first run of each arm."""
    return _texts(comparison, sources, lambda pair: pair.flips[:num])


def worst_flips(comparison: Comparison, sources: Sequence[ComparedRun], num: int) -> tuple[FlipText, ...]:
    """As `select_flip_texts`, with the `num` worst flips of every measure and suite of each pair."""
    return _texts(comparison, sources, lambda pair: tuple(_first_of_each(pair, num)))


def _first_of_each(pair: PairComparison, num: int) -> Iterator[Flip]:
    seen: Counter[tuple[str, str]] = Counter()
    for flip in pair.flips:
        seen[flip.metric, flip.suite] += 1
        if seen[flip.metric, flip.suite] <= num:
            yield flip


def _texts(
    comparison: Comparison, sources: Sequence[ComparedRun], chosen: Callable[[PairComparison], Sequence[Flip]]
) -> tuple[FlipText, ...]:
    first = {arm.name: arm.runs[0] for arm in comparison.arms}
    records: dict[str, Records] = {
        source.column.name: {record.item.id: record for record in source.records or ()} for source in sources
    }
    return tuple(
        FlipText(
            pair=pair_name(pair),
            flip=flip,
            prompt=_prompt(records[first[pair.a]].get(flip.item)),
            answer_a=_answer(records[first[pair.a]].get(flip.item)),
            answer_b=_answer(records[first[pair.b]].get(flip.item)),
        )
        for pair in comparison.pairs
        for flip in chosen(pair)
    )


def pair_name(pair: PairComparison) -> str:
    """The pair as text, such as `selective against baseline`."""
    return f"{pair.b} against {pair.a}"


def _prompt(record: EvaluationRecord | None) -> str | None:
    turns = [message.content for message in record.item.messages if message.role == "user"] if record else []
    return turns[-1] if turns else None


def _answer(record: EvaluationRecord | None) -> str | None:
    return record.answer if record else None
