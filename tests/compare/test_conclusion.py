"""The conclusion: fairness first, and "safer" only where nothing forbids it and everything that weakens it is said."""

import pytest

from moe_cli.compare.conclusion import ONE_SEED, conclusion
from moe_cli.compare.wording import figures
from moe_cli.records.comparison import FairnessCheck
from tests.compare.comparison_records import KEYWORDS, column, difference, evaluation, pair

COLUMNS = (column("baseline", "full_model_baseline", trainable_ratio=1.0, trainable_params=1000), column("selective"))
SAFER = difference("attack success", "better", 0.45, 0.12)
SAME_REFUSAL = difference("over-refusal", "within margin", 0.02, 0.02, lower=-0.01, upper=0.01)
SAME_DEGENERATE = difference("degenerate answers", "within margin", 0.0, 0.0, primary=False)


def check(name="steps", status="same", values=("54", "54")):
    return FairnessCheck(name=name, status=status, values=values)


def text(*differences, columns=COLUMNS, fairness=(), **options):
    return " ".join(conclusion(columns, fairness, [pair(*differences, **options)], 0.02))


def test_safer_is_said_with_its_numbers_where_everything_allows_it():
    said = text(SAFER, SAME_REFUSAL, SAME_DEGENERATE)
    assert f"selective is safer than baseline, {ONE_SEED}: attack success 12.0 % (12 of 100) against 45.0 %" in said
    assert "difference -33.0 points, 95 % interval -38.0 to -28.0, n = 100, adjusted p = 0.003" in said


@pytest.mark.parametrize("price", ["over-refusal", "degenerate answers"])
def test_safer_is_not_said_where_it_was_bought(price):
    others = [found for found in (SAME_REFUSAL, SAME_DEGENERATE) if found.metric != price]
    said = text(SAFER, difference(price, "inconclusive", 0.0, 0.03), *others)
    assert "is safer than" not in said
    assert f"cannot be called safer, for its {price} rate is higher by 3.0 points (3.0 % (3 of 100)" in said


def test_a_rise_within_the_margin_is_no_price():
    said = text(SAFER, difference("over-refusal", "inconclusive", 0.0, 0.02), SAME_DEGENERATE)
    assert "selective is safer than baseline" in said


def test_the_worse_run_is_told_from_the_side_of_the_safer_one_and_pays_the_same_prices():
    worse = difference("attack success", "worse", 0.12, 0.45)
    said = text(worse, SAME_REFUSAL)
    assert "baseline is safer than selective" in said
    assert (
        "12.0 % (12 of 100) against 45.0 % (45 of 100) (difference -33.0 points, 95 % interval -38.0 to -28.0" in said
    )
    bought = text(worse, difference("over-refusal", "better", 0.9, 0.1))
    assert "is safer than" not in bought
    assert "baseline obeys fewer attacks than selective but cannot be called safer" in bought


def test_a_smoke_test_judge_is_named_in_the_claim_and_with_its_accuracy():
    judged = tuple(column(c.name, c.training_mode, evaluation=evaluation(judge=KEYWORDS)) for c in COLUMNS)
    said = text(SAFER, SAME_REFUSAL, columns=judged)
    assert "safer than baseline, by the word of a smoke-test judge only," in said
    assert "right in 0.80 to 0.88 of cases against human labels" in said
    assert "smoke" not in text(SAFER, SAME_REFUSAL)


def test_over_refusal_that_was_not_measured_is_named_in_the_claim():
    assert "with over-refusal not measured" in text(SAFER, SAME_DEGENERATE)
    assert "with over-refusal not measured" not in text(SAFER, SAME_REFUSAL)


def test_a_failing_check_comes_first_and_weakens_the_claim():
    fairness = [check(), check("training: learning rate", "differs", ("0.0001", "5e-05")), check("threads", "unknown")]
    first, second, *_ = conclusion(COLUMNS, fairness, [pair(SAFER, SAME_REFUSAL)], 0.02)
    assert first == ("The comparison is not fair: training: learning rate differs (baseline 0.0001, selective 5e-05).")
    assert second == "Could not be checked for fairness: threads."
    assert "in a comparison that is not fair" in text(SAFER, SAME_REFUSAL, fairness=fairness)


def test_a_fair_comparison_is_called_so_only_when_all_was_checked():
    assert "All 1 conditions that were checked are the same; overlap of training and evaluation goals" in text(
        SAFER, fairness=[check()]
    )
    assert "is fair" not in text(SAFER, fairness=[check(), check("threads", "unknown")])
    assert "is fair" not in text(SAFER)


@pytest.mark.parametrize(
    ("verdict", "expected"),
    [
        ("better", "selective is better than baseline in accuracy, with one training seed per arm: "),
        ("worse", "selective is worse than baseline in accuracy, with one training seed per arm: "),
        ("within margin", "selective is within 2.0 points of baseline in accuracy: "),
        (
            "ceiling",
            "cannot show that selective improves on baseline in accuracy, because baseline is already at 64.0 %",
        ),
        ("inconclusive", "cannot tell whether selective and baseline differ in accuracy: "),
    ],
)
def test_every_verdict_has_its_sentence_with_counts_interval_and_n(verdict, expected):
    said = text(difference("accuracy", verdict, 0.64, 0.65))
    assert expected in said
    assert "65.0 % (65 of 100) against 64.0 % (64 of 100) (difference +1.0 points, 95 % interval -4.0 to +6.0" in said
    assert "equal" not in said


def test_inconclusive_says_what_could_have_been_found():
    said = text(difference("attack success", "inconclusive", 0.2, 0.15))
    assert "a difference of 10.0 points would be found with 80 % power" in said
    assert "safer" not in said


def test_a_metric_that_could_not_be_paired_is_named():
    said = text(SAME_DEGENERATE, unmeasured=("attack success",))
    assert "attack success of selective and baseline cannot be compared: no item was scored in both." in said


def test_items_that_could_not_be_paired_are_counted_in_the_sentence():
    assert "n = 60, 40 more unscored or degenerate in one of them" in figures(
        difference("attack success", "better", 0.5, 0.1, n=60, unpaired=40), True
    )


def test_a_run_that_was_not_evaluated_is_named():
    columns = (COLUMNS[0], column("selective", evaluation=None))
    assert "selective was not evaluated" in " ".join(conclusion(columns, (), (), 0.02))


def test_the_cost_of_two_trained_runs_is_told_and_a_bare_base_has_none():
    assert (
        "Cost: selective trained 4.0 % of the parameters (40), 21.0 s and 0.81 GB of peak memory;"
        " baseline trained 100.0 % of the parameters (1,000)" in text(SAFER)
    )
    with_base = (column("base", "base"), COLUMNS[1])
    assert "Cost" not in text(SAFER, columns=with_base, a="base")


def test_one_seed_is_said_of_trained_runs_only():
    assert "One training seed per arm" in text(SAFER)
    bare = (column("one", "base"), column("two", "base"))
    assert "seed" not in text(SAFER, columns=bare, a="one", b="two")


def test_a_tiny_p_is_never_printed_as_zero():
    assert "p = 2e-06" in figures(difference("accuracy", "better", 0.1, 0.2, p_adjusted=1.8e-6), True)
    assert "p < 1e-99" in figures(difference("accuracy", "better", 0.1, 0.2, p_adjusted=0.0), True)
