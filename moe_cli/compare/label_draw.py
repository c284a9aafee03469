"""`moe label`: draws the answers of two runs that people are to label, so that the rates over all items can be
estimated.

For each measure the requested number of items is drawn, the same number from every suite, because suites have one
vote each; within a suite at random without replacement. With `flip_factor` above 1, items that the judge scores
differently in the two runs are that many times as likely. Every item's probability is recorded and undoes this. Only
items that the judge scored in both runs are drawn, as only these are in the rates.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from moe_cli.compare.compared_runs import ComparedRun
from moe_cli.compare.pair_labels import METRIC_OF, answer_code, draw_code
from moe_cli.config.settings import FEWEST_LABELS
from moe_cli.data.label_sheets import Asked, LabelRow
from moe_cli.errors import UsageError
from moe_cli.records import EvaluationRecord, LabelDraw, LabelStratum
from moe_cli.stats.outcomes import RunItems, match_items

DrawnItem = tuple[str, Asked, float]  # id, what is asked, probability


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelSample:
    """Rows to label, in an uninformative order, and how they were drawn."""

    rows: tuple[LabelRow, ...]
    summary: LabelDraw


def draw_answers(
    a: ComparedRun, b: ComparedRun, *, asked: Sequence[Asked], num: int, seed: int, flip_factor: float = 1.0, path: str
) -> LabelSample:
    """Draw `num` items of each measure with the answers of both runs, or all of them if there are fewer.

    Raises:
        UsageError: too few items are scored in both to correct anything by.
        ArtifactError: the runs have no item in common.
    """
    if a.items is None or b.items is None:
        raise ValueError("a run without an evaluation")
    runs = match_items([a.column.name, b.column.name], [a.items, b.items], intersect=True).runs
    random = np.random.default_rng(seed)
    drawn: list[DrawnItem] = []
    strata: list[LabelStratum] = []
    for question in asked:
        for stratum, ids in _strata(question, runs, num, flip_factor):
            strata.append(stratum)
            places = sorted(random.choice(len(ids), stratum.drawn, replace=False))
            drawn += [(ids[place], question, stratum.probability) for place in places]
    rows = _rows(drawn, a, b)
    summary = LabelDraw(
        path=path,
        a=a.column.name,
        b=b.column.name,
        draw=rows[0].draw,
        seed=seed,
        items=len(drawn),
        answers=len(rows),
        strata=tuple(strata),
    )
    return LabelSample(rows=tuple(rows[place] for place in random.permutation(len(rows))), summary=summary)


def _rows(drawn: Sequence[DrawnItem], a: ComparedRun, b: ComparedRun) -> list[LabelRow]:
    """Rows for the answers of both runs to every item; an answer that both runs gave has one row."""
    rows_by_code: dict[str, LabelRow] = {}
    of_run = [{record.item.id: record for record in source.records or ()} for source in (a, b)]
    for id, question, probability in drawn:
        for records in of_run:
            record = records[id]
            code = answer_code(record)
            rows_by_code[code] = LabelRow(
                item=id,
                run=code,
                prompt=prompt_text(record),
                answer=record.answer,
                asked=question,
                label=None,
                probability=probability,
                draw="",
            )
    draw = draw_code((row.run, row.probability) for row in rows_by_code.values())
    return [replace(row, draw=draw) for row in rows_by_code.values()]


def prompt_text(record: EvaluationRecord) -> str:
    """The prompt as text: a single user turn as it is, several turns each with their role."""
    turns = record.item.messages
    if len(turns) == 1:
        return turns[0].content
    return "\n\n".join(f"[{turn.role}] {turn.content}" for turn in turns)


def _strata(
    question: Asked, runs: Sequence[RunItems], num: int, flip_factor: float
) -> Iterator[tuple[LabelStratum, list[str]]]:
    """Every stratum with items to draw, with the ids of its items in order."""
    metric = METRIC_OF[question]
    of_suite: dict[str, list[str]] = {}
    for id, item in runs[0].items():
        if all(run[id].outcomes.get(metric) is not None for run in runs):
            of_suite.setdefault(item.suite, []).append(id)
    num_items = sum(map(len, of_suite.values()))
    if num_items < FEWEST_LABELS:
        raise UsageError(
            f"{num_items} items of {metric} are scored in both runs, and {FEWEST_LABELS} have to be labelled",
            hint="evaluate both runs on more of them, or ask for the other measure alone with --metric",
        )
    for suite, share in _shares({suite: len(ids) for suite, ids in of_suite.items()}, num).items():
        ids = of_suite[suite]
        if flip_factor == 1:
            yield LabelStratum(metric=metric, suite=suite, changed=None, drawn=share, items=len(ids)), ids
            continue
        changed = [id for id in ids if len({run[id].outcomes[metric] for run in runs}) > 1]
        same = [id for id in ids if len({run[id].outcomes[metric] for run in runs}) == 1]
        weight = flip_factor * len(changed)
        least, most = share - len(same), share - bool(same)  # no kind without a chance
        of_changed = max(bool(changed), least, min(round(share * weight / (weight + len(same))), most, len(changed)))
        for is_changed, part, count in ((True, changed, of_changed), (False, same, share - of_changed)):
            if part:
                yield LabelStratum(metric=metric, suite=suite, changed=is_changed, drawn=count, items=len(part)), part


def _shares(sizes: dict[str, int], num: int) -> dict[str, int]:
    """How many items to draw from each suite: equally many, where the shortfall of small suites goes to the others."""
    shares: dict[str, int] = {}
    left = min(num, sum(sizes.values()))
    for place, suite in enumerate(sorted(sizes, key=lambda suite: (sizes[suite], suite))):
        shares[suite] = min(sizes[suite], max(1, round(left / (len(sizes) - place))))
        left -= shares[suite]
    return {suite: shares[suite] for suite in sizes}
