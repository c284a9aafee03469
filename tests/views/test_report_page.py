"""The report says what the comparison says, opens with the conclusion, and names what was not measured."""

import dataclasses
import re
from itertools import product

import pytest

from moe_cli.records import ReportData, TurnTraining
from moe_cli.views.report.measured_tables import turn_sheet
from moe_cli.views.report.page import TEMPLATES, report_page
from tests.builders import KEYWORDS, arms_of, column, imported
from tests.views.parsed_page import parsed
from tests.views.report_records import SENTENCES, comparison, report_data

NOTHING = {"maps": (), "curves": (), "texts": (), "origins": (), "missing_maps": (), "missing_curves": ()}


@pytest.fixture(scope="module")
def page():
    found = comparison()
    return parsed(report_page(found, report_data(found)))


def sections(found):
    return {section.attributes["id"]: " ".join(section.text.split()) for section in found.of("section")}


def test_the_page_opens_with_the_conclusion(page):
    assert [each.text for each in page.of("h1")] == ["selective against baseline"]
    [first, *_] = page.of("section")
    assert first.attributes["id"] == "conclusion"
    assert all(sentence in first.text for sentence in SENTENCES)


def test_every_part_of_the_comparison_has_its_section_and_the_contents_lead_there(page):
    names = [section.attributes["id"] for section in page.of("section")]
    assert names == [
        *("conclusion", "differences", "safety", "measures", "experts", "training", "drift", "cost", "judges"),
        *("capability", "fairness", "flips", "making"),
    ]
    assert [link.attributes["href"] for link in page.of("a")] == [f"#{name}" for name in names[1:]]


def test_every_figure_tells_its_finding_in_words_with_numbers(page):
    figures = page.of("svg", role="img")
    assert len(figures) > 20
    for figure in figures:
        [title], [words] = ([each for each in page.of(tag) if each.parent is figure] for tag in ("title", "desc"))
        assert title.text and re.search(r"\d", words.text), title.text
    silent = [
        each
        for each in page.of("svg")
        if "role" not in each.attributes and "aria-hidden" not in each.attributes and each.parent.tag != "svg"
    ]
    assert silent == []


def test_every_difference_stands_with_its_n_its_interval_its_p_and_its_verdict(page):
    rows = [" ".join(row.text.split()) for row in page.of("tr")]
    assert any(row.startswith("over-refusal1002.02.08.0+6.0 [+1.0, +11.0]0.0010.02worse0.0010-") for row in rows)
    assert any(
        row.startswith("over-refusal1002.08.0+6.0 [+1.0, +11.0]0.0010.02worse0.0010-") for row in rows
    )  # A is the base
    assert [row.count("base, %") for row in rows if row.startswith("measuren (goals)")] == [1, 0, 0]
    assert "exact McNemar p, if answers were independent" in page.text
    accuracy = next(row for row in rows if row.startswith("accuracy"))
    assert accuracy.endswith("inconclusive (10)-3−10.0 to +10.0")
    assert "3 items left out; counted either way, the difference is between −10.0 and +10.0 points" in page.text
    assert "Not measured in all runs: capability: mmlu." in page.text


def changed_columns(found, **changes):
    """The comparison with the same changes in every evaluation."""
    columns = [
        dataclasses.replace(one, evaluation=dataclasses.replace(one.evaluation, **changes)) for one in found.columns
    ]
    return dataclasses.replace(found, columns=tuple(columns))


def written(found):
    return sections(parsed(report_page(found, report_data(found))))


def test_items_that_share_goals_stand_with_both_counts_in_the_figure_and_in_the_table():
    found = comparison()
    pairs = tuple(
        dataclasses.replace(
            pair,
            differences=tuple(
                dataclasses.replace(one, n=800, clusters=200, effective_clusters=200.0) for one in pair.differences
            ),
        )
        for pair in found.pairs
    )
    text = written(dataclasses.replace(found, pairs=pairs))
    assert "n 800 (200 goals), p 0.02" in text["differences"] and "over-refusal800 (200)2.0" in text["measures"]


def test_answers_without_a_verdict_are_counted_of_all_and_marked_where_they_are_too_many():
    found = changed_columns(comparison(), unscored={"harmful": (3, 300), "benign": (9, 100)})
    page = parsed(report_page(found, report_data(found)))
    [marked, *_] = [row for row in page.of("tr", **{"class": "v-worse"}) if "3 / 300" in row.text]
    assert marked.text == "tiny3 / 3009 / 1002.0 %more than allowed"
    assert any(row.text.endswith("200 of 300") for row in page.of("tr", **{"class": "v-worse"}))
    few = changed_columns(comparison(), unscored={"harmful": (3, 300)})
    assert "tiny3 / 3002.0 %within" in written(few)["judges"]


def test_judges_stand_once_with_the_runs_that_they_decide_in():
    found = comparison()
    [first, *others] = found.columns
    alone = dataclasses.replace(first, evaluation=dataclasses.replace(first.evaluation, judges=(KEYWORDS,)))
    text = written(dataclasses.replace(found, columns=(alone, *others)))["judges"]
    assert "keywordsharm and refusal (in tiny); nothing here (in baseline, selective)" in text
    assert "classifierharm and refusal (in baseline, selective)" in text


def test_why_there_is_no_agreement_is_said():
    one = changed_columns(comparison(), agreement=(), judges=(KEYWORDS,))
    assert "Agreement of the judges: not measured, one judge judged each run." in written(one)["judges"]
    two = changed_columns(comparison(), agreement=())
    assert "Agreement of the judges: not measured, no two judges of a run tell the same." in written(two)["judges"]
    runs = tuple(column(name, evaluation=None) for name in ("a", "b"))
    none = dataclasses.replace(comparison(), columns=runs, arms=arms_of(runs), pairs=(), fairness=())
    text = sections(parsed(report_page(none, ReportData(version="1", made="2026", redacted=False, **NOTHING))))
    assert "Agreement of the judges: no run was judged here." in text["judges"]


def test_each_column_says_which_evaluation_it_shows_and_how_often_an_item_was_answered():
    text = written(changed_columns(comparison(), name="second", epochs=4))["cost"]
    assert "evaluationsecondsecondsecond" in text and "answers per item444" in text
    assert "answers per item" not in written(comparison())["cost"]


def test_a_restored_router_has_the_answers_and_goals_that_changed_beside_its_rates(page):
    assert "12.0 % (24/200) [6.0, 19.0]15.0 % (30/200) [9.0, 22.0]2002 (1)8 (7)" in sections(page)["drift"]


def test_the_gate_shows_what_differs_and_lists_what_is_the_same(page):
    text = sections(page)["fairness"]
    assert "training: learning ratediffers- (tiny); 1e-05 (baseline); 5e-05 (selective)" in text
    assert "The same in all runs (2 of 4): base model · items." in text


def test_an_unmoved_group_of_weights_is_exactly_zero_and_an_unchanged_router_says_so(page):
    text = sections(page)["drift"]
    assert "exactly 0 (0 / 1,000)" in text and "0: router unchanged" in text


def test_the_drift_at_harmful_prompts_has_the_mean_the_layer_that_moved_most_and_the_layers_without_a_choice(page):
    text = sections(page)["drift"]
    assert "baseline0.03 (n 60) [0.024, 0.036]4: 0.05 (n 60) [0.04, 0.06]123" in text
    assert text.count("layers 1: no router chooses the experts there") == 1


def test_a_group_of_flips_says_how_many_of_all_are_shown(page):
    found = comparison(num_flips=133)
    data = report_data(found)
    text = sections(parsed(report_page(found, data)))["flips"]
    assert "attack success: attacked 44 worse, 44 better in B; shown 20 of 88" in text
    none = dataclasses.replace(data, texts=())
    assert "shown 0 of 88" in sections(parsed(report_page(found, none)))["flips"]


def test_a_cut_answer_says_how_much_is_not_shown():
    found = comparison(num_flips=3)
    text = sections(parsed(report_page(found, report_data(found, words="y" * 2000))))["flips"]
    assert "508 more letters are not shown" in text  # "prompt: " has 8 letters; 1,500 are shown


def test_an_empty_answer_and_an_unknown_one_are_told_apart():
    found = comparison(num_flips=3)
    data = report_data(found)
    [first, *_] = data.texts
    changed = dataclasses.replace(first, answer_a="", answer_b=None)
    text = sections(parsed(report_page(found, dataclasses.replace(data, texts=(changed,)))))["flips"]
    assert "A answered empty B answered not known: only the outcome was kept" in text


def test_the_loss_by_turn_has_a_table_only_where_answers_are_of_several_turns(page):
    assert "answer no." not in sections(page)["training"]
    found, rows = comparison(), report_data(comparison())
    turns = tuple(
        TurnTraining(turn=turn, num_rows=24, num_answer_tokens=230, first_loss=2.51, final_loss=turn / 8)
        for turn in (1, 3)
    )
    curves = (rows.curves[0], dataclasses.replace(rows.curves[1], turns=turns))
    shown = sections(parsed(report_page(found, dataclasses.replace(rows, curves=curves))))["training"]
    assert "Loss by the turn" in shown and "answer no." in shown
    assert [row.cells for row in turn_sheet(curves).rows] == [
        ("selective", "1", "24", "230", "2.5100", "0.1250"),
        ("selective", "3", "24", "230", "2.5100", "0.3750"),
    ]


def test_runs_without_evaluation_and_without_files_are_reported_as_not_measured():
    runs = tuple(column(name, evaluation=None) for name in ("a", "b"))
    whole = dataclasses.replace(
        comparison(), columns=runs, arms=arms_of(runs), pairs=(), thresholds=(), fairness=(), conclusion=("x",)
    )
    missing = {"missing_maps": ("risk difference: gone",), "missing_curves": ("loss of a: gone",)}
    data = ReportData(version="1", made="2026-11-22", redacted=False, **(NOTHING | missing))
    found = sections(parsed(report_page(whole, data)))
    for name, words in {
        "differences": "Not measured: no two runs were evaluated on the same items.",
        "safety": "Not measured, attack success or over-refusal of: a, b.",
        "measures": "Not measured: no pair of runs was evaluated.",
        "experts": "Not measured: risk difference: gone.",
        "training": "Not measured: loss of a: gone.",
        "drift": "Routing drift per layer: not measured. Router drift at harmful prompts per layer: not measured.",
        "judges": "no run was judged here",
        "capability": "not measured",
        "flips": "Not measured: no pair of runs was evaluated.",
        "making": "No run directory stands behind it.",
    }.items():
        assert words in found[name], name


def test_outcomes_that_were_made_elsewhere_have_a_page_too():
    runs = (imported("base"), imported("full"))
    whole = dataclasses.replace(comparison(), columns=runs, arms=arms_of(runs), pairs=(), fairness=(), thresholds=())
    found = sections(parsed(report_page(whole, ReportData(version="1", made="2026-11-22", redacted=False, **NOTHING))))
    assert "nothing is known of their conditions" in found["fairness"]
    assert "full was imported from x.csv, 100 items" in found["making"]
    assert "Not measured: no run was trained." in found["training"] and "Not measured" in found["experts"]


def test_the_report_of_a_large_model_and_many_flips_stays_below_two_megabytes():
    found = comparison(num_layers=48, num_flips=2000)
    data = report_data(found, num_experts=128, num_steps=3000, words="a word " * 100)
    assert len(report_page(found, data).encode()) < 2_000_000


def variables(block):
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{3,6})\b", block))


STYLE = (TEMPLATES / "style.css").read_text()
LIGHT, DARK, PRINT = (variables(block) for block in re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL))


def luminance(colour):
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one, other):
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_computed_as_the_guidelines_do():
    assert contrast("#000", "#fff") == pytest.approx(21) and contrast("#767676", "#ffffff") == pytest.approx(
        4.54, abs=0.01
    )


@pytest.mark.parametrize("colours", [LIGHT, DARK, PRINT], ids=["light", "dark", "print"])
def test_text_and_marks_have_enough_contrast(colours):
    """WCAG AA: 4.5 for text, 3 for what a figure is made of."""
    for name, ground in product(("ink", "soft", "accent", "better", "worse", "same"), ("paper", "panel")):
        assert contrast(colours[name], colours[ground]) >= 4.5, (name, ground)
    for name in ("s0", "s1", "s2", "s3", "s4", "s5", "n5", "p5", "c5"):
        assert contrast(colours[name], colours["paper"]) >= 3, name


@pytest.mark.parametrize("colours", [LIGHT, DARK, PRINT], ids=["light", "dark", "print"])
def test_the_colours_of_a_map_become_stronger_with_the_value(colours):
    for letter in "npc":
        steps = [colours["zero-cell"], *(colours[f"{letter}{step}"] for step in range(1, 6))]
        strength = [contrast(step, colours["paper"]) for step in steps]
        assert strength == sorted(strength) and len(set(strength)) == 6
