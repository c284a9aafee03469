"""The shape of the tiny model: a real OLMoE of 4 layers with 16 experts each, 4 of them active per token.

A seed and a tokenizer come in, an untrained `OlmoeForCausalLM` goes out. Three quarters of its parameters are experts,
and one expert is about 1.2 % of all, so that a budget of 5 % holds four of them.
"""

import torch
from transformers import OlmoeConfig, OlmoeForCausalLM, PreTrainedTokenizerFast

from moe_cli.tiny.tokenizer import MAX_LENGTH

NUM_LAYERS = 4
NUM_EXPERTS = 16
TOP_K = 4
HIDDEN_SIZE = 128
EXPERT_WIDTH = 48
NUM_HEADS = 4
INITIAL_SPREAD = 0.05


def untrained_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> OlmoeForCausalLM:
    """The model before its first step, from this seed alone."""
    torch.manual_seed(seed)
    return OlmoeForCausalLM(tiny_config(tokenizer))


def tiny_config(tokenizer: PreTrainedTokenizerFast) -> OlmoeConfig:
    """The configuration that is saved: no router loss, no router logits."""
    return OlmoeConfig(
        vocab_size=len(tokenizer),
        hidden_size=HIDDEN_SIZE,
        intermediate_size=EXPERT_WIDTH,
        num_hidden_layers=NUM_LAYERS,
        num_attention_heads=NUM_HEADS,
        num_experts=NUM_EXPERTS,
        num_experts_per_tok=TOP_K,
        max_position_embeddings=MAX_LENGTH,
        initializer_range=INITIAL_SPREAD,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        router_aux_loss_coef=0.0,
        output_router_logits=False,
        dtype="float32",
    )
