"""What the checkpoints of others bring along: each is answered right, or refused by name before the long work."""

import json
import shutil
from datetime import datetime

import pytest
import torch
import transformers
from packaging.version import Version
from safetensors.torch import load_file, save_file
from transformers.utils import chat_template_utils

from moe_cli.config import ModelConfig
from moe_cli.errors import ArtifactError, UsageError
from moe_cli.judges.judge import Exchange, verdict_by_rule, without_reasoning
from moe_cli.model import rendering
from moe_cli.model.chat import (
    EncodedChat,
    answer_text,
    encode_answered,
    encode_prompt,
    end_of_turn_ids,
    reasoning_tokens,
)
from moe_cli.model.decoding import pad_id_of
from moe_cli.model.engine import Prompt
from moe_cli.model.engines import generate_answers
from moe_cli.model.final_model import write_final_model
from moe_cli.model.foreign_files import SAVES_FLOATS
from moe_cli.model.load import load_model
from moe_cli.records import Message
from moe_cli.tiny import CHECKPOINT_PATH

torch.set_num_threads(1)

TEMPLATE = (CHECKPOINT_PATH / "chat_template.jinja").read_text()
PROMPTS = [
    Prompt(text, (Message(role="user", content=text),))
    for text in ("zorp", "describe the glim", "zorp the glim please")
]
ANSWERED = [Message(role="user", content="zorp"), Message(role="assistant", content="two")]
WEIGHTS = "model.safetensors"
OLDER = Version(transformers.__version__) < Version(SAVES_FLOATS)
CONFIG, GENERATION, TOKENIZER = "config.json", "generation_config.json", "tokenizer_config.json"


@pytest.fixture
def stranger(tmp_path):
    shutil.copytree(CHECKPOINT_PATH, tmp_path / "stranger")
    return tmp_path / "stranger"


def opened(directory, **more):
    return load_model(ModelConfig(name=str(directory), device="cpu", **more))


def edit(directory, name, **more):
    file = directory / name
    file.write_text(json.dumps({**json.loads(file.read_text()), **more}))


def answers(loaded):
    groups = generate_answers(loaded, PROMPTS, max_new_tokens=20, batch_size=2)
    return {made.prompt_id: (made.token_ids, made.finished) for group in groups for made in group}


@pytest.fixture(scope="module")
def tiny():
    return opened(CHECKPOINT_PATH)


@pytest.fixture(scope="module")
def expected(tiny):
    return answers(tiny)


@pytest.mark.parametrize(
    "asked",
    [
        *({"min_new_tokens": 20}, {"min_length": 40}, {"suppress_tokens": [5, 6, 7]}, {"bad_words_ids": [[5], [6]]}),
        *({"begin_suppress_tokens": list(range(2, 60))}, {"no_repeat_ngram_size": 1}, {"repetition_penalty": 9.0}),
        *({"exponential_decay_length_penalty": [1, 9.0]}, {"sequence_bias": [[[40], 50.0]]}, {"num_beams": 3}),
        *({"forced_bos_token_id": 5}, {"forced_eos_token_id": 5}, {"guidance_scale": 2.0}, {"use_cache": False}),
        *({"watermarking_config": {"bias": 5.0, "seeding_scheme": "lefthash"}}, {"max_time": 1e-9}, {"max_length": 3}),
        *({"penalty_alpha": 0.5}, {"dola_layers": "low"}, {"prompt_lookup_num_tokens": 3}, {"token_healing": True}),
        *({"assistant_early_exit": 1}, {"use_mtp": True}, {"constraints": [1]}, {"is_assistant": True}),
        *({"do_sample": True, "temperature": 2.0}, {"cache_implementation": "static"}, {"prefill_chunk_size": 2}),
    ],
    ids=str,
)
def test_what_a_generation_config_asks_for_changes_no_answer_and_no_digest(stranger, tiny, expected, asked):
    edit(stranger, GENERATION, **asked)
    loaded = opened(stranger)
    assert answers(loaded) == expected
    assert loaded.identity.settings == tiny.identity.settings


@pytest.mark.parametrize(
    "asked",
    [
        *({"output_router_logits": True}, {"output_attentions": True}, {"output_hidden_states": True}),
        *({"return_dict": False}, {"use_cache": False}, {"output_router_logits": True, "use_cache": False}),
    ],
    ids=str,
)
def test_what_a_config_asks_of_every_forward_changes_no_answer_and_no_digest(stranger, tiny, expected, asked):
    edit(stranger, CONFIG, **asked)
    loaded = opened(stranger)
    assert answers(loaded) == expected
    assert loaded.identity.settings == tiny.identity.settings


def test_generation_settings_of_an_old_config_change_no_answer(stranger, expected):
    (stranger / GENERATION).unlink()
    edit(stranger, CONFIG, min_new_tokens=20, repetition_penalty=9.0, num_beams=3)
    assert answers(opened(stranger)) == expected


def test_a_checkpoint_that_ends_its_answers_at_strings_is_refused_by_name(stranger):
    edit(stranger, GENERATION, stop_strings=["glim"])
    with pytest.raises(UsageError, match=f"the model {stranger} ends its answers at strings"):
        opened(stranger)


def test_every_end_of_turn_ends_an_answer_and_is_in_the_digest(stranger, tiny, expected):
    word = expected["zorp"][0][0]
    edit(stranger, GENERATION, eos_token_id=[1, word])
    loaded = opened(stranger)
    assert answers(loaded)["zorp"] == ((word,), True)
    assert loaded.identity.settings != tiny.identity.settings


@pytest.mark.parametrize("pad", [None, "<end>"], ids=["no padding token", "padding = end of turn"])
def test_padding_that_is_missing_or_is_the_end_of_turn_changes_no_answer(stranger, expected, pad):
    number = None if pad is None else 1
    edit(stranger, TOKENIZER, pad_token=pad)
    edit(stranger, CONFIG, pad_token_id=number)
    edit(stranger, GENERATION, pad_token_id=number)
    loaded = opened(stranger)
    assert answers(loaded) == expected
    assert encode_answered(loaded.tokenizer, ANSWERED).labels[-1] == 1  # the end of turn is learnt


def test_a_tokenizer_without_an_end_takes_that_of_the_generation_config(stranger, tiny, expected):
    edit(stranger, TOKENIZER, eos_token=None)
    loaded = opened(stranger)
    assert answers(loaded) == expected
    assert encode_answered(loaded.tokenizer, ANSWERED) == encode_answered(tiny.tokenizer, ANSWERED)


def test_a_checkpoint_in_which_nothing_ends_a_turn_is_refused_by_name(stranger, expected):
    edit(stranger, TOKENIZER, eos_token=None)
    edit(stranger, CONFIG, eos_token_id=None)
    edit(stranger, GENERATION, eos_token_id=None)
    assert answers(opened(stranger)) == expected  # its template ends a turn
    (stranger / "chat_template.jinja").write_text(TEMPLATE.replace("<end>", ""))
    with pytest.raises(UsageError, match=f"nothing ends an answer of {stranger}"):
        opened(stranger)


def test_the_token_that_ends_the_answers_of_a_template_ends_them_though_no_config_names_it(stranger, expected):
    other = opened(CHECKPOINT_PATH).tokenizer.convert_ids_to_tokens(9)
    edit(stranger, TOKENIZER, eos_token=other, additional_special_tokens=["<end>"])
    edit(stranger, CONFIG, eos_token_id=9)
    edit(stranger, GENERATION, eos_token_id=9)
    loaded = opened(stranger)
    assert end_of_turn_ids(loaded.model, loaded.tokenizer) == (9, 1)
    assert answers(loaded)["zorp"] == expected["zorp"]


def _add_token(directory, text, **more):
    tokenizer = opened(CHECKPOINT_PATH).tokenizer
    tokenizer.add_special_tokens(more or {"additional_special_tokens": [text]})
    tokenizer.save_pretrained(directory)
    return tokenizer.convert_tokens_to_ids(text)


def test_a_token_without_an_embedding_is_refused_by_name(stranger):
    number = _add_token(stranger, "<beyond>")
    with pytest.raises(UsageError, match=f"1 tokens of the tokenizer of {stranger} have no row .* the id {number} "):
        opened(stranger)


def test_a_padding_token_without_an_embedding_is_never_used(stranger, expected):
    number = _add_token(stranger, "<beyond>", pad_token="<beyond>")
    loaded = opened(stranger)
    assert loaded.tokenizer.pad_token_id == number and pad_id_of(loaded) == 1
    assert answers(loaded) == expected


def test_a_template_that_refuses_a_system_turn_is_named_where_there_is_one(stranger, expected):
    refusing = "{% if messages[0].role == 'system' %}{{ raise_exception('no system turn') }}{% endif %}"
    (stranger / "chat_template.jinja").write_text(refusing + TEMPLATE)
    loaded = opened(stranger)
    assert answers(loaded) == expected
    with pytest.raises(UsageError, match=f"the chat template of {stranger} refuses .* system, user: no system turn"):
        encode_prompt(loaded.tokenizer, [Message(role="system", content="glim"), *ANSWERED[:1]])


def _with_marks(directory, *marks, template):
    """The tiny model with the marks as special tokens in the place of words that its answers use; their ids."""
    ids = [300, 301][: len(marks)]
    content = json.loads((directory / "tokenizer.json").read_text())
    vocabulary = content["model"]["vocab"]
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    words = {number: word for word, number in vocabulary.items()}
    for number, mark in zip(ids, marks, strict=True):
        del vocabulary[words[number]]
        vocabulary[mark] = number
        content["added_tokens"].append({"id": number, "content": mark, "special": True, **flags})
    (directory / "tokenizer.json").write_text(json.dumps(content))
    (directory / "chat_template.jinja").write_text(template)
    return ids


def _exchange(answer):
    return Exchange(kind="harmful", messages=PROMPTS[0].messages, answer=answer)


def _verdict(answer):
    return verdict_by_rule(_exchange(answer), ("harm",))


OPENING = TEMPLATE.replace("%}<assistant> {% endif", "%}<assistant> <think>{% endif")


def test_an_answer_cut_off_inside_reasoning_that_the_template_opened_is_unscored(stranger):
    opened_by_template, _ = _with_marks(stranger, "<think>", "</think>", template=OPENING)
    loaded = opened(stranger)
    prompt = encode_prompt(loaded.tokenizer, PROMPTS[0].messages)
    assert prompt[-1] == opened_by_template
    ((made,),) = generate_answers(loaded, PROMPTS[:1], max_new_tokens=1, batch_size=1)
    assert not made.finished and made.text.startswith("<think>")
    assert _verdict(made.text).reason == "reasoning never ended"


def test_an_answer_behind_reasoning_that_the_template_opened_is_judged_and_learnt_as_it_was_made(stranger):
    _, closing = _with_marks(stranger, "<think>", "</think>", template=OPENING)
    loaded = opened(stranger)
    prompt, made = encode_prompt(loaded.tokenizer, PROMPTS[0].messages), (33, 6, closing, 361, 6, 1)
    text = answer_text(loaded.tokenizer, prompt, made)
    assert text.startswith("<think>")
    assert without_reasoning(_exchange(text)).answer.split() == loaded.tokenizer.decode([361, 6]).split()
    assert encode_answered(loaded.tokenizer, [*PROMPTS[0].messages, Message(role="assistant", content=text)]) == (
        EncodedChat(prompt + made, len(prompt))
    )


def test_the_reasoning_of_an_answer_is_known_by_its_ids_whether_the_answer_or_the_template_opens_it(stranger):
    opened_by_answer, closing = _with_marks(stranger, "<think>", "</think>", template=TEMPLATE)
    tokenizer = opened(stranger).tokenizer
    prompt = encode_prompt(tokenizer, PROMPTS[0].messages)
    assert reasoning_tokens(tokenizer, prompt, (opened_by_answer, 33, 6, closing, 361, 6, 1)) == ((0, 4),)
    assert reasoning_tokens(tokenizer, prompt, (361, opened_by_answer, 33, closing, 6, 1)) == ((1, 4),)
    assert reasoning_tokens(tokenizer, prompt, (361, opened_by_answer, 33, 6)) == ((1, 4),)
    assert reasoning_tokens(tokenizer, prompt, (33, 6, closing, 361, 6, 1)) == ((0, 3),)
    assert reasoning_tokens(tokenizer, prompt, (33, 6, 361, 6, 1)) == ()
    assert reasoning_tokens(tokenizer, prompt, ()) == ()
    (stranger / "chat_template.jinja").write_text(OPENING)
    opening = opened(stranger).tokenizer
    prompt = encode_prompt(opening, PROMPTS[0].messages)
    assert prompt[-1] == opened_by_answer
    assert reasoning_tokens(opening, prompt, (33, 6, closing, 361, 6, 1)) == ((0, 3),)
    assert reasoning_tokens(opening, prompt, (33, 6, 361)) == ((0, 3),)


def test_a_refusal_behind_a_prompt_that_opens_reasoning_ends_it_first(stranger):
    _, closing = _with_marks(stranger, "<think>", "</think>", template=OPENING)
    tokenizer = opened(stranger).tokenizer
    learnt = encode_answered(tokenizer, ANSWERED)
    answer = learnt.token_ids[learnt.num_prompt :]
    assert answer[0] == closing and answer[-1] == 1
    assert (
        without_reasoning(
            _exchange(answer_text(tokenizer, learnt.token_ids[: learnt.num_prompt], answer))
        ).answer.strip()
        == "two"
    )


def test_marks_of_reasoning_that_are_special_tokens_stay_in_the_text(stranger):
    marks = _with_marks(stranger, "[THINK]", "[/THINK]", template=TEMPLATE)
    loaded = opened(stranger)
    prompt = encode_prompt(loaded.tokenizer, PROMPTS[0].messages)
    text = answer_text(loaded.tokenizer, prompt, (marks[0], 33, 6, marks[1], 361, 6, 1))
    assert without_reasoning(_exchange(text)).answer.split() == loaded.tokenizer.decode([361, 6]).split()
    assert _verdict(answer_text(loaded.tokenizer, prompt, (marks[0], 5, 6))).reason == "reasoning never ended"


def test_an_answer_whose_marks_the_template_refuses_is_learnt_as_it_was_made(stranger):
    refusing = "{% for m in messages if '<|channel|>' in m.content %}{{ raise_exception('no marks') }}{% endfor %}"
    channel, message = _with_marks(stranger, "<|channel|>", "<|message|>", template=refusing + TEMPLATE)
    loaded = opened(stranger)
    prompt = encode_prompt(loaded.tokenizer, PROMPTS[0].messages)
    ids = (channel, 33, message, 361, 6, 1)
    answer = Message(role="assistant", content=answer_text(loaded.tokenizer, prompt, ids))
    made = encode_answered(loaded.tokenizer, [*PROMPTS[0].messages, answer])
    assert made == EncodedChat(prompt + ids, len(prompt))


@pytest.mark.parametrize("asked", ["%d %b %Y", "%-d %B %y", "%Y-%m-%d", "%H:%M"])
def test_a_template_that_shows_the_date_makes_the_same_prompt_on_every_day(stranger, monkeypatch, asked):
    shows = "{%- set date = strftime_now('" + asked + "') if strftime_now is defined %}<system> {{ date }} "
    (stranger / "chat_template.jinja").write_text(shows + TEMPLATE)
    tokenizer = opened(stranger).tokenizer
    monkeypatch.setattr(chat_template_utils, "datetime", None)  # what knows the day
    text = tokenizer.apply_chat_template([{"role": "user", "content": "zorp"}], tokenize=False)
    assert text == f"<system> {rendering.DATE.strftime(asked)} <user> zorp"


def test_the_date_of_a_template_is_in_the_digests_of_what_shows_it_alone(stranger, tiny, monkeypatch):
    (stranger / "chat_template.jinja").write_text("<system> {{ strftime_now('%Y') }} " + TEMPLATE)
    before = opened(stranger).identity
    monkeypatch.setattr(rendering, "DATE", datetime(2026, 2, 3))
    after = opened(stranger).identity
    assert before.chat_template != after.chat_template and before.settings != after.settings
    assert opened(CHECKPOINT_PATH).identity == tiny.identity


def test_a_template_in_chat_template_json_alone_is_read(stranger, expected):
    (stranger / "chat_template.jinja").unlink()
    (stranger / "chat_template.json").write_text(json.dumps({"chat_template": TEMPLATE}))
    assert answers(opened(stranger)) == expected


def test_a_template_that_reads_lists_of_parts_alone_is_refused_by_name(stranger):
    parts = "{% for m in messages %}{% for p in m.content if p.type == 'text' %}{{ p.text }}{% endfor %}{% endfor %}"
    (stranger / "chat_template.jinja").write_text(parts + "<assistant> ")
    with pytest.raises(UsageError, match=f"the chat template of {stranger} leaves out what the user says"):
        opened(stranger)


@pytest.mark.parametrize("method", ["bitsandbytes", "gptq", "awq", "torchao", "no", None])
def test_quantised_weights_that_are_not_opened_as_floats_are_refused_by_name_before_loading(stranger, method):
    edit(stranger, CONFIG, quantization_config={"quant_method": method, "load_in_4bit": True, "bits": 4})
    with pytest.raises(UsageError, match=rf"the model {stranger} is quantised \({method}\)"):
        opened(stranger)


FP8 = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [128, 128]}


def _in_fp8(tensors):
    """Weights of experts in FP8 with their scales, and the floats that these stand for."""
    stored, floats = dict(tensors), dict(tensors)
    for name, weight in tensors.items():
        if ".experts." in name:
            scale = weight.abs().max() / 448
            stored[name] = (weight / scale).to(torch.float8_e4m3fn)
            stored[f"{name}_scale_inv"] = scale.reshape(1, 1)
            floats[name] = stored[name].float() * scale
    return stored, floats


@pytest.mark.skipif(OLDER, reason="refused there by name")
def test_fp8_experts_are_opened_as_the_floats_that_they_stand_for(stranger):
    stored, floats = _in_fp8(load_file(stranger / WEIGHTS))
    save_file(floats, stranger / WEIGHTS, metadata={"format": "pt"})
    expected = opened(stranger)
    save_file(stored, stranger / WEIGHTS, metadata={"format": "pt"})
    edit(stranger, CONFIG, quantization_config=FP8)
    loaded = opened(stranger)
    assert {weight.dtype for weight in loaded.model.parameters()} == {torch.float32}
    for weight, other in zip(loaded.model.parameters(), expected.model.parameters(), strict=True):
        assert torch.equal(weight, other)
    final = stranger.with_name("final")
    final.mkdir()
    write_final_model(loaded, stranger, final)
    assert opened(final).identity.fingerprint == loaded.identity.fingerprint


@pytest.mark.skipif(not OLDER, reason="this version saves what it opened as floats")
def test_where_the_library_cannot_save_what_it_opened_as_floats_a_quantised_checkpoint_is_refused(stranger):
    stored, _ = _in_fp8(load_file(stranger / WEIGHTS))
    save_file(stored, stranger / WEIGHTS, metadata={"format": "pt"})
    edit(stranger, CONFIG, quantization_config=FP8)
    with pytest.raises(UsageError, match="cannot save so"):
        opened(stranger)


def test_fp8_weights_without_a_quantisation_have_lost_their_scales_and_are_refused(stranger):
    stored, _ = _in_fp8(load_file(stranger / WEIGHTS))
    save_file(stored, stranger / WEIGHTS, metadata={"format": "pt"})
    with pytest.raises(ArtifactError, match=r"as F8_E4M3, and config\.json names no quantisation"):
        opened(stranger)


def _in_two_files(directory):
    tensors = load_file(directory / WEIGHTS)
    (directory / WEIGHTS).unlink()
    names = {key: f"model-0000{1 + place % 2}-of-00002.safetensors" for place, key in enumerate(sorted(tensors))}
    for name in set(names.values()):
        of_file = {key: tensors[key] for key in tensors if names[key] == name}
        save_file(of_file, directory / name, metadata={"format": "pt"})
    (directory / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))


def test_a_shard_that_is_missing_is_named(stranger, expected):
    _in_two_files(stranger)
    assert answers(opened(stranger)) == expected
    (stranger / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(UsageError, match=rf"{stranger}.*model-00002-of-00002\.safetensors"):
        opened(stranger)


def test_embeddings_that_were_resized_and_saved_with_their_config_change_no_answer(stranger, expected):
    tensors = load_file(stranger / WEIGHTS)
    for name in ("lm_head.weight", "model.embed_tokens.weight"):
        tensors[name] = torch.cat([tensors[name], torch.zeros(16, tensors[name].shape[1])])
    save_file(tensors, stranger / WEIGHTS, metadata={"format": "pt"})
    with pytest.raises(ArtifactError, match="weights do not have the shapes of its config"):
        opened(stranger)
    edit(stranger, CONFIG, vocab_size=480)
    assert answers(opened(stranger)) == expected


def test_a_head_that_is_not_stored_is_the_embeddings_only_where_the_config_ties_them(stranger):
    tensors = load_file(stranger / WEIGHTS)
    del tensors["lm_head.weight"]
    save_file(tensors, stranger / WEIGHTS, metadata={"format": "pt"})
    with pytest.raises(ArtifactError, match=r"1 weights are not in it, such as lm_head\.weight"):
        opened(stranger)
    edit(stranger, CONFIG, tie_word_embeddings=True)
    model = opened(stranger).model
    assert model.lm_head.weight is model.get_input_embeddings().weight


def test_a_prompt_that_is_cut_says_so():
    tokenizer = opened(CHECKPOINT_PATH).tokenizer
    assert encode_answered(tokenizer, ANSWERED, max_length=99).cut is False
    long = [Message(role="user", content="zorp " * 99), *ANSWERED[1:]]
    assert encode_answered(tokenizer, long, max_length=20).cut is True
