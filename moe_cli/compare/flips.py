"""What flipped: the items that two arms do not answer alike, worst first.

Comes in: paired outcomes. Goes out: `Flip`s. Always holds: an item stands once per metric, never again for its suite
or for a judge that does not decide; what was not scored in every run is no flip; no text of a prompt or an answer is in
it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from moe_cli.compare.metrics import WITHOUT_FLIPS
from moe_cli.compare.outcomes import Outcomes, PairedOutcomes
from moe_cli.records.comparison import Flip


def find_flips(metrics: Sequence[PairedOutcomes]) -> tuple[Flip, ...]:
    """Items that became worse in b first, the most runs first, in the order of the metrics; ties by suite and id."""
    found = [
        (flip.direction == "better", -abs(flip.share_b - flip.share_a), place, flip.suite, flip.item, flip)
        for place, metric in enumerate(metrics)
        if metric.over_all and not metric.is_second_opinion and metric.metric not in WITHOUT_FLIPS
        for flip in _of_metric(metric)
    ]
    return tuple(flip for *_, flip in sorted(found, key=lambda row: row[:-1]))


def _of_metric(metric: PairedOutcomes) -> Iterator[Flip]:
    of_items = zip(metric.ids, zip(*metric.a, strict=True), zip(*metric.b, strict=True), strict=True)
    for place, (item, of_a, of_b) in enumerate(of_items):
        if of_a == of_b:
            continue
        a, b = (_share(outcomes, metric.missing_is_no) for outcomes in (of_a, of_b))
        if a is not None and b is not None and a != b:
            yield Flip(
                metric=metric.metric,
                suite=metric.suites[place],
                item=item,
                direction="better" if (b < a) == (metric.better == "lower") else "worse",
                share_a=a,
                share_b=b,
            )


def _share(outcomes: Outcomes, missing_is_no: bool) -> float | None:
    """Share of the runs that say yes, or their mean fraction; None where one of them was not scored."""
    if None in outcomes and not missing_is_no:
        return None
    return sum(outcome or 0 for outcome in outcomes) / len(outcomes)
