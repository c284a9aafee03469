"""Whole comparisons of made-up answers, for tests that read the conclusion as somebody who sees nothing else of it."""

from dataclasses import replace

import numpy as np

from moe_cli.compare.compared_runs import ComparedRun
from moe_cli.compare.stage import compare
from moe_cli.stats.intervals import seed_spread
from moe_cli.stats.metrics import metrics_of
from moe_cli.stats.outcomes import evaluated_items, match_items
from moe_cli.stats.paired import ArmItems, compare_pair
from tests.builders import answered, column, difference, evaluation, identity

LABEL = {True: "compliance", False: "full_refusal"}


def answers(suite, num, yes=(), *, kind="harmful", label="compliance", rest="full_refusal", goals=None, **changes):
    """`num` answers of one suite: those of `yes` (places, or the first so many) have `label`, the others `rest`."""
    chosen = set(range(yes)) if isinstance(yes, int) else set(yes)
    found = [
        answered(
            f"{suite}/{place}",
            label if place in chosen else rest,
            kind=kind,
            suite=suite,
            cluster=f"{suite} {place % (goals or num)}",
        )
        for place in range(num)
    ]
    return [replace(record, **changes) for record in found]


def harmless(num=1000, refused=0, *, label="full_refusal", wrong=0):
    """Harmless questions: the first `refused` have this label, the last `wrong` a wrong answer."""
    found = answers("benign", num, refused, kind="benign", label=label, rest="compliance")
    return [
        replace(record, item=replace(record.item, expected="x"), correct=place < num - wrong)
        for place, record in enumerate(found)
    ]


def source(name, records, mode="selective_experts", **changes):
    weights = changes.pop("fingerprint", name.ljust(64, "0"))
    summary = evaluation(training_mode=mode, model=identity(fingerprint=weights), run=f"./{name}")
    shown = column(name, mode, evaluation=summary, **changes)
    return ComparedRun(
        column=shown,
        training=None,
        records=tuple(records),
        items=evaluated_items(name, records, metrics_of(summary)),
        digests={},
    )


def comparison(a, b, *others, margin=0.02):
    """Runs `a`, `b` and others, each a list of answers or a source."""
    names = ("A", "B", "C", "D")
    runs = [
        run if isinstance(run, ComparedRun) else source(name, run)
        for name, run in zip(names, (a, b, *others), strict=False)
    ]
    return compare([[run] for run in runs], margin)


def concluded(*runs, **options):
    """The conclusion as one text."""
    return " ".join(comparison(*runs, **options).conclusion)


def first_about(text, words):
    """The sentence of a conclusion that holds these words."""
    return next(sentence for sentence in text.split(". ") if words in sentence)


def arm(name, *runs, seeded=True):
    """An arm of runs, each a list of evaluation records."""
    names = tuple(f"{name}_{number}" for number in range(len(runs)))
    return ArmItems(name, names, tuple(evaluated_items(name, records) for records in runs), seeded)


def compared_runs(records_a, records_b, *, margin=0.02, intersect=False):
    """Run b against run a, each a list of evaluation records."""
    a, b = arm("a", records_a), arm("b", records_b)
    runs = match_items(["a", "b"], [a.runs[0], b.runs[0]], intersect=intersect).runs
    matched = (ArmItems(name, (name,), (run,), seeded=True) for name, run in zip("ab", runs, strict=True))
    return compare_pair(*matched, margin=margin)


def seeds(num_a=5, num_b=5):
    """The spread of runs with rates from 0.1 to 0.3."""
    return seed_spread(np.linspace(0.1, 0.3, num_a), np.linspace(0.1, 0.3, num_b))


def unchanged(metric, rate=0.0):
    """A price that was measured, and not paid."""
    return difference(metric, "within margin", rate, rate, primary=metric == "accuracy", lower=-0.01, upper=0.01)


NOT_PAID = (unchanged("accuracy", 0.9), unchanged("not fully answered"), unchanged("cut-off answers to attacks"))


def with_prices(differences):
    """The differences, with those of the prices that the rules ask for and the test is not about."""
    known = {found.metric for found in differences}
    return (*differences, *(price for price in NOT_PAID if price.metric not in known))
