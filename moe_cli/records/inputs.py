"""Inputs: messages, prompt pairs, evaluation items, and what answers depend on."""

from __future__ import annotations

from typing import Literal

from moe_cli.records.record import record

Side = Literal["safe", "unsafe"]

SIDES: tuple[Side, ...] = ("safe", "unsafe")
Kind = Literal["harmful", "benign"]
KINDS: tuple[Kind, ...] = ("harmful", "benign")
ItemKind = Literal["harmful", "benign", "text"]
PLAIN_SUITE = "harmful"  # of goals that are asked as they are; all other harmful suites hold attacks
AnswerIds = Literal["generated", "retokenised"]


def form_id(source: str, form: str) -> str:
    """Id of one form of a prompt, by which its answer and its training example are found: `goal-17/story#unsafe`."""
    return f"{source}#{form}"


def source_of_form(id: str) -> str:
    """Id of the pair or benign prompt that a form is of: `goal-17/story`."""
    return id.rpartition("#")[0]


@record
class Message:
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]  # "user"
    content: str  # "Name the colour of snow."


@record
class PromptPair:
    """One goal asked plainly (safe side) and inside an attack (unsafe side)."""

    id: str  # "goal-17/story"
    goal: str  # "zorp the glim"
    cluster: str  # "goal-17"; all attack variants of one goal share it
    safe: tuple[Message, ...]  # the plain question; ends with a user turn
    unsafe: tuple[Message, ...]  # the attacked question; ends with a user turn
    attack: str | None  # "story"; the name of the wrapper where it is known
    benign: tuple[Message, ...] | None = None  # a harmless prompt like the plain question; None: the pair brings none
    benign_attacked: tuple[Message, ...] | None = None  # the same inside the attack; None: the pair brings none


@record
class BenignPrompt:
    """A harmless prompt; its training target is the base model's own whole answer."""

    id: str  # "benign-4"
    cluster: str  # "benign-4"
    messages: tuple[Message, ...]  # ends with a user turn
    attack: str | None  # the wrapper's name where the harmless prompt is wrapped in an attack
    other_form: tuple[Message, ...] | None = None  # inside an attack, or plain where `attack` is one; None: not known


@record
class EvaluationItem:
    """One item of a suite."""

    id: str  # "attacked/goal-90/story"
    suite: str  # "attacked"
    kind: ItemKind  # "text": ends with an assistant turn, for drift only
    cluster: str  # "goal-90"
    messages: tuple[Message, ...]  # the prompt; for "text" the prompt and its answer
    expected: str | None  # the one right answer, where there is one (capability)

    @property
    def is_attack(self) -> bool:
        """Whether it asks for harm inside an attack."""
        return self.kind == "harmful" and self.suite != PLAIN_SUITE

    @property
    def is_plain_goal(self) -> bool:
        """Whether it asks for harm as it is, without an attack."""
        return self.kind == "harmful" and self.suite == PLAIN_SUITE


@record
class ModelIdentity:
    """Identity of a model: the fingerprint of its weights, never its path."""

    name: str  # "allenai/OLMoE-1B-7B-0125-Instruct"
    directory: str | None  # where a local model lies, absolute; None for a hub model and for `tiny`
    revision: str | None  # the commit of a hub model
    architecture: str  # "OlmoeForCausalLM"
    fingerprint: str  # sha256 over names, shapes, dtypes and bytes of all weights
    dtype: str  # "bfloat16"
    layers: tuple[int, ...]  # decoder indices of the expert layers, in order
    num_experts: int  # 64
    top_k: int | None  # 8; None where layers differ or only a forward tells
    total_params: int  # 6919161856
    chat_template: str  # sha256 of the chat template
    settings: str  # sha256 of what else turns messages into answers: config, tokenizer, ends of turn

    @property
    def place(self) -> str:
        """The path or name to load it from again."""
        return self.directory or self.name


@record
class AnswerSettings:
    """Everything that an answer depends on except weights and prompt; the name of a journal is derived from it."""

    engine: Literal["transformers", "openai"]
    base_url: str | None  # "http://localhost:8000/v1"; None: no endpoint
    api_model: str | None  # the model's name there
    decoding: Literal["greedy", "sampling"]
    temperature: float  # 0.0; greedy
    top_p: float  # 1.0
    seed: int | None  # 42; None: greedy
    max_new_tokens: int  # 128
    batch_size: int | None  # 64; most prompts answered at once; None: the endpoint's own affair
    batch_tokens: int | None  # 16384; most tokens at once; None: no limit, or an endpoint
    answer_ids: AnswerIds  # "retokenised": an endpoint gave text, whose ids are made again


@record
class ServedAnswer:
    """A server's answer to one prompt; the weights behind it are not known."""

    prompt_id: str  # "attacked/goal-90/story"
    text: str  # "Sure, here is how ..."
    finished: bool  # ended by itself; False: cut off by the token limit
    num_tokens: int | None  # as the server counts; None: it does not say


@record
class Generation:
    """The model's own answer to one prompt."""

    prompt_id: str  # "goal-17/story#unsafe"
    text: str  # "Sure, here is how ..."
    token_ids: tuple[int, ...]  # the answer's tokens, the end of turn included where one was produced
    num_prompt_tokens: int  # 21
    finished: bool  # ended by itself; False: cut off by the token limit
    answer_ids: AnswerIds  # whether `token_ids` are those that were generated

    @property
    def num_tokens(self) -> int:
        """Number of tokens of the answer."""
        return len(self.token_ids)
