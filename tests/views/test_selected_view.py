"""The selection on a terminal: the map, the numbers beside it, a ranked table; 80 columns, no colour."""

from __future__ import annotations

import dataclasses

import pytest
from rich.cells import cell_len

from moe_cli.records import (
    Estimate,
    Expert,
    ExpertEvidence,
    MethodOverlap,
    PartOfRisk,
    RankedExpert,
    RankedTable,
    RiskParts,
    Selection,
    Separation,
    TurnEvidence,
)
from moe_cli.views.console import stdout_console
from moe_cli.views.selected import next_text, ranked_view, selected_view, separation_text
from tests.views.test_view_tables import NASTY, NOTHING, made


@pytest.fixture
def lines(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")

    def draw(renderable):
        stdout_console().print(renderable)
        out = capsys.readouterr().out.split("\n")
        assert max(map(cell_len, out)) <= 80
        return out

    return draw


def selection(num_layers=2, num_experts=64, union=(), candidates=(), **changes) -> Selection:
    whole = made(Selection)
    base = dataclasses.replace(whole.base, layers=tuple(range(1, num_layers + 1)), num_experts=num_experts)
    named = {
        name: tuple(Expert(layer=layer, index=i) for layer, i in found)
        for name, found in {"union": union, "candidates": candidates}.items()
    }
    return dataclasses.replace(whole, base=base, evidence=(), **named, **changes)


@pytest.mark.parametrize("num_experts", [4, 60, 64, 128, 256, 384])
@pytest.mark.parametrize("num_layers", [1, 16, 61, 94])
def test_the_map_has_one_line_a_layer_and_fits_80_columns(lines, num_layers, num_experts):
    every = [(layer, i) for layer in range(1, num_layers + 1) for i in range(num_experts)]
    out = lines(selected_view(selection(num_layers, num_experts, union=every, candidates=every)))
    rows = [line for line in out if line.rstrip().endswith(f" {num_experts}/{num_experts}")]
    assert len(rows) == num_layers
    assert {set(row.split()[1]) == {"█"} for row in rows} == {True}


def test_a_column_shows_a_selected_expert_a_candidate_that_no_batch_selected_and_neither(lines):
    out = lines(selected_view(selection(union=[(1, 0), (1, 63)], candidates=[(1, 0), (1, 5), (1, 63)])))
    assert "1 █····-" + "·" * 57 + "█ 2/3" in [line.rstrip() for line in out]
    assert "2 " + "·" * 64 + " 0/0" in [line.rstrip() for line in out]


def parts(share=0.886, wrapper=0.049, harm=0.121) -> RiskParts:
    def part(value):
        known = value is not None
        return PartOfRisk(share=value, lower=value - 0.01 if known else None, upper=value + 0.01 if known else None)

    return RiskParts(
        num_experts=12,
        risk_diff=1.86,
        text=part(share),
        prompt=part(None if share is None else 1 - share),
        wrapper=part(wrapper),
        harm=part(harm),
        num_goals=96,
        num_harmless=90,
    )


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (
            parts(),
            "of the risk difference of the 12 selected experts 89 % [88, 90] is the text of the answers, 11 % [10, 12] "
            "the prompts; the wrapper alone makes 5 % [4, 6]; harm, with all else in which harmful and harmless "
            "compliance inside attacks differ, makes 12 % [11, 13] (96 goals and 90 harmless prompts)",
        ),
        (parts(wrapper=-0.003), "the wrapper alone makes 0 % [-1, 1]; harm, with"),
        (
            dataclasses.replace(parts(), harm=None),
            "harmless compliance inside attacks differ, was not measured (96 goals and 90 harmless prompts)",
        ),
        (
            dataclasses.replace(parts(), wrapper=None, harm=None, num_harmless=0),
            "11 % [10, 12] the prompts; neither the wrapper alone nor the harm was measured: no harmless prompt stood "
            "plain and inside an attack (96 goals)",
        ),
        (parts(share=None), "summed, is 1.860 and may be 0: it has no parts to show"),
        (
            None,
            "what of the risk difference is the text of the answers was not measured (prepare.extra_replays)",
        ),
    ],
)
def test_it_says_what_the_risk_difference_is_made_of_or_why_that_is_not_known(lines, found, text):
    out = lines(selected_view(selection(union=[(1, 0)], parts=found)))
    assert text in " ".join(" ".join(out).split())


def separation(**changes) -> Separation:
    found = Separation(
        num_goals_selecting=97,
        num_experts=4,
        num_shared=3,
        num_answers=192,
        auroc=Estimate(value=0.9967, lower=0.9914, upper=0.9998, n=96),
        num_control_sets=200,
        control_mean=0.738,
        control_lower=0.3995,
        control_upper=0.9728,
        p_value=2 / 201,
        chance_of_same=0.0039,
    )
    return dataclasses.replace(found, **changes)


def test_the_auroc_on_held_out_goals_stands_beside_that_of_random_sets_with_its_n(lines):
    text = " ".join(" ".join(lines(selected_view(selection(separation=separation())))).split())
    assert (
        "held-out goals: the same rule selects 4 experts (3 of this union) from 97 goals, and on others their share of "
        "an answer's choices tells compliance inside attacks from refusals of plain goals with AUROC 0.997 (n 96) "
        "[0.991, 1.000]; 200 sets of random experts, as many of each layer and use, with 0.738 [0.400, 0.973]: "
        "p = 0.01"
    ) in text


def test_without_an_auroc_the_reason_stands_in_its_place(lines):
    none = selection(separation=None, no_separation="every expert is selected")
    text = " ".join(" ".join(lines(selected_view(none))).split())
    assert "no AUROC on held-out goals: every expert is selected" in text
    assert "earlier version" in separation_text(None, None)


def test_a_method_by_a_part_shows_the_part_that_its_interval_is_of(lines):
    found = dataclasses.replace(made(ExpertEvidence), risk_diff=0.3, ranked_by=0.21, lower=0.2, upper=0.22)
    out = lines(selected_view(dataclasses.replace(selection(method="text"), evidence=(found,))))
    assert any("text part" in line and "risk difference" not in line for line in out)
    assert any("0.210" in line and "[0.200, 0.220]" in line for line in out)


@pytest.mark.parametrize(
    ("batches", "text"),
    [
        (((0, 5), (0, 5)), "batches: each of the 2 selects all 2 candidates"),
        (
            ((0, 5), (0,), ()),
            "batches: each of the 3 selects its own part of the 2 candidates, 1.0 on average (0 to 2)",
        ),
    ],
)
def test_it_says_whether_a_batch_selects_every_candidate(lines, batches, text):
    chosen = tuple(tuple(Expert(layer=1, index=index) for index in batch) for batch in batches)
    out = lines(selected_view(selection(union=[(1, 0)], candidates=[(1, 0), (1, 5)], batches=chosen)))
    assert text in " ".join(" ".join(out).split())


def test_a_column_of_several_experts_is_the_higher_the_more_of_them_are_selected(lines):
    union = [(1, 0), (1, 4), (1, 5), *((1, i) for i in range(252, 256))]
    out = lines(selected_view(selection(num_experts=256, union=union, candidates=[*union, (1, 9)])))
    row = next(line for line in out if line.rstrip().endswith(" 7/8"))
    assert row.split()[1] == "▂▄-" + "·" * 60 + "█"
    assert any("a column is 4 experts" in line for line in out)


def test_the_overlap_counts_the_shared_experts_and_no_union_is_a_dash(lines):
    none = MethodOverlap(method="gradient", num_candidates=0, union_size=0, num_shared=0, jaccard=None)
    some = MethodOverlap(method="esft-token", num_candidates=9, union_size=8, num_shared=3, jaccard=0.25)
    out = lines(selected_view(selection(overlaps=(none, some))))
    assert any([c.strip() for c in line.split("│")[1:-1]] == ["gradient", "0", "0", "0 / 0", "-"] for line in out)
    assert any([c.strip() for c in line.split("│")[1:-1]] == ["esft-token", "9", "8", "3 / 8", "0.25"] for line in out)


def test_the_turns_that_answer_the_attacks_have_a_row_each_and_no_table_where_each_is_the_first(lines):
    known = TurnEvidence(turn=1, num_pairs=40, num_goals=31, num_tokens=1810, risk_diff=1.5, lower=1.25, upper=1.75)
    unknown = TurnEvidence(turn=3, num_pairs=2, num_goals=1, num_tokens=90, risk_diff=None, lower=None, upper=None)
    text = lines(selected_view(selection(turns=(known, unknown))))
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text if line.count("│") == 6]
    assert ["1", "1.500", "[1.250, 1.750]", "40 (31)", "1,810"] in cells
    assert ["3", "-", "[-, -]", "2 (1)", "90"] in cells
    assert any("Pairs of different turns hold different goals" in line for line in text)


def test_without_several_turns_no_table_of_turns_is_shown(lines):
    assert not any("turn" in line for line in lines(selected_view(selection(turns=()))))


def test_without_a_null_union_the_line_says_so_and_shows_no_number_in_its_place(lines):
    text = " ".join(lines(selected_view(made(Selection, NOTHING))))
    assert "no null union" in text and "None" not in text


@pytest.mark.parametrize(
    ("method", "shown"), [("risk_diff", "97 %"), ("stability", "97 %"), ("esft-token", "-"), ("file", "-")]
)
def test_stability_is_shown_for_the_methods_whose_rule_it_is_of_and_a_dash_for_the_others(lines, method, shown):
    found = dataclasses.replace(made(ExpertEvidence), expert=Expert(layer=1, index=7), stability=0.97)
    out = lines(selected_view(dataclasses.replace(selection(method=method), evidence=(found,))))
    (row,) = [[c.strip() for c in line.split("│")[1:-1]] for line in out if line.startswith("│ 1.7 ")]
    assert row[4] == shown


def test_what_comes_next_is_to_train_and_above_the_budget_to_select_within_one_that_holds_the_union():
    fits = selection(union=[(1, 0)], budget=0.05, trainable_ratio=0.05, top_p=0.2)
    assert next_text(fits, "p", "moe train") == next_text(dataclasses.replace(fits, budget=None), "p", "moe train")
    assert next_text(fits, "p", "moe train") == "; next: moe train"
    assert next_text(dataclasses.replace(fits, union=()), "p", "moe train") == ""
    above = dataclasses.replace(fits, trainable_ratio=0.105612)
    assert next_text(above, "p", "moe train") == (
        "; the union is above the budget of 5.00% and is not trained; "
        "next: moe select p --budget 10.57% -o NEW, or with a --top-p below 0.2"
    )
    assert next_text(dataclasses.replace(above, top_p=None), "p", "moe train").endswith("--budget 10.57% -o NEW")


def ranked(text="text", **changes) -> RankedTable:
    rows = tuple(
        RankedExpert(expert=Expert(layer=3, index=i), score=None if i == 4 else 0.5, published=None, selected=i < 2)
        for i in range(5)
    )
    return dataclasses.replace(made(RankedTable, text), rows=rows, **changes)


@pytest.mark.parametrize("text", NASTY.values(), ids=NASTY)
def test_a_ranked_table_of_any_source_fits_80_columns(lines, text):
    assert "\x1b" not in "".join(lines(ranked_view(ranked(text))))


def test_a_ranked_table_shows_the_undefined_as_a_dash_and_counts_it(lines):
    out = lines(ranked_view(ranked(num_equal=None, largest_deviation=None)))
    assert ["5", "3.4", "-", "-", "no"] in [[c.strip() for c in line.split("│")[1:-1]] for line in out]
    text = " ".join(out)
    assert "undefined: 1 experts" in text and "published" not in text.partition("selected:")[2]
