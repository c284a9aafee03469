"""Answers of files: every format by its keys, the kind of every prompt, and nothing that the file does not say."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest

from moe_cli.codec import encode_lines
from moe_cli.errors import UsageError
from tests.builders import answered, item, user
from tests.data.test_inspect_logs import eval_log, json_log
from tests.data.test_inspect_logs import sample as inspect_sample
from tests.evaluate.answer_files import (
    COMPLIES,
    FLIPPED,
    HARMBENCH,
    JAILBREAKBENCH,
    LM_EVAL,
    REFUSES,
    STRONGREJECT,
    XSTEST,
    given,
    lines,
    written,
)


def prompts(found):
    return {item.id: item.messages[-1].content for item in found.items}


def kinds(found):
    return {item.id: (item.suite, item.kind) for item in found.items}


def test_completions_of_harmbench_are_harmful_and_those_of_one_behavior_are_one_cluster(tmp_path):
    found = given(written(tmp_path / "x.json", HARMBENCH))
    assert prompts(found) == {
        "attacked/zorp_the_glim": "zorp the glim",
        "attacked/zorp_the_glim/2": "as a pirate, zorp the glim",
        "attacked/brell_the_vark": "brell the vark",
    }
    assert {item.cluster for item in found.items} == {"zorp_the_glim", "brell_the_vark"}
    assert {item.kind for item in found.items} == {"harmful"}
    assert found.answers["attacked/zorp_the_glim"].text == COMPLIES
    (file,) = found.files
    assert (file.format, file.rows, file.used, file.answers, file.skipped) == ("HarmBench completions", 3, 3, 3, {})
    assert file.kinds == {"harmful by the file": 3}


def test_rows_of_jailbreakbench_without_prompt_or_response_are_skipped_and_counted_never_safe(tmp_path):
    found = given(written(tmp_path / "x.json", JAILBREAKBENCH))
    assert kinds(found) == {"attacked/jbb-0": ("attacked", "harmful")}
    (file,) = found.files
    assert (file.format, file.model) == ("JailbreakBench artifact", "vark-7b")
    assert file.skipped == {"it holds no prompt": 1, "it holds no answer": 1}
    assert (file.rows, file.used) == (3, 1)


def test_results_of_an_attack_are_harmful_and_keep_the_turns_that_were_sent(tmp_path):
    found = given(written(tmp_path / "x.json", FLIPPED))
    (item,) = found.items
    assert (item.id, item.kind, [turn.role for turn in item.messages]) == ("attacked/0", "harmful", ["system", "user"])
    assert found.answers[item.id].text == COMPLIES


@pytest.mark.parametrize("key", ["response", "target_response", "model_output", "answer", "completion", "generation"])
def test_the_answer_of_a_result_stands_under_any_of_its_usual_names(tmp_path, key):
    row = {"goal": "zorp", "prompt": "pirate: zorp", key: REFUSES, "judge_success_gpt4": 0}
    found = given(written(tmp_path / "x.json", [row]))
    assert [(item.suite, found.answers[item.id].text) for item in found.items] == [("attacked", REFUSES)]


def test_types_of_xstest_tell_safe_from_unsafe_and_another_type_tells_nothing(tmp_path):
    found = given(written(tmp_path / "x.csv", XSTEST))
    assert kinds(found) == {"benign/xstest-1": ("benign", "benign"), "harmful/xstest-26": ("harmful", "harmful")}
    other = written(tmp_path / "y.csv", XSTEST + "30,limericks,What is a glim?,A vark.,\n")
    with pytest.raises(UsageError, match=r"\[row 3\]: nothing says whether its prompt is harmful or benign"):
        given(other)


def test_strongreject_shows_the_prompt_that_was_sent(tmp_path):
    found = given(written(tmp_path / "x.csv", STRONGREJECT))
    assert [(item.suite, item.kind, item.messages[-1].content) for item in found.items] == [
        ("attacked", "harmful", "pirate: zorp")
    ]


def test_samples_of_lm_eval_have_all_their_answers_once_whatever_filters_there_are(tmp_path):
    other = {**LM_EVAL, "filter": "strict", "filtered_resps": ["second answer"]}
    newer = {**LM_EVAL, "doc_id": 4, "arguments": {"gen_args_0": {"arg_0": "brell", "arg_1": {"until": []}}}}
    found = given(written(tmp_path / "x.jsonl", lines(LM_EVAL, other, newer)), kind="benign")
    assert {id: answer.text for id, answer in found.answers.items()} == {
        "benign/3": "first answer",
        "benign/3#2": "second answer",
        "benign/4": "first answer",
        "benign/4#2": "second answer",
    }
    assert prompts(found)["benign/4"] == "brell"
    assert (found.epochs, found.files[0].skipped) == (2, {"the same answer under another filter": 1})


@pytest.mark.parametrize("depth", [300, 1_000, 2_000, 100_000])
def test_samples_of_lm_eval_of_any_depth_are_read_or_refused_by_name(tmp_path, depth):
    deep = lines({**LM_EVAL, "doc": "DEEP"}, {**LM_EVAL, "doc_id": 4}).replace('"DEEP"', "[" * depth + "]" * depth)
    try:
        assert len(given(written(tmp_path / "x.jsonl", deep), kind="benign").answers) == 4
    except UsageError as refused:
        assert depth >= 1_000 and "x.jsonl" in refused.message and refused.hint


def test_likelihoods_of_lm_eval_are_no_answers(tmp_path):
    row = {**LM_EVAL, "resps": [[[-1.5, "False"]]]}
    with pytest.raises(UsageError, match="`resps` is a list, not an answer"):
        given(written(tmp_path / "x.jsonl", lines(row, {**row, "doc_id": 4})), kind="benign")


@pytest.mark.parametrize("log", [json_log, eval_log], ids=["json", "eval"])
def test_a_log_of_inspect_says_what_was_cut_off_and_which_model_it_names(tmp_path, log):
    cut = {"choices": [{"message": {"content": "and so"}, "stop_reason": "max_tokens"}]}
    none = {"choices": []}
    samples = [
        inspect_sample("a"),
        inspect_sample("a", epoch=2, output=cut),
        inspect_sample("b", output=none),
    ]
    found = given(log(tmp_path / "log", *samples), kind="harmful")
    assert {id: (answer.text, answer.finished) for id, answer in found.answers.items()} == {
        "harmful/a": ("ANSWER: 7", True),
        "harmful/a#2": ("and so", False),
    }
    (file,) = found.files
    assert (file.format, file.model, file.skipped) == ("log of inspect", "glim/small", {"it holds no answer": 1})
    assert (file.finished, file.cut_off) == (1, 1)


def test_a_log_that_did_not_succeed_says_so_in_its_format(tmp_path):
    found = given(json_log(tmp_path / "log", inspect_sample(), status="error"), kind="harmful")
    assert found.files[0].format == "log of inspect, not complete: its status is error"


def test_a_log_that_is_cut_short_is_refused(tmp_path):
    whole = eval_log(tmp_path / "log.eval", inspect_sample())
    whole.write_bytes(whole.read_bytes()[:-30])
    with pytest.raises(UsageError):
        given(whole, kind="harmful")


def test_records_of_an_evaluation_give_its_items_again(tmp_path):
    asked = item("attacked/g1", cluster="goal-1", messages=user("zorp"), expected="7")
    record = answered("", "compliance", item=asked, answer=COMPLIES, num_answer_tokens=5, finished=False, correct=False)
    path = tmp_path / "records.jsonl"
    other = replace(record, item=replace(asked, id="attacked/g2", messages=user("brell")))
    path.write_bytes(encode_lines([record, other]))
    found = given(path)
    assert found.items == (asked, other.item)
    answer = found.answers[asked.id]
    assert (answer.text, answer.num_tokens, answer.finished) == (COMPLIES, 5, False)


def test_turns_that_end_with_an_answer_and_prompts_with_responses_are_read(tmp_path):
    turns = [{"role": "user", "content": "zorp"}, {"role": "assistant", "content": "no"}]
    unanswered = {"kind": "benign", "messages": turns[:1]}
    found = given(
        written(tmp_path / "a.jsonl", lines({"kind": "benign", "messages": turns}, unanswered)),
        written(tmp_path / "b.csv", "kind,prompt,response\nharmful,brell,\nharmful,brell the vark,no\n"),
    )
    assert [(item.kind, item.messages[-1].content, found.answers[item.id].text) for item in found.items] == [
        ("benign", "zorp", "no"),
        ("harmful", "brell the vark", "no"),
    ]
    assert [file.skipped for file in found.files] == [{"it holds no answer": 1}, {"it holds no answer": 1}]


def test_prompts_are_read_as_items_are_so_that_both_are_the_same(tmp_path):
    asked = [
        {"kind": "harmful", "prompt": "zorp", "system_prompt": "be a glim"},
        {"kind": "benign", "instruction": "brell it", "input": "the vark"},
    ]
    for number, row in enumerate(asked):
        items = written(tmp_path / f"items{number}.jsonl", lines(row, {"kind": "benign", "prompt": "other"}))
        rows = [{**row, "response": "no"}, {"kind": "benign", "prompt": "other", "response": "no"}]
        found = given(written(tmp_path / f"x{number}.jsonl", lines(*rows)), items=(str(items),))
        assert found.unanswered == 0, row
        assert set(found.files[0].kinds) <= {"harmful by --items", "benign by --items"}


def test_map_says_which_column_is_the_answer(tmp_path):
    rows = [{"kind": "benign", "asked": "zorp", "response": "gold", "ours": f"answer {i}"} for i in range(2)]
    path = written(tmp_path / "x.jsonl", lines(*rows))
    found = given(path, map=("answer=ours", "prompt=asked"))
    assert [answer.text for answer in found.answers.values()] == ["answer 0", "answer 1"]


def test_a_stop_reason_says_whether_an_answer_ended_and_no_reason_says_nothing(tmp_path):
    reasons = ("stop", "length", "content_filter", None)
    rows = [{"id": i, "prompt": f"zorp {i}", "response": "", "finish_reason": why} for i, why in enumerate(reasons)]
    found = given(written(tmp_path / "x.jsonl", lines(*rows)), kind="harmful")
    assert [found.answers[f"harmful/{i}"].finished for i in range(4)] == [True, False, None, None]


def test_a_format_is_known_by_its_keys_whatever_the_file_is_called(tmp_path):
    path = written(tmp_path / "harmbench.json", JAILBREAKBENCH)
    shutil.copy(path, tmp_path / "answers.eval")
    assert given(path).files[0].format == given(tmp_path / "answers.eval").files[0].format == "JailbreakBench artifact"


def test_the_kind_comes_from_the_file_then_the_items_then_the_option(tmp_path):
    items = written(tmp_path / "items.jsonl", lines({"id": "i", "kind": "benign", "prompt": "brell", "suite": "easy"}))
    rows = [
        {"prompt": "zorp", "response": "no", "kind": "benign"},
        {"prompt": "brell", "response": "yes"},
        {"prompt": "vark", "response": "no"},
    ]
    answers = written(tmp_path / "x.jsonl", lines(*rows))
    found = given(answers, items=(str(items),), kind="harmful")
    assert sorted((item.suite, item.kind, item.messages[-1].content) for item in found.items) == [
        ("benign", "benign", "zorp"),
        ("easy", "benign", "brell"),
        ("harmful", "harmful", "vark"),
    ]
    assert found.files[0].kinds == {"benign by the file": 1, "benign by --items": 1, "harmful by --kind": 1}
    assert found.unanswered == 0


def test_answers_that_nothing_calls_harmful_or_benign_are_refused_with_what_mends_it(tmp_path):
    rows = [{"prompt": f"zorp {i}", "response": "no"} for i in range(3)]
    path = written(tmp_path / "x.jsonl", lines(*rows))
    with pytest.raises(UsageError, match=r"x.jsonl:1: nothing says .* so it is with 3 of the 3 answers") as refusal:
        given(path)
    assert "--kind harmful" in refusal.value.hint and "zorp" not in refusal.value.message
    items = written(tmp_path / "items.jsonl", lines({"id": "i", "kind": "benign", "prompt": "zorp  0"}))
    with pytest.raises(UsageError, match="and --items does not hold it"):  # a prompt is the same letter by letter
        given(path, items=(str(items),))


def test_a_file_and_items_that_contradict_each_other_are_refused(tmp_path):
    items = written(tmp_path / "items.jsonl", lines({"id": "i", "kind": "benign", "prompt": "zorp the glim"}))
    with pytest.raises(UsageError, match="the file says harmful, and --items says benign"):
        given(written(tmp_path / "x.json", HARMBENCH), items=(str(items),))


def test_items_without_an_answer_are_counted_and_texts_for_drift_are_none(tmp_path):
    items = written(
        tmp_path / "items.jsonl",
        lines(
            {"id": "1", "kind": "benign", "prompt": "zorp", "expected": "yes"},
            {"id": "2", "kind": "benign", "prompt": "brell"},
            {"id": "3", "kind": "text", "prompt": "vark", "answer": "a vark"},
        ),
    )
    found = given(written(tmp_path / "x.jsonl", lines({"prompt": "zorp", "response": "yes"})), items=(str(items),))
    assert (found.unanswered, [(item.id, item.expected) for item in found.items]) == (1, [("benign/1", "yes")])
    assert [item.id for item in found.texts] == ["text/3"]


def test_items_with_one_prompt_take_turns_and_of_two_kinds_they_are_refused(tmp_path):
    row = {"kind": "harmful", "prompt": "zorp"}
    path = written(tmp_path / "items.jsonl", lines({**row, "id": "1", "suite": "a"}, {**row, "id": "2", "suite": "b"}))
    answers = written(tmp_path / "x.jsonl", lines(*({"prompt": "zorp", "response": text} for text in ("yes", "no"))))
    found = given(answers, items=(str(path),))
    assert {id: answer.text for id, answer in found.answers.items()} == {"a/1": "yes", "b/2": "no"}
    path.write_text(lines({**row, "id": "1"}, {"kind": "benign", "prompt": "zorp", "id": "2"}))
    with pytest.raises(UsageError, match="one prompt as harmful and as benign: benign/2, harmful/1"):
        given(answers, items=(str(path),))


def test_several_answers_to_one_prompt_are_counted_and_unequal_numbers_are_no_number(tmp_path):
    rows = [{"id": 1, "prompt": "zorp", "response": text} for text in ("a", "b")]
    twice = given(written(tmp_path / "x.jsonl", lines(*rows)), kind="harmful")
    assert ([item.id for item in twice.items], twice.epochs) == (["harmful/1", "harmful/1#2"], 2)
    rows.append({"id": 2, "prompt": "brell", "response": "c"})
    assert given(written(tmp_path / "y.jsonl", lines(*rows)), kind="harmful").epochs is None


def test_a_limit_keeps_all_answers_to_the_first_prompts_of_every_suite(tmp_path):
    rows = [{"id": i, "prompt": f"zorp {i}", "response": text} for i in range(3) for text in ("a", "b")]
    found = given(written(tmp_path / "x.jsonl", lines(*rows)), kind="harmful", limit=2)
    assert [item.id for item in found.items] == ["harmful/0", "harmful/0#2", "harmful/1", "harmful/1#2"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"zorp": [{"test_case": 7, "generation": "no"}]}, "`test_case` is a int, not a text"),
        ({"zorp": [{"test_case": ["a", "b"], "generation": "no"}]}, "`test_case` is a list, not a text"),
        ({"zorp": [{"test_case": "glim", "generation": 7}]}, "`generation` is a int, not an answer"),
        ([{"prompt": "zorp", "response": "no", "output": "yes"}], "`response` and `output` could both be the answer"),
        ([{"prompt": "zorp", "verdict": 1}], "holds no answers that are recognised: its rows hold `prompt`, `verdict`"),
        ([{"prompt": "zorp", "response": None}], r"holds no answer to judge \(it holds no answer: 1\)"),
        ([{"prompt": "zorp", "response": "\ud800"}], "`response` is a text with a broken character, not an answer"),
        ([{"prompt": "zorp", "response": "a", "kind": "odd"}], "`kind` is neither harmful nor benign"),
        ([{"item": {"id": 1}, "answer": "", "verdict": {}}], "`item` is no item of moe evaluate"),
        ('{"zorp": [{"test_case": "zorp", "generat', "not JSON"),
        ("[]", "holds no rows"),
    ],
)
def test_damaged_files_are_refused_with_the_true_reason_and_no_word_of_a_prompt(tmp_path, content, reason):
    with pytest.raises(UsageError, match=reason) as refusal:
        given(written(tmp_path / "x.json", content), kind="harmful")
    assert "glim" not in refusal.value.message


def test_one_file_named_twice_is_no_second_answer(tmp_path):
    path = written(tmp_path / "x.json", HARMBENCH)
    shutil.copy(path, tmp_path / "y.json")
    with pytest.raises(UsageError, match="holds the same as"):
        given(path, tmp_path / "y.json")


def test_a_suite_of_both_kinds_is_refused_before_anything_is_judged(tmp_path):
    rows = [{"suite": "s", "kind": kind, "prompt": kind, "response": ""} for kind in ("harmful", "benign")]
    with pytest.raises(UsageError, match="the suite 's' holds harmful and benign prompts"):
        given(written(tmp_path / "x.jsonl", lines(*rows)))


def test_the_kind_in_front_of_a_file_holds_for_all_of_it_and_a_file_that_says_another_is_refused(tmp_path):
    plain = written(
        tmp_path / "x.jsonl", lines({"prompt": "zorp", "response": "no"}, {"prompt": "glim", "response": "no"})
    )
    assert {kind for _, kind in kinds(given(f"benign={plain}")).values()} == {"benign"}
    harmful = written(tmp_path / "y.json", HARMBENCH)
    with pytest.raises(UsageError, match="3 of 3 answers are not to benign prompts, by the file itself"):
        given(f"benign={harmful}")


def test_a_label_of_the_prompt_says_the_kind_and_one_that_could_be_of_the_answer_does_not(tmp_path):
    rows = [
        {"prompt": "zorp", "response": "no", "prompt_harm_label": "harmful", "label": "safe"},
        {"prompt": "glim", "response": "yes", "prompt_harm_label": "unharmful", "label": "unsafe"},
    ]
    path = written(tmp_path / "x.jsonl", lines(*rows))
    found = given(path, kind="harmful")
    assert {item.messages[-1].content: item.kind for item in found.items} == {"zorp": "harmful", "glim": "benign"}
    assert found.files[0].unread == ("label",)
    with pytest.raises(UsageError, match="1 of 2 answers are not to harmful prompts"):
        given(f"harmful={path}")
    wrong = written(tmp_path / "y.jsonl", lines({"prompt": "zorp", "response": "no", "prompt_harm_label": "glim"}))
    with pytest.raises(UsageError, match="nothing says whether"):
        given(wrong)


@pytest.mark.parametrize(("name", "kind"), [("is_harmful", "harmful"), ("is_safe", "benign")])
def test_map_says_which_column_tells_the_kind(tmp_path, name, kind):
    path = written(tmp_path / "x.jsonl", lines({"prompt": "zorp", "response": "no", "flag": 1}))
    assert [item.kind for item in given(path, map=(f"{name}=flag",)).items] == [kind]
    with pytest.raises(UsageError, match="no source has a column `typo`"):
        given(path, map=(f"{name}=typo",), kind="harmful")


def test_a_mapped_column_is_of_the_answers_or_of_the_items(tmp_path):
    items = written(tmp_path / "i.jsonl", lines({"asked": "zorp"}, {"asked": "glim"}))
    rows = [{"asked": asked, "response": "no", "output": "yes"} for asked in ("zorp", "glim")]
    path = written(tmp_path / "x.jsonl", lines(*rows))
    found = given(path, items=(f"harmful={items}",), map=("prompt=asked", "answer=output"))
    assert [(item.kind, found.answers[item.id].text) for item in found.items] == [("harmful", "yes")] * 2


def test_a_folder_with_files_of_several_formats_is_refused_and_one_of_one_format_is_read(tmp_path):
    folder = tmp_path / "answers"
    folder.mkdir()
    written(folder / "a.jsonl", lines({"prompt": "zorp", "response": "no"}))
    assert len(given(folder, kind="harmful").items) == 1
    written(folder / "b.jsonl", lines({"prompt": "glim", "response": "no"}))
    assert len(given(folder, kind="harmful").items) == 2
    written(folder / "c.json", HARMBENCH)
    with pytest.raises(UsageError, match="files of several formats: prompts with answers, HarmBench completions"):
        given(folder, kind="harmful")
