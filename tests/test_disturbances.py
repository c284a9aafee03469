"""Full disks, signals and races in small; long forms: `full_disks.py`, `signals.py`, `races.py` in `tests/studies`."""

from __future__ import annotations

import random

from tests.studies.full_disks import outcomes
from tests.studies.races import races
from tests.studies.signals import stops


def test_a_command_that_meets_a_full_disk_says_so_and_ends_as_the_undisturbed_one_afterwards(tmp_path):
    found = list(outcomes(tmp_path / "experiment", ("prepare", "select"), every=45, first=20, sizes=1))
    assert {outcome.command for outcome in found if outcome.exit_code == 4} == {"prepare", "select"}
    assert [outcome for outcome in found if outcome.problem is not None] == []


def test_what_the_exit_code_says_after_a_signal_is_so(tmp_path):
    found = list(stops(tmp_path / "experiment", ("select",), 4, random.Random(7)))
    assert len({stop.number for stop in found}) == 4
    assert [stop for stop in found if stop.problem is not None] == []


def test_two_commands_that_write_to_one_place_end_with_a_reason_and_leave_whole_runs(tmp_path):
    found = list(races(tmp_path / "experiment", ("prepare + prepare", "select + select"), times=1))
    assert [race.pair for race in found] == ["prepare + prepare", "select + select"]
    assert [race for race in found if race.problem is not None] == []
