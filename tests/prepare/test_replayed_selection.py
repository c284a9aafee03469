"""Selecting anew in the middle of a training: the rule of the prepare run on the routing as it is now."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from moe_cli.artifacts import Store, finished_run
from moe_cli.config import MoeConfig
from moe_cli.errors import UsageError
from moe_cli.model.load import load_model
from moe_cli.model.topology import expert_layers, router_module
from moe_cli.prepare import reselect
from moe_cli.prepare import stage as prepare
from moe_cli.prepare.replayed_selection import refuse_fixed_selection, replayed_selection
from moe_cli.records import Expert


@pytest.fixture(scope="module")
def made(tmp_path_factory, small_settings):
    torch.set_num_threads(1)
    directory = tmp_path_factory.mktemp("replayed")
    config, store = small_settings(directory), Store(directory / "registry")
    selection = prepare.run(config, store, lambda _: None).selection
    return SimpleNamespace(
        directory=directory,
        config=config,
        store=store,
        run=finished_run(directory / "prepared", "prepare"),
        selection=selection,
        room=int(config.prepare.budget * selection.base.total_params / selection.params_per_expert),
    )


def chosen(batches) -> set[Expert]:
    return {expert for batch in batches for expert in batch}


def test_the_base_replayed_selects_what_the_prepare_run_selected(made):
    loaded = load_model(made.config.model)
    assert replayed_selection(loaded, made.run, (), lambda _: None) == made.selection.batches
    assert replayed_selection(loaded, made.run, made.selection.union, lambda _: None) == made.selection.batches


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
    found = replayed_selection(loaded, made.run, (), lambda _: None)
    assert [set(batch) for batch in found] == [{names[expert] for expert in batch} for batch in made.selection.batches]
    union = set(made.selection.union)
    limited = replayed_selection(loaded, made.run, made.selection.union, lambda _: None)
    assert len(union | chosen(limited)) <= made.room
    assert chosen(limited) < chosen(found) or len(union | chosen(found)) <= made.room
    assert all(set(few) <= set(many) for few, many in zip(limited, found, strict=True))


def test_what_the_routing_does_not_decide_is_refused_by_name(made):
    other = made.config.prepare.model_copy(update={"method": "frequency", "output_dir": made.directory / "frequency"})
    reselect.run(made.run.path, MoeConfig(prepare=other, model=made.config.model), made.store, lambda _: None)
    with pytest.raises(UsageError, match="the method frequency, which a replay of its answers does not decide"):
        refuse_fixed_selection(finished_run(made.directory / "frequency", "prepare"))
    refuse_fixed_selection(made.run)
