"""Drift of every text: what is compared is what both models say and choose on the answer's tokens, once, unpadded."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from moe_cli.errors import NumericError
from moe_cli.evaluate import paired_forward, text_drift
from moe_cli.evaluate.text_drift import measure_text_drift, same_choices
from moe_cli.model.chat import encode_answered
from moe_cli.model.token_rows import attention_mask, right_padded
from moe_cli.model.topology import expert_layers
from moe_cli.records import Progress
from tests.evaluate.two_models import moved, texts, tiny


@pytest.fixture(scope="module")
def models():
    return tiny(), moved()


def measured(base, tuned, items, *, done=(), batch_size=8, batch_tokens=None, notify=lambda _: None):
    groups = measure_text_drift(
        base, tuned, items, done=done, batch_size=batch_size, batch_tokens=batch_tokens, notify=notify
    )
    return {item.id: item for group in groups for item in group}


def alone(loaded, item):
    """Log probabilities [T, V] in float64 and choices of every layer as sets [L][T], of one text without padding."""
    row, seen, hooks = encode_answered(loaded.tokenizer, item.messages), [], []
    for layer in expert_layers(loaded.model):
        hooks.append(layer.module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[1].tolist())))
    with torch.no_grad():
        logits_SV = loaded.model(input_ids=torch.tensor([row.token_ids]), use_cache=False).logits[0]
    for hook in hooks:
        hook.remove()
    chosen = [[set(experts) for experts in layer[row.num_prompt :]] for layer in seen]
    return row.token_ids[row.num_prompt :], logits_SV[row.num_prompt - 1 : -1].double().log_softmax(-1), chosen


def test_probabilities_are_those_of_each_text_alone(models):
    items = texts()
    found = measured(*models, items)
    assert found.keys() == {item.id for item in items}
    for item in items:
        (answer, base_TV, _), (_, tuned_TV, _) = (alone(loaded, item) for loaded in models)
        ours = found[item.id]
        kl_T = torch.nn.functional.kl_div(tuned_TV, base_TV, log_target=True, reduction="none").sum(-1)
        assert ours.num_tokens == len(answer) > 1
        assert ours.kl_tokens == pytest.approx(kl_T.tolist(), rel=1e-3, abs=1e-5)
        for value, log_TV in ((ours.nll_base, base_TV), (ours.nll_tuned, tuned_TV)):
            assert value == pytest.approx(
                -sum(float(log_TV[t, token]) for t, token in enumerate(answer)), rel=1e-4, abs=1e-5
            )
        assert ours.same_top == int((base_TV.argmax(-1) == tuned_TV.argmax(-1)).sum())


def test_routing_is_that_of_each_text_alone_and_shared_choices_are_the_common_part_of_each_tokens_top_k(models):
    items = texts()
    found = measured(*models, items)
    for item in items:
        chosen = [alone(loaded, item)[2] for loaded in models]
        ours = found[item.id]
        for theirs, layers in zip((ours.experts_base, ours.experts_tuned), chosen, strict=True):
            assert theirs == tuple(tuple(sum(e in token for token in layer) for e in range(16)) for layer in layers)
            assert all(sum(experts_E) == ours.num_tokens * 4 for experts_E in theirs)
        shared = [sum(len(a & b) for a, b in zip(*layer, strict=True)) for layer in zip(*chosen, strict=True)]
        assert list(ours.same_choices) == shared
    tokens = sum(item.num_tokens for item in found.values())
    assert 0 < sum(sum(item.same_choices) for item in found.values()) < tokens * 4 * 4  # something moved


def test_watching_changes_no_logit_by_a_bit(models):
    rows = [encode_answered(models[1].tokenizer, item.messages) for item in texts()]
    ids = [row.token_ids for row in rows]
    with torch.inference_mode():
        plain_BSV = (
            models[1].model(input_ids=right_padded(ids), attention_mask=attention_mask(ids), use_cache=False).logits
        )
        watched_BSV = paired_forward.record_forward(models[1], rows).logits_BSV
    assert torch.equal(watched_BSV, plain_BSV[:, -watched_BSV.shape[1] :])


def test_a_model_has_not_moved_from_itself_by_a_bit():
    for item in measured(tiny(), tiny(), texts()).values():
        assert set(item.kl_tokens) == {0.0}
        assert item.nll_base == item.nll_tuned
        assert item.same_top == item.num_tokens
        assert item.experts_base == item.experts_tuned
        assert set(item.same_choices) == {item.num_tokens * 4}


def test_batches_change_float32_results_by_rounding_only(models):
    one, many = measured(*models, texts(), batch_size=1), measured(*models, texts(), batch_tokens=64)
    for name, item in one.items():
        assert many[name].kl_tokens == pytest.approx(item.kl_tokens, rel=1e-3, abs=1e-5)
        rounded = {"kl_tokens": (), "nll_base": 0.0, "nll_tuned": 0.0}
        assert replace(many[name], **rounded) == replace(item, **rounded)
        assert many[name].nll_tuned == pytest.approx(item.nll_tuned, rel=1e-5)


def test_what_is_done_is_not_done_again_and_the_rest_has_the_bits_of_a_run_in_one_go(models):
    items = texts()
    whole = measured(*models, items, batch_size=3)
    done = {items[0].id, items[3].id, items[4].id}
    rest = measured(*models, items, batch_size=3, done=done)
    assert rest == {name: item for name, item in whole.items() if name not in done}
    assert measured(*models, items, done=set(whole)) == {}


def test_chunks_of_tokens_give_the_bits_of_whole_texts(models, monkeypatch):
    whole = measured(*models, texts())
    monkeypatch.setattr(text_drift, "CHUNK_VALUES", 2 * 464)  # two tokens at a time
    assert measured(*models, texts()) == whole


def test_progress_counts_texts_that_were_done_before(models):
    items, notified = texts(), []
    measured(*models, items, batch_size=2, done={items[0].id}, notify=notified.append)
    assert [note.done for note in notified] == sorted(note.done for note in notified)
    assert notified[-1] == Progress(task="drift", done=len(items), total=len(items))


def test_long_texts_come_first_and_a_group_keeps_to_both_bounds(models):
    items = texts(16)
    groups = list(measure_text_drift(*models, items, done=(), batch_size=4, batch_tokens=60, notify=lambda _: None))
    length = {item.id: len(encode_answered(models[0].tokenizer, item.messages).token_ids) for item in items}
    longest = [max(length[item.id] for item in group) for group in groups]
    assert longest == sorted(longest, reverse=True)
    for group, tokens in zip(groups, longest, strict=True):
        assert len(group) == 1 or (len(group) <= 4 and len(group) * tokens <= 60)
    assert sum(map(len, groups)) == len(items)


def test_shared_choices_leave_out_prompt_sentinels_and_what_one_model_chose_once_more():
    answers_BS = torch.tensor([[False, True, True], [True, True, False]])
    base_NK = torch.tensor([[0, 1], [0, 1], [2, 4], [3, 3], [4, 4], [0, 1]])
    tuned_NK = torch.tensor([[0, 1], [1, 0], [4, 2], [3, 0], [4, 4], [0, 1]])
    #               text 0: prompt; both; expert 2, as 4 is none      text 1: once expert 3; nothing; padding
    assert same_choices([base_NK], [tuned_NK], answers_BS, 4).tolist() == [[3], [1]]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_logit_that_is_no_number_is_refused_and_one_without_a_chance_in_both_models_is_no_matter(models, value):
    def with_logit(number):
        def changed(module, words, logits):
            return logits.index_fill(-1, torch.tensor([0]), number)

        return [loaded.model.get_output_embeddings().register_forward_hook(changed) for loaded in models]

    for number, refused in ((value, True), (float("-inf"), False)):
        hooks = with_logit(number)
        try:
            if refused:
                with pytest.raises(NumericError, match=r"the probabilities of the text .* are not finite"):
                    measured(*models, texts())
            else:
                assert all(kl >= 0 for item in measured(*models, texts()).values() for kl in item.kl_tokens)
        finally:
            for hook in hooks:
                hook.remove()
