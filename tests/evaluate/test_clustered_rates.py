"""Rates of outcomes that come in clusters: wider than Wilson's interval by what the clusters cost, and never narrower.

`python -m tests.evaluate.test_clustered_rates` prints how often the interval covers the truth.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_cli.evaluate.suite_rates import degenerate_share, metric_rate, summarise_suites
from moe_cli.stats.clusters import ItemMoments, design_effect
from moe_cli.stats.metrics import ATTACK_SUCCESS
from moe_cli.stats.proportions import rate_of, wilson_interval
from tests.builders import answered

CLUSTERS = st.lists(st.lists(st.sampled_from([True, False, None]), min_size=1, max_size=5), min_size=1, max_size=30)


def clustered(clusters):
    return rate_of([(f"goal-{place}", outcome) for place, cluster in enumerate(clusters) for outcome in cluster])


@given(CLUSTERS)
def test_an_interval_holds_wilson_s_whatever_the_clusters(clusters):
    rate = clustered(clusters)
    if rate.n:
        lower, upper = wilson_interval(rate.k, rate.n)
        assert 0.0 <= rate.lower <= lower + 1e-12
        assert upper - 1e-12 <= rate.upper <= 1.0
        assert rate.lower <= rate.rate <= rate.upper


@given(CLUSTERS, st.randoms())
def test_the_order_of_outcomes_changes_nothing(clusters, generator):
    pairs = [(f"goal-{place}", outcome) for place, cluster in enumerate(clusters) for outcome in cluster]
    assert rate_of(generator.sample(pairs, len(pairs))) == rate_of(pairs)


@given(st.lists(st.booleans(), min_size=1, max_size=60))
def test_with_one_scored_outcome_in_every_cluster_it_is_wilson_s_to_the_last_bit(outcomes):
    rate = clustered([[outcome, None] for outcome in outcomes])
    assert (rate.lower, rate.upper) == wilson_interval(sum(outcomes), len(outcomes))


def test_outcomes_that_are_alike_within_their_cluster_are_worth_one_for_each_cluster():
    # 40 goals, three attacks each that all succeed or all fail: worth 40 outcomes, not 120.
    rate = clustered([[True] * 3] * 10 + [[False] * 3] * 30)
    assert (rate.k, rate.n, rate.rate) == (30, 120, 0.25)
    assert (rate.lower, rate.upper) == pytest.approx(wilson_interval(10, 40), abs=0.004)


def test_the_design_effect_of_clusters_that_are_all_alike_is_their_size():
    # Two clusters are added: m = 42, n = 126, p = 33 / 126. Every y - p n is 3 (1 - p) or -3 p, so that
    # sum (y - p n)^2 = 9 * 42 p (1 - p), and the effect is 42 / 41 * 9 * 42 / 126^2 * 125 = 3.049.
    yes_C, sizes_C = np.array([3.0] * 11 + [0.0] * 31), np.full(42, 3.0)
    assert design_effect(yes_C, sizes_C, ItemMoments(votes=126, sums=33, squares=33)) == pytest.approx(
        42 / 41 * 9 * 42 / 126**2 * 125
    )


def test_no_yes_at_all_is_as_unsure_as_the_clusters_that_it_rests_on():
    none, one = clustered([[False] * 3] * 100), clustered([[True, False, False]] + [[False] * 3] * 99)
    assert (none.lower, none.rate) == (0.0, 0.0)
    assert wilson_interval(0, 300)[1] < none.upper < one.upper


def covered(share, alike, num_clusters, size, *, num_draws, seed=0):
    """Shares of the draws whose interval holds the truth: ours, and Wilson's as if outcomes were independent."""
    generator = np.random.default_rng(seed)
    ours = plain = 0
    for _ in range(num_draws):
        sizes = generator.integers(1, 2 * size, num_clusters)
        a, b = (part * (1 - alike) / alike for part in (share, 1 - share))
        yes = generator.binomial(sizes, generator.beta(a, b, num_clusters))
        rate = clustered([[True] * int(y) + [False] * int(n - y) for y, n in zip(yes, sizes, strict=True)])
        lower, upper = wilson_interval(rate.k, rate.n)
        ours += rate.lower <= share <= rate.upper
        plain += lower <= share <= upper
    return ours / num_draws, plain / num_draws


def test_the_interval_covers_the_truth_where_independent_outcomes_would_claim_too_much():
    ours, plain = covered(0.3, 0.5, num_clusters=40, size=3, num_draws=400)
    assert ours > 0.92
    assert plain < 0.85


# As if clusters had one size, one giant goal covered .041 and .763 of draws, and was 12 and 35 points wide.
@pytest.mark.parametrize("giant", [50, 1000])
def test_one_giant_goal_does_not_make_a_rate_sure(giant):
    random = np.random.default_rng(6)
    held = 0
    for _ in range(300):
        shares = random.beta(0.5, 0.5, 51)
        yes = random.binomial([giant] + [1] * 50, shares)
        rate = clustered([[True] * y + [False] * (n - y) for y, n in zip(yes, [giant] + [1] * 50, strict=True)])
        held += rate.lower <= 0.5 <= rate.upper
    assert held >= 285
    assert rate.effective_clusters == pytest.approx((giant + 50) ** 2 / (giant**2 + 50))


def test_several_answers_to_one_item_do_not_make_a_rate_surer():
    labels = ["compliance"] * 12 + ["full_refusal"] * 28
    once = [answered(f"attacked/{place}", label, cluster=f"goal-{place}") for place, label in enumerate(labels)]
    thrice = [
        *once,
        *(answered(f"{one.item.id}#{n}", one.verdict.label, cluster=one.item.cluster) for n in (2, 3) for one in once),
    ]
    narrow, wide = (metric_rate(ATTACK_SUCCESS, records) for records in (once, thrice))
    assert (wide.k, wide.n, wide.rate) == (3 * narrow.k, 3 * narrow.n, narrow.rate)
    assert (wide.lower, wide.upper) == pytest.approx((narrow.lower, narrow.upper), abs=0.005)
    summary = summarise_suites(thrice)[0]
    assert summary.attack_success == wide
    assert summary.degenerate == degenerate_share(thrice)
    assert summary.cut_off.upper > wilson_interval(0, 120)[1]


if __name__ == "__main__":
    print("| share | alike | clusters | answers in each | covered | as if independent |\n|" + " --- |" * 6)
    for share in (0.02, 0.1, 0.3, 0.5):
        for alike in (0.001, 0.3, 0.8):
            for num_clusters in (10, 30, 100):
                ours, plain = covered(share, alike, num_clusters, 3, num_draws=5000)
                print(f"| {share} | {alike} | {num_clusters} | 1-5 | {ours:.3f} | {plain:.3f} |", flush=True)
