"""A killed run resumes to the uninterrupted one; `tests/kill_and_resume.py --kills 50` is the long form."""

from __future__ import annotations

from tests.kill_and_resume import outcomes


def test_ten_killed_runs_resume_bit_for_bit_with_no_manual_step(tmp_path):
    found = list(outcomes(tmp_path, kills=10, seed=1))
    assert [outcome.same for outcome in found] == [True] * 10
    assert sum(outcome.begun for outcome in found) >= 4  # the others were killed before they began or after the end
