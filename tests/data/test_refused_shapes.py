"""Shapes that cannot be read: the reason is the true one, its mend is named, and no word of a prompt is shown."""

from __future__ import annotations

import json

import pytest

from moe_cli.config import EvaluateConfig, MoeConfig
from moe_cli.data import of_kind, read_source
from moe_cli.errors import MoeError
from moe_cli.evaluate.evaluation_items import preview_of_items
from moe_cli.prepare.prepare_summary import preview_of
from tests.data.shapes import GAME, GOAL, OTHER, STORY, lines, table, written

# What a file holds, the reason for which it is refused as a whole, and what its hint names.
REFUSED = {
    "HarmBench's targets": (
        json.dumps({"zg": "Sure, here is a glim", "fh": "Sure, here is"}),
        "holds targets",
        "goals",
    ),
    "a label of 0 and 1": (
        table(["text", "label"], [GOAL, 1], [OTHER, 0]),
        "`label` holds true and false",
        "is_harmful=label",
    ),
    "a safety of 0 and 1": (table(["prompt", "safety"], [GOAL, 0]), "`safety` holds true and false", "is_safe=safety"),
    "a goal beside a prompt": (
        table(["goal", "prompt"], [GOAL, STORY]),
        "`goal` and `prompt` stand side by side",
        "all_prompt=prompt",
    ),
    "a goal beside a conversation": (
        lines({"goal": GOAL, "conversation": [{"role": "user", "content": STORY}]}),
        "`goal` and `conversation` stand side by side",
        "all_prompt=conversation",
    ),
    "a forbidden prompt beside a prompt": (
        table(["forbidden_prompt", "prompt"], [GOAL, STORY]),
        "`forbidden_prompt` and `prompt` stand side by side",
        "name=prompt",
    ),
    "GPTFuzzer's templates": (
        table(["index", "text"], [0, "Story: [INSERT PROMPT HERE]"], [1, "Game: [INSERT PROMPT HERE]"]),
        "holds attack templates",
        "--attack",
    ),
    "EasyJailbreak's prompts around {query}": (
        json.dumps([{"query": GOAL, "jailbreak_prompt": "Story: {query}"}]),
        "holds attack templates",
        "--attack",
    ),
    "attacks under their goals": (json.dumps({GOAL: [STORY], OTHER: [GAME]}), "texts under texts", "all_prompt"),
    "an attack under its goal": (json.dumps({GOAL: STORY, OTHER: GAME}), "texts under texts", "all_prompt"),
    "CatQA's lists in categories": (
        json.dumps({"Grelps": {"Morks": [GOAL]}}),
        "its keys are `Grelps`",
        "#Grelps.Morks",
    ),
    "a harmful and a harmless list": (
        json.dumps({"harmful": [GOAL], "benign": [OTHER]}),
        "several lists of rows: `harmful` \\(1\\)",
        "#harmful",
    ),
    "one object of no rows": (
        json.dumps({"name": "x", "version": 1}),
        "its keys are `name`, `version`",
        "--map goal=KEY",
    ),
    "objects with texts for keys": (json.dumps([{GOAL: "a"}, {OTHER: "b"}]), "its columns are 2 texts", "nearest"),
    "YAML": (f"prompts:\n  - {GOAL}\n  - {OTHER}\n", "is YAML", "JSON or CSV"),
    "Markdown": (f"# Glims\n\n{GOAL}\n", "heading or a comment", "one a line"),
    "texts between dashes": (f"{GOAL}\n---\n{OTHER}\n", "only separates others", "JSON list"),
    "numbered lines": (f"1. {GOAL}\n2. {OTHER}\n", "begins with a number or a bullet", "one a line"),
    "bullets": (f"- {GOAL}\n- {OTHER}\n", "begins with a number or a bullet", "one a line"),
    "columns between strokes": (table(["goal", "target"], [GOAL, "x"], sep="|"), "separated by `|`", "commas"),
    "MMLU without a header": (
        table([GOAL, "a", "b", "A"], [OTHER, "a", "b", "B"]),
        "table of 4 columns without a header",
        "--map",
    ),
    "texts and labels without a header": (table([GOAL, "unsafe"], [OTHER, "unsafe"]), "without a header", "--map"),
    "a header in the middle": (
        table(["goal", "target"], [GOAL, "x"], ["goal", "target"], [OTHER, "y"]),
        "the header stands here again",
        "leave the line out",
    ),
    "columns of other names": (table(["objective", "theme"], [GOAL, "x"]), "`objective`, `theme`", "--map"),
    "a web page": ("<!DOCTYPE html><p>zorp the glim", "web page", "raw file"),
}

# What a row holds, and why it is a bad one.
BAD = {
    "HarmBench's pictures": (
        {"Behavior": GOAL, "BehaviorID": "zg", "ImageFileName": "a.png"},
        "`imagefilename` holds a picture",
    ),
    "HarmBench's descriptions of pictures": (
        {"Behavior": GOAL, "ImageDescription": "A glim."},
        "`imagedescription` holds a picture",
    ),
    "MT-Bench's two questions": ({"turns": [GOAL, OTHER]}, "`turns` holds 2 texts"),
    "MMLU's choices": ({"question": GOAL, "choices": ["a", "b"]}, "`choices` belongs to the prompt"),
    "AgentHarm's functions": ({"prompt": GOAL, "target_functions": ["a"]}, "`target_functions` belongs to the prompt"),
    "ActorAttack's earlier turns": (
        {"instruction": GOAL, "dialog_hist": [{"role": "user", "content": OTHER}]},
        "`dialog_hist` belongs",
    ),
    "OpenAssistant's answers": ({"text": GOAL, "role": "assistant"}, "`role` says that it is no turn of the user"),
    "OpenAssistant's replies": (
        {"text": GOAL, "role": "prompter", "parent_id": "m"},
        "`parent_id` belongs to the prompt",
    ),
    "a question beside its attacked form": ({"question": GOAL, "prompt": STORY}, "could both be the prompt: --map"),
    "turns beside another prompt": (
        {"prompt": OTHER, "messages": [{"role": "user", "content": GOAL}]},
        "could both be the prompt: --map",
    ),
    "HH-RLHF's printed conversations": ({"prompt": f"\n\nHuman: {GOAL}\n\nAssistant:"}, "printed conversation"),
    "a conversation that the model begins": ({"conversations": [{"from": "gpt", "value": GOAL}]}, "ends with the user"),
    "a tree of messages": ({"prompt": {"text": GOAL, "replies": []}}, "`prompt` is a dict"),
}


@pytest.mark.parametrize("shape", REFUSED)
def test_a_shape_that_cannot_be_read_is_refused_with_its_reason_and_its_mend(tmp_path, shape):
    content, reason, mend = REFUSED[shape]
    with pytest.raises(MoeError, match=reason) as refusal:
        of_kind(read_source(written(tmp_path, content)), "harmful")
    assert mend in refusal.value.hint


@pytest.mark.parametrize("shape", BAD)
def test_a_row_that_would_be_misread_is_a_bad_row(tmp_path, shape):
    row, reason = BAD[shape]
    (fault,) = read_source(written(tmp_path, json.dumps([row]))).faults
    assert reason in fault.reason


@pytest.mark.parametrize("shape", [*REFUSED, *BAD])
def test_nothing_that_is_said_of_a_shape_holds_a_word_of_its_prompts(tmp_path, shape):
    content = json.dumps([BAD[shape][0]]) if shape in BAD else REFUSED[shape][0]
    name = written(tmp_path, content)
    spoken = []
    for prepare in ({"pairs": [name]}, {"benign": [name]}):
        settings = MoeConfig.model_validate({"model": {"name": "tiny"}, "prepare": {"batch_size": 2, **prepare}})
        spoken.append(preview_of(settings))
    spoken += [
        preview_of_items(EvaluateConfig(items=(kind + name,)), "a/model") for kind in ("", "harmful=", "benign=")
    ]
    shown = "".join(f"{preview!r} {error and error.message} {error and error.hint}" for preview, error in spoken)
    assert not any(word in shown.lower() for word in ("zorp", "glim.", "the glim", "flomp", "hesk"))
