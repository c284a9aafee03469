"""One JSON object: its shape tells where its rows are, and what cannot be told is refused with its keys."""

from __future__ import annotations

import json

import pytest

from moe_cli.data import column_map, of_kind, read_source, read_templates, refuse_bad_rows
from moe_cli.data.templates import read_refusals
from moe_cli.errors import UsageError
from tests.data.shapes import GAME, GOAL, OTHER, STORY, written

MAPPED = {
    "one row": {"objective": GOAL, "x": 1},
    "columns": {"objective": [GOAL], "x": [1]},
    "numbered cells": {"objective": {"0": GOAL}},
    "rows by id": {"a": {"objective": GOAL}},
    "a list among other keys": {"name": "x", "data": [{"objective": GOAL}]},
}
ROWS = {
    "a list of rows": {"version": 1, "rows": [{"goal": GOAL}, {"goal": OTHER}]},
    "a list below others": {"meta": {"n": 1}, "set": {"data": [{"goal": GOAL}, {"goal": OTHER}]}},
    "columns": {"goal": [GOAL, OTHER], "target": ["a", "b"]},
    "plural columns": {"goals": [GOAL, OTHER]},
    "rows by id": {"g1": {"goal": GOAL}, "g2": {"goal": OTHER}},
    "lists of rows by id": {"g1": [{"goal": GOAL}], "g2": [{"goal": OTHER}]},
    "a list of texts": {"data": [GOAL, OTHER]},
    "the viewer of the hub": {"rows": [{"row_idx": 0, "row": {"goal": GOAL}}, {"row_idx": 1, "row": {"goal": OTHER}}]},
}


def file(tmp_path, content):
    return written(tmp_path, json.dumps(content))


def refusal(tmp_path, content, reader=read_source):
    with pytest.raises(UsageError) as caught:
        reader(file(tmp_path, content))
    return caught.value


@pytest.mark.parametrize("shape", ROWS)
def test_the_shape_of_an_object_tells_its_rows(tmp_path, shape):
    found = read_source(file(tmp_path, ROWS[shape]))
    assert ([entry.goal for entry in found.entries], found.faults) == ([GOAL, OTHER], ())


@pytest.mark.parametrize("shape", MAPPED)
def test_map_names_a_key_in_every_shape(tmp_path, shape):
    (entry,) = read_source(file(tmp_path, MAPPED[shape]), columns=column_map(["goal=objective"])).entries
    assert entry.goal == GOAL


@pytest.mark.parametrize(
    "content", [{"name": "x", "version": 1}, {"name": "x", "tags": []}, {"name": {}, "version": {}}]
)
def test_an_object_without_rows_is_refused_with_its_keys(tmp_path, content):
    message = refusal(tmp_path, content).message
    assert f"its keys are {', '.join(f'`{key}`' for key in content)}" in message and "bad rows" not in message


@pytest.mark.parametrize(
    "content",
    [{GOAL: 1, OTHER: 2}, {GOAL: STORY, OTHER: GAME}, {GOAL: [STORY], OTHER: [GAME]}, {"model": {GOAL: STORY}}],
)
def test_a_key_that_is_a_text_is_never_shown(tmp_path, content):
    for reader in (read_source, read_templates, read_refusals):
        error = refusal(tmp_path, content, reader)
        assert not any(word in f"{error.message} {error.hint}" for word in ("zorp", "flomp", "glim", "hesk"))


def test_the_rows_of_one_list_are_named_by_their_path(tmp_path):
    name = file(tmp_path, {"harmful": [GOAL], "benign": [OTHER]})
    assert "`harmful` (1), `benign` (1)" in refusal(tmp_path, {"harmful": [GOAL], "benign": [OTHER]}).message
    assert [entry.goal for entry in read_source(f"{name}#benign").entries] == [OTHER]
    nested = refusal(tmp_path, {"Crime": {"Glims": [GOAL]}})
    assert nested.hint.endswith("#Crime.Glims' names one of its lists")
    assert [entry.goal for entry in read_source(f"{name}#Crime.Glims").entries] == [GOAL]


def test_targets_are_no_prompts_and_no_refusals(tmp_path):
    content = {"zorp_glim": "Sure, here is the glim", "flomp_hesk": "Sure, here is"}
    for reader in (read_source, read_refusals):
        assert "holds targets" in refusal(tmp_path, content, reader).message


def test_templates_and_refusals_by_name_keep_their_names(tmp_path):
    templates = {"AIM": ["Aim: {goal}", "Aim again: {goal}"], "DAN": ["Dan: [INSERT PROMPT HERE]"]}
    found = read_templates(tmp_path / file(tmp_path, templates))
    assert [(one.name, one.around("x")[0].content) for one in found] == [
        ("AIM", "Aim: x"),
        ("AIM-2", "Aim again: x"),
        ("DAN", "Dan: x"),
    ]
    assert read_refusals(tmp_path / file(tmp_path, {"short": ["No."], "long": ["No, sorry."]})) == ("No.", "No, sorry.")


def test_rows_without_a_template_are_refused_with_their_columns(tmp_path):
    error = refusal(tmp_path, [{"subject": "x", "theme": "y"}], read_templates)
    assert "the columns are `subject`, `theme`" in error.message


def test_attacked_prompts_that_do_not_exist_are_left_out_of_items_too(tmp_path):
    rows = [{"goal": GOAL, "prompt": STORY, "jailbroken": False}, {"goal": OTHER, "prompt": None, "jailbroken": False}]
    found = of_kind(read_source(file(tmp_path, {"jailbreaks": rows}), keep_failed=True), "harmful")
    assert ([entry.goal for entry in found.entries], found.faults) == ([GOAL], ())
    assert found.skipped == {"it has no attacked prompt": 1}


def test_test_cases_beside_their_behaviour_are_harmful(tmp_path):
    found = read_source(file(tmp_path, [{"behavior": GOAL, "test_case": STORY, "generation": "x"}]))
    assert [(entry.kind, entry.goal, entry.attacked[0].content) for entry in found.entries] == [
        ("harmful", GOAL, STORY)
    ]
    with pytest.raises(UsageError, match="1 of 1 rows are harmful"):
        of_kind(found, "benign")


def test_goals_and_prompts_in_different_rows_do_not_stand_side_by_side(tmp_path):
    found = read_source(file(tmp_path, [{"goal": GOAL}, {"prompt": OTHER}]))
    assert ([entry.goal for entry in found.entries], [fault.reason for fault in found.faults]) == (
        [GOAL],
        ["`goal` is None, not a text"],
    )


@pytest.mark.parametrize("end", ["", '{"goal": "flomp"}\n', '{"goal": "flomp", "goal": "hesk"}\n'])
def test_a_key_that_stands_twice_in_a_row_is_refused_by_name(tmp_path, end):
    (tmp_path / "rows").write_text('{"goal": "zorp", "goal": "glim"}\n' + end)
    with pytest.raises(UsageError, match="the key `goal` stands twice in one object"):
        found = read_source(str(tmp_path / "rows"))
        refuse_bad_rows(found.faults, 0, hint="")


def test_a_key_that_could_be_a_prompt_is_not_shown(tmp_path):
    (tmp_path / "rows").write_text('[{"zorp the glim": 1, "zorp the glim": 2}]')
    with pytest.raises(UsageError, match="a key stands twice in one object"):
        read_source(str(tmp_path / "rows"))
