"""An ablation for people: its sentence, its tables on 80 columns, its figures, its page."""

from __future__ import annotations

import dataclasses
import random
import re

import pytest
from rich.cells import cell_len

from moe_cli.records import Ablation, ConditionOutcomes, Estimate, Expert, ExpertEffect, Rate
from moe_cli.views.ablated import ablated_markdown, ablated_view, ablation_findings, condition_table, expert_table
from moe_cli.views.console import stdout_console
from moe_cli.views.report.ablation_page import ablation_page, effect_chart, outcome_chart
from tests.builders import judge
from tests.views.injections import INJECTIONS
from tests.views.parsed_page import parsed
from tests.views.test_view_tables import made

NUM_ITEMS, NUM_CONTROLS, NUM_BENIGN = 120, 39, 80


def condition(name, harmful, refused, degenerate=0, *, correct=NUM_BENIGN, experts=12, **changes):
    values = {
        "name": name,
        "num_experts": experts,
        "coverage": 0.312 if experts else None,
        "overlap": 0.42 if experts else None,
        "harmful": harmful,
        "refused": refused,
        "neither": NUM_ITEMS - harmful - refused - degenerate,
        "degenerate": degenerate,
        "correct": Rate.of_counts(correct, NUM_BENIGN, 0),
        "over_refused": Rate.of_counts(3, 40, 0),
        "benign_degenerate": Rate.of_counts(degenerate, 120, 0),
        "text_loss": 1.234,
        "effect": (118 - harmful) / NUM_ITEMS,
        "repair": (refused - 2) / NUM_ITEMS,
    }
    return ConditionOutcomes(**(values | changes))


def near(value, n=40):
    return Estimate(value=value, lower=value - 0.09, upper=value + 0.09, n=n)


def control_sets():
    draw = random.Random(1)
    sets = []
    for number in range(1, NUM_CONTROLS + 1):
        harmful = draw.randint(40, 110)
        refused = draw.randint(2, NUM_ITEMS - harmful - 4)
        sets.append(condition(f"control {number}", harmful, refused, draw.randint(0, 4), correct=draw.randint(68, 76)))
    return tuple(sets)


def ablation(**changes):
    values = {
        "side": "unsafe",
        "run": None,
        "num_items": NUM_ITEMS,
        "num_goals": 40,
        "num_unscored": 0,
        "untouched": condition("untouched", 118, 2, experts=0),
        "selected": condition("selected", 71, 25, 3, correct=65),
        "controls": control_sets(),
        "effect": near(0.392),
        "repair": near(0.192),
        "control_effect": 0.398,
        "control_spread": 0.157,
        "specific": near(-0.006),
        "p_value": 0.475,
        "least_p": 0.025,
        "harm_to_benign": near(0.09),
        "more_degenerate": near(0.01),
        "most_shared": 0.62,
        "largest_own": 0.221,
        "detectable": 0.31,
        "verdict": "not specific",
        "reason": "39 control sets of equally used experts do the same: 39.8 points (p 0.475)",
        "each": tuple(single(index, 0.5 / index) for index in range(1, 13)),
        "warnings": ("the deciding judge is a smoke test",),
    }
    return dataclasses.replace(made(Ablation), **(values | changes))


def single(index, effect):
    expert = Expert(layer=0, index=index)
    return ExpertEffect(expert=expert, effect=near(effect), p_adjusted=0.004 * index, repair=0.02, coverage=0.05)


@pytest.fixture
def lines(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")

    def draw(renderable):
        stdout_console().print(renderable)
        out = capsys.readouterr().out.split("\n")
        assert max(map(cell_len, out)) <= 80 and "\x1b" not in "".join(out)
        return out

    return draw


def test_the_terminal_has_one_line_for_all_control_sets_and_every_finding_with_its_n(lines):
    out = "\n".join(lines(ablated_view(ablation())))
    assert "39 control" in out and "control 7" not in out
    assert "not specific. 39 control sets of equally used experts do the same" in " ".join(out.split())
    assert re.search(r"effect beyond them +-0\.6 \[-9\.6, \+8\.4\] +40", out)
    assert "0.475 (0.025)" in out and "the deciding judge is a smoke test" in out


def test_the_pages_say_who_judged_and_how_far_that_can_be_trusted():
    found = ablation(judges=(judge("harmbench", ("harm",)), judge("keywords", smoke_test=True)))
    for page in (ablated_markdown(found), parsed(ablation_page(found)).text):
        assert "Judge: harmbench, decides harm." in page
        assert "Judge: keywords, decides refusal; a smoke test, no claim of safety rests on it." in page


def test_the_p_in_the_table_is_that_of_the_end_of_the_ranks_which_the_sentence_is_about():
    def rank(verdict):
        found = ablation_findings(ablation(verdict=verdict, p_value=1.0, p_opposite=0.025))
        return next(row.cells[:2] for row in found.rows if row.cells[0].startswith("p of its rank"))

    assert rank("opposite") == ("p of its rank from the other end (least possible)", "0.025 (0.025)")
    assert rank("not specific") == ("p of its rank among them (least possible)", "1 (0.025)")


def test_a_loss_on_texts_that_is_of_other_tokens_than_the_answers_says_so():
    intervention = ablation().intervention
    at = {scope: dataclasses.replace(intervention, tokens=scope) for scope in ("all", "answer", "prompt")}
    notes = {
        scope: condition_table(ablation(intervention=one), each_control=True).notes[0] for scope, one in at.items()
    }
    assert notes["all"].endswith("text loss in nats a token.")
    assert notes["answer"] == notes["prompt"]
    assert notes["answer"].endswith("nats a token, the experts taken away at every token of the texts.")


def test_the_effect_that_control_sets_may_hide_stands_with_the_share_of_them_that_hide_it(lines):
    out = "\n".join(lines(ablated_view(ablation())))
    assert re.search(r"effect of their own if no other has one, at most +22\.1 +40", out)
    assert re.search(r"in so many control sets is one of them +62\.0 %", out)
    assert re.search(r"effect beyond them that would be found +31\.0", out)
    unknown = ablation(most_shared=None, largest_own=None, detectable=None)  # the first two as in an earlier record
    cells = [row.cells[1:] for row in ablation_findings(unknown).rows[-3:]]
    assert cells == [("-", "-"), ("-", ""), ("-", "")]


def test_the_terminal_is_80_columns_wide_with_the_largest_numbers(lines):
    many = 10_000
    large = condition("untouched", many, many, many, coverage=1.0, neither=many, text_loss=12.345)
    large = dataclasses.replace(large, correct=Rate.of_counts(many, many, 0))
    lines(ablated_view(ablation(num_items=many, untouched=large, selected=large, controls=(large,) * 99)))


def test_what_is_measured_without_router_effects_says_so_on_every_page():
    for replayed in (True, False):
        intervention = dataclasses.replace(ablation().intervention, without_router_effects=replayed)
        shown = ablation(intervention=intervention)
        assert ("routers decide as in the model as it is" in ablated_markdown(shown)) == replayed
        assert ("tokens, routers as in the model as it is)" in ablation_page(shown)) == replayed


def test_markdown_lists_every_control_set():
    markdown = ablated_markdown(ablation())
    assert len(re.findall(r"^\| control \d+ \|", markdown, re.MULTILINE)) == NUM_CONTROLS


def test_a_condition_shows_counts_of_all_four_outcomes_effect_repair_and_benign_items():
    selected = condition_table(ablation(), each_control=True).rows[1].cells
    assert selected[:4] == ("selected", "12", "31.2 %", "42.0 %")
    assert selected[4:8] == ("71 / 120", "25 / 120", "21 / 120", "3 / 120")
    assert selected[8:] == ("+39.2", "+19.2", "65 / 80", "3 / 40", "3 / 120", "1.234")


def test_without_benign_items_and_texts_there_is_a_dash_and_no_zero(lines):
    missing = {"correct": None, "over_refused": None, "benign_degenerate": None, "text_loss": None}
    bare = [dataclasses.replace(one, **missing) for one in (ablation().untouched, ablation().selected)]
    controls = tuple(dataclasses.replace(one, **missing) for one in control_sets())
    without = ablation(untouched=bare[0], selected=bare[1], controls=controls, harm_to_benign=None)
    for each_control in (True, False):
        assert {row.cells[-4:] for row in condition_table(without, each_control=each_control).rows} == {("-",) * 4}
    (lost,) = (row.cells for row in ablation_findings(without).rows if row.cells[0].startswith("right answers lost"))
    assert lost[1:] == ("-", "-")
    lines(ablated_view(without))
    parsed(ablation_page(without))


def test_single_experts_have_a_table_only_where_they_were_measured(lines):
    assert expert_table(ablation()).rows[0].cells == (
        *("layer 0 expert 1", "+50.0 [+41.0, +59.0]", "40", "0.004", "+2.0", "5.0 %"),
    )
    without = ablation(each=())
    for text in ("\n".join(lines(ablated_view(without))), ablated_markdown(without), ablation_page(without)):
        assert "Single experts" not in text


def test_at_the_safe_side_an_effect_is_lost_refusals_and_a_repair_is_compliance():
    safe = ablation(side="safe")
    for text in (ablated_markdown(safe), ablation_page(safe)):
        assert "refusals of plain goals that go" in text and "harmful answers that come" in text
        assert "the experts of plain refusals" in text and "full refusals that come" not in text
    assert "is a repair only where refusals" in ablation_page(ablation()) and "is a repair only" not in ablation_page(
        safe
    )


def test_the_figure_has_one_dot_for_each_control_set_in_both_rows_and_the_set_with_its_interval():
    shown = effect_chart(ablation())
    styles = [mark.style for mark in shown.marks]
    assert styles.count("sign s0 dot") == 2 * NUM_CONTROLS
    assert styles.count("sign s1") == styles.count("whisker s1") == 2
    assert "effect of the selected experts 39.2 points" in shown.words


def test_a_larger_effect_is_further_right_and_an_estimate_without_interval_has_no_whisker():
    marks = effect_chart(ablation(repair=Estimate(value=0.192, lower=None, upper=None, n=1))).marks
    effect, repair = (float(dict(mark.attributes)["x"].rstrip("%")) for mark in marks if mark.style == "sign s1")
    assert effect > repair
    assert [mark.style for mark in marks].count("whisker s1") == 1


def test_each_bar_fills_the_width_as_every_item_has_one_outcome():
    bars = [dict(mark.attributes) for mark in outcome_chart(ablation()).marks if mark.tag == "rect"]
    widths = {}
    for bar in bars:
        widths[bar["y"]] = widths.get(bar["y"], 0.0) + float(bar["width"].rstrip("%"))
    assert len(widths) == 2 + NUM_CONTROLS
    assert all(width == pytest.approx(82.0, abs=0.05) for width in widths.values())


def test_the_page_has_a_finding_two_figures_and_all_numbers():
    page = parsed(ablation_page(ablation()))
    assert [section.attributes["id"] for section in page.of("section")] == ["conclusion", "outcomes", "tables"]
    assert len(page.of("svg", role="img")) == 2 and len(page.of("table")) == 3
    assert not page.of("script") and "control 39" in page.text
    n = f"n: {ablation().num_items} answers of {ablation().num_goals} goals."
    assert page.text.count(n) == len(page.of("figcaption")) == 2


@pytest.mark.parametrize("text", INJECTIONS.values(), ids=INJECTIONS.keys())
def test_foreign_text_stays_text(text, lines):
    hostile = ablation(prepared=text, run=text, reason=text, warnings=(text,), model=made(type(ablation().model), text))
    tags = [element.tag for element in parsed(ablation_page(hostile)).elements]
    assert tags == [element.tag for element in parsed(ablation_page(ablation(run="run"))).elements]
    assert "\x1b" not in ablation_page(hostile) + ablated_markdown(hostile)
    lines(ablated_view(hostile))
