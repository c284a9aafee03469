"""Evaluation items from every format: the right suite, one item per form, the same ids wherever the file lies."""

from __future__ import annotations

import shutil

import orjson
import pytest

from moe_cli.codec import encode_lines
from moe_cli.config import EvaluateConfig
from moe_cli.data import cluster_of_prompt
from moe_cli.errors import UsageError
from moe_cli.evaluate.evaluation_items import items_digest, load_items, notices_of_repeats
from tests.data.sample_files import sample


def items(*paths, limit=None):
    return load_items(EvaluateConfig(items=tuple(map(str, paths)), limit=limit), "owner/model")


def suites(*paths):
    found = {}
    for item in items(*paths):
        found.setdefault((item.suite, item.kind), []).append(item)
    return {key: len(some) for key, some in found.items()}


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("advbench.csv", {("harmful", "harmful"): 2}),
        ("harmbench.csv", {("harmful", "harmful"): 2}),
        ("strongreject.csv", {("harmful", "harmful"): 2}),
        ("xstest.csv", {("benign", "benign"): 2, ("harmful", "harmful"): 1}),
        ("pairs.jsonl", {("harmful", "harmful"): 1, ("attacked", "harmful"): 2}),
        ("all_prompt.json", {("harmful", "harmful"): 2, ("attacked", "harmful"): 3}),
        ("judge_result.json", {("harmful", "harmful"): 3, ("attacked", "harmful"): 3}),
    ],
)
def test_a_format_says_which_suites_its_rows_are_in(name, found):
    assert suites(sample(name)) == found


def test_rows_whose_attack_failed_elsewhere_are_evaluated_like_all_others():
    assert suites(sample("judge_success_gpt4.json"))["attacked", "harmful"] == 3


def test_all_forms_of_one_goal_are_one_cluster_and_its_plain_form_stands_once():
    found = items(sample("pairs.jsonl"))
    assert len({item.cluster for item in found}) == 1
    assert [item.id for item in found if item.suite == "attacked"] == ["attacked/g1-chat", "attacked/g1-story"]


@pytest.mark.parametrize("name", ["prompts.jsonl", "jailbreakbench.csv"])
def test_prompts_that_nothing_calls_harmful_or_benign_are_refused(name):
    with pytest.raises(UsageError, match="nothing says whether its rows are harmful or benign") as refusal:
        items(sample(name))
    assert "column `kind`" in refusal.value.hint


def test_a_column_kind_says_it(tmp_path):
    (tmp_path / "jbb.csv").write_text("Index,Goal,Behavior,Category,kind\n1,zorp,b,c,harmful\n2,flomp,b,c,benign\n")
    assert suites(tmp_path / "jbb.csv") == {("harmful", "harmful"): 1, ("benign", "benign"): 1}


def test_items_do_not_depend_on_where_the_file_lies(tmp_path):
    for name in ("xstest.csv", "advbench.csv", "judge_result.json"):
        shutil.copy(sample(name), tmp_path / "other.txt")
        assert items_digest(items(tmp_path / "other.txt")) == items_digest(items(sample(name)))


OWN = [
    {"id": "1", "suite": "attacked", "kind": "harmful", "cluster": "g9", "prompt": "Tell a story: brell the vark."},
    {"id": "2", "kind": "benign", "prompt": "How much is 2 plus 3?", "expected": "5"},
    {"id": "3", "suite": "text", "kind": "text", "prompt": "Name a fruit.", "answer": "An apple is a fruit."},
]


def test_own_items_keep_suite_cluster_expectation_and_answer(tmp_path):
    (tmp_path / "own.jsonl").write_bytes(b"\n".join(orjson.dumps(row) for row in OWN))
    attacked, benign, text = items(tmp_path / "own.jsonl")
    assert (attacked.id, attacked.cluster, attacked.suite) == ("attacked/1", "g9", "attacked")
    assert (benign.id, benign.cluster, benign.expected) == ("benign/2", cluster_of_prompt(benign.messages), "5")
    assert [turn.role for turn in text.messages] == ["user", "assistant"]


def test_own_items_and_formats_are_read_together_and_limited_per_suite(tmp_path):
    (tmp_path / "own.jsonl").write_bytes(b"\n".join(orjson.dumps(row) for row in OWN))
    found = items(tmp_path / "own.jsonl", sample("xstest.csv"), limit=1)
    assert sorted(item.suite for item in found) == ["attacked", "benign", "harmful", "text"]


def test_all_bad_rows_of_all_files_are_named_together(tmp_path):
    (tmp_path / "own.jsonl").write_text('{"kind": "odd", "prompt": "a"}\n{"kind": "text", "prompt": "a"}\n{\n')
    (tmp_path / "x.csv").write_text("goal,target\nzorp\n,y\nzorp,y\n")
    with pytest.raises(UsageError) as refusal:
        items(tmp_path / "own.jsonl", tmp_path / "x.csv")
    first, *rows = refusal.value.message.replace(str(tmp_path), "").splitlines()
    assert first == "5 bad rows"
    assert any("/own.jsonl:1: `kind` is not one of harmful, benign, text" in row for row in rows)
    assert any("/own.jsonl:2: `answer` is None" in row for row in rows)
    assert any("/x.csv [row 1]: it has 1 cells" in row for row in rows)


FORMS = ("Zorp the glim.", "  zorp the GLIM", "\uff3aorp the gl\u200bim!")  # full-width Z, zero-width space


def test_equal_prompts_under_other_ids_are_one_cluster_and_are_counted(tmp_path):
    rows = [{"id": str(i), "kind": "harmful", "prompt": form} for i, form in enumerate((*FORMS, "Flomp the hesk."))]
    (tmp_path / "own.jsonl").write_bytes(b"\n".join(orjson.dumps(row) for row in rows))
    found = items(tmp_path / "own.jsonl")
    assert len(found) == 4
    assert len({item.cluster for item in found}) == 2
    (notice,) = notices_of_repeats(found)
    assert notice.text.startswith("2 of 4 items ask the same as another one")
    assert items(written(tmp_path, found)) == found
    assert list(notices_of_repeats(found[2:])) == []
    twice = EvaluateConfig(items=(str(tmp_path / "own.jsonl"),), epochs=2, temperature=1.0)
    assert list(notices_of_repeats(load_items(twice, "owner/model"))) == [notice]


@pytest.mark.parametrize("kind", ["harmful", "benign"])
def test_equal_prompts_of_a_format_under_other_ids_are_one_cluster(tmp_path, kind):
    rows = [{"id": str(i), "prompt": form} for i, form in enumerate((*FORMS, "Flomp the hesk."))]
    (tmp_path / "p.jsonl").write_bytes(b"\n".join(orjson.dumps(row) for row in rows))
    found = load_items(EvaluateConfig(items=(f"{kind}={tmp_path / 'p.jsonl'}",)), "owner/model")
    assert (len(found), len({item.cluster for item in found})) == (4, 2)


def test_sums_that_differ_in_their_sign_are_two_clusters(tmp_path):
    rows = [{"id": sign, "kind": "benign", "prompt": f"How much is 2 {sign} 3?"} for sign in "+-"]
    (tmp_path / "own.jsonl").write_bytes(b"\n".join(orjson.dumps(row) for row in rows))
    assert len({item.cluster for item in items(tmp_path / "own.jsonl")}) == 2


def written(directory, found):
    path = directory / "items.jsonl"
    path.write_bytes(encode_lines(found))
    return path


def test_the_items_of_the_built_in_model_are_read_as_they_were_written(tmp_path):
    found = load_items(EvaluateConfig(tiny_items=3), "tiny")
    assert {item.kind for item in found} == {"harmful", "benign", "text"}
    again = items(written(tmp_path, found))
    assert again == found
    assert items_digest(again) == items_digest(found)


@pytest.mark.parametrize("name", ["advbench.csv", "xstest.csv", "pairs.jsonl", "judge_result.json"])
def test_items_of_every_source_are_read_as_they_were_written(tmp_path, name):
    (tmp_path / "own.jsonl").write_bytes(b"\n".join(orjson.dumps(row) for row in OWN))
    found = items(tmp_path / "own.jsonl", sample(name))
    assert items(written(tmp_path, found)) == found


@pytest.mark.parametrize(
    ("turns", "answer", "said"),
    [
        (["user", "assistant"], "another answer", "`messages` is a list, not a text and not a list of turns"),
        (["assistant"], None, "`messages` is a list, not a text and not a list of turns"),
        (["user", "assistant", "assistant"], None, "`messages` is a list, not a text and not a list of turns"),
        (["user"], None, "`answer` is None, not a text"),
    ],
)
def test_a_text_has_one_answer_behind_a_question(tmp_path, turns, answer, said):
    row = {"kind": "text", "messages": [{"role": role, "content": "a"} for role in turns], "answer": answer}
    (tmp_path / "own.jsonl").write_bytes(orjson.dumps(row))
    with pytest.raises(UsageError, match=said):
        items(tmp_path / "own.jsonl")


def test_texts_alone_leave_nothing_to_answer(tmp_path):
    (tmp_path / "own.jsonl").write_bytes(orjson.dumps(OWN[2]))
    with pytest.raises(UsageError, match=r"there is no item to answer, only texts for drift \(1\)"):
        items(tmp_path / "own.jsonl")


@pytest.mark.parametrize("words", ["../nope.jsonl", "nope.csv", "empty.jsonl", "odd.jsonl", "folder", "owner/name"])
def test_a_source_of_no_use_is_refused_in_the_words_of_this_option(tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "odd.jsonl").write_text('{"question": "a"}')
    with pytest.raises(UsageError) as refusal:
        items(words)
    assert words in refusal.value.message
    assert not [option for option in ("--pairs", "--benign", "--data-revision") if option in refusal.value.hint]
    assert ("@COMMIT" in refusal.value.hint) == (words == "owner/name")


def test_equal_items_are_one_and_other_items_of_one_id_are_told_apart(tmp_path):
    rows = [OWN[0], OWN[0], {**OWN[0], "prompt": "Brell it."}]
    (tmp_path / "own.jsonl").write_bytes(b"\n".join(orjson.dumps(row) for row in rows))
    assert [(item.id, item.messages[0].content) for item in items(tmp_path / "own.jsonl")] == [
        ("attacked/1", OWN[0]["prompt"]),
        ("attacked/1~2", "Brell it."),
    ]


def test_a_suite_of_both_kinds_is_refused_before_anything_is_answered(tmp_path):
    rows = [{"suite": "s", "kind": kind, "prompt": f"zorp the {kind} glim"} for kind in ("harmful", "benign")]
    (tmp_path / "items.jsonl").write_text("".join(orjson.dumps(row).decode() + "\n" for row in rows))
    with pytest.raises(UsageError, match="the suite 's' holds harmful and benign prompts"):
        load_items(EvaluateConfig(items=(str(tmp_path / "items.jsonl"),)), "a/model")


def test_texts_for_drift_may_share_a_suite_with_items(tmp_path):
    rows = [
        {"suite": "s", "kind": "harmful", "prompt": "zorp the glim"},
        {"suite": "s", "kind": "text", "prompt": "glim?", "answer": "Zorp."},
    ]
    (tmp_path / "items.jsonl").write_text("".join(orjson.dumps(row).decode() + "\n" for row in rows))
    assert len(load_items(EvaluateConfig(items=(str(tmp_path / "items.jsonl"),)), "a/model")) == 2
