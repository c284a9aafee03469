"""The parts of the risk difference: their formulas, their resamples and swaps, and what they need."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from moe_cli.config import PrepareConfig
from moe_cli.errors import UsageError
from moe_cli.prepare.contrasts import (
    clusters_of,
    harm_clusters,
    is_recorded,
    quantity_of,
    refuse_unrecorded,
    sum_over_batches,
    wrapper_clusters,
)
from moe_cli.prepare.risk import pooled, pooled_swapped
from moe_cli.prepare.uncertainty import bootstrap_weights
from tests.prepare.replayed import replayed

QUANTITIES = ("risk_diff", "text", "prompt", "did")
PLAIN, ATTACKED, REFUSAL, COMPLIANCE = 0, 1, 0, 1


def rate(counts, form, answer, times):
    """The rate of every expert over the tokens of one answer after one form, each pair as often as it is drawn."""
    routed = counts.routed[:, form] if form == answer else counts.crossed[:, form]
    return np.einsum("n,nle->le", times, routed) / (times @ counts.seen[:, answer])


def parts(counts, times, harmless_times):
    """The formulas of docs/method.md, one by one."""
    r = {(form, answer): rate(counts, form, answer, times) for form in (0, 1) for answer in (0, 1)}
    risk = r[ATTACKED, COMPLIANCE] - r[PLAIN, REFUSAL]
    prompt = sum(r[ATTACKED, answer] - r[PLAIN, answer] for answer in (REFUSAL, COMPLIANCE)) / 2
    harmless = counts.harmless
    wrapped, plain = (np.einsum("m,mle->le", harmless_times, harmless.routed[:, form]) for form in (1, 0))
    wrapper = (wrapped - plain) / (harmless_times @ harmless.seen)
    return {"risk_diff": risk, "prompt": prompt, "text": risk - prompt, "did": risk - wrapper}


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_every_quantity_is_its_formula_however_often_a_cluster_is_drawn(quantity):
    counts = replayed(7, text=2, prompt=1, wrapper=1, harmless=5)
    clusters = clusters_of(quantity, counts, range(7))
    times = np.array([[1.0] * 7, [0, 3, 1, 1, 0, 2, 0]])
    harmless_times = np.array([[1.0] * 5, [2, 0, 1, 0, 2]])
    weights = np.hstack([times, harmless_times]) if quantity == "did" else times
    expected = [parts(counts, *row)[quantity].ravel() for row in zip(times, harmless_times, strict=True)]
    assert pooled(clusters, weights) == pytest.approx(np.array(expected), abs=1e-14)
    assert quantity_of(quantity, counts, range(7)).ravel() == pytest.approx(expected[0], abs=1e-14)


@pytest.mark.parametrize(
    ("planted", "there", "absent"),
    [({"text": 4}, "text", "prompt"), ({"prompt": 4}, "prompt", "text"), ({"wrapper": 4}, "prompt", "did")],
)
def test_each_part_is_found_where_it_was_planted_and_nowhere_else(planted, there, absent):
    counts = replayed(60, **planted, harmless=60)
    found = {name: sum_over_batches(clusters_of(name, counts, range(60))) for name in QUANTITIES}
    assert found["text"] + found["prompt"] == pytest.approx(found["risk_diff"], abs=1e-14)
    assert found["did"] + sum_over_batches(wrapper_clusters(counts)) == pytest.approx(found["risk_diff"], abs=1e-14)
    assert found[there].max() > 0.25
    assert np.abs(found[absent]).max() < 0.05


def harm(counts, times, harmless_times):
    """Rates inside attacks, of the pairs' compliance minus of harmless prompts, each as often as it is drawn."""
    wrapped = np.einsum("m,mle->le", harmless_times, counts.harmless.routed[:, ATTACKED])
    return rate(counts, ATTACKED, COMPLIANCE, times) - wrapped / (harmless_times @ counts.harmless.seen)


def test_harm_is_its_formula_however_often_a_cluster_of_either_kind_is_drawn():
    counts = replayed(7, text=2, prompt=1, wrapper=1, harmless=5)
    clusters = harm_clusters(counts, range(2, 7))
    assert clusters.sizes == (5, 5)
    times, harmless_times = np.array([0.0, 3, 1, 1, 0]), np.array([2.0, 0, 1, 0, 2])
    of_pairs = np.concatenate([[0, 0], times])
    assert pooled(clusters, np.hstack([times, harmless_times])[None])[0] == pytest.approx(
        harm(counts, of_pairs, harmless_times).ravel(), abs=1e-14
    )
    assert sum_over_batches(clusters) == pytest.approx(
        harm(counts, np.repeat([0.0, 1], [2, 5]), np.ones(5)).ravel(), abs=1e-14
    )


def test_harm_has_the_value_that_was_planted_and_none_of_the_wrapper():
    counts = replayed(3, harmless=2)
    counts.seen[:, ATTACKED], counts.harmless.seen[:] = 10, 20
    counts.routed[:, ATTACKED, 0, :4] = [10, 4, 8, 1]  # of 10 tokens
    counts.harmless.routed[:, ATTACKED, 0, :4] = [10, 8, 16, 18]  # of 20
    found = sum_over_batches(harm_clusters(counts, range(3)))
    assert found[:4] == pytest.approx([0.5, 0.0, 0.0, -0.8])
    counts.routed[:, PLAIN], counts.harmless.routed[:, PLAIN] = 0, 0  # neither plain form is in it
    assert sum_over_batches(harm_clusters(counts, range(3))) == pytest.approx(found)
    wrapped = replayed(60, wrapper=4, harmless=60)
    assert (
        sum_over_batches(wrapper_clusters(wrapped))[2] > 0.25
        and np.abs(sum_over_batches(harm_clusters(wrapped, range(60)))).max() < 0.05
    )


def test_a_harmless_prompt_of_a_cluster_of_a_pair_is_a_cluster_of_its_own():
    counts = replayed(4, harmless=4)
    shared = dataclasses.replace(counts, harmless=dataclasses.replace(counts.harmless, clusters=counts.clusters))
    assert harm_clusters(shared, range(4)).sizes == (4, 4)
    assert sum_over_batches(harm_clusters(shared, range(4))) == pytest.approx(
        sum_over_batches(harm_clusters(counts, range(4)))
    )


def test_harm_needs_harmless_prompts_inside_attacks():
    with pytest.raises(UsageError, match="no harmless prompt was counted"):
        harm_clusters(replayed(3), range(3))


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_swapping_nothing_is_the_value_and_swapping_every_cluster_of_both_kinds_its_negative(quantity):
    counts = replayed(5, text=2, harmless=4)
    clusters = clusters_of(quantity, counts, range(5))
    coins = np.stack([np.zeros(clusters.num_clusters), np.ones(clusters.num_clusters)])
    value = sum_over_batches(clusters)
    assert pooled_swapped(clusters, coins) == pytest.approx(np.array([value, -value]), abs=1e-14)


def test_clusters_of_both_kinds_are_resampled_and_swapped_apart():
    counts = replayed(6, text=2, wrapper=2, harmless=4)
    clusters = clusters_of("did", counts, range(6))
    weights = bootstrap_weights(clusters.sizes, 50, np.random.default_rng(0))
    assert weights.shape == (50, 10)
    assert np.array_equal(weights[:, :6].sum(1), np.full(50, 6)) and np.array_equal(
        weights[:, 6:].sum(1), np.full(50, 4)
    )
    risk, wrapper = (
        sum_over_batches(clusters_of("risk_diff", counts, range(6))),
        sum_over_batches(wrapper_clusters(counts)),
    )
    only_harmless = np.array([[0.0] * 6 + [1.0] * 4])
    assert pooled_swapped(clusters, only_harmless)[0] == pytest.approx(risk + wrapper)


def test_a_batch_has_its_own_difference_less_the_wrapper_of_the_run():
    counts = replayed(6, text=2, wrapper=2, harmless=4)
    wrapper = sum_over_batches(wrapper_clusters(counts))
    for batch in ([0, 1, 2], [3, 4, 5]):
        own = quantity_of("risk_diff", counts, batch).ravel()
        assert quantity_of("did", counts, batch).ravel() == pytest.approx(own - wrapper)


@pytest.mark.parametrize(
    ("quantity", "lacking", "hint"),
    [
        ("text", {"crossed": None}, "prepare.extra_replays"),
        ("prompt", {"crossed": None}, "prepare.extra_replays"),
        ("did", {"harmless": None}, "--attack templates"),
    ],
)
def test_counts_that_were_not_recorded_are_refused_with_the_option_that_records_them(quantity, lacking, hint):
    counts = dataclasses.replace(replayed(3, harmless=2), **lacking)
    assert not is_recorded(quantity, counts)
    with pytest.raises(UsageError) as caught:
        clusters_of(quantity, counts, range(3))
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("settings", "wraps", "message"),
    [
        ({"method": "text", "extra_replays": False}, True, "text needs replays that are turned off"),
        ({"select_by": "q<0.05 and prompt>0.1", "extra_replays": False}, True, "prompt needs replays"),
        ({"method": "did"}, False, "did needs harmless prompts both plain and inside an attack"),
        ({"select_by": "did>0"}, False, "did needs harmless prompts"),
    ],
)
def test_a_selection_by_what_the_run_would_not_record_is_refused_before_it_begins(settings, wraps, message):
    with pytest.raises(UsageError, match=message):
        refuse_unrecorded(PrepareConfig(**settings), wraps=wraps)


def test_a_selection_by_what_the_run_records_is_not_refused():
    refuse_unrecorded(PrepareConfig(method="did", select_by="q<0.05 and text>0"), wraps=True)
    refuse_unrecorded(PrepareConfig(method="text"), wraps=False)
    refuse_unrecorded(PrepareConfig(extra_replays=False), wraps=False)
