"""A short form of `tests/planted_truth.py`: planted experts are found, and nothing is found in nothing."""

from __future__ import annotations

import torch

from tests.planted_truth import rates

torch.set_num_threads(1)


def test_planted_experts_are_found_with_few_false_ones_and_nothing_is_found_without_a_difference():
    found = rates(num_planted_runs=5, num_null_runs=20)
    assert found.num_planted == 60
    assert found.num_found >= 0.95 * found.num_planted
    assert found.num_false <= 0.05 * found.num_selected
    assert found.num_null_runs_with_any <= 2  # more happens in less than 1 of 100 such tests where the share is 0.02
