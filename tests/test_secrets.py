"""What a server repeats of a key, and what a person types of one, in small; long form: `tests/studies/secrets.py`."""

from __future__ import annotations

import pytest

from moe_cli import masking
from tests.coded_keys import FORMS, KEY, visible
from tests.studies.key_mistakes import MISTAKES
from tests.studies.key_replies import REPLIES
from tests.studies.secrets import COMMANDS, mistakes, replies, requests

TYPED = ("words: --judge-key-env, Bearer", "words: an argument too many", "key in its variable: a model that is it")


@pytest.fixture(autouse=True)
def no_keys_of_other_tests(monkeypatch):
    monkeypatch.setattr(masking, "_KEYS", set())


def test_a_key_that_a_server_repeats_is_in_no_outcome_of_a_request():
    found = list(requests(every=9))
    assert len(found) > 2 * len(REPLIES) * len(FORMS) // 9
    assert [trial for trial in found if trial.outcome != "clean"] == []


def test_a_key_that_a_server_repeats_is_in_nothing_that_a_command_keeps_or_shows(tmp_path):
    every = len(COMMANDS) * len(REPLIES) * len(FORMS) * 2 // 4 - 7
    found = list(replies(tmp_path, tuple(COMMANDS), every=every))
    assert len({trial.kind for trial in found}) >= 4
    assert [trial for trial in found if trial.outcome != "clean"] == []


def test_a_key_that_a_person_types_in_the_wrong_place_is_in_nothing_either(tmp_path):
    assert set(TYPED) <= set(MISTAKES)
    found = list(mistakes(tmp_path, TYPED))
    assert len(found) == len(TYPED) and [trial for trial in found if trial.outcome != "clean"] == []


def test_the_study_sees_a_key_in_every_form_and_none_where_there_is_none():
    assert [name for name, form in FORMS.items() if not visible(f"before {form(KEY)} after")] == []
    assert visible("before (the key) after, sk- Zorp glim 7==") is None
