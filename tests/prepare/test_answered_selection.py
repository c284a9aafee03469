"""Selecting anew by new answers: what the filters leave, how it falls on the fixed batches, and when it is too few."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from moe_cli.artifacts import Store, finished_run, layout
from moe_cli.errors import UsageError
from moe_cli.model.load import load_model
from moe_cli.prepare import round_selection as module
from moe_cli.prepare import stage as prepare
from moe_cli.prepare.filtering import NOT_COMPLIED, verdicts_on
from moe_cli.prepare.replayed_selection import batched_pairs
from moe_cli.prepare.round_selection import answered_selection, refuse_other_filters
from moe_cli.prepare.selection_evidence import find_experts
from moe_cli.records.inputs import form_id


@pytest.fixture(scope="module")
def made(tmp_path_factory, small_settings):
    torch.set_num_threads(1)
    directory = tmp_path_factory.mktemp("answered")
    config, store = small_settings(directory), Store(directory / "registry")
    output = prepare.run(config, store, lambda _: None)
    run = finished_run(directory / "prepared", "prepare")
    return SimpleNamespace(
        config=config,
        selection=output.selection,
        summary=output.summary,
        run=run,
        batches=batched_pairs(run),
        loaded=load_model(config.model),
    )


def complied_with_only(kept):
    """The judge's verdicts, with which all other attacked forms were refused."""

    def verdicts(exchanges, *others):
        found = verdicts_on(exchanges, *others)
        refused = {name for name, (side, _) in exchanges.items() if side == "unsafe" and name not in kept}
        return {n: replace(v, label="full_refusal", harmful=False) if n in refused else v for n, v in found.items()}

    return verdicts


def leaving(made, monkeypatch, pairs):
    """What is selected where the filters leave these pairs, and the counts and batches that it was made from."""
    seen = []
    kept = {form_id(pair.id, "unsafe") for pair in pairs}
    monkeypatch.setattr(module, "verdicts_on", complied_with_only(kept))
    honest = module.select_within_budget

    def select(config, before, counts, batches, trained):
        seen.append((counts, [list(batch) for batch in batches]))
        return honest(config, before, counts, batches, trained)

    monkeypatch.setattr(module, "select_within_budget", select)
    selected = answered_selection(made.loaded, made.run, (), lambda _: None)
    return selected, *seen[0]


def test_the_base_answers_as_it_did_and_selects_what_the_prepare_run_selected(made):
    selected = answered_selection(made.loaded, made.run, made.selection.union, lambda _: None)
    assert selected.batches == made.selection.batches
    assert selected.num_pairs == sum(map(len, made.batches))


def test_a_batch_selects_by_its_own_pairs_that_are_left_and_without_any_by_all_that_are(made, monkeypatch):
    of_first, of_second, *others = made.batches
    left = [*of_first, *of_second[1:]]
    assert len(left) < sum(map(len, made.batches))
    selected, counts, batches = leaving(made, monkeypatch, left)
    assert selected.num_pairs == len(left)
    assert counts.pair_ids == tuple(pair.id for pair in left)
    everyone = list(range(len(left)))
    assert batches == [everyone[: len(of_first)], everyone[len(of_first) :], *[everyone] * len(others)]
    base, params = made.selection.base, made.selection.params_per_expert
    alone = find_experts(made.config, base, params, counts, [everyone]).selection
    assert set(selected.batches[2:]) == {alone.batches[0]}
    assert all(set(batch) <= set(alone.candidates) for batch in selected.batches)


def test_below_one_full_batch_nothing_is_selected_and_the_number_left_is_said(made, monkeypatch):
    one_batch, total = list(made.batches[0]), sum(map(len, made.batches))
    selected, *_ = leaving(made, monkeypatch, one_batch)
    assert selected.num_pairs == len(one_batch)
    with pytest.raises(UsageError) as refused:
        leaving(made, monkeypatch, one_batch[1:])
    few = f"{len(one_batch) - 1} of {total} pairs are left, and one batch touches {len(one_batch)}"
    assert few in refused.value.message
    assert f"{total - len(one_batch) + 1} dropped: {NOT_COMPLIED}" in refused.value.message
    assert "--resume --reselect none" in refused.value.hint


def test_judges_that_are_other_ones_by_now_are_refused_before_anything_is_answered(made, tmp_path, monkeypatch):
    refuse_other_filters(made.run)
    (first, *rest) = made.summary.judges
    changed = replace(made.summary, judges=(replace(first, judge=replace(first.judge, revision="older")), *rest))
    record = type(made.run).record
    monkeypatch.setattr(
        type(made.run),
        "record",
        lambda run, name, kind: changed if name == layout.PREPARE_SUMMARY else record(run, name, kind),
    )
    with pytest.raises(UsageError, match=r"are other ones by now \(keywords\)"):
        refuse_other_filters(made.run)
