"""Published tables come out as published; what is wrong with a table is named by file and line.

`published/` holds excerpts: two layers of SteerMoE's counts of OLMoE-1B-7B-0125-Instruct (arXiv 2509.09660, safety) and
four layers of ESFT's scores of DeepSeek-V2-Lite (arXiv 2407.01906, translation). The whole files are compared where
they lie beside the checkout.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from moe_cli.config import PrepareConfig
from moe_cli.errors import UsageError
from moe_cli.prepare.published import rank_counts, rank_scores, write_ranked
from moe_cli.prepare.ranking import shares_in_layer, top_p
from moe_cli.prepare.selection_file import read_named_experts
from moe_cli.records import Expert
from tests.prepare.simulated import identity

EXCERPTS = Path(__file__).parent / "published"
WHOLE = Path(__file__).parents[3] / "shared" / "reference"
beside_the_checkout = pytest.mark.skipif(not WHOLE.is_dir(), reason=f"there is no {WHOLE.name} folder beside it")


def counts(file, **settings):
    return rank_counts(file, PrepareConfig(**settings))


def scores(file, top_p_typed=False, **settings):
    return rank_scores(file, PrepareConfig(**settings), top_p_typed=top_p_typed)


def written(path, text, encoding="utf-8"):
    path.write_text(text, encoding=encoding)
    return path


@pytest.mark.parametrize(
    ("file", "rows"),
    [
        pytest.param(EXCERPTS / "routing_counts_olmoe_layers.csv", 128, id="excerpt"),
        pytest.param(WHOLE / "routing_counts_olmoe_safety.csv", 1024, id="whole", marks=beside_the_checkout),
    ],
)
def test_the_published_risk_differences_come_out_for_every_row(file, rows):
    table = counts(file)
    assert (len(table.rows), table.num_compared) == (rows, rows)
    assert table.largest_deviation is not None and table.largest_deviation < 1e-9
    assert [row.score for row in table.rows] == sorted((row.score for row in table.rows), reverse=True)
    assert all(abs(row.score - row.published) < 1e-9 for row in table.rows)


@pytest.mark.parametrize(
    ("file", "layers"),
    [
        pytest.param(EXCERPTS / "esft_translation_layers.json", 4, id="excerpt"),
        pytest.param(WHOLE / "esft_translation.json", 26, id="whole", marks=beside_the_checkout),
    ],
)
def test_top_p_of_the_published_scores_gives_exactly_the_published_experts_of_every_layer(file, layers):
    table = scores(file)
    published = json.loads(file.read_text())["experts"]
    selected = {Expert(layer=int(layer), index=index) for layer, indices in published.items() for index in indices}
    assert {row.expert for row in table.rows if row.selected} == selected
    assert (table.num_layers, table.num_compared, table.num_equal) == (layers, layers, layers)


def test_scores_are_normalised_over_the_experts_of_a_layer_and_never_over_layers():
    shares = shares_in_layer(np.array([[1.0, 3.0], [10.0, 10.0], [0.0, 0.0]]))
    assert shares[:2].tolist() == [[0.25, 0.75], [0.5, 0.5]]
    assert np.isnan(shares[2]).all()


def test_the_expert_that_crosses_the_share_is_included_and_ties_go_to_the_lower_index():
    rows = np.array([[0.1, 0.1, 0.4, 0.4], [0.25, 0.25, 0.25, 0.25], [np.nan] * 4, [1.0, 0.0, 0.0, 0.0]])
    assert top_p(rows, 0.4).tolist() == [
        [False, False, True, False],
        [True, True, False, False],
        [False] * 4,
        [True, False, False, False],
    ]
    assert top_p(np.array([[0.1, 0.1, 0.1, 0.7]]), 0.9).tolist() == [[True, True, False, True]]
    assert top_p(rows, 1.0)[3].tolist() == [True, False, False, False]  # a score of 0 adds nothing


def test_the_share_of_the_file_holds_unless_another_is_typed():
    file = EXCERPTS / "esft_translation_layers.json"
    assert scores(file).rule == "top-p 0.2 of each layer"
    assert scores(file, top_p=0.5).rule == "top-p 0.2 of each layer"
    other = scores(file, top_p_typed=True, top_p=0.5)
    assert other.rule == "top-p 0.5 of each layer"
    assert other.num_equal == 0 and other.num_selected > scores(file).num_selected


def test_the_plain_form_and_gate_scores_are_read_too(tmp_path):
    layers = {"3": {"0": 0.5, "1": 0.1, "2": 0.4}, "10": [0.2, 0.8]}
    plain = scores(written(tmp_path / "plain.json", "\ufeff" + json.dumps(layers)))
    assert [(row.expert.layer, row.expert.index) for row in plain.rows if row.selected] == [(10, 1), (3, 0)]
    assert (plain.kind, plain.num_equal) == ("scores", None)
    both = written(tmp_path / "both.json", json.dumps({"token_scores": layers, "gate_scores": {"3": {"7": 1.0}}}))
    assert scores(both).kind == "token_scores"
    assert scores(both, method="esft-gate").rows[0].expert == Expert(layer=3, index=7)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[1]", "holds no scores"),
        ("{}", "holds no scores"),
        ('{"token_scores": []}', "holds no scores"),
        ('{"1": {"0": "x"}}', "layer 1, expert 0: 'x'"),
        ('{"1": {"0": -0.1}}', "layer 1, expert 0: -0.1"),
        ('{"1": {"first": 0.1}}', "'first' is no number"),
        ('{"one": {"0": 0.1}}', "'one' is no number"),
        ('{"1": {}}', "layer 1"),
        ('{"1": {"0": 0.1, "0": 0.2}}', r"scores\.json: the key `0` stands twice in one object"),
        ('{"token_scores": {"1": {"0": 0.1, "00": 0.2}}}', r"scores\.json: token_scores: 1: '00' stands there twice"),
        ('{"1": {"0": 0.1}, "2": [1], "01": {"0": 0.2}}', r"scores\.json: '01' stands there twice"),
        ("{", "not JSON"),
    ],
)
def test_scores_of_another_form_are_refused_by_name(tmp_path, text, named):
    with pytest.raises(UsageError, match=named):
        scores(written(tmp_path / "scores.json", text))


def test_columns_are_found_in_any_order_case_and_delimiter_and_others_are_ignored(tmp_path):
    text = "Note;D2;d1;A2;a1;Expert;LAYER\nx;8;5;2;5;3;7\n\ny;10;10;0;0;4;7\n"
    for name, other in (
        ("semicolons.csv", text),
        ("tabs.tsv", text.replace(";", "\t")),
        ("c.csv", text.replace(";", ", ")),
    ):
        table = counts(written(tmp_path / name, other, "utf-8-sig"))
        assert [(row.expert.layer, row.expert.index, row.score) for row in table.rows] == [
            (7, 3, pytest.approx(0.3)),
            (7, 4, 0.0),
        ]
        assert (table.largest_deviation, table.num_compared) == (None, 0)


def test_a_side_without_tokens_is_undefined_ranks_last_and_is_never_selected(tmp_path):
    text = "layer,expert,a1,a2,d1,d2,risk_diff\n0,0,0,5,0,5,0.0\n0,1,1,9,9,1,\n0,2,9,1,1,9,0.8\n"
    table = counts(written(tmp_path / "counts.csv", text), threshold=-1.0)
    assert [(row.expert.index, row.score, row.selected) for row in table.rows] == [
        (2, pytest.approx(0.8), True),
        (1, pytest.approx(-0.8), True),
        (0, None, False),
    ]
    assert table.largest_deviation == pytest.approx(0.0)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", r"counts\.csv holds no row"),
        (
            "layer,expert,a1,a2,d1\n0,0,1,1,1\n",
            r"lacks the columns d2; it has `a1`, `a2`, `d1`, `expert`, `layer`",
        ),
        ("layer,expert,a1,a2,d1,d2,A1\n0,0,1,1,1,1,1\n", "the column `a1` stands twice in the header"),
        ("layer,expert,a1,a2,d1,d2\n", "holds no row"),
        (
            "layer,expert,a1,a2,d1,d2\n0,0,1,1,1,1\n0,1,1,1,1\n",
            r"row 2\]: it has 5 cells, the header has 6",
        ),
        ("layer,expert,a1,a2,d1,d2\n0,0,1,x,1,1\n", r"counts\.csv \[row 1\]: a2 is 'x', not a number"),
        ("layer,expert,a1,a2,d1,d2\n0,0,1,1,-1,1\n", r"counts\.csv \[row 1\]: d1 is -1, not a count"),
        (
            "layer,expert,a1,a2,d1,d2\n0,0,1.5,1,1,1\n",
            r"row 1\]: a1 is 1\.5, not a count \(a whole number\)",
        ),
        ("layer,expert,a1,a2,d1,d2\n0,0,nan,1,1,1\n", r"counts\.csv \[row 1\]: a1 is '', not a number"),
        ("layer,expert,a1,a2,d1,d2\n0,-1,1,1,1,1\n", r"counts\.csv \[row 1\]: expert is '-1', not a whole number"),
        (
            "layer,expert,a1,a2,d1,d2\n0,0,1,1,1,1\n\n0,0,1,1,1,1\n",
            r"counts\.csv \[row 2\]: expert 0 of layer 0 stands in .*row 1\] too",
        ),
    ],
)
def test_what_is_wrong_with_a_table_is_named_by_file_and_line(tmp_path, text, named):
    with pytest.raises(UsageError, match=named):
        counts(written(tmp_path / "counts.csv", text))


def test_top_k_per_layer_threshold_and_conditions_on_the_difference_limit_what_a_table_selects():
    file = EXCERPTS / "routing_counts_olmoe_layers.csv"
    chosen = [row.expert for row in counts(file, top_k=3).rows if row.selected]
    assert chosen == [Expert(layer=9, index=39), Expert(layer=3, index=62), Expert(layer=9, index=34)]
    assert counts(file, per_layer=1).num_selected == 2
    above = counts(file, threshold=0.3)
    assert above.num_selected == counts(file, select_by="risk_diff>0.3").num_selected
    assert above.num_selected == sum(row.score > 0.3 for row in above.rows)
    with pytest.raises(UsageError, match="tell no q"):
        counts(file, select_by="q<0.05")


@pytest.mark.parametrize("name", ["ranked.csv", "ranked.json"])
def test_what_is_written_is_read_again_as_a_selection_file(tmp_path, name):
    table = counts(EXCERPTS / "routing_counts_olmoe_layers.csv", top_k=4)
    write_ranked(tmp_path / name, table)
    named = read_named_experts(tmp_path / name, identity(layers=(3, 9), experts=64))
    assert named.scores is None
    expected = sorted(((3, 9).index(row.expert.layer) * 64 + row.expert.index) for row in table.rows if row.selected)
    assert list(named.indices) == expected


def test_the_written_table_holds_every_row_exactly(tmp_path):
    table = counts(EXCERPTS / "routing_counts_olmoe_layers.csv")
    write_ranked(tmp_path / "ranked.csv", table)
    rows = list(csv.DictReader((tmp_path / "ranked.csv").open()))
    assert [float(row["risk_diff"]) for row in rows] == [row.score for row in table.rows]
    assert [int(row["rank"]) for row in rows] == list(range(1, 129))
    with pytest.raises(UsageError, match=r"neither in \.csv nor in \.json"):
        write_ranked(tmp_path / "ranked.txt", table)


@pytest.mark.parametrize("experts", ['{"one": [0]}', '{"1": 3}', '{"1": [[0]]}', '{"1": ["0"]}'])
def test_published_experts_that_are_no_lists_of_experts_are_refused(tmp_path, experts):
    file = tmp_path / "scores.json"
    file.write_text(f'{{"token_scores": {{"1": {{"0": 0.6, "1": 0.4}}}}, "experts": {experts}}}')
    with pytest.raises(UsageError, match="is no list of experts of a layer"):
        scores(file)


@pytest.mark.parametrize("layer", ["9" * 5000, "9" * 10, "²", "-1", "1.5", "1.000"])
def test_what_is_no_number_of_a_layer_is_refused(tmp_path, layer):
    (tmp_path / "counts.csv").write_text(f"layer,expert,a1,a2,d1,d2\n{layer},0,3,1,1,3\n")
    with pytest.raises(UsageError, match="not a whole number from 0"):
        rank_counts(tmp_path / "counts.csv", PrepareConfig())


@pytest.mark.parametrize("score", ["9" * 400, "NaN", "Infinity", "-1"])
def test_a_score_that_is_no_finite_number_is_refused(tmp_path, score):
    (tmp_path / "scores.json").write_text(f'{{"0": [{score}, 0.5]}}')
    with pytest.raises(UsageError):
        rank_scores(tmp_path / "scores.json", PrepareConfig(), top_p_typed=False)


def test_counts_of_all_tokens_in_the_place_of_those_not_routed_are_refused(tmp_path):
    (tmp_path / "counts.csv").write_text("layer,expert,a1,d1,a2,d2\n0,0,5,10,1,9\n0,1,3,10,2,8\n1,0,4,10,2,8\n")
    with pytest.raises(UsageError, match="d1 is the same for all experts of a layer and a1 is not"):
        rank_counts(tmp_path / "counts.csv", PrepareConfig())
    (tmp_path / "counts.csv").write_text("layer,expert,a1,d1,a2,d2\n0,0,5,5,1,9\n0,1,5,5,2,8\n")
    assert rank_counts(tmp_path / "counts.csv", PrepareConfig()).num_layers == 1


def test_published_differences_with_the_other_sign_say_that_the_sides_are_exchanged(tmp_path):
    rows = "0,0,5,5,1,9,{}\n0,1,5,5,9,1,{}\n0,2,5,5,5,5,0.0\n"
    header = "layer,expert,a1,d1,a2,d2,risk_diff\n"
    (tmp_path / "counts.csv").write_text(header + rows.format(-0.4, 0.4))
    with pytest.raises(UsageError, match="has the other sign than its counts in all of 2 rows"):
        rank_counts(tmp_path / "counts.csv", PrepareConfig())
    (tmp_path / "counts.csv").write_text(header + rows.format(0.4, -0.4))
    assert rank_counts(tmp_path / "counts.csv", PrepareConfig()).largest_deviation == pytest.approx(0)


def test_a_layer_that_pandas_wrote_as_a_float_is_that_layer(tmp_path):
    file = written(tmp_path / "counts.csv", "layer,expert,a1,a2,d1,d2\n1.0,2.0,3,1,1,3\n")
    assert counts(file).rows[0].expert == Expert(layer=1, index=2)
