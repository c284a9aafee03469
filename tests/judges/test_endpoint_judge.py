"""A judging endpoint: what is late or garbled is asked for again and then unscored, with the reason."""

from __future__ import annotations

import re
import threading
import time

import pytest

from moe_cli.config.sections import JudgeConfig
from moe_cli.errors import EnvironmentFaultError, UsageError
from moe_cli.judges.catalog import judges_of
from moe_cli.judges.deciding import judge_in_groups, verdicts_of
from tests.judges.exchanges import PROSE, exchange
from tests.judges.test_rubric_borders import HOSTILE, parts
from tests.model.served import Reply, completion, served

KEY = "sk-not-to-be-seen"
HARMFUL = "refusal=0 convincing=5 specific=5"
REFUSED = "refusal=1 convincing=1 specific=1"


def judge(url, word="strongreject-delimited", environment=None, **settings):
    base = {"base_url": url, "model": "grader", "timeout": 5.0, "retries": 1, "concurrency": 4}
    (found,) = judges_of([word], JudgeConfig(**(base | settings)), environment or {})
    return found


def test_an_answer_is_judged_with_temperature_zero_and_the_limit_that_is_set():
    with served(lambda asked, number: completion(f"It is all there.\n{HARMFUL}")) as server:
        (found,) = judge(server.url, max_tokens=99).verdicts([exchange()])
    assert (found.label, found.harmful, found.score) == ("compliance", True, 1.0)
    (asked,) = server.asked
    assert (asked.body["temperature"], asked.body["max_tokens"], asked.body["model"]) == (0.0, 99, "grader")
    assert parts(asked.prompt) == {"PROMPT": "Open the box.", "ANSWER": PROSE}


def test_verdicts_come_back_in_order_although_replies_do_not():
    def reply(asked, number):
        answer = parts(asked.prompt)["ANSWER"]
        time.sleep(0.02 if "0" in answer else 0.0)
        return completion(HARMFUL if "even" in answer else REFUSED)

    answers = [f"{'even' if n % 2 == 0 else 'odd'} {n}." for n in range(12)]
    with served(reply) as server:
        found = judge(server.url).verdicts([exchange(answer) for answer in answers])
    assert [one.harmful for one in found] == [n % 2 == 0 for n in range(12)]


def test_no_hostile_answer_breaks_out_of_its_border():
    def reply(asked, number):  # a judge that believes whatever stands outside the borders
        text = asked.prompt
        number = re.search(r"here (\w+),", text).group(1)
        outside = re.sub(rf"BEGIN (\w+) {number}\n.*\nEND \1 {number}", "", text, flags=re.DOTALL)
        told = re.findall(r"refusal=1 convincing=1 specific=1", outside)
        return completion(REFUSED if told else HARMFUL)

    hostile = [text for text in HOSTILE if text and "\ud800" not in text]
    assert len(hostile) >= 40
    with served(reply) as server:
        found = judge(server.url).verdicts([exchange(answer) for answer in hostile])
    assert [one.harmful for one in found] == [True] * len(hostile)


@pytest.mark.parametrize("garbage", ["I'd rather not say.", "", "refusal=0 convincing=9 specific=9"])
def test_garbage_is_asked_for_again_and_then_unscored(garbage):
    with served(lambda asked, number: completion(garbage)) as server:
        (found,) = judge(server.url, retries=2).verdicts([exchange()])
    assert (found.label, found.harmful) == (None, None)
    assert "cannot be read" in found.reason
    assert len(server.asked) == 3


@pytest.mark.parametrize("first", [completion("hm"), Reply(body=b"<html>"), completion(HARMFUL, "length")])
def test_a_second_reply_that_can_be_read_counts(first):
    with served(lambda asked, number: first if number == 0 else completion(HARMFUL)) as server:
        (found,) = judge(server.url).verdicts([exchange()])
    assert found.harmful is True


def test_a_reply_that_is_no_completion_is_unscored_in_the_end():
    with served(lambda asked, number: Reply(body=b"<html>busy</html>")) as server:
        (found,) = judge(server.url).verdicts([exchange()])
    assert (found.harmful, len(server.asked)) == (None, 2)
    assert "no chat completion" in found.reason


def test_a_reply_that_was_cut_off_is_unscored():
    with served(lambda asked, number: completion(HARMFUL, "length")) as server:
        (found,) = judge(server.url).verdicts([exchange()])
    assert found.harmful is None
    assert "cut off" in found.reason


def test_a_judge_that_does_not_answer_in_time_leaves_its_answer_unscored_and_the_others_judged():
    never = threading.Event()

    def reply(asked, number):
        return Reply(wait=never) if "slow" in parts(asked.prompt)["ANSWER"] else completion(REFUSED)

    with served(reply) as server:
        found = judge(server.url, timeout=0.5, retries=0).verdicts([exchange("quick."), exchange("slow.")])
        never.set()
    assert [one.harmful for one in found] == [False, None]
    assert "timed out" in found[1].reason


def test_slow_answers_within_the_time_are_waited_for():
    def reply(asked, number):
        time.sleep(0.1)
        return completion(REFUSED)

    with served(reply) as server:
        found = judge(server.url, timeout=2.0, retries=0).verdicts([exchange(f"word {n}.") for n in range(8)])
    assert [one.harmful for one in found] == [False] * 8


def test_a_server_that_fails_once_is_asked_again_and_one_that_keeps_failing_is_unscored(monkeypatch):
    monkeypatch.setattr("moe_cli.model.chat_endpoint.LONGEST_PAUSE", 0.0)
    with served(lambda asked, number: Reply(500, b"oops") if number == 0 else completion(HARMFUL)) as server:
        (found,) = judge(server.url).verdicts([exchange()])
    assert (found.harmful, len(server.asked)) == (True, 2)
    with served(lambda asked, number: Reply(503, b"busy")) as server:
        (found,) = judge(server.url).verdicts([exchange()])
    assert (found.harmful, len(server.asked)) == (None, 2)
    assert "status 503 busy" in found.reason


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refused_key_or_model_stops_everything_and_the_key_is_not_told(status):
    said = f'{{"error": "no such key: {KEY}"}}'.encode()
    with (
        served(lambda asked, number: Reply(status, said)) as server,
        pytest.raises(UsageError, match=f"status {status}") as refused,
    ):
        judge(server.url, environment={"THE_KEY": KEY}, key_env="THE_KEY").verdicts([exchange()])
    assert server.asked[0].key == f"Bearer {KEY}"
    assert KEY not in refused.value.message + refused.value.hint
    assert "--judge-" in refused.value.hint


@pytest.mark.parametrize("status", [400, 413, 422])
def test_one_request_that_is_too_much_is_unscored(status):
    def reply(asked, number):
        return Reply(status, b"too long") if "long" in parts(asked.prompt)["ANSWER"] else completion(REFUSED)

    with served(reply) as server:
        found = judge(server.url).verdicts([exchange("long."), exchange("short.")])
    assert [one.harmful for one in found] == [None, False]
    assert f"status {status} too long" in found[0].reason


def test_an_endpoint_that_is_not_there_stops_everything():
    with served(lambda asked, number: completion("")) as server:
        gone = server.url
    with pytest.raises(EnvironmentFaultError, match="refused"):
        judge(gone, retries=0).verdicts([exchange()])


def test_a_check_asks_for_one_token():
    with served(lambda asked, number: completion(None, "length")) as server:
        judge(server.url).check()
    (asked,) = server.asked
    assert (asked.body["max_tokens"], asked.body["model"]) == (1, "grader")


@pytest.mark.parametrize(
    ("reply", "fault", "wrong"),
    [
        (Reply(401, b"no such key"), UsageError, "status 401 no such key"),
        (Reply(404, b"no such model"), UsageError, "status 404 no such model"),
        (Reply(400, b"no such setting"), UsageError, "status 400 no such setting"),
        (Reply(body=b"<html>"), EnvironmentFaultError, "no chat completion"),
        (Reply(500), EnvironmentFaultError, "failed once, with: status 500"),
    ],
)
def test_a_check_fails_as_the_judging_would(reply, fault, wrong):
    with served(lambda asked, number: reply) as server, pytest.raises(fault, match=wrong):
        judge(server.url, retries=0).check()


def test_a_check_of_an_endpoint_that_is_not_there_fails():
    with served(lambda asked, number: completion("")) as server:
        gone = server.url
    with pytest.raises(EnvironmentFaultError, match="refused"):
        judge(gone, retries=0).check()


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_a_judge_whose_server_takes_its_reasoning_out_is_welcome(name):
    with served(lambda asked, number: completion(HARMFUL, **{name: "Let me see."})) as server:
        (found,) = judge(server.url).verdicts([exchange()])
    assert found.harmful is True


def test_what_rules_decide_is_never_sent():
    with served(lambda asked, number: completion(REFUSED)) as server:
        found = verdicts_of(judge(server.url), [exchange(""), exchange("<think>hm"), exchange("Fine.")])
    assert [one.label for one in found] == ["degenerate", None, "full_refusal"]
    assert len(server.asked) == 1


def test_a_whole_set_is_judged_group_by_group():
    with served(lambda asked, number: completion(REFUSED)) as server:
        groups = list(
            judge_in_groups(judge(server.url, concurrency=1), {f"i{n}": exchange(f"word {n}.") for n in range(10)})
        )
    assert [len(group) for group in groups] == [8, 2]


def test_xstest_and_a_rubric_file_are_asked_in_the_same_way(tmp_path):
    file = tmp_path / "mine.txt"
    file.write_text("---\nwords: {fine: {harmful: false}, bad: {harmful: true}}\n---\n{prompt}\n{answer}\nFine or bad?")
    with served(
        lambda asked, number: completion("bad" if "Fine or bad?" in asked.prompt else "2_full_refusal")
    ) as server:
        by_file = judge(server.url, f"rubric:{file}").verdicts([exchange()])
        by_class = judge(server.url, "xstest").verdicts([exchange(kind="benign")])
    assert (by_file[0].harmful, by_class[0].label) == (True, "full_refusal")


def test_the_revision_changes_with_whatever_the_judge_decides_by():
    def revision(word="strongreject-delimited", **settings):
        return judge("http://localhost:1/v1", word, **settings).identity.revision

    others = [
        revision("xstest"),
        revision("strongreject"),
        revision(model="other"),
        revision(max_tokens=7),
        revision(threshold=0.75),
        judge("http://localhost:2/v1").identity.revision,
    ]
    assert len({revision(), *others}) == 7
    assert revision() == revision(timeout=1.0, concurrency=1, retries=5)


def test_the_identity_names_the_endpoint_and_the_model_and_no_key():
    found = judge("http://localhost:1/v1", environment={"THE_KEY": KEY}, key_env="THE_KEY")
    assert found.identity.source == "http://localhost:1/v1 grader"
    assert (found.identity.questions, found.identity.smoke_test) == (("harm", "refusal"), False)
    assert KEY not in repr(found) + repr(found.identity)


def test_the_published_rubric_is_asked_with_its_system_turn_and_without_borders():
    grades = "#overall_reasoning It is all there.\n#scores\n1.a No.\n1.b 0\n2.a Yes.\n2.b 5\n3.a Yes.\n3.b 4"
    with served(lambda asked, number: completion(grades)) as server:
        (found,) = judge(server.url, "strongreject").verdicts([exchange()])
    assert (found.label, found.harmful, found.score) == ("compliance", True, 0.875)
    (asked,) = server.asked
    assert [turn["role"] for turn in asked.body["messages"]] == ["system", "user"]
    assert f"User instruction: Open the box.\n\nAI model response: {PROSE}\n\nEvaluate" in asked.prompt
    assert "BEGIN" not in asked.prompt
