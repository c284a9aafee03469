"""The shares of a union's risk difference, with intervals, and when there are none."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from moe_cli.prepare.contrasts import harm_clusters, quantity_of, sum_over_batches, wrapper_clusters
from moe_cli.prepare.uncertainty import expert_parts
from moe_cli.prepare.union_evidence import risk_parts
from tests.prepare.replayed import replayed


def found_in(counts, union, resamples=400):
    found = risk_parts(counts, range(len(counts.pair_ids)), union, resamples=resamples, seed=0)
    assert found is not None
    return found


def test_the_shares_are_those_of_the_sums_and_text_and_prompts_are_all_of_it():
    counts = replayed(40, text=4, prompt=2, wrapper=1, harmless=30)
    found = found_in(counts, [0, 1])
    risk = quantity_of("risk_diff", counts, range(40)).ravel()[:2].sum()
    assert found.risk_diff == pytest.approx(risk)
    assert found.text.share == pytest.approx(quantity_of("text", counts, range(40)).ravel()[:2].sum() / risk)
    assert found.text.share + found.prompt.share == pytest.approx(1)
    assert found.wrapper.share == pytest.approx(sum_over_batches(wrapper_clusters(counts))[:2].sum() / risk)
    assert found.harm.share == pytest.approx(sum_over_batches(harm_clusters(counts, range(40)))[:2].sum() / risk)
    assert (found.num_goals, found.num_harmless) == (40, 30)
    for part in (found.text, found.prompt, found.wrapper, found.harm):
        assert part.lower < part.share < part.upper


def test_the_interval_is_that_of_a_plain_bootstrap_of_the_quotient():
    counts = replayed(25, text=3, prompt=2)
    found, random = found_in(counts, [0, 1], resamples=4000), np.random.default_rng(5)
    shares = []
    for _ in range(1500):
        drawn = random.integers(25, size=25)
        text, risk = (quantity_of(name, counts, drawn).ravel()[:2].sum() for name in ("text", "risk_diff"))
        shares.append(text / risk)
    assert (found.text.lower, found.text.upper) == pytest.approx(tuple(np.quantile(shares, [0.025, 0.975])), abs=0.01)


def test_the_interval_of_harm_resamples_goals_and_harmless_prompts_each_for_themselves():
    counts, harmless = replayed(25, text=3, harmless=15), np.arange(15)
    found, random = found_in(counts, [0, 1], resamples=4000), np.random.default_rng(5)
    shares = []
    for _ in range(1500):
        drawn, other = random.integers(25, size=25), random.choice(harmless, size=15)
        complied = counts.routed[drawn, 1].sum(0).ravel()[:2].sum() / counts.seen[drawn, 1].sum()
        wrapped = counts.harmless.routed[other, 1].sum(0).ravel()[:2].sum() / counts.harmless.seen[other].sum()
        shares.append((complied - wrapped) / quantity_of("risk_diff", counts, drawn).ravel()[:2].sum())
    assert (found.harm.lower, found.harm.upper) == pytest.approx(tuple(np.quantile(shares, [0.025, 0.975])), abs=0.02)


def test_a_difference_that_may_be_0_has_no_shares():
    found = found_in(replayed(12, harmless=6), [3, 4])
    assert {part.share for part in (found.text, found.prompt, found.wrapper, found.harm)} == {None}
    assert found_in(replayed(1, text=9), [0]).text.share is None


def test_what_was_not_counted_has_no_part():
    counts = replayed(10, text=4)
    found = found_in(counts, [0])
    assert (found.wrapper, found.harm, found.num_harmless) == (None, None, 0)
    assert risk_parts(counts, range(10), [], resamples=10, seed=0) is None
    assert risk_parts(dataclasses.replace(counts, crossed=None), range(10), [0], resamples=10, seed=0) is None


def test_every_expert_has_its_text_in_every_batch_and_its_wrapper_and_harm_in_the_run():
    counts = replayed(6, text=3, harmless=4)
    found = expert_parts(counts, [[0, 1, 2], [3, 4, 5]])
    assert found.text == pytest.approx(quantity_of("text", counts, range(6)))
    assert found.text_of_batches[1] == pytest.approx(quantity_of("text", counts, [3, 4, 5]))
    assert found.wrapper.ravel() == pytest.approx(sum_over_batches(wrapper_clusters(counts)))
    assert found.harm.ravel() == pytest.approx(sum_over_batches(harm_clusters(counts, range(6))))
    nothing = expert_parts(dataclasses.replace(counts, crossed=None, harmless=None), [[0]])
    assert (nothing.text, nothing.text_of_batches, nothing.wrapper, nothing.harm) == (None, None, None, None)
