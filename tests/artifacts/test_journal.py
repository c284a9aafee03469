"""Long work goes on where it stopped."""

import pytest

from moe_cli.artifacts.journal import (
    ANSWERS,
    Journal,
    answer_journal,
    drop_journals,
    other_answer_journals,
    verdict_journal,
)
from moe_cli.errors import ArtifactError
from moe_cli.records import Message

TURNS = [Message(role="user", content=f"turn {number}\n") for number in range(4)]


def test_a_journal_gives_back_what_was_appended_in_order(tmp_path):
    journal = Journal(tmp_path / "turns.jsonl", Message)
    assert journal.records() == []
    journal.append(TURNS[:1])
    journal.append(TURNS[1:3])
    assert journal.records() == TURNS[:3] == Journal(tmp_path / "turns.jsonl", Message).records()


def test_a_journal_cut_at_any_byte_goes_on_with_the_whole_records_before_the_cut(tmp_path):
    file = tmp_path / "turns.jsonl"
    Journal(file, Message).append(TURNS[:3])
    whole = file.read_bytes()
    for length in range(len(whole) + 1):
        file.write_bytes(whole[:length])
        journal = Journal(file, Message)
        kept = whole[:length].count(b"\n")
        assert journal.records() == TURNS[:kept]
        journal.append(TURNS[3:])
        assert Journal(file, Message).records() == [*TURNS[:kept], TURNS[3]]


def test_a_changed_line_in_the_middle_is_an_error_with_file_and_line(tmp_path):
    file = tmp_path / "turns.jsonl"
    Journal(file, Message).append(TURNS)
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(lines[0] + b'{"role": "king"}\n' + lines[2])
    with pytest.raises(ArtifactError, match=r"turns\.jsonl:2: Message"):
        Journal(file, Message).records()


def test_answers_to_other_prompts_or_of_another_model_are_not_found(tmp_path):
    mine = answer_journal(tmp_path, "model", ("prompt",), limit=32)
    assert mine == answer_journal(tmp_path, "model", ("prompt",), limit=32)
    for other in (("other", ("prompt",)), ("model", ("other",)), ("model",)):
        assert answer_journal(tmp_path, *other, limit=32) != mine
    assert answer_journal(tmp_path, "model", ("prompt",), limit=33) != mine
    assert mine.name.startswith(".") and mine.match(ANSWERS)


def test_journals_of_other_limits_are_those_of_the_same_answers_alone_the_smallest_limit_first(tmp_path):
    for limit, kept in ((8, False), (128, False), (16, False), (16, True), (32, False)):
        answer_journal(tmp_path, "model", limit=limit, kept=kept).touch()
    answer_journal(tmp_path, "another", limit=64).touch()
    found = other_answer_journals(tmp_path, "model", limit=32)
    assert list(found.values()) == [8, 16, 16, 128]
    assert {path for path, limit in found.items() if limit == 16} == {
        answer_journal(tmp_path, "model", limit=16, kept=kept) for kept in (False, True)
    }


def test_only_the_journals_of_an_unfinished_run_are_dropped(tmp_path):
    Journal(answer_journal(tmp_path, 1, limit=32), Message).append(TURNS)
    Journal(answer_journal(tmp_path, 2, limit=32, kept=True), Message).append(TURNS)
    Journal(verdict_journal(tmp_path, "judge"), Message).append(TURNS)
    (tmp_path / "records.jsonl").touch()
    drop_journals(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["records.jsonl"]
