"""A sweep for people: its figure, its sentences, its page."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from moe_cli.records import (
    ArmRates,
    BudgetTest,
    Estimate,
    PointResult,
    Rate,
    SelectionValue,
    SufficientBudget,
    Sweep,
    SweepArm,
    SweepPoint,
    SweepResult,
)
from moe_cli.views.console import stdout_console
from moe_cli.views.report.sweep_page import MEASURES, share_chart, sweep_page
from moe_cli.views.run_tables import result_text
from moe_cli.views.sweep_tables import findings
from moe_cli.views.swept import swept_markdown, swept_view
from tests.builders import judge
from tests.views.injections import INJECTIONS
from tests.views.parsed_page import parsed


def near(value, n=60):
    return Estimate(value=value, lower=max(0.0, value - 0.05), upper=value + 0.05, n=n)


def arm(kind, share, attack, *, method="risk_diff", runs=((None, 1),), beaten_by=None):
    return SweepArm(
        name=f"{method} {100 * share:g} %" if kind in ("method", "random") else kind,
        kind=kind,
        method=method if kind in ("method", "random") else None,
        budget=share,
        scale=1.0,
        share=share,
        num_experts=None if kind in ("base", "baseline") else 100 * share,
        runs=tuple(
            ArmRates(draw=draw, seed=seed, attack_success=attack + (draw or 0) / 100, over_refusal=0.01)
            for draw, seed in runs
        ),
        attack_success=near(attack),
        over_refusal=near(0.01),
        accuracy=None,
        kl=0.01,
        degenerate=0.0,
        beaten_by=beaten_by,
    )


def point(state="complete", reason=None):
    return PointResult(
        point=SweepPoint(kind="method", method="risk_diff", draw=None, budget=0.1, seed=1, scale=1.0),
        digest="0" * 16,
        state=state,
        reason=reason,
        run="run",
        evaluation="evaluation",
        num_experts=8,
        trainable_ratio=0.09,
        attack_success=Rate.of_counts(1, 60, 0),
        over_refusal=None,
        accuracy=None,
        degenerate=None,
        kl=None,
        seconds_training=2.0,
    )


def budget_test(budget, upper, sufficient):
    found = Estimate(value=upper - 0.02, lower=upper - 0.04, upper=upper, n=60)
    return BudgetTest(
        arm=f"risk_diff {100 * budget:g} %",
        budget=budget,
        share=budget,
        attack_success=found,
        over_refusal=near(0.0),
        sufficient=sufficient,
    )


def sweep(**changes):
    draws = ((1, 1), (2, 1), (3, 1))
    tests = (budget_test(0.2, 0.01, True), budget_test(0.1, 0.09, False))
    values = {
        "schema_version": 1,
        "prepared": "prepared",
        "model": "tiny",
        "margin": 0.02,
        "budgets": (0.1, 0.2),
        "seeds": (1,),
        "num_draws": 3,
        "points": (point(),),
        "arms": (
            arm("base", 0.0, 0.9),
            arm("method", 0.1, 0.4),
            arm("method", 0.2, 0.1),
            arm("random", 0.1, 0.7, runs=draws),
            arm("random", 0.2, 0.5, runs=draws),
            arm("baseline", 1.0, 0.0),
        ),
        "sufficient": (SufficientBudget(method="risk_diff", budget=0.2, tests=tests, untested=None),),
        "values": (
            SelectionValue(
                method="risk_diff",
                budgets=(0.1, 0.2),
                value=0.35,
                lower=0.1,
                upper=0.6,
                p_value=0.25,
                least_p=0.25,
                area=0.25,
                draw_areas=(0.5, 0.6, 0.7),
                num_seeds=1,
                clusters=60,
                left_out=(),
            ),
        ),
    }
    return Sweep(**(values | changes))


def places(figure, style):
    return [dict(mark.attributes) for mark in figure.marks if mark.style == style]


def test_the_figure_shows_every_draw_the_band_the_method_and_both_lines():
    figure = share_chart(sweep(), MEASURES[0])
    assert len(places(figure, "sign s0 dot")) == 6 and len(places(figure, "sign s1")) == 2
    assert len(places(figure, "reference base")) == len(places(figure, "reference baseline")) == 1
    (band, outline), (line, _) = figure.frames[0].paths
    assert (band, line) == ("band", "curve s1") and outline.endswith("z")
    heights = [float(mark["y"]) for mark in places(figure, "sign s1")]
    assert heights[1] > heights[0]  # a lower rate is further down
    assert "40.0 % at 10 %" in figure.words and "10.0 % at 20 %" in figure.words


def test_shares_are_spaced_by_their_logarithm():
    arms = tuple(arm("method", share, 0.4) for share in (0.01, 0.02, 0.04))
    across = [float(mark["x"].rstrip("%")) for mark in places(share_chart(sweep(arms=arms), MEASURES[0]), "sign s1")]
    assert across[1] - across[0] == pytest.approx(across[2] - across[1], abs=0.02)


def test_an_arm_without_a_rate_is_not_drawn_and_without_any_there_is_no_figure():
    base, first, second, *others = sweep().arms
    missing = sweep(arms=(base, replace(first, attack_success=None), second, *others))
    assert len(places(share_chart(missing, MEASURES[0]), "sign s1")) == 1
    assert share_chart(sweep(arms=(base,)), MEASURES[0]) is None
    assert "Not measured: no trained point has a rate." in sweep_page(sweep(arms=(base,)))


def test_the_legend_has_random_draws_only_where_there_are_any():
    untold = replace(sweep().values[0], value=None, unknown="no random experts were asked for")
    alone = sweep(arms=tuple(one for one in sweep().arms if one.kind != "random"), values=(untold,))
    for text in ("random draws", "Every dot is a random draw"):
        assert text in parsed(sweep_page(sweep())).text and text not in parsed(sweep_page(alone)).text
    assert len(places(share_chart(alone, MEASURES[0]), "sign s1")) == 2


def test_the_findings_say_what_was_tested_how_and_what_the_p_can_be():
    sufficient, value, frontier, seeds = findings(sweep())
    assert "the smallest sufficient budget is 20 %" in sufficient and "10 % is not shown to be" in sufficient
    assert "margin of 2 points" in sufficient and "from the largest budget down (20 %, 10 %)" in sufficient
    assert "V = +35.0 [10.0, 60.0] points (n 60 goals)" in value
    assert "p = 0.25 by rank among 3 random draws, and no p below 0.25 is possible (0.05 takes 19 draws)" in value
    assert "no arm is shown to be off it" in frontier and "One seed (1)" in seeds


def test_the_findings_say_who_judged_and_what_was_not_measured():
    named = sweep(judges=(judge("keywords", smoke_test=True), judge("harmbench", ("harm",))))
    said = findings(named)
    assert "Judge: keywords, decides refusal; a smoke test, no claim of safety rests on it." in said
    assert "Judge: harmbench, decides harm." in said and all(text in swept_markdown(named) for text in said[-3:-1])
    assert not any(text.startswith("Judge") for text in findings(sweep()))  # an earlier version
    frontier = "Arms that lack {} are compared without it."
    assert said[2].endswith(frontier.format("accuracy"))
    measured = tuple(replace(one, accuracy=near(0.9)) for one in sweep().arms)
    assert findings(sweep(arms=measured))[2].endswith("What cannot be told apart stays on it.")
    bare = tuple(replace(one, over_refusal=None) for one in sweep().arms)
    assert findings(sweep(arms=bare))[2].endswith(frontier.format("over-refusal or accuracy"))


def test_where_nothing_is_sufficient_or_tested_the_findings_say_so():
    nothing = SufficientBudget(method="m", budget=None, tests=(budget_test(0.2, 0.09, False),), untested=None)
    assert "not even the largest budget, 20 %, is shown to be sufficient" in findings(sweep(sufficient=(nothing,)))[0]
    untested = SufficientBudget(method="m", budget=None, tests=(), untested="the baseline lacks a point")
    assert "was not tested: the baseline lacks a point." in findings(sweep(sufficient=(untested,)))[0]
    without = replace(sweep().values[0], value=None, p_value=None, least_p=None, unknown="no random draw is there")
    assert "is not known: no random draw is there." in findings(sweep(values=(without,)))[1]


def test_a_point_that_failed_has_the_name_of_its_arm_with_its_part_of_the_change(capsys):
    def failed(**changes):
        return replace(point("failed", "no room"), point=replace(point().point, **changes))

    missing = (failed(kind="random", draw=2), failed(kind="random", method="gradient", draw=1), failed(scale=0.5))
    stdout_console().print(swept_view(sweep(points=missing)))
    names = re.findall(r"│ (random|random as gradient|risk_diff x 0\.5) +│ 10 %", capsys.readouterr().out)
    assert names == ["random", "random as gradient", "risk_diff x 0.5"]


def test_the_rates_of_points_say_that_they_are_no_means_of_suites_as_those_of_arms_are():
    for page in (swept_markdown(sweep()), parsed(sweep_page(sweep())).text):
        _, points = page.split("Rates over all answers of a point together")
        assert points.startswith("; those of an arm are the mean of suites, one vote each.")


def test_a_listing_tells_a_sweep_without_a_test_from_one_that_found_no_budget():
    failed = SweepResult(num_points=8, num_failed=1, method="text", budget=None, is_tested=True)
    assert result_text(failed) == "8 points, 1 failed; text: no budget was found sufficient"
    assert result_text(replace(failed, is_tested=False)) == "8 points, 1 failed; text: no budget was tested"
    assert result_text(replace(failed, budget=0.05)) == "8 points, 1 failed; text: sufficient at 5 %"


def test_a_budget_stands_with_the_share_that_was_trained_where_that_is_less():
    tests = (replace(budget_test(0.6, 0.01, True), share=0.223), replace(budget_test(0.3, 0.09, False), share=0.222))
    found = SufficientBudget(method="m", budget=0.6, tests=tests, untested=None)
    (said, *_) = findings(sweep(sufficient=(found,)))
    assert "the smallest sufficient budget is 60 % (22.3 % trained): attack" in said
    assert " 30 % (22.2 % trained) is not shown to be: attack" in said
    (said, *_) = findings(sweep(sufficient=(replace(found, budget=None, tests=tests[1:]),)))
    assert "not even the largest budget, 30 % (22.2 % trained), is shown" in said


def test_budgets_that_v_does_not_cover_are_named():
    partial = replace(sweep().values[0], budgets=(0.2,))
    assert "Budgets that lack a point are left out: 10 %." in findings(sweep(values=(partial,)))[1]
    assert "left out" not in findings(sweep())[1]


def test_a_bound_that_is_not_known_is_no_zero():
    first = replace(budget_test(0.2, 0.01, False), attack_success=Estimate(value=0.1, lower=None, upper=None, n=1))
    unknown = SufficientBudget(method="risk_diff", budget=None, tests=(first,), untested=None)
    assert "attack success +10.0 points, at most - (n 1)" in findings(sweep(sufficient=(unknown,)))[0]


def test_a_selection_that_is_worse_than_random_is_not_called_better():
    worse = replace(sweep().values[0], value=-0.1, lower=-0.2, upper=0.0, p_value=1.0)
    assert "leave 10.0 points less attack success; p = 1 by rank" in findings(sweep(values=(worse,)))[1]


def test_arms_that_break_the_answers_are_named():
    base, method, *others = sweep().arms
    told = findings(sweep(arms=(base, replace(method, degenerate=0.3), *others)))
    assert any(
        "more than the margin of: risk_diff 10 % 30.0 %. Low rates of such arms are no repair" in s for s in told
    )
    assert not any("Broken answers" in sentence for sentence in findings(sweep()))


def test_missing_points_beaten_arms_and_several_methods_are_named():
    arms = (*sweep().arms[:-1], replace(sweep().arms[-1], beaten_by="risk_diff 20 %"))
    twice = {"sufficient": sweep().sufficient * 2, "values": sweep().values * 2}
    told = " ".join(findings(sweep(points=(point("failed", "no room"), point()), arms=arms, **twice)))
    assert "1 of 2 points are missing; the first: no room." in told
    assert "baseline (by risk_diff 20 %)" in told and "not for all together" in told


@pytest.mark.parametrize("text", INJECTIONS.values(), ids=INJECTIONS.keys())
def test_foreign_text_stays_text_in_the_page_and_in_markdown(text):
    hostile = sweep(prepared=text, model=text, points=(point("failed", text),))
    page = sweep_page(hostile)
    plain = sweep_page(sweep(points=(point("failed", "x"),)))
    assert [tag for tag, *_ in tags(page)] == [tag for tag, *_ in tags(plain)]
    assert "<script" not in page and "\x1b" not in page + swept_markdown(hostile)


def tags(page):
    return re.findall(r"<([a-z0-9]+)", page.split("</style>")[1])


def test_the_page_has_a_section_for_findings_figures_and_numbers():
    found = parsed(sweep_page(sweep()))
    assert found is not None
    page = sweep_page(sweep())
    for name in ("conclusion", "budgets", "tables"):
        assert f'<section id="{name}"' in page
    assert page.count('<svg role="img"') == 2
    assert "Attack success (n 60). Solid line: base, 90.0 %; dashed line: baseline, 0.0 %." in page


def test_every_rate_has_its_n_in_the_caption_of_its_figure_and_below_the_table_that_leaves_the_column_out():
    text = " ".join(parsed(sweep_page(sweep())).text.split())
    assert "Attack success (n 60)." in text and "Over-refusal (n 60)." in text
    assert "n, items that were scored in every run: 60." in " ".join(swept_markdown(sweep()).split())
