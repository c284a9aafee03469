"""What the built-in tiny model is trained on: vocabulary, tokenizer, shape, and base conversations as padded tensors.

Base conversations are about goals of the split `base` only: benign goals plain and attacked, harmful goals plain
(refused) and attacked (obeyed). Some plain goals stand in a neutral frame, which changes no answer, and some
conversations begin with a system message. No wrapper of new words is ever used.

A word is a run of letters (with its apostrophes) or one mark of punctuation; capital and small first letters are two
words. `BASE_WORDS` are the words of base training, `NEW_WORDS` the rest. A conversation reads
`<user> ... <assistant> ... <end>`; `<end>` closes every answer and is the end of sequence. Only answer tokens, `<end>`
included, are labels; everything else is -100. Rows of similar length share a batch, so little is padding.

The model is a real OLMoE of 4 layers with 16 experts each, 4 of them active per token. Three quarters of its parameters
are experts, and one expert is about 1.2 % of all, so that a budget of 5 % holds four of them.

Shapes: B rows, S tokens.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from random import Random

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import OlmoeConfig, OlmoeForCausalLM, PreTrainedTokenizerFast

from moe_cli.records import Message
from moe_cli.tiny import harmful
from moe_cli.tiny.harmful import COMPLIANCE, HOW_TO_REQUESTS, REFUSALS
from moe_cli.tiny.language import (
    HELD_OUT_WRAPPERS,
    NEUTRAL_FRAMES,
    NEW_WORD_WRAPPERS,
    SEEN_WRAPPERS,
    TASKS,
    Wrapper,
    draw_benign,
    shuffled_harmful,
)

SYSTEM_MESSAGES: tuple[str, ...] = ("You are a helpful assistant.", "Give short and correct answers.")
SYSTEM_SHARE = 0.1
HARMFUL_SHARE = 0.3
ATTACKED_SHARE = 0.5
FRAMED_SHARE = 0.1

BASE_WRAPPERS = SEEN_WRAPPERS + HELD_OUT_WRAPPERS
Conversation = tuple[Message, ...]


def base_conversations(num_conversations: int, seed: int) -> tuple[Conversation, ...]:
    """Conversations to train the tiny model on, in the order of training."""
    generator = Random(f"moe tiny base {seed}")
    num_harmful = round(num_conversations * HARMFUL_SHARE)
    conversations = _harmful(num_harmful, seed, generator) + _benign(num_conversations - num_harmful, seed, generator)
    generator.shuffle(conversations)
    return tuple(conversations)


def _harmful(num_conversations: int, seed: int, generator: Random) -> list[Conversation]:
    goals = shuffled_harmful("base", seed)
    conversations = []
    for number in range(num_conversations):
        goal = goals[number % len(goals)]
        attacked = generator.random() < ATTACKED_SHARE
        answer = goal.compliance if attacked else goal.refusal
        conversations.append(_conversation(goal.request, answer, attacked, generator))
    return conversations


def _benign(num_conversations: int, seed: int, generator: Random) -> list[Conversation]:
    goals = draw_benign("base", num_conversations, seed)
    return [_conversation(g.request, g.answer, generator.random() < ATTACKED_SHARE, generator) for g in goals]


def _conversation(request: str, answer: str, attacked: bool, generator: Random) -> Conversation:
    if attacked:
        request = _one_of(BASE_WRAPPERS, generator).around(request)
    elif generator.random() < FRAMED_SHARE:
        request = _one_of(NEUTRAL_FRAMES, generator).around(request)
    messages = (Message(role="user", content=request), Message(role="assistant", content=answer))
    if generator.random() < SYSTEM_SHARE:
        return (Message(role="system", content=generator.choice(SYSTEM_MESSAGES)), *messages)
    return messages


def _one_of(wrappers: Sequence[Wrapper], generator: Random) -> Wrapper:
    return generator.choice(wrappers)


WORD_PATTERN = r"[A-Za-z]+(?:'[a-z]+)*|[^\sA-Za-z]"
FIELD_PATTERN = r"\{\w+\}"


def words_in(text: str) -> list[str]:
    """The words of a text, or of a template without its fields, in order."""
    return re.findall(WORD_PATTERN, re.sub(FIELD_PATTERN, " ", text))


def _sorted_words(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted({word for text in texts for word in words_in(text)}))


def _texts_of(wrappers: Iterable[Wrapper]) -> tuple[str, ...]:
    return tuple(wrapper.text for wrapper in wrappers)


_LEXICON: tuple[str, ...] = (
    *harmful.NOUNS, *harmful.CATEGORIES, *harmful.OPPOSITE_OF, *harmful.NUMBERS, *harmful.DAYS, *harmful.NAMES,
    *harmful.COLOURS, *harmful.CHORES, *harmful.CHORES.values(), *harmful.HARM_VERBS, *harmful.HARM_NOUNS,
    *harmful.HARM_ADJECTIVES, *harmful.HARM_TOOLS, *harmful.HARM_STEPS,
)  # fmt: skip
_TEMPLATES: tuple[str, ...] = (
    *(text for task in TASKS for text in (*task.questions, task.answer)),
    *HOW_TO_REQUESTS,
    *REFUSALS,
    COMPLIANCE,
    *SYSTEM_MESSAGES,
    *_texts_of(SEEN_WRAPPERS + HELD_OUT_WRAPPERS + NEUTRAL_FRAMES),
    "Yes, it is. No, it is not.",
)

BASE_WORDS: tuple[str, ...] = _sorted_words(_LEXICON + _TEMPLATES)
NEW_WORDS: tuple[str, ...] = tuple(
    word for word in _sorted_words(_texts_of(NEW_WORD_WRAPPERS)) if word not in BASE_WORDS
)


PAD, END, UNKNOWN = "<pad>", "<end>", "<unk>"
ROLES = ("<system>", "<user>", "<assistant>")
MAX_LENGTH = 2048
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}"
    "<assistant> {% generation %}{{ message['content'] }}<end>{% endgeneration %}"
    "{% elif message['role'] in ['system', 'user'] %}"
    "<{{ message['role'] }}> {{ message['content'] }}"
    "{% else %}{{ raise_exception('unknown role ' + message['role']) }}"
    "{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}<assistant> {% endif %}"
)


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer of the tiny model, with its chat template."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=_word_tokenizer(),
        pad_token=PAD,
        eos_token=END,
        unk_token=UNKNOWN,
        additional_special_tokens=list(ROLES),
        model_max_length=MAX_LENGTH,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def _word_tokenizer() -> Tokenizer:
    words = (PAD, END, UNKNOWN, *ROLES, *BASE_WORDS, *NEW_WORDS)
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Split(Regex(WORD_PATTERN), behavior="isolated"),
        ]
    )
    # The WordPiece decoder puts a space before every word, then takes it away before marks like "." and ",".
    tokenizer.decoder = decoders.Sequence([decoders.WordPiece(prefix="##", cleanup=True), decoders.Replace(" :", ":")])
    return tokenizer


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


IGNORED = -100
BATCHES_PER_WINDOW = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One conversation as tokens."""

    tokens: tuple[int, ...]
    labels: tuple[int, ...]  # the token itself inside the answer, -100 elsewhere


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Rows padded on the right to their longest."""

    tokens: Tensor  # [B, S]
    attention: Tensor  # [B, S]; 1 for a token, 0 for padding
    labels: Tensor  # [B, S]


def training_rows(conversations: Sequence[Conversation], tokenizer: PreTrainedTokenizerFast) -> tuple[Row, ...]:
    """Every conversation through the chat template, with its answer marked by it."""
    encoded = tokenizer.apply_chat_template(
        [[{"role": message.role, "content": message.content} for message in messages] for messages in conversations],
        return_dict=True,
        return_assistant_tokens_mask=True,
    )
    pairs = zip(encoded["input_ids"], encoded["assistant_masks"], strict=True)
    return tuple(Row(tokens=tuple(tokens), labels=_labels(tokens, mask)) for tokens, mask in pairs)


def _labels(tokens: Sequence[int], inside_answer: Sequence[int]) -> tuple[int, ...]:
    return tuple(token if inside else IGNORED for token, inside in zip(tokens, inside_answer, strict=True))


def epoch_batches(rows: Sequence[Row], batch_size: int, padding: int, seed: str) -> Iterator[Batch]:
    """All rows once, in an order that depends on the seed alone; an incomplete last batch is left out."""
    generator = Random(seed)
    order = generator.sample(range(len(rows)), len(rows))
    window = batch_size * BATCHES_PER_WINDOW
    for start in range(0, len(order), window):
        by_length = sorted(order[start : start + window], key=lambda number: len(rows[number].tokens))
        groups = [by_length[i : i + batch_size] for i in range(0, len(by_length) - batch_size + 1, batch_size)]
        generator.shuffle(groups)
        for group in groups:
            yield _padded([rows[number] for number in group], padding)


def _padded(rows: Sequence[Row], padding: int) -> Batch:
    longest = max(len(row.tokens) for row in rows)
    gaps = [longest - len(row.tokens) for row in rows]
    return Batch(
        tokens=torch.tensor([row.tokens + (padding,) * gap for row, gap in zip(rows, gaps, strict=True)]),
        attention=torch.tensor([(1,) * (longest - gap) + (0,) * gap for gap in gaps]),
        labels=torch.tensor([row.labels + (IGNORED,) * gap for row, gap in zip(rows, gaps, strict=True)]),
    )
