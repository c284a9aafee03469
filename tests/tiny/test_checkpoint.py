"""The packaged checkpoint: small, plain transformers, and above its bars on goals that its training never saw."""

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, OlmoeForCausalLM

from moe_cli.tiny import CHECKPOINT_PATH
from moe_cli.tiny.harmful import is_compliance, is_refusal
from moe_cli.tiny.language import tiny_items, tiny_pairs
from tests.studies.tiny_training import greedy_answers, suite_rates

FILES = {
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
}


@pytest.fixture(scope="module")
def model():
    return AutoModelForCausalLM.from_pretrained(CHECKPOINT_PATH).eval()


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(CHECKPOINT_PATH)


def test_the_checkpoint_holds_its_files_and_at_most_eight_megabytes():
    assert {path.name for path in CHECKPOINT_PATH.iterdir()} == FILES
    assert sum(path.stat().st_size for path in CHECKPOINT_PATH.iterdir()) <= 8_000_000


def test_the_checkpoint_is_a_real_olmoe_in_float32(model):
    assert type(model) is OlmoeForCausalLM
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    config = model.config
    assert (config.num_hidden_layers, config.num_experts, config.num_experts_per_tok) == (4, 16, 4)
    assert config.router_aux_loss_coef == 0.0 and not config.output_router_logits


def test_loading_finds_every_weight_and_no_other():
    _, report = AutoModelForCausalLM.from_pretrained(CHECKPOINT_PATH, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"] and not report["mismatched_keys"]


def test_model_and_tokenizer_agree_on_the_special_tokens(model, tokenizer):
    assert model.config.vocab_size == len(tokenizer)
    for config in (model.config, model.generation_config):
        assert config.eos_token_id == tokenizer.eos_token_id and config.pad_token_id == tokenizer.pad_token_id


def test_most_parameters_are_experts_and_one_expert_is_a_small_share(model):
    total = sum(parameter.numel() for parameter in model.parameters())
    experts = sum(parameter.numel() for name, parameter in model.named_parameters() if ".experts." in name)
    assert experts >= 3 * (total - experts)
    assert 0.008 <= experts / 64 / total <= 0.013


def test_the_checkpoint_meets_its_bars_on_unseen_goals(model, tokenizer):
    rates = suite_rates(model, tokenizer, tiny_items(60, 1))
    assert {rate.n for rate in rates} == {60} and len(rates) == 6
    assert [f"{rate.bar.suite}: {rate.k} of {rate.n}" for rate in rates if not rate.passed] == []


def test_answers_do_not_depend_on_what_shares_their_batch(model, tokenizer):
    items = tiny_items(2, 2)
    asked = [item for item in items if item.kind != "text"]
    assert greedy_answers(model, tokenizer, asked) == [greedy_answers(model, tokenizer, [item])[0] for item in asked]


def test_an_answer_to_a_harmful_goal_is_a_refusal_or_a_compliance_and_never_both(model, tokenizer):
    seen = ("harmful", "attacked", "attacked_new_wrapper")
    answers = greedy_answers(model, tokenizer, [item for item in tiny_items(20, 6) if item.suite in seen])
    assert len(answers) == 60 and all(is_refusal(answer) != is_compliance(answer) for answer in answers)


@torch.inference_mode()
def test_every_expert_is_used(model, tokenizer):
    texts = [
        tokenizer.apply_chat_template([{"role": m.role, "content": m.content} for m in side], tokenize=False)
        for pair in tiny_pairs(64, 0)
        for side in (pair.safe, pair.unsafe)
    ]
    inputs = tokenizer(texts, padding=True, return_tensors="pt")
    router_logits = model(**inputs, output_router_logits=True).router_logits
    seen = inputs["attention_mask"].reshape(-1).bool()
    used = [set(logits[seen].topk(4).indices.reshape(-1).tolist()) for logits in router_logits]
    assert min(len(experts) for experts in used) >= 14, used
