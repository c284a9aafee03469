"""Whole comparisons that people's labels correct, read by their conclusion."""

from dataclasses import replace

import numpy as np
import pytest

from moe_cli.codec import decode, encode
from moe_cli.compare.label_draw import draw_answers
from moe_cli.compare.pair_labels import answer_code
from moe_cli.compare.stage import compare
from moe_cli.compare.thresholds import thresholds_of
from moe_cli.data.label_sheets import LabelSheet
from moe_cli.errors import ArtifactError, UsageError
from moe_cli.records import Comparison
from moe_cli.stats.labelled import ItemLabels, PairLabels
from moe_cli.stats.paired import ArmItems, compare_pair
from moe_cli.views.compared import compared_markdown, compared_view
from moe_cli.views.console import stdout_console
from tests.builders import KEYWORDS
from tests.compare.scenarios import answers, harmless, source

NUM = 400
EQUAL = (80, range(320, 400))


def told(records, name):
    return [replace(record, answer=f"{name} {place}") for place, record in enumerate(records)]


def run(name, seen, *, suites=("attacked",), harmless_items=300):
    """A run of whose attacks of every suite the judge sees this many succeed."""
    records = [record for suite in suites for record in answers(suite, NUM, seen)]
    return source(name, told([*records, *harmless(harmless_items)], name))


def label(runs, truths, *, num=150, asked=("harmful",), name="labels.csv", blank=0, seed=1, noise=0.0):
    """A draw of two runs, labelled: of a run's attacks those at these places, or the first so many, are harmful."""
    drawn = draw_answers(*runs, asked=asked, num=num, seed=seed, path=name)
    truth = {}
    for of, places in zip(runs, truths, strict=True):
        harmful = range(places) if isinstance(places, int) else places
        for record in of.records:
            place = int(record.item.id.rpartition("/")[2])
            truth[answer_code(record)] = place in harmful if record.item.kind == "harmful" else False
    random = np.random.default_rng(0)
    rows = [replace(row, label=truth[row.run] != (random.random() < noise)) for row in drawn.rows]
    rows[:blank] = [replace(row, label=None) for row in rows[:blank]]
    return LabelSheet(name=name, sha256="0" * 64, rows=tuple(rows))


def compared(runs, *sheets, fail_if=(), margin=0.02):
    return compare([[of] for of in runs], margin, None, thresholds_of(fail_if), sheets=sheets)


def said(comparison):
    return " ".join(comparison.conclusion)


def attack(comparison):
    return comparison.pairs[0].differences[0]


@pytest.fixture
def blind():
    """The judge sees 80 and 0 of 400 attacks succeed; people 80 and 80 (`EQUAL`), of other goals."""
    return run("A", 80), run("B", 0)


def test_a_judge_that_misses_the_harm_of_one_run_makes_no_safer_model(blind):
    alone, corrected = compared(blind), compared(blind, label(blind, EQUAL))
    assert "B is safer than A" in said(alone)
    assert "safer" not in said(corrected)
    assert "as corrected by 150 labelled answers of each arm" in said(corrected)
    assert "150 of them labelled" in said(corrected)
    found = attack(corrected)
    assert found.lower < 0 < found.upper and found.correction.judge.difference == pytest.approx(-0.2)
    assert found.verdict == "inconclusive"


def test_the_claim_rests_on_the_corrected_difference_and_names_its_labels():
    runs = run("A", 200), run("B", 180)
    found = compared(runs, label(runs, (240, 20)))
    assert "B is safer than A, as corrected by 150 labelled answers of each arm, with one training seed" in said(found)
    assert "with over-refusal by the judge alone" in said(found)
    assert "(by the judge 180 of 400) against" in said(found)
    assert attack(found).difference == pytest.approx(-0.55, abs=0.1)
    assert attack(found).rate_b - attack(found).rate_a == pytest.approx(attack(found).difference)


def test_the_judges_errors_and_rogan_gladen_stand_beside_it(blind):
    text = said(compared(blind, label(blind, EQUAL)))
    assert "People labelled both answers to 150 of 400 items of attack success of B and A: the judge alone says" in text
    assert "its sensitivity is 1.00 in A and 0.00 in B; its specificity is 1.00 in A and 1.00 in B" in text
    assert "Rogan and Gladen's correction, which needs equal errors in both arms, gives -4" in text
    assert "One person labelled" in text


def test_two_labellers_are_averaged_and_their_agreement_is_told(blind):
    sheets = label(blind, EQUAL), label(blind, EQUAL, name="second.csv", noise=0.1)
    found = compared(blind, *sheets)
    (agreement,) = found.labellers
    assert (agreement.n, agreement.a, agreement.b) == (300, "labels.csv", "second.csv")
    assert 0.5 < agreement.kappa < 0.95
    assert f"(kappa {agreement.kappa:.2f})" in said(found) and "One person labelled" not in said(found)
    assert [(file.name, file.labelled) for file in found.labels] == [("labels.csv", 300), ("second.csv", 300)]


def test_a_mean_of_suites_is_corrected_as_such_and_each_suite_by_its_own_labels():
    runs = run("A", 80, suites=("attacked", "other")), run("B", 0, suites=("attacked", "other"))
    found = {one.metric: one for one in compared(runs, label(runs, EQUAL)).pairs[0].differences}
    assert found["attack success: other"].correction.n == 75
    few = label(runs, EQUAL)
    rows = tuple(row if row.item.startswith("attacked") else replace(row, label=None) for row in few.rows)
    found = {one.metric: one for one in compared(runs, replace(few, rows=rows)).pairs[0].differences}
    assert found["attack success: other"].verdict == "inconclusive"
    assert found["attack success: other"].by_judge_alone and found["attack success: other"].difference == -0.2


def test_fewer_than_fifty_labelled_items_are_refused(blind):
    sheet = label(blind, EQUAL, blank=240)
    with pytest.raises(
        UsageError, match="items of attack success have a label of both answers, of 150 that were drawn"
    ):
        compared(blind, sheet)
    with pytest.raises(UsageError, match="nothing is labelled yet"):
        compared(blind, label(blind, EQUAL, blank=300))


def test_blank_rows_are_counted(blind):
    assert "and left" in said(compared(blind, label(blind, EQUAL, blank=20)))


def test_labels_of_other_answers_are_refused(blind):
    sheet = label(blind, EQUAL)
    other = source("B", told(blind[1].records, "something else"))
    with pytest.raises(ArtifactError, match=r"150 of the 300 answers in labels\.csv are none of A and B"):
        compared((blind[0], other), sheet)


def test_rows_that_were_sorted_apart_removed_changed_or_drawn_twice_are_refused(blind):
    sheet = label(blind, EQUAL)
    turned = [replace(row, item=other.item) for row, other in zip(sheet.rows, reversed(sheet.rows), strict=True)]
    with pytest.raises(UsageError, match="sorted apart"):
        compared(blind, replace(sheet, rows=tuple(turned)))
    with pytest.raises(UsageError, match="drawn apart"):
        compared(blind, sheet, label(blind, EQUAL, name="other.csv", seed=2))
    edited = tuple(replace(row, probability=0.9) for row in sheet.rows)
    for changed in (edited, sheet.rows[1:]):
        with pytest.raises(UsageError, match=r"rows of labels\.csv are missing, or their probabilities"):
            compared(blind, replace(sheet, rows=changed))
    kept = tuple(replace(row, probability=float(f"{row.probability:.15g}")) for row in sheet.rows)
    assert attack(compared(blind, replace(sheet, rows=kept))).correction
    with pytest.raises(UsageError, match="holds an answer twice"):
        compared(blind, replace(sheet, rows=(*sheet.rows, sheet.rows[0])))


def test_a_third_run_is_compared_by_the_judge_alone(blind):
    third = run("C", 40)
    found = compared((*blind, third), label(blind, EQUAL))
    corrected = {(pair.a, pair.b): pair.differences[0].correction is not None for pair in found.pairs}
    assert corrected == {("A", "B"): True, ("A", "C"): False, ("B", "C"): False}


def test_thresholds_look_at_what_labels_corrected(blind):
    sheet = label(blind, EQUAL)
    asked = ("asr<-0.1 surely", "asr[B]<0.05 estimate")
    assert [check.failed for check in compared(blind, fail_if=asked).thresholds] == [True, True]
    assert [check.failed for check in compared(blind, sheet, fail_if=asked).thresholds] == [False, False]


def test_the_judges_numbers_stay_in_every_table(blind, capsys):
    found = compared(blind, label(blind, EQUAL))
    stdout_console().print(compared_view(found))
    for text in (" ".join(capsys.readouterr().out.split()), compared_markdown(found)):
        assert "by the judge" in text
        assert "Rogan-Gladen, which needs equal errors in both arms" in " ".join(text.split())
    assert "not corrected" in compared_markdown(found)
    assert decode(Comparison, encode(found), source="x") == found


def test_swapping_the_runs_mirrors_every_corrected_number(blind):
    items = {
        f"attacked/{place}": ItemLabels(a=place % 3 == 0, b=place % 5 == 0, probability=0.5) for place in range(200)
    }
    swapped = {id: ItemLabels(a=one.b, b=one.a, probability=0.5) for id, one in items.items()}
    arms = [ArmItems(of.column.name, (of.column.name,), (of.items,), seeded=True) for of in blind]
    there, back = (
        compare_pair(*two, margin=0.02, labels=PairLabels(of_metric={"attack success": labels})).differences[0]
        for two, labels in ((arms, items), (arms[::-1], swapped))
    )
    assert (there.difference, there.lower, there.upper) == pytest.approx((-back.difference, -back.upper, -back.lower))
    assert there.p_value == pytest.approx(back.p_value)


def test_without_labels_the_limits_say_how_far_the_judge_alone_can_be_off(blind):
    judged = [
        replace(of, column=replace(of.column, evaluation=replace(of.column.evaluation, judges=(KEYWORDS,))))
        for of in blind
    ]
    bound = "can be off by up to 24 to 40 points in a difference, and a smaller one (here that of attack success"
    assert bound in said(compared(judged)) and "is not identified by it alone" in said(compared(judged))
    assert said(compared(judged)).count("0.80 to 0.88") == 1
    labelled = said(compared(judged, label(judged, EQUAL, asked=("harmful", "refused"))))
    assert "people's labels correct what it says" in labelled and "points in a difference" not in labelled
    unknown = [
        replace(
            of,
            column=replace(
                of.column,
                evaluation=replace(of.column.evaluation, judges=(replace(KEYWORDS, published_accuracy=None),)),
            ),
        )
        for of in blind
    ]
    assert "can be off" not in said(compared(unknown))


def test_the_rate_of_the_base_stands_beside_the_judges_numbers(blind):
    base = source("base", told(answers("attacked", NUM, 300), "base") + told(harmless(300), "base"), mode="base")
    page = compared_markdown(compared((base, *blind), label(blind, EQUAL)))
    section = page.partition("## B (B) minus A (A)")[2].splitlines()
    corrected = next(line for line in section if line.startswith("| attack success |"))
    alone = next(line for line in section if line.startswith("| by the judge alone |"))
    assert "| 75.0 |" in alone and "| 75.0 |" not in corrected
