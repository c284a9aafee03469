"""Experts named in a file: a list, a config of ESFT, a table; what is not there is refused by name."""

from __future__ import annotations

import json

import pytest

from moe_cli.errors import UsageError
from moe_cli.prepare.selection_file import read_named_experts
from tests.prepare.simulated import identity

BASE = identity(layers=(3, 7), experts=4)


def named(tmp_path, text, name="experts.json"):
    (tmp_path / name).write_text(text, encoding="utf-8")
    return read_named_experts(tmp_path / name, BASE)


def test_a_list_names_experts_once_in_order(tmp_path):
    found = named(tmp_path, "[[7, 1], [3, 2], [7, 1]]")
    assert (found.indices, found.scores, found.remark) == ((2, 5), None, None)


def test_a_config_of_esft_names_experts_and_what_it_asks_for_beside_them_is_said(tmp_path):
    config = {"experts": {"7": [3, 0], "3": [1]}, "shared_experts": False, "non_expert_modules": False}
    assert named(tmp_path, json.dumps(config)).indices == (1, 4, 7)
    assert named(tmp_path, json.dumps(config)).remark is None
    remark = named(tmp_path, json.dumps(config | {"shared_experts": True})).remark
    assert remark is not None and "asks for shared_experts, too" in remark


def test_a_table_gives_its_risk_differences_and_an_undefined_one_is_left_out(tmp_path):
    found = named(tmp_path, "expert,layer,risk_diff\n1,7,0.5\n2,3,-0.25\n0,3,\n", "table.csv")
    assert (found.indices, found.scores) == ((2, 5), (-0.25, 0.5))


def test_a_table_that_says_what_is_selected_is_a_list(tmp_path):
    found = named(tmp_path, "layer,expert,risk_diff,selected\n7,1,0.0,true\n3,2,0.9,0\n", "table.csv")
    assert (found.indices, found.scores) == ((5,), None)


@pytest.mark.parametrize(
    ("text", "name", "said"),
    [
        ("[]", "e.json", "no list of experts"),
        ("3", "e.json", "holds no row"),
        ("[[3]]", "e.json", r"\[3\] is no \[layer, expert\]"),
        ("[[3, true]]", "e.json", r"is no \[layer, expert\]"),
        ("[[4, 0]]", "e.json", "expert 0 of layer 4 does not exist: test/model has 4 experts"),
        ("[[3, 4]]", "e.json", "expert 4 of layer 3 does not exist"),
        ("[[3, -1]]", "e.json", "expert -1 of layer 3 does not exist"),
        ('{"layers": {}}', "e.json", "no `experts`"),
        ('{"experts": {"3": 1}}', "e.json", "no list of experts of a layer"),
        ('{"experts": {"x": [1]}}', "e.json", "no list of experts of a layer"),
        ('{"experts": {"3": []}}', "e.json", "no list of experts"),
        ("layer,expert\n3,0\n", "e.csv", "neither a column risk_diff nor a column selected"),
        ("layer,expert,risk_diff\n3,0,high\n", "e.csv", r"e\.csv \[row 1\]: risk_diff is 'high'"),
        (
            "layer,expert,risk_diff\n3,0,0.1\n3,9,0.1\n",
            "e.csv",
            r"row 2\]: expert 9 of layer 3 does not exist",
        ),
        ("layer,expert,selected\n3,0,maybe\n", "e.csv", r"e\.csv \[row 1\]: selected is 'maybe'"),
        ("layer,expert,selected\n3,0,0\n", "e.csv", "no row is selected"),
    ],
)
def test_what_names_no_expert_of_the_model_is_refused(tmp_path, text, name, said):
    with pytest.raises(UsageError, match=said):
        named(tmp_path, text, name)


def test_a_missing_file_is_named(tmp_path):
    for name in ("experts.json", "experts.csv"):
        with pytest.raises(UsageError, match=f"there is no file .*{name}"):
            read_named_experts(tmp_path / name, BASE)
