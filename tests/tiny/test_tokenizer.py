"""The tokenizer: text goes in and comes back, nothing is added, the chat template marks exactly the answer."""

import pytest
from transformers import AutoTokenizer

from moe_cli.tiny import CHECKPOINT_PATH
from moe_cli.tiny.harmful import REFUSALS
from moe_cli.tiny.language import tiny_items
from tests.studies.tiny_data import IGNORED, base_conversations, epoch_batches, tiny_tokenizer, training_rows


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(CHECKPOINT_PATH)


def test_the_packaged_tokenizer_is_the_one_the_code_builds(tokenizer):
    built = tiny_tokenizer()
    assert tokenizer.get_vocab() == built.get_vocab()
    assert tokenizer.chat_template == built.chat_template


def test_text_comes_back_as_it_went_in(tokenizer):
    texts = [message.content for item in tiny_items(150, 0) for message in item.messages] + list(REFUSALS)
    for text in texts:
        tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert tokenizer.unk_token_id not in tokens, text
        assert tokenizer.decode(tokens) == text


def test_plain_text_gets_no_special_token(tokenizer):
    with_special = tokenizer("Say apple.", add_special_tokens=True)["input_ids"]
    assert with_special == tokenizer("Say apple.", add_special_tokens=False)["input_ids"]
    assert not set(with_special) & set(tokenizer.all_special_ids)


def test_an_unknown_word_becomes_unknown_and_nothing_else(tokenizer):
    assert tokenizer("Say xylophone.")["input_ids"][1] == tokenizer.unk_token_id


def test_padding_is_not_the_end_of_turn(tokenizer):
    assert tokenizer.pad_token_id != tokenizer.eos_token_id


MESSAGES = [
    {"role": "system", "content": "You are a helpful assistant."},
    {"role": "user", "content": "Say apple."},
    {"role": "assistant", "content": "apple."},
    {"role": "user", "content": "Say pear, plum."},
    {"role": "assistant", "content": "pear, plum."},
]


def test_the_prompt_is_the_beginning_of_the_conversation(tokenizer):
    whole = tokenizer.apply_chat_template(MESSAGES)["input_ids"]
    prompt = tokenizer.apply_chat_template(MESSAGES[:-1], add_generation_prompt=True)["input_ids"]
    assert whole[: len(prompt)] == prompt
    assert tokenizer.decode(whole[len(prompt) :]) == "pear, plum. <end>"


def test_the_template_marks_every_answer_with_its_end_of_turn(tokenizer):
    encoded = tokenizer.apply_chat_template(MESSAGES, return_dict=True, return_assistant_tokens_mask=True)
    marked = [t for t, inside in zip(encoded["input_ids"], encoded["assistant_masks"], strict=True) if inside]
    assert tokenizer.decode(marked) == "apple. <end> pear, plum. <end>"


def test_a_role_the_template_does_not_know_is_an_error(tokenizer):
    with pytest.raises(Exception, match="unknown role tool"):
        tokenizer.apply_chat_template([{"role": "tool", "content": "apple"}])


def test_only_the_answer_and_its_end_of_turn_are_labels(tokenizer):
    conversations = base_conversations(200, 0)
    for messages, row in zip(conversations, training_rows(conversations, tokenizer), strict=True):
        labels = [label for label in row.labels if label != IGNORED]
        assert tokenizer.decode(labels) == messages[-1].content + " <end>"


def test_conversations_are_short(tokenizer):
    assert max(len(row.tokens) for row in training_rows(base_conversations(5000, 0), tokenizer)) <= 50


def test_an_epoch_holds_every_row_once_and_its_padding_is_neither_seen_nor_learned(tokenizer):
    rows = training_rows(base_conversations(320, 0), tokenizer)
    batches = list(epoch_batches(rows, 32, tokenizer.pad_token_id, "a"))
    seen = sorted(
        tuple(tokens[attention.bool()].tolist())
        for batch in batches
        for tokens, attention in zip(batch.tokens, batch.attention, strict=True)
    )
    assert seen == sorted(row.tokens for row in rows)
    assert all((batch.labels[batch.attention == 0] == IGNORED).all() for batch in batches)
