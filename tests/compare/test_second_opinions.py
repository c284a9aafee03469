"""What a judge says that does not decide: shown as exploratory, and named in the conclusion where it differs."""

from dataclasses import replace

from moe_cli.compare.compared_runs import ComparedRun
from moe_cli.compare.conclusion import draw_conclusion
from moe_cli.compare.fairness import check_fairness
from moe_cli.compare.stage import compare
from moe_cli.records.comparison import ComparedArm
from moe_cli.records.judging import Verdict
from moe_cli.stats.metrics import METRICS, second_opinions
from moe_cli.stats.outcomes import evaluated_items
from moe_cli.stats.paired import ArmItems, compare_pair
from tests.builders import CLASSIFIER, KEYWORDS, answered, column, evaluation

BOTH = evaluation(judges=(KEYWORDS, CLASSIFIER))
NUM = 60
OF_ATTACKS = {"degenerate answers", "degenerate answers to attacks", "cut-off answers to attacks"}


def records(decided, other):
    """Attacks of which the first `decided` succeed by the classifier, the first `other` by the keywords."""
    return [
        replace(
            answered(f"{place:02}", "compliance" if place < decided else "full_refusal"),
            verdicts=(verdict(place < other), verdict(place < decided)),
        )
        for place in range(NUM)
    ]


def verdict(harmful):
    return Verdict(label="compliance" if harmful else "full_refusal", harmful=harmful, reason="")


def arm(name, found, summary=BOTH):
    return ArmItems(name, (name,), (evaluated_items(name, found, (*METRICS, *second_opinions(summary))),), True)


def compared(a, b):
    return compare_pair(arm("baseline", a), arm("selective", b), margin=0.02)


def said(pair):
    columns = (column("baseline", evaluation=BOTH), column("selective", evaluation=BOTH))
    arms = [ComparedArm(name=found.name, runs=(found.name,)) for found in columns]
    return " ".join(draw_conclusion(columns, arms, check_fairness(columns, [None, None]), [pair], 0.02))


def test_the_judge_that_does_not_decide_has_metrics_of_its_own_that_are_exploratory():
    pair = compared(records(40, 30), records(10, 30))
    found = {difference.metric: difference for difference in pair.differences}
    assert (found["attack success"].rate_a, found["attack success"].rate_b) == (40 / NUM, 10 / NUM)
    other = found["attack success by keywords"]
    assert (other.rate_a, other.rate_b, other.primary) == (0.5, 0.5, False)
    assert "attack success by classifier" not in found


def test_no_flip_stands_twice_because_two_judges_read_it():
    pair = compared(records(40, 40), records(10, 10))
    assert {flip.metric for flip in pair.flips} == {"attack success"}
    assert len(pair.flips) == 30


def test_the_conclusion_names_a_judge_that_sees_it_otherwise_and_only_that():
    against = said(compared(records(40, 30), records(10, 30)))
    assert "The judge 'keywords', which does not decide, sees attack success otherwise (inconclusive)" in against
    assert "sees attack success otherwise" not in said(compared(records(40, 40), records(10, 10)))


def both_judged_by(revision):
    """The comparison of two runs, the second read by this revision of the keywords."""
    second = evaluation(judges=(replace(KEYWORDS, revision=revision), CLASSIFIER))
    sources = [
        ComparedRun(
            column=column(name, evaluation=summary),
            training=None,
            records=None,
            items=evaluated_items(name, found, (*METRICS, *second_opinions(summary))),
            digests={},
        )
        for name, found, summary in (("baseline", records(40, 30), BOTH), ("selective", records(10, 30), second))
    ]
    return compare([[source] for source in sources], 0.02)


def test_a_judge_with_another_revision_is_not_compared_and_named_once():
    found = both_judged_by("9" * 64)
    assert {difference.metric for difference in found.pairs[0].differences} == {"attack success", *OF_ATTACKS}
    assert found.pairs[0].unmeasured == ()
    assert [said for said in found.conclusion if "keywords" in said] == [
        "The judge 'keywords' changed between the runs, so what it says is not compared."
    ]


def test_a_judge_of_one_revision_is_compared():
    found = both_judged_by(KEYWORDS.revision)
    assert "attack success by keywords" in {difference.metric for difference in found.pairs[0].differences}
    assert not any("changed between the runs" in said for said in found.conclusion)


def test_a_judge_that_read_only_one_of_the_runs_is_not_compared():
    alone = evaluation(judges=(CLASSIFIER,))
    a = arm("baseline", records(40, 30))
    b = arm("selective", [replace(found, verdicts=(found.verdict,)) for found in records(10, 30)], alone)
    metrics = {difference.metric for difference in compare_pair(a, b, margin=0.02).differences}
    assert metrics == {"attack success", *OF_ATTACKS}
