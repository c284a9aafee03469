"""Short forms of `tests/studies/intervals.py` and `suites.py`: the interval covers where others do not."""

from __future__ import annotations

import numpy as np
import pytest

from tests.studies.intervals import Scenario, shares
from tests.studies.suites import Scenario as Suites
from tests.studies.suites import pair


def test_with_clusters_the_interval_covers_and_sign_flips_keep_the_level_that_mcnemar_loses():
    clustered = Scenario(num_items=198, cluster_size=3, rate_a=0.5, rate_b=0.5, within=0.9, between=0.2)
    found = shares(clustered, draws=300, random=np.random.default_rng(0))
    assert 0.92 <= found.covered <= 0.98
    assert found.rejected <= 0.08
    assert found.rejected_by_mcnemar >= 0.1


def test_with_three_seeds_the_interval_covers_where_resampling_runs_does_not():
    seeded = Scenario(
        num_items=198, cluster_size=3, rate_a=0.5, rate_b=0.5, within=0.5, between=0.5, runs=(3, 3), seed=0.05
    )
    found = shares(seeded, draws=300, random=np.random.default_rng(0))
    assert 0.92 <= found.covered <= 0.99
    assert found.rejected <= 0.08
    assert found.covered_by_bootstrap <= 0.9


@pytest.mark.parametrize("num_goals", [0, 50])
def test_a_mean_of_suites_of_unequal_size_is_covered_and_its_sign_flips_keep_the_level(num_goals):
    random = np.random.default_rng(0)
    found = [pair(Suites((200, 50), (0.1, 0.4), num_goals), 0.0, random) for _ in range(300)]
    assert 0.92 <= np.mean([one.lower <= 0 <= one.upper for one in found]) <= 0.99
    assert np.mean([one.p_value < 0.05 for one in found]) <= 0.08


def test_one_more_answer_in_the_smallest_suite_counts_as_much_as_its_share():
    many = Suites((1000, 20), (0.0, 0.0))
    nothing = pair(many, 0.0, np.random.default_rng(0))
    alone = pair(Suites((20,), (0.0,)), 0.0, np.random.default_rng(0))
    assert nothing.upper == pytest.approx(alone.upper / 2, rel=0.1)
