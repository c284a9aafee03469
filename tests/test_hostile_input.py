"""Hostile words and files in small; long forms: `hostile_words.py` and `hostile_files.py` in `tests/studies`."""

from __future__ import annotations

from tests.studies import hostile_files, hostile_words


def test_a_hostile_word_is_used_as_a_word_or_refused_and_leaves_nothing():
    found = list(hostile_words.study(0.0008, 9, with_runs=False))
    assert {one.case.kind for one in found} == set(hostile_words.WORDS)
    assert {one.outcome for one in found} >= {"refused", "begun"}
    assert [one.fault for one in found if one.fault is not None] == []


def test_a_file_of_wrong_content_is_read_as_what_it_says_or_refused_by_name():
    found = list(hostile_files.study(0.04, 7, with_runs=False))
    assert len({one.case.kind for one in found} & set(hostile_files.INPUTS)) >= 10
    assert "refused" in {one.outcome for one in found}
    assert [one.fault for one in found if one.fault is not None] == []


def test_in_the_study_of_files_every_command_takes_the_content_that_is_right():
    right = list(hostile_files.study(1.0, 7, with_runs=False, names=("right",)))
    taken = {one.case.kind for one in right if one.outcome in ("done", "begun")}
    assert taken == set(hostile_files.INPUTS) - set(hostile_files.NO_FILES)
