"""Routing drift: the formulas are scipy's, noise is no drift, intervals hold the truth, and every number is finite."""

from __future__ import annotations

import random

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy, sem
from scipy.stats import t as student_t

from moe_cli.codec import decode, encode
from moe_cli.errors import UsageError
from moe_cli.evaluate.model_drift import measure_routing_drift
from moe_cli.records.drift import DriftItem, RoutingDrift
from moe_cli.stats.clusters import jackknife_estimate


def text(name, base_LE, tuned_LE, same_L, cluster=None):
    tokens = 4
    return DriftItem(
        id=name,
        cluster=cluster or name,
        num_tokens=tokens,
        nll_base=1.0,
        nll_tuned=1.0,
        kl_tokens=(0.0,) * tokens,
        same_top=tokens,
        experts_base=tuple(map(tuple, base_LE)),
        experts_tuned=tuple(map(tuple, tuned_LE)),
        same_choices=tuple(same_L),
    )


def simulated(num=24, layers=3, experts=6, per_cluster=1, seed=0):
    generator = np.random.default_rng(seed)
    items = []
    for number in range(num):
        base, tuned = (generator.multinomial(8, np.full(experts, 1 / experts), layers).tolist() for _ in range(2))
        same = generator.integers(0, 5, layers).tolist()
        items.append(text(f"t{number:03d}", base, tuned, same, cluster=f"c{number // per_cluster}"))
    return items


def totals(items):
    """[2, L, E]."""
    return np.array([[item.experts_base, item.experts_tuned] for item in items]).sum(0)


def test_every_measure_is_that_of_scipy_on_the_counts_of_all_texts():
    items = simulated(per_cluster=24)  # one cluster: noise is not known, and nothing is taken off
    found = measure_routing_drift(items, (1, 2, 5))
    for place, layer in enumerate(found.layers):
        base_E, tuned_E = totals(items)[:, place]
        assert layer.layer == (1, 2, 5)[place]
        assert layer.kl.value == pytest.approx(entropy(base_E + 0.5, tuned_E + 0.5), rel=1e-12)
        assert layer.js.value == pytest.approx(jensenshannon(base_E, tuned_E) ** 2, rel=1e-12)
        assert layer.entropy_base == pytest.approx(entropy(base_E) / np.log(6), rel=1e-12)
        assert layer.entropy_tuned == pytest.approx(entropy(tuned_E) / np.log(6), rel=1e-12)
        same = sum(item.same_choices[place] for item in items)
        assert layer.overlap.value == pytest.approx(same / base_E.sum())
    assert found.js.value == pytest.approx(np.mean([layer.js.value for layer in found.layers]))
    assert found.overlap.value == pytest.approx(np.mean([layer.overlap.value for layer in found.layers]))
    assert found.num_tokens == 24 * 4
    assert decode(RoutingDrift, encode(found), source="memory") == found


def test_numbers_worked_by_hand():
    items = [text("a", [[3, 1, 0, 0]], [[1, 3, 0, 0]], [2]), text("b", [[3, 1, 0, 0]], [[1, 3, 0, 0]], [2])]
    (layer,) = measure_routing_drift(items, (0,), selected_LE=np.array([[True, False, False, True]])).layers
    # choices (6, 2, 0, 0) and (2, 6, 0, 0); with half a choice more (6.5, 2.5, .5, .5) / 10 and (2.5, 6.5, .5, .5) / 10
    # of one text alone (3.5, 1.5, .5, .5) / 6 and (1.5, 3.5, .5, .5) / 6
    of_two, of_one = 0.4 * np.log(6.5 / 2.5), 2 / 6 * np.log(3.5 / 1.5)
    assert layer.kl.value == pytest.approx(of_two + (of_two - of_one))
    # shares (3/4, 1/4) and (1/4, 3/4), their middle (1/2, 1/2)
    assert layer.js.value == pytest.approx(0.75 * np.log(1.5) + 0.25 * np.log(0.5))
    assert layer.overlap.value == 4 / 8
    assert (layer.on_selected_base, layer.on_selected_tuned) == (0.75, 0.25)
    assert (
        layer.entropy_base
        == layer.entropy_tuned
        == pytest.approx((0.75 * np.log(4 / 3) + 0.25 * np.log(4)) / np.log(4))
    )


def test_an_expert_that_the_tuned_model_never_chooses_gives_a_finite_kl_and_a_js_of_ln_2_where_nothing_is_shared():
    (layer,) = measure_routing_drift([text("a", [[8, 0]], [[0, 8]], [0])], (0,)).layers
    assert layer.kl.value == pytest.approx((8.5 - 0.5) / 9 * np.log(8.5 / 0.5))
    assert layer.js.value == pytest.approx(np.log(2))
    assert (layer.overlap.value, layer.entropy_base) == (0.0, 0.0)


def test_equal_choices_are_no_drift_at_all():
    items = [text(f"t{n}", [[n + 1, 3, 0]], [[n + 1, 3, 0]], [n + 4]) for n in range(6)]
    (layer,) = measure_routing_drift(items, (0,)).layers
    for found, value in ((layer.kl, 0.0), (layer.js, 0.0), (layer.overlap, 1.0)):
        assert (found.value, found.lower, found.upper) == (value, value, value)


def test_fewer_choices_of_one_model_share_at_most_their_common_part():
    (layer,) = measure_routing_drift([text("a", [[4, 4]], [[4, 0]], [4])], (0,)).layers  # half of the tuned tokens skip
    assert layer.overlap.value == pytest.approx(2 * 4 / (8 + 4))


def test_a_layer_that_chooses_nothing_at_all_is_no_drift():
    (layer,) = measure_routing_drift([text(n, [[0, 0]], [[0, 0]], [0]) for n in "ab"], (0,)).layers
    assert (layer.kl.value, layer.js.value, layer.overlap.value, layer.entropy_base) == (0.0, 0.0, 1.0, 0.0)


def test_what_noise_adds_is_taken_off_as_a_plain_jackknife_over_clusters_does():
    items = simulated(num=40, layers=2, per_cluster=2)
    clusters = [items[start : start + 2] for start in range(0, 40, 2)]

    def js_and_kl(drawn):
        base_LE, tuned_LE = totals(drawn)
        js = np.mean([jensenshannon(*pair) ** 2 for pair in zip(base_LE, tuned_LE, strict=True)])
        return js, entropy(base_LE[0] + 0.5, tuned_LE[0] + 0.5)

    without = [js_and_kl([item for one in clusters if one is not cluster for item in one]) for cluster in clusters]
    pseudo = 20 * np.array(js_and_kl(items)) - 19 * np.array(without)
    found = measure_routing_drift(items, (0, 1))
    for estimate, mean, error in zip((found.js, found.layers[0].kl), pseudo.mean(0), sem(pseudo), strict=True):
        low, high = student_t.interval(0.95, 19, mean, error)
        assert estimate.value == pytest.approx(max(mean, 0))
        assert (estimate.lower, estimate.upper) == pytest.approx((max(low, 0), max(high, 0)))
        assert estimate.n == 20


def test_the_interval_of_the_overlap_matches_a_plain_bootstrap_over_clusters():
    items = simulated(num=40, layers=2, per_cluster=2)
    clusters = [items[start : start + 2] for start in range(0, 40, 2)]
    generator, plain = random.Random(5), []
    for _ in range(3000):
        drawn = [item for cluster in generator.choices(clusters, k=20) for item in cluster]
        plain.append(sum(item.same_choices[1] for item in drawn) / totals(drawn)[0][1].sum())
    found = measure_routing_drift(items, (0, 1)).layers[1].overlap
    low, high = np.quantile(plain, [0.025, 0.975])
    assert (found.lower, found.upper) == pytest.approx((low, high), abs=0.1 * (high - low))
    assert found.n == 20


SHARES_2E = np.array([[0.3, 0.25, 0.2, 0.1, 0.1, 0.05], [0.22, 0.2, 0.2, 0.2, 0.13, 0.05]])


@pytest.mark.parametrize("num", [10, 40])
@pytest.mark.parametrize("shares_2E", [SHARES_2E, SHARES_2E[:1].repeat(2, 0)], ids=["drift", "none"])
def test_of_texts_that_differ_the_drift_is_not_too_large_and_the_intervals_hold_it(num, shares_2E):
    """Every text has its own favourites, in both models alike; none of it is drift."""
    generator = np.random.default_rng(3)
    true = jensenshannon(*shares_2E) ** 2
    found, naive = [], []
    for _ in range(200):
        items = []
        for number in range(num):
            counts_2E = [generator.multinomial(30, generator.dirichlet(40 * share_E)) for share_E in shares_2E]
            items.append(text(str(number), *([count_E.tolist()] for count_E in counts_2E), [0]))
        found.append(measure_routing_drift(items, (0,), num_resamples=1).js)
        naive.append(jensenshannon(*totals(items)[:, 0]) ** 2)
    covered = np.mean([one.lower <= true <= one.upper for one in found])
    assert covered >= 0.93
    mean = np.mean([one.value for one in found])
    assert abs(mean - true) < 0.4 * (np.mean(naive) - true)


def test_a_divergence_stays_between_nothing_and_its_most():
    for value, most in ((0.001, 0.7), (0.699, 0.7)):
        one = jackknife_estimate(value, np.array([value - 0.02, value + 0.03, value - 0.01]), most=most)
        assert 0.0 <= one.lower <= one.value <= one.upper <= most


def test_the_order_of_texts_changes_no_bit_and_the_seed_changes_the_interval():
    items = simulated(per_cluster=3)
    found = measure_routing_drift(items, (0, 1, 2))
    for seed in range(10):
        assert measure_routing_drift(random.Random(seed).sample(items, len(items)), (0, 1, 2)) == found
    assert measure_routing_drift(items, (0, 1, 2), seed=1).overlap != found.overlap


def test_one_cluster_carries_no_interval_and_without_a_selection_nothing_is_said_about_one():
    found = measure_routing_drift(simulated(num=3, per_cluster=3), (0, 1, 2))
    assert (found.js.lower, found.js.upper, found.js.n, found.num_selected) == (None, None, 1, None)
    assert {layer.on_selected_base for layer in found.layers} == {None}


def test_shares_on_selected_experts_are_zero_in_a_layer_without_one():
    selected_LE = np.zeros((3, 6), dtype=bool)
    selected_LE[1, :] = True
    found = measure_routing_drift(simulated(), (0, 1, 2), selected_LE=selected_LE)
    assert [layer.on_selected_tuned for layer in found.layers] == pytest.approx([0.0, 1.0, 0.0])
    assert found.num_selected == 6


def test_no_text_is_an_error_with_a_hint_and_other_layers_or_another_selection_are_bugs_that_show():
    with pytest.raises(UsageError):
        measure_routing_drift([], (0,))
    with pytest.raises(ValueError, match="layers"):
        measure_routing_drift(simulated(), (0, 1))
    with pytest.raises(ValueError, match="selection"):
        measure_routing_drift(simulated(), (0, 1, 2), selected_LE=np.ones((3, 7), dtype=bool))
