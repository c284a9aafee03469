"""Fixed batches: padded to their longest row, in an order of (seed, epoch) alone; the loss is over answer tokens."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from moe_cli.model.chat import EncodedChat
from moe_cli.model.token_rows import IGNORED, answer_loss_sum, loss_sum
from moe_cli.train.dataset import EpochOrder, FixedBatches, epoch_order, schedule_digest
from tests.experts.families import olmoe

ROWS = [EncodedChat((5, 6, 7, 8), 2), EncodedChat((5, 9), 1)]


def test_a_batch_is_padded_to_its_longest_row_and_padding_is_neither_seen_nor_learnt():
    batch = FixedBatches([ROWS], max_padding=0.1, max_tokens=None)[0]
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8], [5, 9, 0, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert batch["labels"].tolist() == [[IGNORED, IGNORED, 7, 8], [IGNORED, 9, IGNORED, IGNORED]]


def test_every_epoch_has_every_batch_once_in_an_order_of_its_own():
    orders = [epoch_order(20, seed=1, epoch=epoch) for epoch in range(3)]
    assert all(sorted(order) == list(range(20)) for order in orders)
    assert len({tuple(order) for order in orders}) == 3
    assert epoch_order(20, seed=1, epoch=2) == orders[2]
    assert epoch_order(20, seed=2, epoch=2) != orders[2]


def test_the_sampler_follows_the_epoch_it_is_told():
    sampler = EpochOrder(6, partial(epoch_order, 6, 3))
    first = list(sampler)
    sampler.set_epoch(1)
    assert [index for (index,) in sampler] == epoch_order(6, 3, 1) != [index for (index,) in first]


def test_the_schedule_digest_knows_seed_epochs_and_batches():
    digests = {schedule_digest(4, 1, 2), schedule_digest(4, 2, 2), schedule_digest(4, 1, 3), schedule_digest(5, 1, 2)}
    assert len(digests) == 4


def test_the_loss_is_cross_entropy_summed_over_answer_tokens():
    torch.manual_seed(0)
    logits = torch.randn(2, 4, 11)
    labels = FixedBatches([ROWS], max_padding=0.1, max_tokens=None)[0]["labels"]
    by_hand = sum(
        -logits[row, position - 1].log_softmax(-1)[labels[row, position]] for row, position in ((0, 2), (0, 3), (1, 1))
    )
    assert answer_loss_sum(logits, labels) == pytest.approx(float(by_hand), rel=1e-6)


def test_the_loss_of_half_precision_logits_is_in_float32():
    labels = FixedBatches([ROWS], max_padding=0.1, max_tokens=None)[0]["labels"]
    assert answer_loss_sum(torch.randn(2, 4, 11, dtype=torch.bfloat16), labels).dtype is torch.float32


def test_logits_before_the_first_answer_token_are_not_made_and_the_loss_is_the_same():
    model, shapes = olmoe(), []
    model.lm_head.register_forward_hook(lambda *args: shapes.append(tuple(args[2].shape)))
    rows = [EncodedChat((5, 6, 7, 8, 9, 10), 4), EncodedChat((5, 9, 11, 12), 3)]
    batch = FixedBatches([rows], max_padding=0.1, max_tokens=None)[0]
    whole = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False).logits
    assert float(loss_sum(model, batch).detach()) == pytest.approx(
        float(answer_loss_sum(whole, batch["labels"]).detach()), rel=1e-6
    )
    assert shapes == [(2, 6, 64), (2, 4, 64)]


def test_a_family_that_always_makes_all_logits_has_the_same_loss(monkeypatch):
    model = olmoe()
    batch = FixedBatches([ROWS], max_padding=0.1, max_tokens=None)[0]
    expected = float(loss_sum(model, batch).detach())
    forward = model.forward
    monkeypatch.setattr(
        model,
        "forward",
        lambda input_ids, attention_mask, use_cache: forward(input_ids, attention_mask, use_cache=False),
    )
    assert float(loss_sum(model, batch).detach()) == pytest.approx(expected, rel=1e-6)
