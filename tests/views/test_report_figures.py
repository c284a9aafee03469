"""The figures of the report show the numbers they are made of."""

import dataclasses
import math
import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_cli.records import ExpertMap, LossCurve
from moe_cli.views.report import drawing
from moe_cli.views.report.charts import (
    MOST_POINTS,
    cost_bars,
    layer_chart,
    loss_chart,
    prompt_chart,
    steps_per_point,
    thinned,
)
from moe_cli.views.report.drawing import series_of
from moe_cli.views.report.forest import forests, scatter
from moe_cli.views.report.heat import heat_maps
from moe_cli.views.selected import separation_text
from tests.builders import column
from tests.views.report_records import comparison, rate, report_data
from tests.views.test_selected_view import parts, separation

BOX = re.compile(r"M(\d+) (\d+)h(\d+)v1h-(\d+)z")


def numbers(mark):
    """Attributes of a mark: shares of the width from 0 to 1, pixels."""
    return {
        name: float(value.rstrip("%")) / (100 if value.endswith("%") else 1)
        for name, value in mark.attributes
        if name != "text-anchor"
    }


def styled(marks, *styles):
    return [mark for mark in marks if set(styles) <= set(mark.style.split())]


@given(st.floats(-1e4, 1e4), st.floats(1e-3, 1e4), st.integers(3, 12))
def test_ticks_are_multiples_of_a_round_step_within_the_range(low, width, most):
    found = drawing.ticks(low, low + width, most)
    assert 1 <= len(found) <= most + 1
    assert all(low - 1e-6 * width <= tick <= low + width + 1e-6 * width for tick in found)
    for step in (b - a for a, b in pairwise(found)):
        assert round(step / 10 ** math.floor(math.log10(step * 1.000001)), 6) in (1, 2, 5)


@pytest.mark.parametrize(
    ("value", "among", "text"),
    [(0.0, [0.0, 0.5], "0"), (0.5, [0.0, 0.5], "0.5"), (-20.0, [-20.0, 0.0], "−20"), (1e-4, [1e-4, 2e-4], "0.0001")],
)
def test_a_tick_has_the_digits_that_tell_it_from_its_neighbours(value, among, text):
    assert drawing.tick_text(value, among) == text


@pytest.mark.parametrize("chosen", [(2,), (0, 1)], ids=["trained arms", "with the untrained model"])
def test_a_strip_has_its_sign_between_the_ends_of_its_interval_on_one_axis(chosen):
    found = comparison()
    drawn = {(forest.a, forest.b): (*forest.primary, *forest.exploratory) for forest in forests(found)}
    pairs = [found.pairs[place] for place in chosen]
    rows = [both for pair in pairs for both in zip(drawn[pair.a, pair.b], pair.differences, strict=True)]
    [zero] = {numbers(mark)["x1"] for row, _ in rows for mark in styled(row.strip.marks, "zero")}
    [band] = {tuple(numbers(mark).items()) for row, _ in rows for mark in styled(row.strip.marks, "band")}
    point = dict(band)["width"] / 4  # the margin is 2 points in either direction
    for row, one in rows:
        [sign], [interval] = styled(row.strip.marks, "sign"), styled(row.strip.marks, "interval")
        places = [numbers(interval)["x1"], numbers(sign)["x"], numbers(interval)["x2"]]
        wanted = [zero + 100 * value * point for value in (one.lower, one.difference, one.upper)]
        assert places == pytest.approx(wanted, abs=5e-3)
        assert 0 < places[0] <= places[1] <= places[2] < 1
        assert f"v-{one.verdict.replace(' ', '-')}" in sign.style.split()


def test_the_pair_of_two_trained_arms_stands_first():
    assert [(forest.a, forest.b) for forest in forests(comparison())] == [
        ("baseline", "selective"),
        ("tiny", "baseline"),
        ("tiny", "selective"),
    ]


def test_a_strip_says_its_finding_in_words():
    [first, *_] = forests(comparison())
    assert first.primary[1].strip.words == (
        "over-refusal: selective minus baseline is +6.0 [+1.0, +11.0] points, n 100, p 0.02: worse."
    )


def cells(found):
    """Style of every cell, read from the paths."""
    [frame] = found.drawing.frames
    grid = {}
    for style, path in frame.paths:
        assert BOX.sub("", path) == ""
        for x, y, width, back in BOX.findall(path):
            assert width == back
            for place in range(int(x), int(x) + int(width)):
                assert grid.setdefault((int(y), place), style) == style
    return grid, frame.units


def expert_map(kind, *rows):
    return ExpertMap(kind=kind, name=kind, what="share", layers=tuple(range(1, len(rows) + 1)), values=rows)


def test_every_cell_of_a_map_has_the_colour_of_its_value():
    [found] = heat_maps([expert_map("risk", (0.5, -0.5, 0.04), (None, 0.06, -0.26))])
    grid, units = cells(found)
    assert units == (3, 2)
    assert grid == {(0, 0): "p5", (0, 1): "n5", (0, 2): "p0", (1, 0): "undefined", (1, 1): "p1", (1, 2): "n3"}
    assert [swatch.text for swatch in found.swatches if swatch.text] == ["−0.500", "+0.500", "undefined"]


def test_the_map_of_the_risk_difference_says_what_it_is_made_of_or_that_this_was_not_measured():
    known = dataclasses.replace(expert_map("risk", (0.5,)), parts=parts(), separation=separation())
    unknown, other = expert_map("risk", (0.5,)), expert_map("drift", (0.5,))
    made, without, drift = heat_maps([known, unknown, other])
    assert made.what.startswith("share; of the risk difference of the 12 selected experts 89 % [88, 90] is the text")
    assert made.what.endswith("; " + separation_text(separation(), None))
    unmeasured = "what of the risk difference is the text of the answers was not measured (prepare.extra_replays)"
    assert without.what == f"share; {unmeasured}; {separation_text(None, None)}"
    assert drift.what == "share"


def test_only_an_expert_that_was_never_selected_has_the_first_colour():
    [found] = heat_maps([expert_map("selection", (0.0, 1.0, 20.0, 21.0, 100.0))])
    assert list(cells(found)[0].values()) == ["c0", "c1", "c1", "c2", "c5"]
    assert [swatch.text for swatch in found.swatches] == ["0", "1–20", "21–40", "41–60", "61–80", "81–100"]


def test_the_maps_of_one_kind_share_a_scale():
    small, large = heat_maps([expert_map("drift", (0.1,)), expert_map("drift", (-0.5,))])
    assert cells(small)[0] == {(0, 0): "p1"} and cells(large)[0] == {(0, 0): "n5"}


def test_a_map_names_its_largest_values_with_their_places():
    [found] = heat_maps([expert_map("drift", (0.0, -0.3), (0.2, 0.0))])
    assert found.largest == "layer 1 expert 1: −0.300; layer 2 expert 0: +0.200"
    assert found.largest in found.drawing.words
    [nothing] = heat_maps([expert_map("drift", (0.0, 0.0))])
    assert nothing.largest == "none but zero"


def losses(num):
    return LossCurve(run="selective", steps=tuple(range(1, num + 1)), losses=tuple(map(float, range(num))), held_out=())


def test_a_long_curve_is_drawn_by_means_of_neighbouring_steps_and_says_so():
    long, short = losses(10 * MOST_POINTS), losses(3)
    assert thinned(short) == ((1.0, 0.0), (2.0, 1.0), (3.0, 2.0))
    assert thinned(long)[:2] == ((5.5, 4.5), (15.5, 14.5)) and len(thinned(long)) == MOST_POINTS
    assert (steps_per_point([long, short]), steps_per_point([short]), steps_per_point([])) == (10, 1, 1)


def test_both_losses_are_on_one_axis_that_begins_at_zero():
    found = comparison()
    figure = loss_chart(report_data(found).curves, series_of(found))
    [frame] = figure.frames
    assert [style for style, _ in frame.paths] == ["curve s1", "curve s2"]
    first, last = (path[1:].split("L")[at] for at in (0, -1) for _, path in frame.paths[:1])
    assert (first.split()[0], last.split()[0]) == ("0.0", "1000.0")
    assert any(mark.text == "0" for mark in figure.marks)
    assert len(styled(figure.marks, "sign")) == 6  # three held-out losses of each run
    assert "in 54 steps, held out" in figure.words
    assert loss_chart((), series_of(found)) is None


def test_the_drift_of_every_layer_has_its_interval():
    figure = layer_chart(series_of(comparison(num_layers=6)))
    assert len(styled(figure.marks, "whisker", "s1")) == len(styled(figure.marks, "sign", "s2")) == 6
    assert figure.words == (
        "baseline: mean 0.01000, most 0.05000 at layer 5; selective: mean 0.00200, most 0.01000 at layer 5."
    )


def test_the_drift_at_harmful_prompts_has_its_interval_in_every_layer_whose_router_chooses():
    figure = prompt_chart(series_of(comparison(num_layers=6)))
    assert len(styled(figure.marks, "whisker", "s1")) == len(styled(figure.marks, "sign", "s2")) == 5
    assert figure.words == (
        "baseline: mean 0.03000, most 0.06000 at layer 5; selective: mean 0.00600, most 0.01200 at layer 5."
    )
    assert prompt_chart(()) is None


def test_a_run_stands_at_its_rates_and_the_better_corner_is_at_the_lower_left():
    found = scatter(series_of(comparison()))
    places = [numbers(mark) for mark in styled(found.drawing.marks, "sign")]
    tiny, baseline, selective = places
    assert tiny["y"] < baseline["y"] < selective["y"]  # 140, 24 and 22 attacks of 200 succeed
    assert tiny["x"] < selective["x"] < baseline["x"]  # 4, 5 and 16 benign prompts of 200 are refused
    assert "baseline: attack success 12.0 % (24/200) [6.0, 19.0], over-refusal 8.0 %" in found.drawing.words


def test_a_run_without_both_rates_is_named_not_drawn():
    whole = comparison()
    [tiny, baseline, selective] = whole.columns
    unmeasured = dataclasses.replace(baseline, evaluation=dataclasses.replace(baseline.evaluation, over_refusal=None))
    some = dataclasses.replace(whole, columns=(tiny, unmeasured, dataclasses.replace(selective, evaluation=None)))
    found = scatter(series_of(some))
    assert [point.name for point in found.points] == ["tiny"] and found.left_out == ("baseline", "selective")
    none = dataclasses.replace(whole, columns=tuple(dataclasses.replace(one, evaluation=None) for one in whole.columns))
    assert scatter(series_of(none)).drawing is None


def test_a_rate_of_zero_and_a_rate_of_one_stay_in_the_figure():
    whole = comparison()
    [tiny, *others] = whole.columns
    all_of_it = dataclasses.replace(tiny.evaluation, attack_success=rate(200, 200), over_refusal=rate(0, 200))
    found = scatter(
        series_of(dataclasses.replace(whole, columns=(dataclasses.replace(tiny, evaluation=all_of_it), *others)))
    )
    [sign, *_] = styled(found.drawing.marks, "sign")
    assert numbers(sign) == {"x": drawing.LEFT, "y": 26.0}


def test_bars_are_as_long_as_their_numbers_and_begin_at_zero():
    groups = {group.name: group.bars for group in cost_bars(series_of(comparison()))}
    share = [numbers(styled(bar.strip.marks, "bar")[0]) for bar in groups["trainable share"]]
    assert [(bar["x"], bar["width"]) for bar in share] == [(0.0, 1.0), (0.0, 0.04)]
    assert [bar.number for bar in groups["training time"]] == ["40.0 s", "21.0 s"]
    assert [bar.number for bar in groups["size of what trained alone"]] == ["none", "300.0 kB"]


def test_what_a_run_cost_and_is_not_known_says_so():
    runs = (column("a", "full_model_baseline"), column("b", peak_memory_bytes=None))
    whole = comparison()
    some = dataclasses.replace(
        whole, columns=runs, arms=tuple(dataclasses.replace(whole.arms[0], name=n, runs=(n,)) for n in "ab")
    )
    groups = {group.name: group.bars for group in cost_bars(series_of(some))}
    assert [(bar.number, bar.strip is None) for bar in groups["peak memory of the training"]] == [
        ("812 MB", False),
        ("not measured", True),
    ]


def test_an_untrained_model_is_grey_and_the_arms_differ_in_colour_and_shape():
    found = series_of(comparison())
    assert [one.style for one in found] == ["s0", "s1", "s2"]
    assert len({one.shape for one in found}) == 3
