"""Selecting anew in the middle of a training: the rule of the prepare run on the routing as it is now."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from moe_cli.artifacts import Store, finished_run, layout
from moe_cli.config import MoeConfig
from moe_cli.errors import UsageError
from moe_cli.model.load import load_model
from moe_cli.model.tensors import weights_fingerprint
from moe_cli.model.topology import expert_layers, router_module
from moe_cli.prepare import reselect
from moe_cli.prepare import stage as prepare
from moe_cli.prepare.replayed_selection import (
    gradient_selection,
    refuse_fixed_selection,
    refuse_no_budget,
    replayed_selection,
)
from moe_cli.prepare.routing_file import read_counts
from moe_cli.records import Expert, Selection


@pytest.fixture(scope="module")
def made(tmp_path_factory, small_settings):
    torch.set_num_threads(1)
    directory = tmp_path_factory.mktemp("replayed")
    config, store = small_settings(directory, prepare={"scores": ("gradient",)}), Store(directory / "registry")
    output = prepare.run(config, store, lambda _: None)
    selection, summary = output.selection, output.summary
    return SimpleNamespace(
        directory=directory,
        config=config,
        store=store,
        run=finished_run(directory / "prepared", "prepare"),
        selection=selection,
        num_pairs=summary.num_batches * max(summary.num_plain, summary.num_attacked),
        room=int(config.prepare.budget * selection.base.total_params / selection.params_per_expert),
    )


def chosen(batches) -> set[Expert]:
    return {expert for batch in batches for expert in batch}


def test_the_base_replayed_selects_what_the_prepare_run_selected(made):
    loaded = load_model(made.config.model)
    for trained in ((), made.selection.union):
        selected = replayed_selection(loaded, made.run, trained, lambda _: None)
        assert selected.batches == made.selection.batches
        assert selected.num_pairs == made.num_pairs


def renamed(made) -> tuple[object, dict[Expert, Expert]]:
    """The base, in which every selected expert has changed places with one that was not selected: a planted group."""
    loaded = load_model(made.config.model)
    names: dict[Expert, Expert] = {}
    for layer in expert_layers(loaded.model):
        old = [expert.index for expert in made.selection.union if expert.layer == layer.layer]
        free = [index for index in range(layer.num_experts) if index not in old]
        order = list(range(layer.num_experts))
        for one, other in zip(old, free, strict=False):
            order[one], order[other] = order[other], order[one]
        with torch.no_grad():
            for weight in (*map(layer.module.get_parameter, layer.weights), router_module(loaded.model, layer).weight):
                weight.copy_(weight[order].clone())
        names |= {
            Expert(layer=layer.layer, index=old): Expert(layer=layer.layer, index=new) for new, old in enumerate(order)
        }
    return loaded, names


def test_a_planted_second_group_is_found_and_the_union_of_both_never_passes_the_budget(made):
    loaded, names = renamed(made)
    found = replayed_selection(loaded, made.run, (), lambda _: None).batches
    assert [set(batch) for batch in found] == [{names[expert] for expert in batch} for batch in made.selection.batches]
    union = set(made.selection.union)
    anew = replayed_selection(loaded, made.run, made.selection.union, lambda _: None)
    limited = anew.batches
    assert anew.num_left_out == len(chosen(found) - chosen(limited)) > 0
    assert len(union | chosen(limited)) <= made.room
    assert chosen(limited) < chosen(found) or len(union | chosen(found)) <= made.room
    assert all(set(few) <= set(many) for few, many in zip(limited, found, strict=True))


def selected_by(made, method, **settings):
    """`moe select` by another method, from the same counts, made once: its run."""
    path = made.directory / "-".join([method, *settings])
    changes = {"method": method, "output_dir": path, **settings}
    other = MoeConfig(prepare=made.config.prepare.model_copy(update=changes), model=made.config.model)
    if not path.exists():
        reselect.run(made.run.path, other, made.store, lambda _: None)
    return finished_run(path, "prepare")


def test_what_the_routing_does_not_decide_is_refused_by_name(made):
    for method, advice in (("frequency", "--reselect none"), ("gradient", "--reselect gradient, which measures it")):
        with pytest.raises(
            UsageError, match=f"the method {method}, which its answers' routing does not decide"
        ) as refused:
            refuse_fixed_selection(selected_by(made, method))
        assert advice in refused.value.hint
    refuse_fixed_selection(made.run)


def test_the_gradients_of_the_base_select_what_moe_select_selects_by_them(made):
    """Of a run that selected by gradients, and of one that did not."""
    by_gradient = selected_by(made, "gradient")
    expected = by_gradient.record(layout.SELECTION, Selection)
    assert chosen(expected.batches) != set(made.selection.union)
    for run in (by_gradient, made.run):
        loaded = load_model(made.config.model)
        fingerprint = weights_fingerprint(loaded.model)
        selected = gradient_selection(loaded, run, (), lambda _: None)
        assert selected.batches == expected.batches
        assert weights_fingerprint(loaded.model) == fingerprint
        assert all(parameter.grad is None for parameter in loaded.model.parameters())


def test_by_gradients_new_experts_are_admitted_in_the_order_of_their_gradients(made):
    """With room for one more than trained already, it is the one with the largest gradient."""
    loaded = load_model(made.config.model)
    all_of_them = chosen(gradient_selection(loaded, made.run, (), lambda _: None).batches)
    counts = read_counts(made.run.file(layout.routing_counts("tiny")))
    of_expert = dict(zip(every_expert(made.selection.base), counts.gradients.mean(0).ravel(), strict=True))
    others = [expert for expert in sorted(of_expert) if expert not in all_of_them][: made.room - 1]
    admitted = chosen(gradient_selection(loaded, made.run, others, lambda _: None).batches)
    assert admitted == {max(all_of_them, key=of_expert.__getitem__)}


def test_gradients_without_a_budget_would_take_every_expert_and_are_refused(made):
    refuse_no_budget(made.run)
    with pytest.raises(UsageError, match="without a budget"):
        refuse_no_budget(selected_by(made, "risk_diff", budget=None))


def every_expert(base) -> list[Expert]:
    return [Expert(layer=layer, index=index) for layer in base.layers for index in range(base.num_experts)]
