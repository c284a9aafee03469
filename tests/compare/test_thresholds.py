"""`--fail-if`: one strict grammar; what the data do not rule out has failed unless a word says otherwise."""

from dataclasses import replace

import pytest

from moe_cli.compare.thresholds import ThresholdError, check_thresholds, raise_failed, thresholds_of
from moe_cli.errors import ExitCode, UsageError
from moe_cli.records import Estimate
from tests.builders import KEYWORDS, answered, column, comparison, difference, drift, evaluation, pair
from tests.compare.scenarios import arm

DRIFT = drift(kl_mean=Estimate(value=0.03, lower=None, upper=None, n=1))
# +1.0 points, interval -2.0 to +4.0
FOUND = difference("attack success", "inconclusive", 0.10, 0.11, lower=-0.02, upper=0.04, n=200)
SUITE = replace(FOUND, metric="attack success: attacked", difference=0.2, lower=0.1, upper=0.3)
LABELS = ["compliance"] * 30 + ["full_refusal"] * 70
ITEMS = [answered(str(place), label) for place, label in enumerate(LABELS)]


def compared(names=("baseline", "selective"), untrained=(), drift=DRIFT):
    columns = tuple(
        column(name, "base" if name in untrained else "selective_experts", evaluation=evaluation(drift=drift))
        for name in names
    )
    return comparison(columns, (pair(FOUND, SUITE),))


def check(expression, found=None, arms=()):
    (result,) = check_thresholds(thresholds_of([expression]), found or compared(), arms)
    return result


@pytest.mark.parametrize(
    ("expression", "failed"),
    [
        ("asr>+0.02", True),  # the interval reaches to 0.04
        ("asr>+0.04", False),
        ("asr>+0.02 possibly", True),
        ("asr>+0.02 estimate", False),
        ("asr>+0.005 estimate", True),
        ("asr>-0.01 surely", False),
        ("asr>-0.03 surely", True),
        ("asr<-0.01", True),
        ("asr<-0.02", False),
        ("asr<+0.02 estimate", True),
        ("asr<+0.05 surely", True),
        ("asr<+0.03 surely", False),
        ("asr:attacked>+0.15 estimate", True),
        ("  asr > +0.02  ", True),
    ],
)
def test_what_the_data_do_not_rule_out_has_failed_unless_a_word_says_what_counts(expression, failed):
    assert check(expression).failed is failed


def test_a_check_holds_what_was_found_and_of_what():
    found = check("asr>+0.02")
    assert (found.value, found.lower, found.upper, found.n) == (pytest.approx(0.01), -0.02, 0.04, 200)
    assert (found.metric, found.subject, found.evidence) == ("attack success", "selective minus baseline", "possibly")


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "asr",
        "asr>0.02",
        "asr>=+0.02",
        "asr>+2%",
        "asr>+0.02 certainly",
        "asr>+0.02 and kl[a]>1",
        "safety>+0.02",
        "asr[selective]>+0.02",
        "ASR>+0.02",
        "asr>+1e-2",
        "perplexity_ratio>+0.1",
        "kl:attacked[selective]>0.1",
        "asr[]>0.1",
        "asr>+nan",
    ],
)
def test_what_is_not_of_the_grammar_is_refused_with_the_grammar(expression):
    with pytest.raises(UsageError) as caught:
        thresholds_of([expression])
    assert caught.value.exit_code == ExitCode.USAGE
    assert repr(expression) in caught.value.message


def test_the_rate_of_a_run_is_held_against_its_interval():
    arms = [arm("selective", ITEMS)]
    found = check("asr[selective]>0.3", arms=arms)
    assert (found.value, found.n, found.failed) == (0.3, 100, True)
    assert 0.2 < found.lower < 0.3 < found.upper < 0.4
    assert check("asr[selective]>0.41", arms=arms).failed is False
    assert check("asr[selective]<0.2", arms=arms).failed is False
    assert check("asr[selective_0]>0.3", arms=arms) == replace(
        found, subject="selective_0", expression="asr[selective_0]>0.3"
    )


def test_the_rate_of_an_arm_is_the_mean_of_its_runs_and_less_sure_where_they_differ():
    other = [answered(str(place), "full_refusal" if place < 10 else "compliance") for place in range(100)]
    one, several = (check("asr[s]>0.3", arms=[arm("s", *runs)]) for runs in ([ITEMS], [ITEMS, other]))
    assert several.value == pytest.approx((0.3 + 0.9) / 2)
    assert several.upper - several.lower > 2 * (one.upper - one.lower)


def test_drift_is_told_of_a_run_and_what_has_no_interval_is_not_ruled_out():
    assert check("perplexity_ratio[selective]>1.03").failed is True
    assert check("perplexity_ratio[selective]>1.05").failed is False
    assert check("kl[selective]>0.5").failed is True
    assert check("kl[selective]>0.5 estimate").failed is False
    assert check("kl[selective]>0.01 surely").failed is False


@pytest.mark.parametrize(
    "expression", ["accuracy<-0.02", "accuracy<-0.02 surely", "accuracy[selective]<0.5", "kl[selective]>0.1"]
)
def test_what_was_not_measured_has_failed(expression):
    found = check(expression, compared(drift=None), [arm("selective", ITEMS)])
    assert (found.value, found.failed) == (None, True)
    with pytest.raises(ThresholdError, match="was not measured, so nothing rules it out"):
        raise_failed([found])


def test_the_difference_is_that_of_the_two_trained_arms():
    found = compared(names=("tiny", "baseline", "selective"), untrained=("tiny",))
    assert check("asr>+0.02", found).subject == "selective minus baseline"
    with pytest.raises(UsageError, match="which difference of one, two, three"):
        check("asr>+0.02", compared(names=("one", "two", "three")))


@pytest.mark.parametrize("expression", ["asr[nobody]>0.1", "kl[nobody]>0.1"])
def test_an_unknown_run_is_refused_with_those_there_are(expression):
    with pytest.raises(UsageError, match="is called nobody") as caught:
        check(expression, arms=[arm("selective", ITEMS)])
    assert "selective" in caught.value.hint


@pytest.mark.parametrize("expression", ["asr:nosuite>+0.02", "asr:nosuite[selective]>0.1"])
def test_an_unknown_suite_is_refused_with_those_that_hold_items_of_the_metric(expression):
    items = [
        *ITEMS,
        answered("plain/1", "compliance", suite="plain"),
        answered("b", "x", kind="benign", suite="benign"),
    ]
    with pytest.raises(UsageError, match="no suite of attack success is called nosuite") as caught:
        check(expression, arms=[arm("selective", items)])
    assert caught.value.hint == "there are: attacked, plain"


def test_plain_goals_are_no_suite_of_attack_success_and_have_a_word_of_their_own():
    plain = [answered(f"h{place}", "compliance", suite="harmful") for place in range(10)]
    arms = [arm("selective", [*ITEMS, *plain])]
    with pytest.raises(UsageError) as caught:
        check("asr:harmful[selective]>0.1", arms=arms)
    assert caught.value.hint == "there are: attacked; plain goals are `plain`"
    assert (check("asr[selective]>0.9", arms=arms).value, check("plain[selective]>0.1", arms=arms).value) == (0.3, 1.0)


def test_the_rate_of_several_suites_is_their_mean():
    few = [answered(f"s{place}", "compliance", suite="story") for place in range(10)]
    found = check("asr[selective]>0.9", arms=[arm("selective", [*ITEMS, *few])])
    assert (found.value, found.n) == (pytest.approx((0.3 + 1.0) / 2), 110)


def test_the_only_suite_of_a_metric_is_all_of_it():
    found = check("asr:attacked>+0.02", arms=[arm("selective", ITEMS)])
    assert (found.metric, found.value) == ("attack success", FOUND.difference)


def test_the_error_names_metric_value_interval_n_and_threshold():
    with pytest.raises(ThresholdError) as caught:
        raise_failed([check("asr>+0.02"), check("asr>+0.5")])
    assert caught.value.exit_code == ExitCode.THRESHOLD
    assert caught.value.message == (
        "1 of 2 thresholds failed\n  - asr>+0.02: attack success of selective minus baseline is +0.0100,"
        " 95 % interval -0.0200 to +0.0400, n = 200: the data do not rule it out"
    )
    raise_failed([check("asr>+0.5")])


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ("asr>-0.03", "the whole interval is beyond it"),
        ("asr>+0.02", "the data do not rule it out"),
        ("asr>-0.02", "the data do not rule it out"),  # its lower bound is on it
        ("asr<+0.05", "the whole interval is beyond it"),
        ("asr<+0.03", "the data do not rule it out"),
        ("asr<+0.02 estimate", "the estimate is beyond it"),
        ("asr<+0.05 estimate", "the whole interval is beyond it"),
    ],
)
def test_the_error_says_so_where_the_whole_interval_is_beyond_the_threshold(expression, why):
    with pytest.raises(ThresholdError) as caught:
        raise_failed([check(expression)])
    assert caught.value.message.endswith(f": {why}")


def test_a_difference_that_different_judges_decided_rules_nothing_out():
    judged = compared()
    other = replace(judged.columns[1], evaluation=evaluation(judges=(KEYWORDS,)))
    found = check("asr>+0.9", replace(judged, columns=(judged.columns[0], other)))
    assert (found.failed, found.value) == (True, None)
    assert not check("asr>+0.9", judged).failed
