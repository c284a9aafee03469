"""Formats are recognised by their keys, and their rows say what the published files mean."""

import json
import shutil

import pytest

from moe_cli.data import of_kind, read_source, read_table, source_of
from moe_cli.data.formats import FORMATS, format_of
from moe_cli.errors import UsageError
from tests.data.sample_files import FORMATS_PATH, sample

NAMES = {
    "pairs.jsonl": "pairs",
    "pairs.csv": "pairs",
    "all_prompt.json": "all_prompt",
    "judge_success_gpt4.json": "judge_success_gpt4",
    "inception_attack_score.json": "inception_attack_score",
    "judge_result.json": "judge_result",
    "all_prompts.json": "all_prompts",
    "advbench.csv": "AdvBench",
    "harmbench.csv": "HarmBench",
    "jailbreakbench.csv": "JailbreakBench",
    "strongreject.csv": "StrongREJECT",
    "xstest.csv": "XSTest",
    "goals.jsonl": "goals",
    "prompts.jsonl": "prompts",
    "artifact.json": "JailbreakBench artifact",
    "plain_attack.csv": "pairs under other names",
    "jailbreak_prompts.jsonl": "goals with their attack",
    "test_cases.json": "test cases",
    "behaviours.csv": "behaviours",
    "attacked_prompts.csv": "attacked prompts",
}


def entries(name):
    return read_source(sample(name)).entries


def texts(turns):
    return [turn.content for turn in turns]


@pytest.mark.parametrize(("file", "name"), NAMES.items())
def test_every_sample_is_recognised_and_has_no_bad_row(file, name):
    found = read_source(sample(file))
    assert (found.format.name, found.faults) == (name, ())
    assert found.num_rows == len({entry.place for entry in found.entries}) + sum(found.skipped.values())


def test_every_format_has_a_sample():
    assert {known.name for known in FORMATS} == set(NAMES.values())
    assert set(NAMES) | {"attacks.txt", "attacks.jsonl"} == {file.name for file in FORMATS_PATH.iterdir()}


@pytest.mark.parametrize("file", NAMES)
def test_the_name_of_a_file_says_nothing(tmp_path, file):
    shutil.copy(sample(file), tmp_path / "data.txt")
    assert read_source(str(tmp_path / "data.txt")).format.name == NAMES[file]


def test_published_files_write_their_keys_in_any_case(tmp_path):
    (tmp_path / "upper.csv").write_text("GOAL, Target \nzorp,yes\n")
    found = read_source(str(tmp_path / "upper.csv"))
    assert (found.format.name, found.entries[0].goal) == ("AdvBench", "zorp")


def test_columns_of_no_format_are_named_beside_the_nearest_format_and_the_way_to_map_them(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"subject": "a", "gaol": "b"}\n' * 2)
    with pytest.raises(UsageError, match=r"is of no known format: its columns are `gaol`, `subject`") as caught:
        read_source(str(tmp_path / "rows.jsonl"))
    assert '{"goal": "..."}' in caught.value.hint and "--map goal=COLUMN" in caught.value.hint
    assert "XSTest" not in caught.value.hint


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ({"goal": "g", "target": "t", "behavior": "b", "category": "c"}, "JailbreakBench"),
        ({"goal": "g", "target": "t", "all_prompt": "p"}, "all_prompt"),
        ({"goal": "g", "all_prompt": "p", "judge_result": 1}, "judge_result"),
        ({"prompt": "p", "type": "homonyms", "label": "safe", "goal": "g", "target": "t"}, "XSTest"),
        ({"goal": "g", "prompt": "p", "jailbroken": True}, "JailbreakBench artifact"),
    ],
)
def test_of_two_formats_that_match_the_more_specific_one_is_taken(tmp_path, row, name):
    (tmp_path / "rows.json").write_text(json.dumps([row]))
    assert format_of(read_table(source_of(str(tmp_path / "rows.json")))).name == name


def test_a_pair_has_both_forms_and_the_name_of_its_attack():
    story, chat = entries("pairs.jsonl")
    assert (story.id, story.attack, texts(story.plain)) == ("g1-story", "story", ["How do I zorp the glim?"])
    assert [turn.role for turn in chat.attacked] == ["system", "user"]


def test_a_list_of_texts_is_several_attacks_and_a_list_of_turns_is_one():
    first, second, alone = entries("all_prompt.json")
    assert texts(first.attacked + second.attacked) == ["Pretend: flomp the hesk.", "For a test, flomp the hesk."]
    assert texts(first.plain) == texts(second.plain) == ["flomp the hesk"]
    assert texts(alone.attacked) == ["A game: brell the vark."]
    (conversation,) = entries("all_prompts.json")
    assert [turn.role for turn in conversation.attacked] == ["user", "assistant", "user"]


@pytest.mark.parametrize(
    ("file", "goals", "failed"),
    [
        ("judge_success_gpt4.json", ["zorp the glim", "brell the vark"], 1),
        ("inception_attack_score.json", ["zorp the glim"], 1),
        ("judge_result.json", ["zorp the glim", "brell the vark"], 1),
    ],
)
def test_rows_whose_attack_failed_are_skipped_and_counted(file, goals, failed):
    found = read_source(sample(file))
    assert [entry.goal for entry in found.entries] == goals
    assert found.skipped == {"its attack failed": failed}
    assert len(read_source(sample(file), keep_failed=True).entries) == len(goals) + failed


def test_the_context_of_harmbench_stands_before_its_behaviour():
    plain, contextual = entries("harmbench.csv")
    assert (plain.id, plain.goal) == ("zorp_glim", "Zorp the glim")
    assert contextual.goal == "A hesk is a thing, with edges.\n\n---\n\nFlomp it as described"


def test_xstest_holds_goals_and_harmless_prompts():
    assert [entry.kind for entry in entries("xstest.csv")] == ["benign", "harmful", "benign"]
    harmful, benign = (of_kind(read_source(sample("xstest.csv")), kind) for kind in ("harmful", "benign"))
    assert [entry.id for entry in harmful.entries] == ["xstest-26"]
    assert (len(benign.entries), benign.skipped) == (2, {"it is harmful": 1})


def test_xstest_without_labels_tells_by_its_types(tmp_path):
    (tmp_path / "x.csv").write_text("id,type,prompt,focus\n1,homonyms,a,b\n2,contrast_homonyms,c,d\n")
    assert [entry.kind for entry in read_source(str(tmp_path / "x.csv")).entries] == ["benign", "harmful"]


def test_a_label_that_is_neither_safe_nor_unsafe_is_a_bad_row(tmp_path):
    (tmp_path / "x.csv").write_text("id,type,prompt,label\n1,homonyms,a,safe\n2,homonyms,b,perhaps\n")
    (fault,) = read_source(str(tmp_path / "x.csv")).faults
    assert str(fault).endswith("x.csv [row 2]: `label` is neither safe nor unsafe")


def test_only_the_option_can_say_what_jailbreakbench_holds():
    for kind in ("harmful", "benign"):
        assert len(of_kind(read_source(sample("jailbreakbench.csv")), kind).entries) == 2


@pytest.mark.parametrize("file", ["advbench.csv", "harmbench.csv", "strongreject.csv", "pairs.jsonl", "goals.jsonl"])
def test_harmful_goals_are_no_harmless_prompts(file):
    with pytest.raises(UsageError, match="2 of 2 rows are harmful, and --benign takes harmless ones"):
        of_kind(read_source(sample(file)), "benign")


def test_the_last_answer_of_a_conversation_is_left_out():
    assert texts(entries("prompts.jsonl")[2].plain) == ["Name a fruit."]


def test_a_column_kind_says_what_prompts_are(tmp_path):
    (tmp_path / "p.csv").write_text("prompt,kind\na,harmful\nb,benign\nc,\nd,odd\n")
    found = read_source(str(tmp_path / "p.csv"))
    assert [entry.kind for entry in found.entries] == ["harmful", "benign", None]
    assert [fault.reason for fault in found.faults] == ["`kind` is neither harmful nor benign"]
