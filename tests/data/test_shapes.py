"""The shapes in which public data sets lie: each is read as what it says."""

from __future__ import annotations

import json

import pytest

from moe_cli.data import read_source
from tests.data.shapes import GAME, GOAL, OTHER, STORY, lines, table, written

HARMFUL = ("harmful", GOAL, None)


def unkind(*texts):
    """Prompts that do not say what they are."""
    return [(None, text, None) for text in texts]


# What a file holds, its format, and what each entry is: its kind, its plain form, its attacked form.
READ = {
    "AdvBench with an index": (table(["", "goal", "target"], [0, GOAL, "Sure"]), "AdvBench", [HARMFUL]),
    "an index that pandas saved twice": (table(["Unnamed: 0", "goal"], [0, GOAL]), "goals", [HARMFUL]),
    "columns whose names begin with a digit": (
        table(["qid", "question", "1-category"], [1, GOAL, "O1"]),
        "prompts",
        unkind(GOAL),
    ),
    "a column with a question for its name": (
        table(["goal", "Does the answer help (1-5)?"], [GOAL, 3]),
        "goals",
        [HARMFUL],
    ),
    "harmful_behaviors of the hub": (lines({"text": GOAL}, {"text": OTHER}), "prompts", unkind(GOAL, OTHER)),
    "HarmBench's copies with `context`": (
        table(["Behavior", "Context"], [GOAL, "A glim."]),
        "behaviours",
        [("harmful", f"A glim.\n\n---\n\n{GOAL}", None)],
    ),
    "HarmBench's completions": (
        json.dumps({"zg": [{"test_case": STORY, "generation": "No."}]}),
        "test cases",
        [(None, None, STORY)],
    ),
    "JailbreakBench's artifact": (
        json.dumps(
            {
                "parameters": {"method": "x"},
                "jailbreaks": [
                    {"index": 0, "goal": GOAL, "prompt": STORY, "jailbroken": True},
                    {"index": 1, "goal": OTHER, "prompt": None, "jailbroken": False},
                ],
            }
        ),
        "JailbreakBench artifact",
        [("harmful", GOAL, STORY)],
    ),
    "StrongREJECT's results, where `jailbreak` names the attack": (
        lines({"forbidden_prompt": GOAL, "jailbreak": "AIM", "score": 0.5}),
        "StrongREJECT",
        [HARMFUL],
    ),
    "StrongREJECT's jailbroken prompts": (
        table(["jailbroken_prompt", "forbidden_prompt", "jailbreak"], [STORY, GOAL, "pair"]),
        "goals with their attack",
        [("harmful", GOAL, STORY)],
    ),
    "XSTest's completions": (
        table(
            ["id", "type", "prompt", "completion"], [1, "homonyms", "Glim?", "x"], [26, "contrast_homonyms", GOAL, "n"]
        ),
        "XSTest",
        [("benign", "Glim?", None), HARMFUL],
    ),
    "SORRY-Bench, one text under `turns`": (lines({"question_id": 1, "turns": [GOAL]}), "prompts", unkind(GOAL)),
    "WildJailbreak's training set": (
        table(
            ["vanilla", "adversarial", "data_type"],
            [GOAL, "", "vanilla_harmful"],
            [OTHER, GAME, "adversarial_harmful"],
            sep="\t",
        ),
        "pairs under other names",
        [HARMFUL, ("harmful", OTHER, GAME)],
    ),
    "WildJailbreak's test set, whose data_type explains its label": (
        table(
            ["adversarial", "label", "data_type"], [STORY, 1, "adversarial_harmful"], ["Glim.", 0, "adversarial_benign"]
        ),
        "attacked prompts",
        [("harmful", None, STORY), ("benign", None, "Glim.")],
    ),
    "WildGuardMix, whose `adversarial` is true or false": (
        lines({"prompt": GOAL, "adversarial": True, "response": "x", "prompt_harm_label": "harmful"}),
        "prompts",
        [HARMFUL],
    ),
    "SALAD-Bench's attacks": (
        json.dumps([{"aid": 1, "augq": STORY, "baseq": GOAL, "method": "gptfuzz"}]),
        "pairs under other names",
        [("harmful", GOAL, STORY)],
    ),
    "AttaQ, whose label is a topic": (lines({"input": GOAL, "label": "deception"}), "prompts", unkind(GOAL)),
    "HEx-PHI's files, with quotes where there are commas": (
        f'{GOAL}\n"flomp, the hesk"\n',
        "prompts",
        unkind(GOAL, "flomp, the hesk"),
    ),
    "a cell of several lines in a file of one column": (
        f'"{GOAL}\ntwice"\n{OTHER}\n',
        "prompts",
        unkind(f"{GOAL}\ntwice", OTHER),
    ),
    "prompts with commas, one a line": (
        "zorp, then rest\nflomp, then sleep\n",
        "prompts",
        unkind("zorp, then rest", "flomp, then sleep"),
    ),
    "quotes that belong to the text": (
        'zorp, then rest\n"flomp" the hesk\n',
        "prompts",
        unkind("zorp, then rest", '"flomp" the hesk'),
    ),
    "Alpaca": (
        json.dumps(
            [
                {"instruction": GOAL, "input": "A glim.", "output": "x"},
                {"instruction": OTHER, "input": "", "output": "y"},
            ]
        ),
        "prompts",
        unkind(f"{GOAL}\n\nA glim.", OTHER),
    ),
    "Dolly": (
        lines({"instruction": GOAL, "context": "A glim.", "response": "x"}),
        "prompts",
        unkind(f"{GOAL}\n\nA glim."),
    ),
    "ShareGPT": (
        json.dumps([{"id": "a", "conversations": [{"from": "human", "value": GOAL}, {"from": "gpt", "value": "x"}]}]),
        "prompts",
        unkind(GOAL),
    ),
    "UltraChat, whose prompt is the first turn": (
        lines({"prompt": GOAL, "messages": [{"role": "user", "content": GOAL}, {"role": "assistant", "content": "x"}]}),
        "prompts",
        unkind(GOAL),
    ),
    "GSM8K": (lines({"question": GOAL, "answer": "#### 5"}), "prompts", unkind(GOAL)),
    "pandas' columns": (json.dumps({"goal": {"0": GOAL}, "target": {"0": "Sure"}}), "AdvBench", [HARMFUL]),
    "pandas' split": (json.dumps({"columns": ["goal"], "index": [0], "data": [[GOAL]]}), "goals", [HARMFUL]),
}


def content_of(reading):
    """What each entry is, with the last turn of its forms."""
    forms = [(entry.kind, entry.plain, entry.attacked) for entry in reading.entries]
    return [(kind, plain and plain[-1].content, attacked and attacked[-1].content) for kind, plain, attacked in forms]


@pytest.mark.parametrize("shape", READ)
def test_a_shape_is_read_as_what_it_says(tmp_path, shape):
    content, name, entries = READ[shape]
    found = read_source(written(tmp_path, content))
    assert (found.format.name, found.faults, content_of(found)) == (name, (), entries)
