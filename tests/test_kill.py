"""A killed run ends as the uninterrupted one; long forms: `tests/kill_and_resume.py` and `tests/studies/crashes.py`."""

from __future__ import annotations

from tests.kill_and_resume import outcomes
from tests.studies.crashes import crashes


def test_killed_trainings_resume_bit_for_bit_with_no_manual_step(tmp_path):
    found = list(outcomes(tmp_path, kills=6, seed=1))
    assert [outcome.same for outcome in found] == [True] * 6
    assert {outcome.arm for outcome in found} == {"selective", "baseline", "alternating"}
    assert sum(outcome.begun for outcome in found) >= 2  # the others were killed before they began or after the end


def test_commands_killed_before_a_file_operation_end_as_the_undisturbed_ones_and_leave_nothing(tmp_path):
    found = list(crashes(tmp_path / "experiment", ("prepare", "select"), every=18, first=3))
    assert {crash.command for crash in found} == {"prepare", "select"}
    assert [crash for crash in found if crash.problem is not None] == []
