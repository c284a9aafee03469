"""A short form of `tests/studies/intervals.py`: the interval covers where McNemar or the bootstrap do not."""

from __future__ import annotations

import numpy as np

from tests.studies.intervals import Scenario, shares


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
