"""Answer settings beside the weights: what decides how messages become answers, and what of it a checkpoint may set.

`generation_config.json` can forbid tokens, ask for beams or a minimum length, and `config.json` for outputs that the
code of a family cannot give during generation. The command line decides how answers are made, so everything else is
the default of transformers, for every model.

The digest of these settings differs wherever something differs that can change an answer. The name of a model, the
version that saved it and the dtype (which belongs to the weights) do not count.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import sha256

from jinja2 import TemplateError
from transformers import GenerationConfig, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from moe_cli.errors import UsageError
from moe_cli.model.chat import end_of_turn_ids, special_ids
from moe_cli.model.rendering import render_template

NOT_OF_THE_CHECKPOINT: dict[str, bool] = {  # what a forward gives: a setting of a call, or of a training that is over
    "output_router_logits": False,
    "output_attentions": False,
    "output_hidden_states": False,
    "return_dict": True,
}
QUESTION, ANSWER = {"role": "user", "content": "zorp the glim"}, {"role": "assistant", "content": "glim"}
OF_NO_ANSWER = ("transformers_version", "dtype", "torch_dtype", "architectures", "use_cache")
OF_THE_LAST_CALL = ("truncation", "padding")


def ask_for_logits_alone(config: PreTrainedConfig) -> None:
    """Reset a config that asks the forward for outputs beside the default ones."""
    for name, value in NOT_OF_THE_CHECKPOINT.items():
        if getattr(config, name, value) != value:
            setattr(config, name, value)


def drop_generation_defaults(model: PreTrainedModel, name: str) -> None:
    """Drop all generation settings of the checkpoint `name` except its ends of turn and its padding.

    Raises:
        UsageError: it ends its answers at strings instead of tokens.
    """
    own = model.generation_config
    if own is None:
        return
    if getattr(own, "stop_strings", None):
        raise UsageError(
            f"{name} ends its answers at strings (stop_strings in generation_config.json), and moe ends them at tokens",
            hint="name the tokens that end a turn as eos_token_id in generation_config.json, and drop stop_strings",
        )
    kept_keys = ("eos_token_id", "pad_token_id", "bos_token_id")
    model.generation_config = GenerationConfig(**{key: getattr(own, key, None) for key in kept_keys})


def greedy_settings(*, max_new_tokens: int, ends: Sequence[int], pad_id: int) -> GenerationConfig:
    """One sequence a row, of the likeliest tokens, nothing penalised, up to the first of the `ends` or the limit."""
    return GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=False,
        num_beams=1,
        repetition_penalty=1.0,
        eos_token_id=list(ends) or None,
        pad_token_id=pad_id,
        use_cache=True,
        return_dict_in_generate=True,
    )


def settle_ends(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Make generation end where training ends: at every end of turn that model, tokenizer or chat template knows.

    A template often ends its answers with a token that no config names. A tokenizer without an end gets the first one.

    Raises:
        UsageError: there is no end of turn, or a token of the tokenizer has no row in the embeddings.
    """
    _refuse_ids_without_embedding(model, tokenizer)
    ends = list(dict.fromkeys([*end_of_turn_ids(model, tokenizer), *_end_of_template(tokenizer)]))
    if not ends:
        raise UsageError(
            f"nothing ends an answer of {tokenizer.name_or_path}: no eos_token in its tokenizer, no eos_token_id in "
            "generation_config.json, and no special token after the answer in its chat template",
            hint="name the token that ends a turn as eos_token in tokenizer_config.json",
        )
    model.generation_config = model.generation_config or GenerationConfig()
    model.generation_config.eos_token_id = ends
    if tokenizer.eos_token_id is None:
        tokenizer.eos_token = tokenizer.convert_ids_to_tokens(ends[0])


def _end_of_template(tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """The special token that the template writes right after the text of an answer, if any."""
    try:
        text = render_template(tokenizer, [QUESTION, ANSWER], answer_next=False)
    except TemplateError:  # a template that takes questions alone
        return ()
    _, answer, after_answer = text.rpartition(ANSWER["content"])
    ids = tokenizer(after_answer.strip(), add_special_tokens=False)["input_ids"] if answer else []
    return (int(ids[0]),) if ids and ids[0] in special_ids(tokenizer) else ()


def _refuse_ids_without_embedding(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    num_rows = int(model.get_input_embeddings().weight.shape[0])
    beyond = {number: token for token, number in tokenizer.get_vocab().items() if number >= num_rows}
    beyond.pop(tokenizer.pad_token_id, None)  # never seen, and never asked for
    if beyond:
        raise UsageError(
            f"{len(beyond)} tokens of the tokenizer of {tokenizer.name_or_path} have no row in the {num_rows:,} "
            f"embeddings of the model, the id {min(beyond)} among them",
            hint="use the tokenizer that was saved with the model, or resize_token_embeddings and save both again",
        )


def settings_digest(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> str:
    """Hex sha256 over everything but the weights that can change an answer."""
    known = {
        "config": _plain(model.config.to_dict()),
        "ends": end_of_turn_ids(model, tokenizer),
        "chat_template": tokenizer.chat_template,
        "tokenizer": _tokenizer(tokenizer),
    }
    return sha256(json.dumps(known, sort_keys=True, default=str).encode()).hexdigest()


def _plain(config: object) -> object:
    """A config and its nested configs, without names, versions and private attributes."""
    if isinstance(config, dict):
        return {
            str(key): _plain(value)
            for key, value in config.items()
            if not str(key).startswith("_") and key not in OF_NO_ANSWER
        }
    return config


def _tokenizer(tokenizer: PreTrainedTokenizerBase) -> object:
    """Everything that decides how text becomes ids."""
    special = {name: str(token) for name, token in tokenizer.special_tokens_map.items()}
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return type(tokenizer).__name__, special, sorted(tokenizer.get_vocab().items())
    content = json.loads(backend.to_str())
    return special, {key: value for key, value in content.items() if key not in OF_THE_LAST_CALL}
