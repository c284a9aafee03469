"""A judging program: its lines in and out, and whatever can be wrong with them."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from pathlib import Path

import pytest

from moe_cli.config.sections import JudgeConfig
from moe_cli.errors import EnvironmentFaultError, UsageError
from moe_cli.judges import command as calls
from moe_cli.judges.command import CommandJudge
from moe_cli.records.judging import QUESTIONS
from tests.judges.exchanges import exchange

READS = "import json, sys\nrows = [json.loads(line) for line in sys.stdin]\n"
REFUSALS = READS + (
    "for row in rows:\n"
    "    no = row['answer'].startswith('No')\n"
    "    print(json.dumps({'id': row['id'], 'label': 'full_refusal' if no else 'compliance', 'harmful': not no,\n"
    "                      'reason': row['kind'] + ' ' + row['messages'][-1]['content'], 'score': 0.25}))\n"
)


def judge(tmp_path, program, *, questions=QUESTIONS, words=(), **settings):
    file = tmp_path / "judge.py"
    file.write_text(program)
    config = JudgeConfig(**({"timeout": 20.0, "retries": 0} | settings))
    return CommandJudge([sys.executable, str(file), *words], questions, config)


def test_a_program_reads_exchanges_and_writes_verdicts(tmp_path):
    found = judge(tmp_path, REFUSALS).verdicts([exchange("Sure."), exchange("No.", prompt="Why?", kind="benign")])
    assert [(one.label, one.harmful, one.reason, one.score) for one in found] == [
        ("compliance", True, "harmful Open the box.", 0.25),
        ("full_refusal", None, "benign Why?", 0.25),
    ]


def test_the_program_in_the_documentation_is_a_whole_one(tmp_path):
    page = Path(__file__).parent.parent.parent / "docs" / "judges.md"
    (program,) = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    found = judge(tmp_path, program).verdicts([exchange("Sure."), exchange("No.")])
    assert [(one.label, one.harmful) for one in found] == [("compliance", True), ("full_refusal", False)]


def test_the_lines_that_it_reads_have_the_documented_fields(tmp_path):
    program = READS + f"open({str(tmp_path / 'seen')!r}, 'w').write(json.dumps(rows))"
    judge(tmp_path, program).verdicts([exchange('He said "no"\n\u20ac')])
    (row,) = json.loads((tmp_path / "seen").read_text())
    assert row == {
        "id": "0",
        "kind": "harmful",
        "messages": [{"role": "user", "content": "Open the box."}],
        "answer": 'He said "no"\n\u20ac',
    }


def test_verdicts_come_back_in_order_whatever_the_order_of_the_lines(tmp_path):
    program = (
        READS
        + "for row in reversed(rows): print(json.dumps({'id': row['id'], 'reason': row['answer'], 'harmful': True}))"
    )
    answers = [f"word {n}." for n in range(20)]
    found = judge(tmp_path, program).verdicts([exchange(answer) for answer in answers])
    assert [one.reason for one in found] == answers


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("''", "gave no line"),
        ("'nonsense'", "cannot be read: 'nonsense'"),
        ("'[]'", "cannot be read: '[]'"),
        ("""'{"id": "0", "harmful": "yes"}'""", "harmful"),
        ("""'{"id": 0, "harmful": true}'""", "id"),
        ("""'{"id": "0", "label": "refused"}'""", "label"),
        ("""'{"id": "0", "harmful": true, "extra": 1}'""", "extra"),
        ("""'{"id": "0", "harmful": true, "score": NaN}'""", "cannot be read"),
        ("""'{"id": "7", "harmful": true}'""", "gave no line"),
        ("""'{"id": "0", "harmful": true}\\n{"id": "0", "harmful": false}'""", "gave 2 lines"),
        ("""'{"id": "0"}'""", "no reason"),
    ],
)
def test_a_line_that_is_missing_garbled_or_given_twice_is_unscored_with_the_reason(line, why, tmp_path):
    (found,) = judge(tmp_path, f"print({line})").verdicts([exchange()])
    assert (found.label, found.harmful) == (None, None)
    assert why in found.reason


def test_one_bad_line_leaves_the_others_scored(tmp_path):
    program = READS + "print('hm'); print(json.dumps({'id': '1', 'harmful': False, 'label': 'compliance'}))"
    found = judge(tmp_path, program).verdicts([exchange(), exchange()])
    assert [one.harmful for one in found] == [None, False]


def test_what_is_left_unscored_is_asked_again_and_only_that(tmp_path):
    program = READS + (
        f"seen = {str(tmp_path / 'seen')!r}\n"
        "open(seen, 'a').write(str(len(rows)) + ' ')\n"
        "if len(open(seen).read().split()) == 1: rows = rows[:1]\n"
        "for row in rows: print(json.dumps({'id': row['id'], 'harmful': True, 'reason': row['answer']}))"
    )
    found = judge(tmp_path, program, retries=2).verdicts([exchange("a."), exchange("b."), exchange("c.")])
    assert [one.reason for one in found] == ["a.", "b.", "c."]
    assert (tmp_path / "seen").read_text() == "3 2 "


def test_a_program_that_fails_is_an_error_with_the_end_of_what_it_said(tmp_path):
    program = "import sys; sys.stderr.write('x' * 5000 + ' no licence\\n'); sys.exit(3)"
    with pytest.raises(
        EnvironmentFaultError, match=r"^the judge command:judge.py ended with status 3: x+ no licence$"
    ) as error:
        judge(tmp_path, program).verdicts([exchange()])
    assert len(error.value.message) < 700


def test_a_program_that_takes_too_long_is_ended_with_all_that_it_started(tmp_path):
    script = f"sleep 60 & echo $! > {tmp_path / 'child'}; wait"
    slow = CommandJudge(["sh", "-c", script], QUESTIONS, JudgeConfig(timeout=0.7, retries=0))
    (found,) = slow.verdicts([exchange()])
    assert (found.harmful, found.reason) == (None, "the program took more than 0.7 s")
    child = int((tmp_path / "child").read_text())
    for _ in range(100):
        if not _runs(child):
            break
        time.sleep(0.01)
    assert not _runs(child)


def _runs(process):
    """Whether a process is there and not only waiting to be counted."""
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_program_that_reads_nothing_is_no_trouble(tmp_path):
    (found,) = judge(tmp_path, """print('{"id": "0", "harmful": true}')""").verdicts([exchange("blue " * 100_000)])
    assert found.harmful is True


def test_no_shell_reads_the_words(tmp_path):
    program = "import json, sys\nprint(json.dumps({'id': '0', 'harmful': True, 'reason': ' '.join(sys.argv[1:])}))"
    words = ("$HOME", "a;b", "`id`", "*", "two words")
    (found,) = judge(tmp_path, program, words=words).verdicts([exchange()])
    assert found.reason == "$HOME a;b `id` * two words"


@pytest.mark.parametrize(
    ("questions", "label", "harmful"), [(("harm",), None, True), (("refusal",), "compliance", None)]
)
def test_a_program_is_heard_only_on_what_it_was_named_for(questions, label, harmful, tmp_path):
    (found,) = judge(tmp_path, REFUSALS, questions=questions).verdicts([exchange("Sure.")])
    assert (found.label, found.harmful) == (label, harmful)


@pytest.mark.parametrize(
    ("questions", "kind", "found"),
    [
        (QUESTIONS, "harmful", (None, None)),
        (QUESTIONS, "benign", ("full_refusal", None)),
        (("harm",), "harmful", (None, True)),
        (("refusal",), "harmful", ("full_refusal", None)),
    ],
)
def test_a_verdict_that_contradicts_itself_in_what_is_heard_is_unscored(questions, kind, found, tmp_path):
    program = """print('{"id": "0", "label": "full_refusal", "harmful": true, "reason": "both"}')"""
    (verdict,) = judge(tmp_path, program, questions=questions).verdicts([exchange(kind=kind)])
    assert (verdict.label, verdict.harmful) == found
    contradicts = "the program contradicts itself: a full refusal, and harmful"
    assert verdict.reason == ("both" if any(found) else contradicts)


def test_a_program_that_writes_without_end_is_ended_and_its_answers_are_unscored(tmp_path, monkeypatch):
    monkeypatch.setattr(calls, "LARGEST", 100_000)
    endless = "import sys\nwhile True: sys.stdout.write('x' * 10_000)"
    (found,) = judge(tmp_path, endless, timeout=60.0).verdicts([exchange()])
    assert (found.harmful, found.reason) == (None, "the program wrote more than 100,000 bytes")


def test_a_program_that_complains_without_end_keeps_its_verdict_and_the_end_of_its_complaint(tmp_path):
    loud = "import sys\nsys.stderr.write('x' * 1_000_000 + 'the end')\nprint('{\"id\": \"0\", \"harmful\": true}')"
    (found,) = judge(tmp_path, loud).verdicts([exchange("blue " * 100_000)])
    assert found.harmful is True
    ended = calls.run_program([sys.executable, str(tmp_path / "judge.py")], b"", seconds=20.0)
    assert ended.errors == b"x" * (calls.END_OF_STDERR - 7) + b"the end"


def test_a_program_that_has_said_all_and_does_not_end_is_ended(tmp_path):
    lingering = "import os, time\nos.close(1); os.close(2); os.close(0); time.sleep(60)"
    (found,) = judge(tmp_path, lingering, timeout=1.0).verdicts([exchange()])
    assert found.reason == "the program took more than 1 s"


def test_a_key_among_the_words_is_in_no_identity_and_no_error(tmp_path):
    found = judge(tmp_path, "import sys; sys.exit(3)", words=("--key", "sk-not-to-be-seen"))
    assert found.identity.source == f"{Path(sys.executable).name} judge.py"
    assert "sk-not" not in repr(found.identity)
    with pytest.raises(EnvironmentFaultError) as error:
        found.verdicts([exchange()])
    assert "sk-not" not in error.value.message + error.value.hint
    assert str(tmp_path) not in error.value.message


def test_a_program_can_call_an_answer_degenerate(tmp_path):
    program = """print('{"id": "0", "label": "degenerate", "harmful": true, "reason": "word salad"}')"""
    (found,) = judge(tmp_path, program, questions=("harm",)).verdicts([exchange()])
    assert (found.label, found.harmful, found.reason) == ("degenerate", None, "word salad")


def test_the_name_is_that_of_the_script_and_the_revision_changes_with_its_bytes_and_its_words(tmp_path):
    first = judge(tmp_path, REFUSALS)
    revision = first.identity.revision
    assert (first.name, first.identity.questions) == ("command:judge.py", QUESTIONS)
    assert judge(tmp_path, REFUSALS, timeout=1.0).identity.revision == revision
    others = [
        judge(tmp_path, REFUSALS, words=("--strict",)).identity.revision,
        judge(tmp_path, REFUSALS, questions=("harm",)).identity.revision,
        judge(tmp_path, REFUSALS + "# other\n").identity.revision,
    ]
    assert len({revision, *others}) == 4


def test_a_program_that_is_not_there_is_refused_at_once(tmp_path):
    with pytest.raises(UsageError, match="no program surely-not-there"):
        CommandJudge(["surely-not-there"], QUESTIONS, JudgeConfig())
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n")
    with pytest.raises(UsageError, match="no program"):
        CommandJudge([str(script)], QUESTIONS, JudgeConfig())
    os.chmod(script, 0o755)
    assert CommandJudge([str(script)], QUESTIONS, JudgeConfig()).name == "command:script"
