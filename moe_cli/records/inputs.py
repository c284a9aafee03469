"""What goes in: messages, prompt pairs, evaluation items, what answers depend on, and the counts of every source."""

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


@record
class BadRow:
    """A row that cannot be used."""

    place: str  # "pairs.jsonl:3"
    reason: str  # "`goal` is None, not a text"; never the words of a prompt


@record
class SourceCount:
    """One source of prompts with the counts of its rows: `rows` = `used` + all of `skipped` + the bad ones."""

    role: Literal["pairs", "benign", "attack", "refusals"]  # "pairs"
    name: str  # "goals.csv", "owner/name@1a2b3c4#train"; as it was named
    sha256: str  # of the file or folder; of a hub data set, over its rows
    format: str  # "AdvBench"
    rows: int  # 520
    used: int  # 518; rows that gave a pair, one side of it, or a prompt, before --limit
    skipped: dict[str, int]  # {"its attack failed": 2}
    bad_rows: tuple[BadRow, ...]
    unread: tuple[str, ...]  # ("category", "source"); columns that hold something and that nothing was read from

    @property
    def num_skipped(self) -> int:
        """Rows that were left out for any reason."""
        return sum(self.skipped.values())


@record
class UnreadableSource:
    """A source that cannot be used at all."""

    role: Literal["pairs", "benign", "attack", "refusals", "items", "answers"]
    name: str  # "goals.csv"; as it was named
    reason: str  # "goals.csv is a pickle, which could run code when it is read"
    hint: str  # "export it as JSON"


@record
class OfferedCounts:
    """What a dry run of `moe prepare` counts: the prompts in the sources, and the batches they would make."""

    num_pairs: int  # 1036; after --limit
    num_goals: int  # 518; different goals of these pairs
    num_benign: int  # 200
    num_benign_attacked: int  # 100; of these, inside an attack
    batch_size: int  # 16
    num_plain: int  # 4; plain goals in a batch
    num_benign_in_batch: int  # 4
    num_attacked: int  # 8
    most_batches: int  # 50; where the model's answers drop nothing
    num_replays: int  # 1600; prompts that are then replayed with an answer, to count the routing
    num_extra_replays: int  # 800; of these, beside the forms of the pairs with their own answers


@record
class DataPreview:
    """Result of `moe prepare --dry-run`: the data as recognised, before any model is loaded."""

    sources: tuple[SourceCount, ...]
    unreadable: tuple[UnreadableSource, ...]
    counts: OfferedCounts | None  # None: a source cannot be read as a whole
    refused: str | None  # why `moe prepare` would refuse the data


@record
class ItemSource:
    """One source of evaluation items with the counts of its rows."""

    name: str  # "harmful=items.jsonl"; as it was named
    sha256: str  # of the file or folder; of a hub data set, over its rows
    format: str  # "XSTest", "items"
    rows: int  # 450
    skipped: dict[str, int]  # {"it is equal to another row": 2}
    bad_rows: int  # 0
    unread: tuple[str, ...]  # ("focus", "note"); columns that hold something and that nothing was read from

    @property
    def num_skipped(self) -> int:
        """Rows that were left out for any reason."""
        return sum(self.skipped.values())

    @property
    def used(self) -> int:
        """Rows that gave an item, before --limit."""
        return self.rows - self.num_skipped - self.bad_rows


@record
class SuiteCount:
    """One suite of the items."""

    suite: str  # "attacked"
    kind: ItemKind
    num_items: int  # 200
    num_clusters: int  # 50; different goals


@record
class ItemsPreview:
    """Result of `moe evaluate --dry-run`: the items as recognised, before any model is loaded."""

    sources: tuple[ItemSource, ...]
    unreadable: tuple[UnreadableSource, ...]
    suites: tuple[SuiteCount, ...]  # after --limit
    refused: str | None  # why `moe evaluate` would refuse the items
