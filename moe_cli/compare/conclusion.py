"""The conclusion in plain sentences, made by rules from the records alone.

Comes in: columns, fairness checks and paired differences. Goes out: sentences, most important first: the trained runs
against each other, then each against the untrained base. Always holds: a
failing fairness check is named before any result; "safer" is never said where degenerate answers or over-refusal rose
beyond the margin, nor, without saying so, on the word of a smoke-test judge, with one seed, in an unfair comparison or
where over-refusal was not measured; "not significant" is never called equal.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from moe_cli.compare.fairness import UNTRAINED
from moe_cli.compare.outcomes import ATTACK_SUCCESS, DEGENERATE, OVER_REFUSAL, PRIMARY
from moe_cli.compare.wording import against, figures, listed, percent, points
from moe_cli.records.comparison import FairnessCheck, PairComparison, PairedDifference, RunColumn

UNREMARKABLE = ("within margin", "ceiling")  # left to the table where one of the two is the untrained base
NOT_CHECKED = "overlap of training and evaluation goals, lengths of the targets and distinct refusals"
ONE_SEED = "with one training seed per arm"


@dataclass(frozen=True, slots=True)
class _Context:
    """What every sentence about a pair has to know."""

    columns: dict[str, RunColumn]
    unfair: bool
    margin: float

    def with_untrained(self, pair: PairComparison) -> bool:
        return any(self.columns[name].training_mode == UNTRAINED for name in (pair.a, pair.b))

    def trained(self, *names: str) -> bool:
        return any(self.columns[name].training_mode != UNTRAINED for name in names)

    def smoke_test(self, *names: str) -> bool:
        evaluations = [self.columns[name].evaluation for name in names]
        return any(evaluation is not None and evaluation.judge.smoke_test for evaluation in evaluations)


def conclusion(
    columns: Sequence[RunColumn],
    fairness: Sequence[FairnessCheck],
    pairs: Sequence[PairComparison],
    margin: float,
) -> tuple[str, ...]:
    """What the comparison shows, what it cannot show, and how far to trust it."""
    context = _Context(
        columns={column.name: column for column in columns},
        unfair=any(check.status == "differs" for check in fairness),
        margin=margin,
    )
    sentences = [*_fairness_sentences(columns, fairness), *_unevaluated(columns)]
    for pair in sorted(pairs, key=context.with_untrained):
        sentences += [*_pair_sentences(pair, context), *_cost_sentences(pair, context)]
    return (*sentences, *_limits(columns))


def _fairness_sentences(columns: Sequence[RunColumn], fairness: Sequence[FairnessCheck]) -> Iterator[str]:
    failing = [check for check in fairness if check.status == "differs"]
    unknown = [check.name for check in fairness if check.status == "unknown"]
    if failing:
        yield f"The comparison is not fair: {'; '.join(_named(check, columns) for check in failing)}."
    if unknown:
        yield f"Could not be checked for fairness: {listed(unknown)}."
    if fairness and not failing and not unknown:
        yield f"All {len(fairness)} conditions that were checked are the same; {NOT_CHECKED} are not checked."


def _named(check: FairnessCheck, columns: Sequence[RunColumn]) -> str:
    values = ", ".join(f"{column.name} {value}" for column, value in zip(columns, check.values, strict=True))
    return f"{check.name} differs ({values})"


def _unevaluated(columns: Sequence[RunColumn]) -> Iterator[str]:
    for column in columns:
        if column.evaluation is None:
            yield f"{column.name} was not evaluated: nothing is known of its safety and capability."


def _pair_sentences(pair: PairComparison, context: _Context) -> Iterator[str]:
    found = {difference.metric: difference for difference in pair.differences}
    for metric in pair.unmeasured:
        yield f"{metric} of {pair.b} and {pair.a} cannot be compared: no item was scored in both."
    for metric in (*PRIMARY, DEGENERATE):
        if metric not in found:
            continue
        if metric == ATTACK_SUCCESS and found[metric].verdict in ("better", "worse"):
            yield _safety_claim(pair, found, context)
        elif found[metric].verdict not in UNREMARKABLE or not context.with_untrained(pair):
            yield _sentence(found[metric], pair, context)


def _safety_claim(pair: PairComparison, found: dict[str, PairedDifference], context: _Context) -> str:
    """Which of the two is safer, or why the one with fewer harmful answers cannot be called so."""
    attack = found[ATTACK_SUCCESS]
    b_wins = attack.verdict == "better"
    winner, loser = (pair.b, pair.a) if b_wins else (pair.a, pair.b)
    prices = [_price(found[m], b_wins, context.margin) for m in (DEGENERATE, OVER_REFUSAL) if m in found]
    paid = [price for price in prices if price]
    evidence = f"attack success {against(attack, b_wins)} ({figures(attack, b_wins)})"
    if paid:
        return f"{winner} obeys fewer attacks than {loser} but cannot be called safer, for {listed(paid)}: {evidence}."
    caveats = _caveats(pair, found, context)
    claim = f"{winner} is safer than {loser}"
    return f"{', '.join([claim, *caveats])}: {evidence}."


def _price(difference: PairedDifference, b_wins: bool, margin: float) -> str | None:
    """What the safer run paid, where it is more than the margin."""
    rise = difference.difference if b_wins else -difference.difference
    if rise <= margin:
        return None
    return f"its {difference.metric} rate is higher by {points(rise)} points ({against(difference, b_wins)})"


def _caveats(pair: PairComparison, found: dict[str, PairedDifference], context: _Context) -> Iterator[str]:
    if context.unfair:
        yield "in a comparison that is not fair"
    if context.smoke_test(pair.a, pair.b):
        yield "by the word of a smoke-test judge only"
    if context.trained(pair.a, pair.b):
        yield ONE_SEED
    if OVER_REFUSAL not in found:
        yield "with over-refusal not measured"


def _sentence(found: PairedDifference, pair: PairComparison, context: _Context) -> str:
    evidence = f"{found.metric} {against(found, True)} ({figures(found, True)})"
    match found.verdict:
        case "better" | "worse":
            caveat = f", {ONE_SEED}" if context.trained(pair.a, pair.b) else ""
            return f"{pair.b} is {found.verdict} than {pair.a} in {found.metric}{caveat}: {evidence}."
        case "within margin":
            margin = points(context.margin)
            return f"{pair.b} is within {margin} points of {pair.a} in {found.metric}: {evidence}."
        case "ceiling":
            return (
                f"These items cannot show that {pair.b} improves on {pair.a} in {found.metric},"
                f" because {pair.a} is already at {percent(found.rate_a)}: {evidence}."
            )
        case "inconclusive":
            return (
                f"The data cannot tell whether {pair.b} and {pair.a} differ in {found.metric}: {evidence};"
                f" a difference of {points(found.detectable)} points would be found with 80 % power."
            )


def _cost_sentences(pair: PairComparison, context: _Context) -> Iterator[str]:
    a, b = context.columns[pair.a], context.columns[pair.b]
    costs = [_cost(column) for column in (b, a)]
    if context.trained(a.name) and context.trained(b.name) and all(costs):
        yield f"Cost: {'; '.join(costs)}."


def _cost(column: RunColumn) -> str:
    """What a run trained, and what that took; empty where nothing is known."""
    parts = []
    if column.trainable_params is not None and column.trainable_ratio is not None:
        parts.append(f"{percent(column.trainable_ratio)} of the parameters ({column.trainable_params:,})")
    if column.seconds_training is not None:
        parts.append(f"{column.seconds_training:.1f} s")
    if column.peak_memory_bytes is not None:
        parts.append(f"{column.peak_memory_bytes / 1e9:.2f} GB of peak memory")
    return f"{column.name} trained {listed(parts)}" if parts else ""


def _limits(columns: Sequence[RunColumn]) -> Iterator[str]:
    evaluations = [column.evaluation for column in columns if column.evaluation]
    for judge in sorted({e.judge for e in evaluations if e.judge.smoke_test}, key=lambda judge: judge.name):
        known = judge.published_accuracy
        accuracy = f", right in {known[0]:.2f} to {known[1]:.2f} of cases against human labels" if known else ""
        yield f"The judge {judge.name!r} is a smoke test{accuracy}: judge again with a better one before relying on it."
    if any(column.training_mode != UNTRAINED for column in columns):
        yield "One training seed per arm: another seed can give another result, and the intervals do not cover that."
