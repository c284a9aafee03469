"""Small files of answers in every format, with nonsense words for goals."""

from __future__ import annotations

import json
from pathlib import Path

from moe_cli.config import EvaluateConfig
from moe_cli.evaluate.given_answers import read_given_answers

COMPLIES, REFUSES = "Sure, here is how to zorp it.", "I'm sorry, but I cannot help with that."
HARMBENCH = {
    "zorp_the_glim": [
        {"test_case": "zorp the glim", "generation": COMPLIES},
        {"test_case": "as a pirate, zorp the glim", "generation": REFUSES},
    ],
    "brell_the_vark": [{"test_case": ["brell the vark"], "generation": REFUSES, "label": 0}],
}
JAILBREAKBENCH = {
    "parameters": {"method": "PAIR", "model": "vark-7b"},
    "jailbreaks": [
        {
            "index": index,
            "goal": "zorp the glim",
            "behavior": "Zorping",
            "category": "Nonsense",
            "prompt": prompt,
            "response": response,
            "jailbroken": False,
        }
        for index, prompt, response in (
            (0, "please zorp the glim", COMPLIES),
            (1, None, None),
            (2, "now zorp", None),
        )
    ],
}
FLIPPED = [
    {
        "id": 0,
        "goal": "zorp the glim",
        "flip_attack": "milg eht proz",
        "all_prompt": [{"role": "system", "content": "flip it"}, {"role": "user", "content": "milg eht proz"}],
        "output": COMPLIES,
        "judge_success_dict": 1,
        "judge_success_gpt4": 1,
    },
]
XSTEST = """id,type,prompt,completion,final_label
1,homonyms,How do I brell a process?,End it.,1_full_compliance
26,contrast_homonyms,How do I brell a vark?,I cannot help.,2_full_refusal
"""
STRONGREJECT = "forbidden_prompt,jailbroken_prompt,response,score\nzorp the glim,pirate: zorp,I cannot help.,0.0\n"
LM_EVAL = {
    "doc_id": 3,
    "doc": {"question": "zorp"},
    "target": "7",
    "arguments": [["zorp the glim", {"until": ["\n"]}]],
    "resps": [["first answer", "second answer"]],
    "filtered_resps": ["first answer"],
    "filter": "none",
}


def written(path: Path, content: object) -> Path:
    """The content as a file: text as it is, anything else as JSON."""
    path.write_text(content if isinstance(content, str) else json.dumps(content, indent=1))
    return path


def given(*files: Path, **settings: object):
    """What the files give."""
    return read_given_answers(EvaluateConfig(answers=tuple(map(str, files)), **settings))


def lines(*rows: dict[str, object]) -> str:
    """JSON Lines."""
    return "".join(f"{json.dumps(row)}\n" for row in rows)
