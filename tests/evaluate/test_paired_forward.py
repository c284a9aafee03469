"""Two models read the same texts; where one card cannot hold both they take turns, which changes no bit."""

from types import SimpleNamespace

import pytest
import torch

from moe_cli.evaluate import paired_forward, target
from moe_cli.evaluate.model_drift import MOST_LOGITS, max_drift_tokens
from moe_cli.evaluate.text_drift import measure_text_drift
from moe_cli.model.load import LoadedModel
from tests.evaluate.two_models import moved, texts, tiny

CARD = torch.device("cpu", 0)  # another device than `cpu` by its name, the same by its bits


class OnHost(LoadedModel):
    """A model that waits in the machine's memory until it is moved."""

    @property
    def device(self):
        return places.get(id(self.model), torch.device("cpu"))


places = {}


@pytest.fixture
def pair(monkeypatch):
    """Base on the host, tuned on the card; where each of them is, and every move."""
    found = [as_on_host(tiny()), as_on_host(moved())]
    moves = []
    for name, loaded in zip(("base", "tuned"), found, strict=True):

        def to(device, name=name, model=loaded.model):
            moves.append((name, device))
            places[id(model)] = device
            assert len([place for place in places.values() if place == CARD]) <= 1, "both are on the card"
            return model

        monkeypatch.setattr(loaded.model, "to", to)
    places.clear()
    places[id(found[1].model)] = CARD
    return *found, moves


def as_on_host(loaded):
    return OnHost(model=loaded.model, tokenizer=loaded.tokenizer, layers=loaded.layers, identity=loaded.identity)


def drift(base, tuned):
    found = measure_text_drift(base, tuned, texts(), done=(), batch_size=3, batch_tokens=None, notify=lambda _: None)
    return [item for group in found for item in group]


def test_taking_turns_changes_no_bit_and_never_puts_both_on_the_card(pair):
    base, tuned, moves = pair
    assert drift(base, tuned) == drift(tiny(), moved())
    assert [name for name, _ in moves] == ["tuned", "base", "base", "tuned"]
    assert (base.device, tuned.device) == (torch.device("cpu"), CARD)


def test_groups_end_where_the_waiting_logits_would_not_fit(pair, monkeypatch):
    monkeypatch.setattr(paired_forward, "WAITING_VALUES", 1)
    base, tuned, moves = pair
    assert drift(base, tuned) == drift(tiny(), moved())
    assert len(moves) == 4 * 3  # eight texts in batches of three


def test_an_error_while_the_base_reads_leaves_both_where_they_were(pair, monkeypatch):
    base, tuned, _ = pair

    def broken(*_, **__):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(base.model, "forward", broken)
    with pytest.raises(RuntimeError, match="out of memory"):
        drift(base, tuned)
    assert (base.device, tuned.device) == (torch.device("cpu"), CARD)


@pytest.mark.parametrize(("free", "room"), [(1.2, True), (1.0, False)])
def test_the_base_waits_on_the_host_where_the_card_has_no_room_for_it(monkeypatch, free, room):
    weights = [torch.zeros(100, dtype=torch.bfloat16)]
    model = SimpleNamespace(parameters=lambda: iter(weights))
    loaded = SimpleNamespace(device=SimpleNamespace(type="cuda"), model=model)
    monkeypatch.setattr(target, "available_bytes", lambda device: free * 200 + target.FORWARDS)
    assert target.has_room_for_another(loaded) is room


def test_in_the_machines_memory_there_is_always_room():
    assert target.has_room_for_another(tiny())


def test_a_large_vocabulary_makes_the_batches_of_texts_smaller():
    loaded = tiny()
    vocabulary = loaded.model.config.vocab_size
    assert max_drift_tokens(32, loaded) == 32
    assert max_drift_tokens(10**12, loaded) == MOST_LOGITS // vocabulary
