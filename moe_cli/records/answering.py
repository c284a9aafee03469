"""How answers come about: what they depend on beside the model and the prompts."""

from __future__ import annotations

from typing import Literal

from moe_cli.records.record import record

AnswerIds = Literal["generated", "retokenised"]


@record
class AnswerSettings:
    """Everything that an answer depends on beside the model's weights and the prompt; a journal is named by it."""

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
    """What a server answered to one prompt; the weights behind it are not known."""

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
        """Tokens of the answer."""
        return len(self.token_ids)
