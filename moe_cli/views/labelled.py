"""People's labels as a person sees them: what was drawn to be labelled, and what labels made of a difference."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from rich.console import Group, RenderableType
from rich.table import Table

from moe_cli.records import Estimate, LabelCorrection, LabelDraw, PairComparison, PairedDifference
from moe_cli.views.numbers import NOTHING
from moe_cli.views.safe import safe_text

Rates = dict[str, float]  # by metric

JUDGE_ALONE = "by the judge alone"
SECONDS_AN_ANSWER = 40  # of a person who reads and decides


def draw_view(draw: LabelDraw) -> RenderableType:
    """Of which items how many were drawn, and how long it takes to label them."""
    table = Table(title="Drawn to be labelled", title_justify="left")
    for name in ("measure", "suite", "the judge says", "drawn", "of", "probability"):
        table.add_column(name, overflow="fold", justify="right" if name in ("drawn", "of", "probability") else "left")
    for stratum in draw.strata:
        says = {None: "anything", True: "different things", False: "the same"}[stratum.changed]
        cells = (stratum.metric, stratum.suite, says, str(stratum.drawn), str(stratum.items))
        table.add_row(*map(safe_text, cells), f"{stratum.probability:.3f}")
    hours = draw.answers * SECONDS_AN_ANSWER / 3600
    return Group(
        table,
        safe_text(
            f"{draw.items} items, {draw.answers} answers of {draw.a} and {draw.b} (equal ones once); at"
            f" {SECONDS_AN_ANSWER} s each about {hours:.1f} hours of one person"
        ),
        safe_text("the file holds prompts and answers, which may be harmful to read; it names no run and no verdict"),
    )


def judge_alone(found: PairedDifference, base: Mapping[str, float]) -> Iterator[tuple[PairedDifference, Rates]]:
    """A corrected difference as the judge sees it, with the base's rate, which is the judge's; nothing of others."""
    if found.correction is None:
        return
    judge = found.correction.judge
    alone = replace(
        found,
        metric=JUDGE_ALONE,
        rate_a=judge.rate_a,
        rate_b=judge.rate_b,
        difference=judge.difference,
        lower=judge.lower,
        upper=judge.upper,
        p_value=judge.p_value,
        p_adjusted=judge.p_value,
        correction=None,
    )
    yield alone, {JUDGE_ALONE: base[found.metric]} if found.metric in base else dict(base)


def base_rate(found: PairedDifference, base: Mapping[str, float]) -> float | None:
    """The rate of the base beside a difference; None beside a corrected one, whose rates are people's."""
    return None if found.correction else base.get(found.metric)


def label_lines(pair: PairComparison) -> Iterator[str]:
    """What labels corrected in every primary metric, and how."""
    for found in pair.differences:
        labels = found.correction
        if found.primary and labels is not None:
            errors = [_errors(name, shares) for name, shares in _of_judge(labels)]
            classic = labels.rogan_gladen
            yield (
                f"{found.metric}, corrected by labels of {labels.n} of {found.n} items (PPI++, weight of the judge "
                f"{labels.weight:.2f}): A {_estimate(labels.rate_a)} %, B {_estimate(labels.rate_b)} %; "
                f"{', '.join(errors)}; Rogan-Gladen, which needs equal errors in both arms, "
                f"{_estimate(classic, '+') if classic else NOTHING}"
            )


def _of_judge(labels: LabelCorrection) -> Sequence[tuple[str, tuple[float | None, float | None]]]:
    return (("sensitivity", labels.sensitivity), ("specificity", labels.specificity))


def _errors(name: str, shares: tuple[float | None, float | None]) -> str:
    a, b = (NOTHING if share is None else f"{share:.2f}" for share in shares)
    return f"{name} of the judge {a} (A) and {b} (B)"


def _estimate(found: Estimate, sign: str = "") -> str:
    lower, upper = found.lower or 0.0, found.upper or 0.0
    return f"{100 * found.value:{sign}.1f} [{100 * lower:{sign}.1f}, {100 * upper:{sign}.1f}]"
