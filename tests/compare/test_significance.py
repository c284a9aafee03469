"""p-values and corrections equal those of the reference libraries, and clusters are not taken for independent items."""

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from moe_cli.stats.significance import benjamini_hochberg, holm, mcnemar_p, sign_flip_p

P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=12)


@given(st.integers(0, 200), st.integers(0, 200))
def test_mcnemar_matches_statsmodels(only_a, only_b):
    expected = mcnemar([[5, only_a], [only_b, 5]], exact=True).pvalue if only_a + only_b else 1.0
    assert mcnemar_p(only_a, only_b) == pytest.approx(expected, rel=1e-9)


@given(st.lists(st.sampled_from([-1, 0, 1]), max_size=80))
def test_sign_flips_of_clusters_of_one_item_are_exact_mcnemar(differences):
    p_value = sign_flip_p(np.array(differences, dtype=np.int64))
    assert p_value == pytest.approx(mcnemar_p(differences.count(-1), differences.count(1)), rel=1e-9)


@given(st.lists(st.integers(-4, 4), min_size=1, max_size=9))
def test_sign_flips_match_counting_all_patterns(differences):
    sums = [abs(np.dot(signs, differences)) for signs in product((-1, 1), repeat=len(differences))]
    expected = np.mean([found >= abs(sum(differences)) for found in sums])
    assert sign_flip_p(np.array(differences)) == pytest.approx(expected)


@given(st.lists(st.sampled_from([-1, -0.75, -0.5, 0, 0.25, 1 / 3, 1]), min_size=1, max_size=9))
def test_sign_flips_of_fractions_match_counting_all_patterns(differences):
    sums = [abs(np.dot(signs, differences)) for signs in product((-1, 1), repeat=len(differences))]
    expected = np.mean([found >= abs(sum(differences)) - 1e-9 for found in sums])
    assert sign_flip_p(np.array(differences)) == pytest.approx(expected)


def exact_p(differences):
    """The same by counting, in whole numbers."""
    patterns = {0: 1}
    for size in map(abs, differences):
        wider = {}
        for total, times in patterns.items():
            for reached in (total - size, total + size):
                wider[reached] = wider.get(reached, 0) + times
        patterns = wider
    reached = sum(times for total, times in patterns.items() if abs(total) >= abs(sum(differences)))
    return float(Fraction(reached, 2 ** len(differences)))


SIZES = st.sampled_from([1, 2, 3, 5, 8, 250])


@given(st.lists(SIZES, min_size=1, max_size=60), st.integers(0, 8), st.randoms())
def test_sign_flips_are_exact_to_the_ninth_digit_in_the_deepest_tail_too(sizes, num_against, random):
    against = set(random.sample(range(len(sizes)), min(num_against, len(sizes))))
    differences = [-size if place in against else size for place, size in enumerate(sizes)]
    assert sign_flip_p(np.array(differences)) == pytest.approx(exact_p(differences), rel=1e-9, abs=0)


def test_sign_flips_of_a_thousand_clusters_are_exact_at_1e_119():
    differences = [3] * 400 + [1] * 500 + [-2] * 80 + [-1] * 100
    expected = exact_p(differences)
    assert 1e-130 < expected < 1e-100
    assert sign_flip_p(np.array(differences)) == pytest.approx(expected, rel=1e-9, abs=0)


def test_the_p_of_100_000_clusters_is_near_the_normal_one():
    differences = np.random.default_rng(2).integers(-3, 4, 100_000)
    z = (abs(differences.sum()) - 1) / np.sqrt((differences**2).sum())
    assert sign_flip_p(differences) == pytest.approx(2 * norm.sf(z), rel=1e-4)


def test_sign_flips_of_measurements_are_those_of_their_thousandths():
    measured = np.random.default_rng(1).normal(0.1, 0.2, 40)
    assert sign_flip_p(measured) == sign_flip_p(np.rint(1000 * measured).astype(np.int64))


@given(st.lists(st.integers(-4, 4), max_size=30))
def test_swapping_the_runs_changes_no_p_value(differences):
    forward = np.array(differences, dtype=np.int64)
    assert sign_flip_p(forward) == sign_flip_p(-forward)


def test_items_that_move_together_are_weaker_evidence_than_mcnemar_says():
    # Four goals, three variants each, all of a goal flip together: 12 of 12 items, but only 4 independent facts.
    assert mcnemar_p(12, 0) == 2 / 2**12
    assert sign_flip_p(np.array([-3, -3, -3, -3])) == 2 / 2**4


def test_nothing_flipped_gives_one():
    assert mcnemar_p(0, 0) == sign_flip_p(np.zeros(5, dtype=np.int64)) == sign_flip_p(np.array([], dtype=np.int64)) == 1


@given(P_VALUES)
def test_holm_matches_statsmodels(p_values):
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1])


@given(P_VALUES)
def test_benjamini_hochberg_matches_statsmodels(p_values):
    assert benjamini_hochberg(p_values) == pytest.approx(multipletests(p_values, method="fdr_bh")[1])


def test_an_empty_family_needs_no_correction():
    assert holm([]) == benjamini_hochberg([]) == ()
