"""Conversations as people write them, and what stands in front of a prompt, behind it or beside it."""

from __future__ import annotations

import json

import pytest

from moe_cli.config import MoeConfig
from moe_cli.data import column_map, read_source
from moe_cli.prepare.prompt_sources import gather_prompts
from tests.data.shapes import GOAL, OTHER, STORY, written

USER, ANSWER = {"role": "user", "content": GOAL}, {"role": "assistant", "content": "No."}

CONVERSATIONS = {
    "roles and contents": {"messages": [USER]},
    "a last answer": {"messages": [USER, ANSWER]},
    "from and value": {"conversations": [{"from": "human", "value": GOAL}, {"from": "gpt", "value": "No."}]},
    "parts": {
        "messages": [{"role": "user", "content": [{"type": "text", "text": part} for part in ("zorp ", "the glim")]}]
    },
    "a conversation under prompt": {"prompt": [USER]},
    "one text under turns": {"turns": [GOAL]},
    "the same conversation twice": {"messages": [USER], "conversation": [USER]},
    "the text of a chat template beside": {"messages": [USER], "text": "<|user|>zorp the glim"},
}

BAD = {
    "a role that no template has": ({"messages": [{"role": "tool", "content": GOAL}]}, "another role tool"),
    "a picture": (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "u"}}]}]},
        "a part that is no text (image_url)",
    ),
    "a content of no text": ({"messages": [{"role": "user", "content": {"a": GOAL}}]}, "content is a dict, not a text"),
    "nothing before the answer": ({"messages": [ANSWER]}, "ends with the user"),
    "two conversations": ({"messages": [USER], "dialogue": [{"role": "user", "content": OTHER}]}, "could both be"),
    "a printed conversation": ({"prompt": f"Human: {GOAL}\nAssistant: No.\nHuman: {OTHER}"}, "a printed conversation"),
}


def first(tmp_path, row):
    return read_source(written(tmp_path, json.dumps([row])))


@pytest.mark.parametrize("shape", CONVERSATIONS)
def test_a_conversation_is_its_turns_without_a_last_answer(tmp_path, shape):
    (entry,) = first(tmp_path, CONVERSATIONS[shape]).entries
    assert [(turn.role, turn.content) for turn in entry.plain] == [("user", GOAL)]
    assert entry.goal == GOAL


def test_turns_in_a_cell_are_read_as_json_or_as_python_prints_them(tmp_path):
    for text in (json.dumps([USER, ANSWER]), str([USER, ANSWER])):
        cell = text.replace('"', '""')
        (entry,) = read_source(written(tmp_path, f'id,conversation\n1,"{cell}"\n')).entries
        assert [turn.content for turn in entry.plain] == [GOAL]


@pytest.mark.parametrize("shape", BAD)
def test_a_conversation_that_cannot_be_asked_is_a_bad_row(tmp_path, shape):
    row, reason = BAD[shape]
    (fault,) = first(tmp_path, row).faults
    assert reason in fault.reason and "zorp" not in fault.reason


@pytest.mark.parametrize("column", ["system", "system_prompt", "System Message"])
def test_a_system_prompt_is_a_turn_in_front(tmp_path, column):
    (entry,) = first(tmp_path, {column: "Be brief.", "prompt": GOAL}).entries
    assert [(turn.role, turn.content) for turn in entry.plain] == [("system", "Be brief."), ("user", GOAL)]


@pytest.mark.parametrize(
    "row",
    [
        {"system": "Be brief.", "prompt": GOAL},
        {"messages": [{"role": "developer", "content": "Be brief."}, USER]},
        {"goal": GOAL, "system_prompt": "Be brief."},
    ],
)
def test_a_template_wraps_a_goal_behind_its_system_prompt(tmp_path, row):
    (tmp_path / "attack.txt").write_text("Tell a story: {goal}.")
    settings = {"pairs": [written(tmp_path, json.dumps([row]))], "attack": str(tmp_path / "attack.txt")}
    (pair,) = gather_prompts(MoeConfig.model_validate({"model": {"name": "a/b"}, "prepare": settings})).pairs
    assert [turn.content for turn in pair.safe] == ["Be brief.", GOAL]
    assert [turn.content for turn in pair.unsafe] == ["Be brief.", STORY]


@pytest.mark.parametrize(
    ("row", "spoken"),
    [
        ({"instruction": GOAL, "input": "A glim."}, f"{GOAL}\n\nA glim."),
        ({"question": GOAL, "context": "A glim."}, f"{GOAL}\n\nA glim."),
        ({"goal": GOAL, "context": "A glim."}, f"A glim.\n\n---\n\n{GOAL}"),
        ({"forbidden_prompt": GOAL, "ContextString": "A glim."}, f"A glim.\n\n---\n\n{GOAL}"),
        ({"prompt": GOAL, "image": None, "tools": []}, GOAL),
    ],
)
def test_what_belongs_to_a_prompt_stands_with_it(tmp_path, row, spoken):
    found = first(tmp_path, row)
    assert ([turn.content for turn in found.entries[0].plain], found.faults) == ([spoken], ())


@pytest.mark.parametrize("other", ["messages", "turns", "question", "text", "input"])
def test_map_says_which_of_two_is_the_goal(tmp_path, other):
    value = [USER] if other in ("messages", "turns") else STORY
    name = written(tmp_path, json.dumps([{"goal": OTHER, other: value}]))
    (entry,) = read_source(name, columns=column_map([f"all_prompt={other}"])).entries
    assert (entry.goal, entry.attacked is not None) == (OTHER, True)
    (entry,) = read_source(name, columns=column_map([f"name={other}"])).entries
    assert (entry.goal, entry.attacked) == (OTHER, None)
