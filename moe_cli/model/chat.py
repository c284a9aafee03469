"""Messages to token ids, and which of them are the answer: the only tokenisation in the program.

The ids of an answer follow exactly the ids that the model is prompted with, and the end of turn belongs to the answer.
A row that is too long loses the middle of its prompt, never a token of its answer.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from jinja2 import TemplateError
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from moe_cli.data.reasoning import is_mark, is_marked, opening_of, reasoning_spans, with_empty_reasoning
from moe_cli.errors import UsageError
from moe_cli.model.rendering import render_template
from moe_cli.records import Message

IGNORED = -100  # label of what is not in the loss
TAIL = 16  # ids at the end of a prompt, among which a mark of reasoning stands
PROBE = "zorp the glim"


@dataclass(frozen=True, slots=True)
class EncodedChat:
    """Token ids of one conversation."""

    token_ids: tuple[int, ...]  # prompt, then answer
    num_prompt: int  # ids before the answer
    cut: bool = False  # whether the middle of the prompt is left out
    turn: int = 1  # 3: the answer is the third one of its conversation

    @property
    def labels(self) -> tuple[int, ...]:
        """Loss targets: `IGNORED` on the prompt, the ids on the answer."""
        return (IGNORED,) * self.num_prompt + self.token_ids[self.num_prompt :]


def encode_prompt(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> tuple[int, ...]:
    """Ids of a conversation that ends with a user turn, up to where the model's answer begins."""
    ids = tokenizer(_rendered(tokenizer, messages, answer_next=True), add_special_tokens=False)["input_ids"]
    return tuple(ids)


def encode_answered(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], *, max_length: int | None = None
) -> EncodedChat:
    """Ids of a conversation that ends with the assistant's answer.

    Raises:
        UsageError: the answer is empty, or alone longer than `max_length` tokens.
    """
    *prompt, answer = messages
    if answer.role != "assistant" or not answer.content.strip():
        raise UsageError("a conversation has no answer to learn from", hint="end it with a non-empty assistant turn")
    prompt_ids = encode_prompt(tokenizer, prompt)
    answer_ids = _answer_ids(tokenizer, prompt, messages)
    shortened = prompt_ids if max_length is None else _cut_middle(prompt_ids, max_length - len(answer_ids), max_length)
    turn = 1 + sum(message.role == "assistant" for message in prompt)
    return EncodedChat(shortened + answer_ids, len(shortened), cut=len(shortened) < len(prompt_ids), turn=turn)


def refuse_blind_template(tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a chat template that drops the user's text, and a tokenizer that fails on it.

    Raises:
        UsageError: it leaves the text of the user out, or fails on the simplest question.
    """
    question = [Message(role="user", content=PROBE)]
    if PROBE not in _rendered(tokenizer, question, answer_next=True):
        raise UsageError(
            f"the chat template of {tokenizer.name_or_path} leaves out what the user says",
            hint="its template may read lists of parts alone; bring one that writes the text of a turn",
        )
    encode_prompt(tokenizer, question)
    special_ids(tokenizer)


def end_of_turn_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """Ids that end an answer: those of the generation config and of the tokenizer."""
    configured = model.generation_config.eos_token_id if model.generation_config is not None else None
    listed = configured if isinstance(configured, list) else [configured]
    return tuple(dict.fromkeys(int(i) for i in (*listed, tokenizer.eos_token_id) if i is not None))


def special_ids(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Ids of special tokens, except that for unknown words; a token may be special without a role of its own."""
    added = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    return (added | set(tokenizer.all_special_ids)) - {tokenizer.unk_token_id}


def answer_text(tokenizer: PreTrainedTokenizerBase, prompt: Sequence[int], answer: Sequence[int]) -> str:
    """The text of generated ids, without special tokens except those that mark reasoning."""
    special = special_ids(tokenizer)
    marks = {number for number in special if is_mark(str(tokenizer.convert_ids_to_tokens(number)))}
    if marks.isdisjoint(answer):
        text = tokenizer.decode(answer, skip_special_tokens=True)
    else:
        text = tokenizer.decode([number for number in answer if number in marks or number not in special])
    return with_opening(tokenizer, prompt, str(text).strip())


def with_opening(tokenizer: PreTrainedTokenizerBase, prompt: Sequence[int], text: str) -> str:
    """An answer with the mark before it by which its prompt opens reasoning, if any."""
    opening = opening_of(str(tokenizer.decode(list(prompt[-TAIL:]))))
    return text if text.startswith(opening) else opening + text


def reasoning_tokens(
    tokenizer: PreTrainedTokenizerBase, prompt: Sequence[int], answer: Sequence[int]
) -> tuple[tuple[int, int], ...]:
    """Spans of the generated ids that are reasoning (`reasoning_spans`), with every token that is partly so."""
    ids = list(answer)

    def length_of(num_ids: int) -> int:
        text: str = tokenizer.decode(ids[:num_ids], clean_up_tokenization_spaces=False)
        return len(text)

    opening = opening_of(str(tokenizer.decode(list(prompt[-TAIL:]))))
    text = str(tokenizer.decode(ids, clean_up_tokenization_spaces=False))
    if text.startswith(opening):
        opening = ""
    spans = []
    for first, end in reasoning_spans(opening + text):
        place = max(0, first - len(opening))
        start = bisect_right(range(len(ids) + 1), place, key=length_of) - 1
        stop = bisect_left(range(len(ids) + 1), end - len(opening), key=length_of)
        if start < stop:
            spans.append((start, stop))
    return tuple(spans)


def _answer_ids(
    tokenizer: PreTrainedTokenizerBase, prompt: Sequence[Message], messages: Sequence[Message]
) -> tuple[int, ...]:
    """Ids of the answer as the template writes it, with its end of turn.

    An answer that the template changes, or refuses because of reasoning marks, is tokenised as it was made. An answer
    without such marks first ends the reasoning that its prompt opens.
    """
    before, content = _rendered(tokenizer, prompt, answer_next=True), messages[-1].content
    if (opening := opening_of(before)) and not is_marked(content):
        content = with_empty_reasoning(opening, content)
    try:
        whole = _rendered(tokenizer, [*prompt, Message(role="assistant", content=content)], answer_next=False)
    except UsageError:
        if not is_marked(content):
            raise
        whole = ""
    if not whole.startswith(before):
        text = content.removeprefix(opening)
        return (*tokenizer(text, add_special_tokens=False)["input_ids"], int(tokenizer.eos_token_id))
    ids = list(tokenizer(whole[len(before) :], add_special_tokens=False)["input_ids"])
    special = special_ids(tokenizer)
    last_special = max((index for index, token in enumerate(ids) if token in special), default=None)
    if last_special is None:
        ids.append(int(tokenizer.eos_token_id))
    else:  # a line break that the template writes after the end of turn is no part of the answer
        del ids[last_special + 1 :]
    return tuple(ids)


def _cut_middle(ids: tuple[int, ...], room: int, max_length: int) -> tuple[int, ...]:
    if room < 2:
        raise UsageError(
            f"an answer leaves {max(room, 0)} of {max_length} tokens for its prompt", hint="raise train.max_length"
        )
    if len(ids) <= room:
        return ids
    head = room // 2
    return ids[:head] + ids[len(ids) - (room - head) :]


def _rendered(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], *, answer_next: bool) -> str:
    turns = [{"role": message.role, "content": message.content} for message in messages]
    try:
        return render_template(tokenizer, turns, answer_next=answer_next)
    except TemplateError as error:
        roles = ", ".join(message.role for message in messages)
        raise UsageError(
            f"the chat template of {tokenizer.name_or_path} refuses a conversation of the turns {roles}: {error}",
            hint="many templates allow no system turn and want user and assistant to alternate",
        ) from error
