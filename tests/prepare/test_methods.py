"""Selection by a part of the risk difference: the machinery of the risk difference on another quantity."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from moe_cli.errors import UsageError
from moe_cli.prepare import contrasts, risk
from moe_cli.prepare.contrasts import quantity_of
from moe_cli.prepare.selection_evidence import find_experts
from tests.prepare.finished import config_of
from tests.prepare.replayed import replayed
from tests.prepare.simulated import identity


def found_by(method, counts, batches, **more):
    config = config_of(Path("prepared"), method=method, resamples=200, **more)
    return find_experts(config, identity(layers=(1,)), 100, counts, batches).selection


@pytest.mark.parametrize(("method", "planted"), [("text", 0), ("prompt", 1), ("did", 0)])
def test_a_method_by_a_part_takes_the_experts_that_the_part_is_planted_in_and_nothing_else(method, planted):
    counts = replayed(24, text=5, prompt=5 if method == "prompt" else 0, wrapper=5, harmless=24)
    chosen = found_by(method, counts, [range(12), range(12, 24)], threshold=0.15)
    expected = {planted, 2} if method == "prompt" else {planted}  # the wrapper is a part of the prompt
    assert {expert.index for expert in chosen.union} == expected
    assert chosen.null_union is not None and chosen.null_union.mean < 0.5
    for one in chosen.evidence:
        value = quantity_of(method, counts, range(24)).ravel()[one.expert.index]
        assert one.ranked_by == pytest.approx(value)
        assert one.lower < one.ranked_by < one.upper
        assert one.risk_diff == pytest.approx(quantity_of("risk_diff", counts, range(24)).ravel()[one.expert.index])


def test_a_batch_selects_by_its_own_value_of_the_part():
    counts = replayed(12, text=5, prompt=5)
    for quiet in range(6, 12):  # of these pairs both answers are one
        counts.routed[quiet, 1], counts.crossed[quiet, 0] = counts.crossed[quiet, 1], counts.routed[quiet, 0]
        counts.seen[quiet, 1] = counts.seen[quiet, 0]
    chosen = found_by("text", counts, [range(6), range(6, 12)], threshold=0.1)
    assert [[expert.index for expert in batch] for batch in chosen.batches] == [[0], []]


def test_conditions_compare_the_parts_whatever_the_method_and_have_no_null_union_then():
    counts, batches = replayed(24, text=5, prompt=5), [range(24)]
    assert {one.index for one in found_by("risk_diff", counts, batches, threshold=0.1).union} == {0, 1}
    by_text = found_by("risk_diff", counts, batches, select_by="text>0.1 and risk_diff>0.1")
    assert [one.index for one in by_text.union] == [0] and by_text.null_union is None
    assert [one.index for one in found_by("text", counts, batches, select_by="text>0.1 and q<0.05").union] == [0]
    with pytest.raises(UsageError, match="harmless prompt"):
        found_by("risk_diff", counts, batches, select_by="did>0.1")


def test_the_parts_change_nothing_of_a_selection_by_the_risk_difference():
    counts, batches = replayed(24, text=5, harmless=12), [range(12), range(12, 24)]
    bare = dataclasses.replace(counts, crossed=None, harmless=None)
    there, here = found_by("risk_diff", counts, batches), found_by("risk_diff", bare, batches)
    assert (there.batches, there.candidates, there.null_union) == (here.batches, here.candidates, here.null_union)
    assert [(one.lower, one.p_value, one.stability) for one in there.evidence] == [
        (one.lower, one.p_value, one.stability) for one in here.evidence
    ]
    assert {one.method for one in there.overlaps} - {one.method for one in here.overlaps} == {"text", "prompt", "did"}
    assert here.parts is None and there.parts is not None


@pytest.mark.parametrize("method", ["risk_diff", "text", "did", "esft-gate"])
def test_a_selection_reads_each_pair_as_often_whatever_the_number_of_batches(method, monkeypatch):
    def num_summed(pairs):
        summed = []

        def counting(names, *arguments, **more):
            summed.append(len(names))
            return risk.within_clusters(names, *arguments, **more)

        with monkeypatch.context() as patch:
            patch.setattr(contrasts, "within_clusters", counting)
            patch.setattr(
                contrasts,
                "cluster_counts",
                lambda counts, used: summed.append(len(used)) or risk.cluster_counts(counts, used),
            )
            found_by(method, replayed(pairs, text=5, harmless=pairs), [range(b, b + 4) for b in range(0, pairs, 4)])
        return sum(summed)

    assert num_summed(80) == 4 * num_summed(20)
