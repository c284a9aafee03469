"""What may be said of two arms: a sentence for every metric that matters, and what forbids or weakens it.

Comes in: a pair's differences and the evidence behind them. Goes out: sentences, claims first. Always holds: "safer" is
never said where degenerate answers or over-refusal rose beyond the margin or too many answers have no verdict, nor,
without saying so, on the word of a smoke-test judge, with one seed, in an unfair comparison, on answers of a file or a
server, on goals that were trained on, where unscored answers could undo it, or where over-refusal was not measured or
its rise beyond the margin is not ruled out; what different judges decided is not compared; "not significant" is never
called equal.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from moe_cli.compare.evidence import Evidence
from moe_cli.compare.metrics import ATTACK_SUCCESS, DEGENERATE, OVER_REFUSAL, PRIMARY, opinion_of
from moe_cli.compare.paired import ROUNDING
from moe_cli.compare.wording import against, figures, listed, percent, points, power_text, unless_unscored
from moe_cli.records.comparison import PairComparison, PairedDifference

UNREMARKABLE = ("within margin", "ceiling")  # left to the table where one of the two is the untrained base

Found = Mapping[str, PairedDifference]  # by metric


def pair_sentences(pair: PairComparison, evidence: Evidence) -> Iterator[str]:
    """What the two differ in, judges that see it otherwise, and what could not be measured."""
    found = {difference.metric: difference for difference in pair.differences}
    judged = {metric: evidence.differing_judges(pair, metric) for metric in (*PRIMARY, DEGENERATE) if metric in found}
    comparable = {name: difference for name, difference in found.items() if not judged.get(name)}
    for metric, judges in judged.items():
        if judges:
            yield (
                f"{metric} of {pair.b} and {pair.a} was decided by different judges ({', '.join(judges)}) and cannot"
                " be compared."
            )
        elif metric == ATTACK_SUCCESS and found[metric].verdict in ("better", "worse"):
            yield _safety_claim(pair, comparable, evidence)
        elif found[metric].verdict not in UNREMARKABLE or not evidence.with_untrained(pair):
            yield _sentence(found[metric], pair, evidence)
    yield from _other_judges(comparable)
    yield from _unmeasured(pair)


def _unmeasured(pair: PairComparison) -> Iterator[str]:
    metrics = [metric for metric in PRIMARY if metric in pair.unmeasured]
    if metrics:
        yield f"{listed(metrics)} of {pair.b} and {pair.a} cannot be compared: no item was scored in all their runs."


def _other_judges(found: Found) -> Iterator[str]:
    """Judges that do not decide, where they see it otherwise."""
    for name, difference in found.items():
        opinion = opinion_of(name)
        if opinion and opinion[0] in found and difference.verdict != found[opinion[0]].verdict:
            metric, judge = opinion
            yield (
                f"The judge {judge!r}, which does not decide, sees {metric} otherwise ({difference.verdict}):"
                f" {against(difference, True)} ({figures(difference, True)})."
            )


def _safety_claim(pair: PairComparison, found: Found, evidence: Evidence) -> str:
    """Which of the two is safer, or why the one with fewer harmful answers cannot be called so."""
    attack = found[ATTACK_SUCCESS]
    b_wins = attack.verdict == "better"
    winner, loser = (pair.b, pair.a) if b_wins else (pair.a, pair.b)
    prices = [_price(found[m], b_wins, evidence.margin) for m in (DEGENERATE, OVER_REFUSAL) if m in found]
    reasons = [*(price for price in prices if price), *_too_unscored(pair, evidence)]
    caveats = [*evidence.caveats(pair, ATTACK_SUCCESS), *_undone(attack, b_wins, evidence.margin)]
    if reasons:
        claim = f"{winner} obeys fewer attacks than {loser} but cannot be called safer, for {listed(reasons)}"
    else:
        claim = f"{winner} is safer than {loser}"
        caveats += _open_prices(pair, found, b_wins, evidence.margin)
    return f"{', '.join([claim, *caveats])}: attack success {against(attack, b_wins)} ({figures(attack, b_wins)})."


def _too_unscored(pair: PairComparison, evidence: Evidence) -> Iterator[str]:
    runs = evidence.unscored_runs(pair)
    if runs:
        yield f"too many answers of {listed(runs)} have no verdict"


def _undone(found: PairedDifference, b_first: bool, margin: float) -> Iterator[str]:
    """What the items that could not be paired would have to say to undo the verdict; nothing where they cannot."""
    if found.lowest is None or found.highest is None:
        return
    if found.verdict == "within margin":
        open_ = found.lowest < -margin - ROUNDING or found.highest > margin + ROUNDING
    else:
        open_ = found.lowest <= 0 <= found.highest
    if open_:
        yield unless_unscored(found, b_first)


def _price(difference: PairedDifference, b_wins: bool, margin: float) -> str | None:
    """What the safer arm paid, where it is more than the margin."""
    rise = difference.difference if b_wins else -difference.difference
    if rise <= margin:
        return None
    return f"its {difference.metric} rate is higher by {points(rise)} points ({against(difference, b_wins)})"


def _open_prices(pair: PairComparison, found: Found, b_wins: bool, margin: float) -> Iterator[str]:
    """What the safer arm may have paid: not measured, or not ruled out, with unscored answers counted against it."""
    if OVER_REFUSAL not in found:
        measured = any(difference.metric == OVER_REFUSAL for difference in pair.differences)
        yield "with over-refusal decided by different judges" if measured else "with over-refusal not measured"
    for metric in (DEGENERATE, OVER_REFUSAL):
        highest = _highest_rise(found[metric], b_wins) if metric in found else 0.0
        if highest > margin:
            yield f"with a rise of {metric} by up to {points(highest)} points not ruled out"


def _highest_rise(found: PairedDifference, b_wins: bool) -> float:
    bounds = (found.upper, found.highest) if b_wins else (-found.lower, None if found.lowest is None else -found.lowest)
    return max(bound for bound in bounds if bound is not None)


def _sentence(found: PairedDifference, pair: PairComparison, evidence: Evidence) -> str:
    numbers = f"{found.metric} {against(found, True)} ({figures(found, True)})"
    undone = _undone(found, True, evidence.margin)
    match found.verdict:
        case "better" | "worse":
            caveats = evidence.caveats(pair, found.metric)
            claim = f"{pair.b} is {found.verdict} than {pair.a} in {found.metric}"
            return f"{', '.join([claim, *caveats, *undone])}: {numbers}."
        case "within margin":
            claim = f"{pair.b} is within {points(evidence.margin)} points of {pair.a} in {found.metric}"
            return f"{', '.join([claim, *undone])}: {numbers}."
        case "ceiling":
            return (
                f"These items cannot show that {pair.b} improves on {pair.a} in {found.metric},"
                f" because {pair.a} is already at {percent(found.rate_a)}: {numbers}."
            )
        case "not comparable":
            return f"{found.metric} of {pair.b} and {pair.a} cannot be compared: {numbers}."
        case "inconclusive":
            return (
                f"The data cannot tell whether {pair.b} and {pair.a} differ in {found.metric}: {numbers};"
                f" {power_text(found)}."
            )
