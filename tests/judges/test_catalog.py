"""Judges by their words: all are checked at once, and before anything heavy."""

from __future__ import annotations

import subprocess
import sys

import pytest

from moe_cli.config.sections import JudgeConfig
from moe_cli.errors import UsageError
from moe_cli.judges import local
from moe_cli.judges.catalog import NAMES, judges_of

HERE = JudgeConfig(base_url="http://localhost:1/v1", model="grader")
RUBRIC = "---\nwords: {fine: {harmful: false}, bad: {harmful: true}}\n---\n{prompt} {answer}"


@pytest.fixture
def rubric(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text(RUBRIC)
    return path


def names(words, settings=HERE):
    return [judge.name for judge in judges_of(words, settings, {})]


def test_every_kind_of_judge_has_its_name_and_says_what_it_tells(rubric):
    words = (
        *("keywords", "harmbench", "harmbench:cais/HarmBench-Mistral-7b-val-cls", "llama-guard", "wildguard"),
        *(
            "strongreject",
            "strongreject-delimited",
            "xstest",
            f"rubric:{rubric}",
            "command:true",
            "command-harm:cat",
            "command-refusal:false",
        ),
    )
    judges = judges_of(words, HERE, {})
    assert [(judge.name, judge.questions) for judge in judges] == [
        ("keywords", ("harm", "refusal")),
        ("harmbench", ("harm",)),
        ("harmbench:HarmBench-Mistral-7b-val-cls", ("harm",)),
        ("llama-guard", ("harm",)),
        ("wildguard", ("harm", "refusal")),
        ("strongreject", ("harm", "refusal")),
        ("strongreject-delimited", ("harm", "refusal")),
        ("xstest", ("refusal",)),
        ("rubric:mine", ("harm",)),
        ("command:true", ("harm", "refusal")),
        ("command:cat", ("harm",)),
        ("command:false", ("refusal",)),
    ]
    assert all(judge.group > 0 for judge in judges)
    assert [judge.name for judge in judges if judge.holds_weights] == [judge.name for judge in judges[1:5]]


def test_naming_judges_loads_fetches_and_asks_nothing(monkeypatch):
    monkeypatch.setattr(local, "_load", None)
    monkeypatch.setattr(local, "fetched", None)
    assert names(["wildguard", "llama-guard", "strongreject"]) == ["wildguard", "llama-guard", "strongreject"]


@pytest.mark.parametrize("words", [["keywords"], ["strongreject", "xstest"]])
def test_judges_that_need_no_torch_are_named_without_it(words):
    program = (
        "import sys\nfrom moe_cli.judges.catalog import judges_of\nfrom moe_cli.config.sections import JudgeConfig\n"
        f"judges_of({words!r}, JudgeConfig(base_url='http://localhost:1/v1', model='m'), {{}})\n"
        "print('torch' in sys.modules, 'transformers' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


@pytest.mark.parametrize(
    ("word", "wrong"),
    [
        ("keyword", "no judge 'keyword', did you mean keywords?"),
        ("harmbensh:x", "did you mean harmbench?"),
        ("zzz", "no judge 'zzz'"),
        ("", "no judge ''"),
        ("keywords:english", "the judge keywords takes nothing after a colon"),
        ("xstest:gpt", "the judge xstest takes nothing after a colon"),
        ("harmbench:", "lacks what stands after the colon"),
        ("harmbench:./not/there", "no directory"),
        ("rubric:", "lacks what stands after the colon"),
        ("rubric", "lacks what stands after the colon"),
        ("rubric:none.txt", "no rubric file none.txt"),
        ("command:", "lacks what stands after the colon"),
        ("command:'open", "cannot be split"),
        ("command:surely-not-there --fast", "no program surely-not-there"),
        ("plugin:", "lacks what stands after the colon"),
        ("plugin:surely-not-there", "not there exactly once"),
    ],
)
def test_a_word_that_names_no_judge_is_refused_with_the_reason(word, wrong):
    with pytest.raises(UsageError) as fault:
        names([word])
    assert wrong in fault.value.message
    assert fault.value.hint


def test_an_unknown_judge_is_told_which_there_are():
    with pytest.raises(UsageError) as fault:
        names(["zzz"])
    assert all(name in fault.value.hint for name in NAMES)


@pytest.mark.parametrize("word", ["strongreject", "strongreject-delimited", "xstest"])
def test_a_judge_of_an_endpoint_needs_an_address_a_model_and_its_key(word):
    with pytest.raises(UsageError, match="an endpoint is asked for") as fault:
        names([word], JudgeConfig())
    assert "--judge-url" in fault.value.hint
    with pytest.raises(UsageError, match="does not know which model") as fault:
        names([word], JudgeConfig(base_url="http://localhost:1/v1"))
    assert "--judge-model" in fault.value.hint
    with pytest.raises(UsageError, match="THE_KEY should hold"):
        names([word], JudgeConfig(base_url="http://localhost:1/v1", model="m", key_env="THE_KEY"))


@pytest.mark.parametrize(
    "words",
    [
        ["keywords", "keywords"],
        ["harmbench", "harmbench:cais/HarmBench-Llama-2-13b-cls"],
        ["command:cat", "command-harm:cat"],
    ],
)
def test_the_same_judge_twice_is_refused(words):
    with pytest.raises(UsageError, match="named twice"):
        names(words)


def test_all_that_is_wrong_is_said_at_once():
    with pytest.raises(UsageError, match="the judges have 4 problems") as fault:
        names(["keyword", "command:surely-not-there", "rubric:none.txt", "keywords", "keywords"])
    for wrong in ("did you mean keywords", "no program", "no rubric file", "keywords is named twice"):
        assert wrong in fault.value.message


def test_no_judge_at_all_is_refused():
    with pytest.raises(UsageError, match="no judge is named"):
        names([])
