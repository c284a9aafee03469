"""The conclusion: fairness first, and "safer" only where nothing forbids it and everything that weakens it is said."""

from dataclasses import replace

import pytest

from moe_cli.compare.conclusion import draw_conclusion
from moe_cli.compare.evidence import ONE_SEED
from moe_cli.compare.wording import compare_rates, format_figures
from moe_cli.records.comparison import ComparedArm, FairnessCheck
from tests.builders import KEYWORDS, arms_of, column, difference, evaluation, imported, pair
from tests.compare.scenarios import seeds, with_prices

COLUMNS = (column("baseline", "full_model_baseline", trainable_ratio=1.0, trainable_params=1000), column("selective"))
SAFER = difference("attack success", "better", 0.45, 0.12)
SAME_REFUSAL = difference("over-refusal", "within margin", 0.02, 0.02, lower=-0.01, upper=0.01)
SAME_DEGENERATE = difference("degenerate answers", "within margin", 0.0, 0.0, primary=False, lower=-0.01, upper=0.01)


def check(name="steps", status="same", values=("54", "54")):
    return FairnessCheck(name=name, status=status, values=values)


def text(*differences, columns=COLUMNS, arms=None, fairness=(), **options):
    found = pair(*with_prices(differences), **options)
    return " ".join(draw_conclusion(columns, arms or arms_of(columns), fairness, [found], 0.02))


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


@pytest.mark.parametrize("price", ["over-refusal", "degenerate answers"])
def test_a_rise_that_is_not_ruled_out_is_said_in_the_claim_from_either_side(price):
    others = [found for found in (SAME_REFUSAL, SAME_DEGENERATE) if found.metric != price]
    open_price = difference(price, "inconclusive", 0.02, 0.02, lower=-0.06, upper=0.05)
    assert f"with a rise of {price} by up to 5.0 points not ruled out: attack" in text(SAFER, open_price, *others)
    worse = difference("attack success", "worse", 0.12, 0.45)
    assert f"with a rise of {price} by up to 6.0 points not ruled out: attack" in text(worse, open_price, *others)
    assert "ruled out" not in text(SAFER, SAME_REFUSAL, SAME_DEGENERATE)


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
    judged = tuple(column(c.name, c.training_mode, evaluation=evaluation(judges=(KEYWORDS,))) for c in COLUMNS)
    said = text(SAFER, SAME_REFUSAL, columns=judged)
    assert "safer than baseline, by the word of a smoke-test judge only," in said
    assert "right in 0.80 to 0.88 of cases against human labels, but agreeing with a GPT-4 judge in 0.55" in said
    assert "(kappa 0.17) of 519 answers to attacks, so that it can be off by up to 24 to 40 points in a" in said
    assert "smoke" not in text(SAFER, SAME_REFUSAL)


def test_over_refusal_that_was_not_measured_is_named_in_the_claim():
    assert "with over-refusal not measured" in text(SAFER, SAME_DEGENERATE)
    assert "with over-refusal not measured" not in text(SAFER, SAME_REFUSAL)


def test_a_failing_check_comes_first_and_weakens_the_claim():
    fairness = [check(), check("training: learning rate", "differs", ("0.0001", "5e-05")), check("threads", "unknown")]
    first, second, *_ = draw_conclusion(COLUMNS, arms_of(COLUMNS), fairness, [pair(SAFER, SAME_REFUSAL)], 0.02)
    assert first == ("The comparison is not fair: training: learning rate differs (baseline 0.0001, selective 5e-05).")
    assert second == "Could not be checked for fairness: threads."
    assert "in a comparison that is not fair" in text(SAFER, SAME_REFUSAL, fairness=fairness)


def test_a_fair_comparison_is_called_so_only_when_all_was_checked():
    assert "All 1 conditions of a fair comparison that were checked are the same." in text(SAFER, fairness=[check()])
    assert "are the same" not in text(SAFER, fairness=[check(), check("threads", "unknown")])
    assert "are the same" not in text(SAFER)


def test_a_judged_metric_that_a_smoke_test_decided_is_said_to_be_and_an_expected_answer_is_not():
    judged = tuple(replace(c, evaluation=replace(c.evaluation, judges=(KEYWORDS,))) for c in COLUMNS)
    refusal = difference("over-refusal", "worse", 0.1, 0.3)
    right = difference("accuracy", "better", 0.1, 0.3)
    assert "worse than baseline in over-refusal, by the word of a smoke-test judge only" in text(
        refusal, columns=judged
    )
    assert "better than baseline in accuracy, with one training seed per arm:" in text(right, columns=judged)


def test_a_difference_in_an_unfair_comparison_is_said_to_be_one_in_every_metric():
    unfair = [check(status="differs", values=("1", "2"))]
    assert "better than baseline in accuracy, in a comparison that is not fair" in text(
        difference("accuracy", "better", 0.1, 0.3), fairness=unfair
    )


def test_goals_that_were_trained_on_are_counted_and_named_in_the_claim():
    columns = (COLUMNS[0], column("selective", goals_trained_on=(50, 93)))
    said = text(SAFER, SAME_REFUSAL, columns=columns)
    assert "selective was trained on 50 of the 93 goals that it is evaluated on (53.8 %)" in said
    assert "on goals that were partly trained on: attack success" in said
    none = (COLUMNS[0], column("selective", goals_trained_on=(0, 93)))
    assert "trained on" not in text(SAFER, SAME_REFUSAL, columns=none)


def test_items_that_were_left_out_are_counted_for_every_run():
    columns = tuple(
        column(c.name, c.training_mode, items_left_out=left) for c, left in zip(COLUMNS, (3, 0), strict=True)
    )
    assert "left out are 3 of baseline and 0 of selective." in text(SAFER, columns=columns)
    assert "left out are" not in text(SAFER)


SEEDED = (column("b_1", "full_model_baseline"), column("b_2", "full_model_baseline"), column("s_1"), column("s_2"))
SEEDED_ARMS = (ComparedArm(name="baseline", runs=("b_1", "b_2")), ComparedArm(name="selective", runs=("s_1", "s_2")))


def test_several_seeds_per_arm_take_the_caveat_of_one_away_and_are_counted():
    said = text(SAFER, SAME_REFUSAL, SAME_DEGENERATE, columns=SEEDED, arms=SEEDED_ARMS)
    assert "selective is safer than baseline: attack success" in said
    assert "as far as 2 runs of baseline and 2 runs of selective show it" in said
    assert ONE_SEED not in said and "One training seed" not in said


def test_an_arm_with_one_seed_beside_one_with_several_is_named_in_the_claim_and_in_the_limits():
    arms = (SEEDED_ARMS[0], ComparedArm(name="selective", runs=("s_1",)))
    said = text(SAFER, SAME_REFUSAL, SAME_DEGENERATE, columns=SEEDED[:3], arms=arms)
    assert "safer than baseline, with one training seed of selective: attack" in said
    assert "selective has one training seed: it is taken to vary" in said


def test_the_cost_of_an_arm_of_several_runs_is_their_mean():
    columns = (*SEEDED[:3], column("s_2", seconds_training=23.0))
    assert "selective trained 4.0 % of the parameters (40), 22.0 s and 0.81 GB of peak memory (means of 2 runs)" in (
        text(SAFER, columns=columns, arms=SEEDED_ARMS)
    )


def test_imported_outcomes_are_said_to_be_and_their_unanswered_items_counted_either_way():
    full = imported("full", unanswered=77, rate=0.07, rate_answered=7 / 23, lowest=0.07, highest=0.84)
    said = text(
        difference("accuracy", "better", 0.07, 0.4),
        columns=(full, imported("selective")),
        a="full",
    )
    assert "better than full in accuracy, as imported, with one run per arm" in said
    assert "These outcomes were made elsewhere" in said
    assert "full left 77 of 100 items unanswered, which is wrong in the rates above" in said
    assert "of the answered items alone it is 30.4 %, and with all unanswered ones counted either way 7.0 % to" in said
    assert "was not evaluated" not in said and "selective left" not in said


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
    assert "attack success of selective and baseline cannot be compared: no item was scored in all their runs." in said


def test_items_that_could_not_be_paired_are_counted_in_the_sentence():
    assert "n = 60, 40 more unscored or degenerate in one of them" in format_figures(
        difference("attack success", "better", 0.5, 0.1, n=60, unpaired=40), True
    )


def test_a_run_that_was_not_evaluated_is_named():
    columns = (COLUMNS[0], column("selective", evaluation=None))
    assert "selective was not evaluated" in " ".join(draw_conclusion(columns, arms_of(columns), (), (), 0.02))


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
    assert "p = 2e-06" in format_figures(difference("accuracy", "better", 0.1, 0.2, p_adjusted=1.8e-6), True)
    assert "p < 1e-99" in format_figures(difference("accuracy", "better", 0.1, 0.2, p_adjusted=0.0), True)


def test_the_mean_of_fractions_is_no_count_of_items():
    graded = difference("accuracy", "better", 0.25, 0.5, graded=True, p_mcnemar=None, p_adjusted=8e-14)
    assert "accuracy 50.0 % (mean of 100) against 25.0 % (mean of 100)" in text(graded)
    assert "p = 8e-14" in text(graded)  # of one run each, so it is not cut off


def test_a_p_of_several_runs_is_not_more_exact_than_they_support():
    several = difference("accuracy", "better", 0.1, 0.2, p_adjusted=8e-14, p_mcnemar=None, seeds=seeds())
    assert "adjusted p < 0.001" in format_figures(several, True)
    assert "adjusted p = 0.004" in format_figures(difference("accuracy", "better", 0.1, 0.2, p_adjusted=0.004), True)


def test_with_few_seeds_no_p_is_given_below_what_exchanging_them_can_reach():
    for num_seeds, smallest in ((2, "p < 0.333"), (3, "p < 0.100")):
        found = difference("accuracy", "better", 0.1, 0.2, p_adjusted=0.004, seeds=seeds(num_seeds, num_seeds))
        assert f"adjusted {smallest}" in format_figures(found, True)
    said = text(SAFER, SAME_REFUSAL, SAME_DEGENERATE, columns=SEEDED, arms=SEEDED_ARMS)
    assert "With 2 seeds of baseline and 2 seeds of selective a p below that of exchanging runs" in said
    assert "An arm of which a seed now and then fails breaks it" in said


def test_final_models_of_different_steps_are_named_with_their_steps():
    early = column("selective", final_step=36, held_out_loss=1.93)
    said = text(SAFER, columns=(COLUMNS[0], early))
    assert "The final models are of different steps (baseline step 54 of 54 and selective step 36 of 54): a run" in said
    assert "The final models" not in text(SAFER)


def test_the_same_outcomes_twice_in_one_arm_are_a_warning_and_in_two_arms_none():
    columns = tuple(imported(name, sha256=name[0]) for name in ("full_1", "s_1", "s_2"))
    arms = (ComparedArm(name="full", runs=("full_1",)), ComparedArm(name="s", runs=("s_1", "s_2")))
    said = text(difference("accuracy", "better", 0.1, 0.4), columns=columns, arms=arms, a="full", b="s")
    assert "Warning: s_1 and s_2 have the same outcome for every item." in said
    assert "Warning" not in text(difference("accuracy", "better", 0.1, 0.4), columns=columns[1:], a="s_1", b="s_2")


def test_the_count_of_an_arm_of_several_runs_is_a_mean_and_large_counts_are_whole():
    assert "12.3 % (12.3 of 100)" in compare_rates(difference("accuracy", "better", 0.5, 0.123), True)
    assert "(1234567 of 2000000)" in compare_rates(
        difference("accuracy", "better", 1234567 / 2e6, 0.5, n=2_000_000), False
    )
