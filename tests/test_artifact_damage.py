"""Damaged artifacts and numbers that are none, in small; `artifact_damage.py`, `not_finite.py` in studies are long."""

from __future__ import annotations

import pytest
import torch

from tests.studies import artifact_damage, not_finite


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def test_a_damaged_file_of_any_artifact_works_or_is_refused_by_name(tmp_path):
    found = list(artifact_damage.cases(tmp_path, 60, 3, wide=False))
    assert [case for case in found if case.outcome in artifact_damage.FAULTS] == []
    assert {case.outcome for case in found} == {"works", "refused"}
    assert {case.form for case in found} == {"kept", "fits"}


def test_a_number_that_is_none_is_refused_by_name_and_written_nowhere(tmp_path):
    found = list(not_finite.outcomes(tmp_path, every=17, wide=False))
    assert [made for made in found if made.outcome in not_finite.FAULTS] == []
    kinds = {made.injection.kind for made in found if made.outcome == "refused"}
    assert {"base", "checkpoint", "counts", "records", "settings", "training"} <= kinds
