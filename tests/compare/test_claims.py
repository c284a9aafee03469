"""What forbids a claim about two arms: other judges, and unscored answers that could undo it."""

from dataclasses import replace

import pytest

from moe_cli.compare.conclusion import draw_conclusion
from moe_cli.compare.evidence import ONE_SEED, Evidence
from moe_cli.records.comparison import ComparedArm
from tests.builders import CLASSIFIER, KEYWORDS, arms_of, column, difference, evaluation, identity, pair
from tests.compare.scenarios import with_prices

SAFER = difference("attack success", "better", 0.45, 0.12)
SAME_REFUSAL = difference("over-refusal", "within margin", 0.02, 0.02, lower=-0.01, upper=0.01)
RIGHT = difference("accuracy", "better", 0.1, 0.3)
HARM = replace(CLASSIFIER, questions=("harm",))
CLAIMS = ("is safer", "obeys fewer", "is better", "is worse", "is within", "cannot tell whether", "cannot show")


OF_FIRST, OF_SECOND = ({"model": identity(fingerprint=letter * 64)} for letter in "fs")


def columns_of(first=None, second=None):
    return (
        column("baseline", "full_model_baseline", evaluation=evaluation(**(OF_FIRST | (first or {})))),
        column("selective", evaluation=evaluation(**(OF_SECOND | (second or {})))),
    )


def sentences(*differences, columns=None, arms=None, prices=True, **options):
    columns = columns or columns_of()
    found = pair(*(with_prices(differences) if prices else differences), **options)
    return draw_conclusion(columns, arms or arms_of(columns), (), [found], 0.02)


def about(metric, said):
    (sentence,) = [sentence for sentence in said if metric in sentence and "smoke test" not in sentence]
    return sentence


@pytest.mark.parametrize("verdict", ["better", "worse", "within margin", "inconclusive", "ceiling"])
@pytest.mark.parametrize("metric", ["attack success", "over-refusal"])
def test_what_different_judges_decided_is_no_claim_whatever_the_verdict(metric, verdict):
    judged = columns_of({"judges": (CLASSIFIER,)}, {"judges": (KEYWORDS,)})
    said = sentences(difference(metric, verdict, 0.45, 0.12), columns=judged, prices=False)
    assert said[0] == (
        f"{metric} of selective and baseline was decided by different judges (keywords, classifier) and cannot be"
        " compared."
    )
    assert not any(claim in " ".join(said) for claim in CLAIMS)


def test_another_revision_of_the_same_judge_is_another_judge_and_named_by_it():
    changed = columns_of({}, {"judges": (replace(CLASSIFIER, revision="9" * 64),)})
    assert f"(classifier {'9' * 12}, classifier {'c' * 12})" in about("attack", sentences(SAFER, columns=changed))


def test_a_seed_that_another_judge_read_forbids_the_claim_of_its_arm():
    columns = (*columns_of(), column("selective_2", evaluation=evaluation(judges=(KEYWORDS,))))
    arms = (ComparedArm(name="baseline", runs=("baseline",)), ComparedArm(name="s", runs=("selective", "selective_2")))
    assert "different judges (classifier, keywords)" in about(
        "attack", sentences(SAFER, columns=columns, arms=arms, b="s")
    )


def test_accuracy_is_decided_by_no_judge_and_claimed_whoever_judged():
    judged = columns_of({}, {"judges": (KEYWORDS,)})
    assert f"selective is better than baseline in accuracy, {ONE_SEED}: " in about(
        "accuracy", sentences(RIGHT, columns=judged)
    )


def test_another_judge_of_refusals_alone_weakens_the_claim_of_safety_and_is_no_price():
    other = columns_of({"judges": (HARM, KEYWORDS)}, {"judges": (HARM, replace(KEYWORDS, revision="9" * 64))})
    risen = difference("over-refusal", "worse", 0.0, 0.4)
    claim = about("safer", sentences(SAFER, risen, columns=other))
    assert claim.startswith(
        f"selective is safer than baseline, {ONE_SEED}, with over-refusal decided by different judges: attack"
    )


def test_a_smoke_test_that_read_one_arm_alone_is_named_as_the_judge_of_that_run():
    said = " ".join(sentences(SAFER, columns=columns_of({}, {"judges": (KEYWORDS,)})))
    assert "smoke-test judge only" not in said
    assert "The judge 'keywords', which decides harm and refusal of selective, is a smoke test" in said
    both = " ".join(sentences(SAFER, columns=columns_of({"judges": (KEYWORDS,)}, {"judges": (KEYWORDS,)})))
    assert "which decides harm and refusal, is a smoke test" in both


def bounded(found, lowest, highest, unpaired=40):
    return replace(found, lowest=lowest, highest=highest, unpaired=unpaired)


def test_a_claim_that_unscored_items_could_undo_says_how_many_and_how_far():
    claim = about("safer", sentences(bounded(SAFER, -0.5, 0.1), SAME_REFUSAL))
    assert claim.startswith(
        f"selective is safer than baseline, {ONE_SEED}, unless the 40 items that are unscored or degenerate say"
        " otherwise (counted either way, the difference is between -50.0 and +10.0 points): attack success"
    )
    assert "unless" not in about("safer", sentences(bounded(SAFER, -0.5, -0.1), SAME_REFUSAL))


def test_the_bounds_are_told_from_the_side_of_the_safer_arm():
    worse = bounded(difference("attack success", "worse", 0.12, 0.45), -0.1, 0.5)
    assert "difference is between -50.0 and +10.0 points" in about("safer", sentences(worse, SAME_REFUSAL))


@pytest.mark.parametrize(("highest", "bare"), [(0.02, True), (0.03, False)])
def test_within_the_margin_is_bare_only_where_unscored_items_cannot_leave_it(highest, bare):
    same = bounded(difference("attack success", "within margin", 0.1, 0.1, lower=-0.01, upper=0.01), -0.01, highest)
    claim = about("within", sentences(same, prices=False))
    assert ("unless the 40 items" not in claim) == bare


def test_better_in_another_metric_is_weakened_by_unanswered_items_that_count_as_wrong():
    claim = about("accuracy", sentences(bounded(RIGHT, -0.3, 0.4, unpaired=0)))
    assert "unless the unanswered items, which count as wrong, say otherwise (counted either way, the" in claim


def test_a_rise_that_unscored_answers_leave_open_is_said_from_either_side():
    hidden = bounded(SAME_REFUSAL, -0.07, 0.08)
    assert "a rise of over-refusal by up to 8.0 points not ruled out" in about("safer", sentences(SAFER, hidden))
    worse = difference("attack success", "worse", 0.12, 0.45)
    assert "a rise of over-refusal by up to 7.0 points not ruled out" in about("safer", sentences(worse, hidden))


@pytest.mark.parametrize("place", [0, 1])
def test_too_many_answers_without_a_verdict_in_either_arm_forbid_safer(place):
    summaries = [{}, {}]
    summaries[place] = {"unscored": {"harmful": (92, 800), "benign": (0, 10)}}
    name = ("baseline", "selective")[place]
    said = sentences(SAFER, SAME_REFUSAL, columns=columns_of(*summaries))
    assert said[0] == (
        f"{name} left 92 of 800 answers to harmful items without a verdict, more than the 2.0 % it allowed: its rates"
        " are not to be relied on."
    )
    assert f"cannot be called safer, for too many answers of {name} have no verdict, {ONE_SEED}: attack" in said[1]
    assert "is safer" not in " ".join(said)


def test_as_many_answers_without_a_verdict_as_were_allowed_forbid_nothing():
    said = sentences(SAFER, SAME_REFUSAL, columns=columns_of({"unscored": {"harmful": (16, 800)}}))
    assert said[0].startswith("selective is safer")


def test_a_claim_of_fewer_attacks_that_is_not_safer_has_its_caveats_too():
    judged = columns_of({"judges": (KEYWORDS,)}, {"judges": (KEYWORDS,)})
    said = about("fewer", sentences(SAFER, difference("over-refusal", "worse", 0.0, 0.4), columns=judged))
    assert f"(0 of 100)), by the word of a smoke-test judge only, {ONE_SEED}: attack success" in said


def test_answers_of_fewer_goals_are_counted_with_their_goals():
    said = about("accuracy", sentences(replace(RIGHT, n=800, clusters=200, effective_clusters=200.0)))
    assert "n = 800 answers, 200 goals, adjusted" in said
    uneven = about("accuracy", sentences(replace(RIGHT, n=800, clusters=200, effective_clusters=32.34)))
    assert "n = 800 answers, 200 goals worth 32.3 of one size, adjusted" in uneven
    assert "n = 100, adjusted" in about("accuracy", sentences(RIGHT))


def test_claims_come_first_and_one_sentence_names_all_primary_metrics_that_were_not_measured():
    missing = ("attack success", "attack success: plain", "over-refusal", "attack success by keywords")
    said = sentences(RIGHT, unmeasured=missing)
    assert said[0].startswith("selective is better than baseline in accuracy")
    assert said[1] == (
        "attack success and over-refusal of selective and baseline cannot be compared: no item was scored in all their"
        " runs."
    )
    assert sum("cannot be compared" in sentence for sentence in said) == 1
    assert "cannot be compared" not in " ".join(sentences(RIGHT, unmeasured=missing[3:]))


def test_arms_without_any_evaluation_are_compared_by_their_cost_two_by_two():
    trained = [column(name, evaluation=None) for name in ("one", "two", "three")]
    columns = (column("tiny", "base", evaluation=None), *trained)
    costs = [said for said in draw_conclusion(columns, arms_of(columns), (), (), 0.02) if said.startswith("Cost: ")]
    assert [(said.count("tiny"), said.split()[1], said.split("; ")[1].split()[0]) for said in costs] == [
        (0, "two", "one"), (0, "three", "one"), (0, "three", "two"),
    ]  # fmt: skip
    assert sum(said.startswith("Cost: ") for said in sentences(SAFER)) == 1


def test_the_tables_have_no_verdict_on_what_different_judges_decided_and_the_difference_stands():
    columns = columns_of({"judges": (CLASSIFIER,)}, {"judges": (KEYWORDS,)})
    names = ("attack success", "attack success: attacked", "accuracy")
    found = [difference(name, "better", 0.4, 0.1) for name in names]
    shown = Evidence.of(columns, arms_of(columns), (), 0.02).judged_alike(pair(*found))
    assert [one.verdict for one in shown.differences] == ["not comparable", "not comparable", "better"]
    assert [one.difference for one in shown.differences] == [one.difference for one in found]
