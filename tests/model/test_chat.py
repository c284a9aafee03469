"""One tokenisation for everything: exact answer spans, cutting the prompt only."""

from __future__ import annotations

import pytest
from transformers import AutoTokenizer

from moe_cli.errors import UsageError
from moe_cli.model.chat import encode_answered, encode_prompt
from moe_cli.records import Message
from moe_cli.tiny import CHECKPOINT_PATH

PROMPT = (Message(role="user", content="Repeat: apple lemon grape"),)
ANSWER = Message(role="assistant", content="apple lemon grape")


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(CHECKPOINT_PATH)


def chatml(tokenizer, template: str):
    """The tiny tokenizer with another chat template."""
    copy = AutoTokenizer.from_pretrained(CHECKPOINT_PATH)
    copy.chat_template = template
    return copy


def test_the_answer_follows_the_very_ids_the_model_is_prompted_with(tokenizer):
    row = encode_answered(tokenizer, (*PROMPT, ANSWER))
    assert row.token_ids[: row.num_prompt] == encode_prompt(tokenizer, PROMPT)
    assert tokenizer.decode(row.token_ids[row.num_prompt : -1]).strip() == ANSWER.content
    assert row.token_ids[-1] == tokenizer.eos_token_id


def test_labels_cover_the_answer_with_its_end_of_turn_and_nothing_else(tokenizer):
    row = encode_answered(tokenizer, (*PROMPT, ANSWER))
    assert row.labels[: row.num_prompt] == (-100,) * row.num_prompt
    assert row.labels[row.num_prompt :] == row.token_ids[row.num_prompt :]


def test_a_long_row_loses_the_middle_of_its_prompt_and_never_a_token_of_its_answer(tokenizer):
    long = (Message(role="user", content=" ".join(["apple"] * 40)),)
    whole = encode_answered(tokenizer, (*long, ANSWER))
    cut = encode_answered(tokenizer, (*long, ANSWER), max_length=20)
    answer = whole.token_ids[whole.num_prompt :]
    assert len(cut.token_ids) == 20
    assert cut.token_ids[cut.num_prompt :] == answer
    assert cut.token_ids[0] == whole.token_ids[0]  # the head stays
    assert (
        cut.token_ids[cut.num_prompt - 2 : cut.num_prompt] == whole.token_ids[whole.num_prompt - 2 : whole.num_prompt]
    )


def test_a_row_that_fits_is_not_cut(tokenizer):
    whole = encode_answered(tokenizer, (*PROMPT, ANSWER))
    assert encode_answered(tokenizer, (*PROMPT, ANSWER), max_length=len(whole.token_ids)) == whole


@pytest.mark.parametrize("content", ["", "   "])
def test_a_row_without_an_answer_token_is_refused(tokenizer, content):
    with pytest.raises(UsageError, match="no answer"):
        encode_answered(tokenizer, (*PROMPT, Message(role="assistant", content=content)))


def test_an_answer_that_leaves_no_room_for_its_prompt_is_refused(tokenizer):
    with pytest.raises(UsageError, match="leaves 0 of 4 tokens"):
        encode_answered(tokenizer, (*PROMPT, ANSWER), max_length=4)


def test_a_line_break_after_the_end_of_turn_is_no_part_of_the_answer(tokenizer):
    eos = tokenizer.eos_token
    other = chatml(
        tokenizer,
        "{% for m in messages %}{{ m.role }} : {{ m.content }}" + eos + " apple\n{% endfor %}"
        "{% if add_generation_prompt %}assistant : {% endif %}",
    )
    row = encode_answered(other, (*PROMPT, ANSWER))
    assert row.token_ids[-1] == tokenizer.eos_token_id
    assert "grape" in other.decode(row.token_ids[row.num_prompt :])


def test_a_template_without_an_end_of_turn_gets_the_tokenizer_s(tokenizer):
    other = chatml(
        tokenizer,
        "{% for m in messages %}{{ m.role }} : {{ m.content }} {% endfor %}"
        "{% if add_generation_prompt %}assistant : {% endif %}",
    )
    row = encode_answered(other, (*PROMPT, ANSWER))
    assert row.token_ids[-1] == tokenizer.eos_token_id
    assert other.decode(row.token_ids[row.num_prompt : -1]).split() == ANSWER.content.split()


def test_an_unknown_word_does_not_end_the_answer(tokenizer):
    row = encode_answered(tokenizer, (*PROMPT, Message(role="assistant", content="qqzz apple")))
    assert row.token_ids[row.num_prompt :][0] == tokenizer.unk_token_id
    assert len(row.token_ids) - row.num_prompt == 3


def test_no_second_begin_token_is_added(tokenizer):
    other = chatml(tokenizer, tokenizer.eos_token + "{{ messages[0].content }}")
    assert encode_prompt(other, PROMPT).count(tokenizer.eos_token_id) == 1


def test_a_template_that_refuses_a_conversation_is_a_clear_error(tokenizer):
    strict = chatml(tokenizer, "{{ raise_exception('system turns are not supported') }}")
    with pytest.raises(UsageError, match=r"turns system, user: system turns are not supported"):
        encode_prompt(strict, (Message(role="system", content="s"), *PROMPT))
