"""A batch is cut into the fewest forwards that keep padding and size within their limits; its update stays the same."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from moe_cli.experts import attach
from moe_cli.model.chat import EncodedChat
from moe_cli.model.token_rows import answer_loss_sum
from moe_cli.train.dataset import NEGLIGIBLE, FixedBatches, micro_batches, part_of
from tests.experts.families import olmoe
from tests.experts.steps import some_experts
from tests.padding import ratio

LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=9)


def fewest_and_cheapest(lengths, allowed_padding, max_tokens):
    """(forwards, tokens computed) of the best partition of the sorted rows, by trying all of them."""
    lengths = sorted(lengths, reverse=True)

    @cache
    def plans(start):
        if start == len(lengths):
            return frozenset({(0, 0)})
        found = set()
        for end in range(start + 1, len(lengths) + 1):
            cost = lengths[start] * (end - start)
            if max_tokens is None or end == start + 1 or cost <= max_tokens:
                found |= {(count + 1, cost + rest) for count, rest in plans(end)}
        return frozenset(found)

    return min(plan for plan in plans(0) if plan[1] <= sum(lengths) + allowed_padding)


@given(
    LENGTHS,
    st.sampled_from([0.0, 0.1, 0.5, 9.0]),
    st.none() | st.integers(1, 200),
    st.sampled_from([0, 10, NEGLIGIBLE]),
)
def test_the_cut_is_the_best_of_all_cuts(lengths, max_padding, max_tokens, negligible):
    cut = micro_batches(lengths, max_padding=max_padding, max_tokens=max_tokens, negligible=negligible)
    assert sorted(row for part in cut for row in part.rows) == list(range(len(lengths)))
    assert all(part.width == max(lengths[row] for row in part.rows) for part in cut)
    best = fewest_and_cheapest(lengths, max(sum(lengths) * max_padding, negligible), max_tokens)
    assert (len(cut), sum(part.num_computed for part in cut)) == best


def test_rows_of_one_length_stay_together_unless_the_forward_is_too_large():
    assert [part.rows for part in micro_batches([7] * 4, max_padding=0.0, max_tokens=None)] == [(0, 1, 2, 3)]
    assert [part.rows for part in micro_batches([7] * 4, max_padding=0.0, max_tokens=15)] == [(0, 1), (2, 3)]


def test_a_little_padding_is_no_reason_for_another_forward():
    assert len(micro_batches([20, 10, 5] * 5, max_padding=0.0, max_tokens=None)) == 1
    assert len(micro_batches([200, 100, 50] * 5, max_padding=0.0, max_tokens=None)) > 1


def test_on_realistic_lengths_at_most_a_tenth_of_the_computing_goes_into_padding():
    """Short plain rows and long attacked rows in the same batches: 2.9 times the useful tokens without a cut."""
    assert ratio(1e9)[0] > 2.5
    assert ratio(0.1)[0] <= 1.10


@pytest.mark.parametrize("max_tokens", [20, 34])
def test_the_parts_gradients_add_up_to_the_batchs(max_tokens):
    torch.manual_seed(0)
    rows = [
        EncodedChat(tuple(torch.randint(3, 64, (length,)).tolist()), length // 2) for length in (4, 17, 5, 16, 11, 4)
    ]
    batches = FixedBatches([rows], max_padding=0.1, max_tokens=max_tokens)
    assert len(batches.cuts[0]) > 2
    model, gradients = olmoe().double(), []
    with attach(model, some_experts(model)) as slices:
        for parts in ([dict(batches[0])], [part_of(batches[0], cut) for cut in batches.cuts[0]]):
            for part in parts:
                part.pop("batch_index", None)
                labels = part.pop("labels")
                answer_loss_sum(model(**part, use_cache=False).logits, labels).backward()
            gradients.append({name: master.grad.clone() for name, master in slices.parameters.items()})
            model.zero_grad()
    whole, cut = gradients
    for name, gradient in whole.items():
        torch.testing.assert_close(cut[name], gradient, rtol=1e-5, atol=1e-6)  # the loss itself is in float32
    assert any(gradient.any() for gradient in whole.values())
