"""Damaged artifacts and numbers that are none, in small; `artifact_damage.py`, `not_finite.py` in studies are long."""

from __future__ import annotations

import pytest
import torch

from tests.studies import artifact_damage, not_finite
from tests.studies.in_process import experiment


@pytest.fixture(scope="module")
def box(tmp_path_factory):
    torch.set_num_threads(1)
    with experiment(tmp_path_factory.mktemp("experiment"), wide=False) as made:
        yield made


def test_a_damaged_file_of_any_artifact_works_or_is_refused_by_name(box):
    found = list(artifact_damage.cases(box, 50, 3))
    assert [case for case in found if case.outcome in artifact_damage.FAULTS] == []
    assert {case.outcome for case in found} == {"works", "refused"}
    assert {case.form for case in found} == {"kept", "fits"}


def test_a_number_that_is_none_is_refused_by_name_and_written_nowhere(box):
    found = list(not_finite.outcomes(box, every=23))
    assert [made for made in found if made.outcome in not_finite.FAULTS] == []
    kinds = {made.injection.kind for made in found if made.outcome == "refused"}
    assert {"base", "checkpoint", "counts", "records", "settings", "training"} <= kinds
