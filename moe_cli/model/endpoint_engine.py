"""Prompts to answers by an endpoint that serves the model.

Comes in: prompts. Goes out: a `Generation` for each. Always holds: an endpoint gives text, so the ids of an
answer are made again from it, as `chat.py` makes those of any answer, and are marked `retokenised`; an answer that
stopped by itself ends with the end of turn.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from moe_cli.model.chat import encode_answered, encode_prompt, with_opening
from moe_cli.model.chat_endpoint import ChatEndpoint, Completion
from moe_cli.model.engine import Prompt
from moe_cli.model.load import LoadedModel
from moe_cli.model.parallel import results_as_they_come
from moe_cli.model.sampling import seed_of
from moe_cli.records import AnswerSettings, Generation, Message


def request_completions(
    endpoint: ChatEndpoint,
    settings: AnswerSettings,
    concurrency: int,
    prompts: Sequence[Prompt],
    done: Collection[str] = (),
) -> Iterator[list[tuple[Prompt, Completion]]]:
    """What the endpoint answers to the prompts whose ids are not in `done`, as it comes, in groups.

    Raises:
        UsageError, EnvironmentFaultError: as `ChatEndpoint.complete`.
    """

    def asked(prompt: Prompt) -> tuple[Prompt, Completion]:
        how: dict[str, float] = {"max_tokens": settings.max_new_tokens, "temperature": settings.temperature}
        if settings.seed is not None:
            how |= {"top_p": settings.top_p, "seed": seed_of(settings.seed, prompt.id)}
        return prompt, endpoint.complete(prompt.messages, **how)

    answered = set(done)
    missing = [prompt for prompt in prompts if prompt.id not in answered]
    yield from results_as_they_come(asked, missing, num_threads=concurrency)


@dataclass(frozen=True, slots=True)
class EndpointEngine:
    """An endpoint answers; the loaded model's tokenizer makes the ids."""

    loaded: LoadedModel
    endpoint: ChatEndpoint
    settings: AnswerSettings
    concurrency: int

    @property
    def depends_on(self) -> tuple[object, ...]:
        """The model through which the answers are replayed."""
        return self.loaded.identity.fingerprint, self.loaded.identity.settings

    def answers(self, prompts: Sequence[Prompt], done: Collection[str] = ()) -> Iterator[tuple[Generation, ...]]:
        """Answers as they come, in groups of what there is.

        Raises:
            UsageError, EnvironmentFaultError: as `ChatEndpoint.complete`.
        """
        for group in request_completions(self.endpoint, self.settings, self.concurrency, prompts, done):
            yield tuple(self._generation(prompt, completion) for prompt, completion in group)

    def _generation(self, prompt: Prompt, completion: Completion) -> Generation:
        ids = encode_prompt(self.loaded.tokenizer, prompt.messages)
        text = completion.text and with_opening(self.loaded.tokenizer, ids, completion.text)
        return Generation(
            prompt_id=prompt.id,
            text=text,
            token_ids=self._answer_ids(prompt, text, completion.finished),
            num_prompt_tokens=len(ids),
            finished=completion.finished,
            answer_ids="retokenised",
        )

    def _answer_ids(self, prompt: Prompt, text: str, finished: bool) -> tuple[int, ...]:
        if not text:
            return ()
        answer = Message(role="assistant", content=text)
        encoded = encode_answered(self.loaded.tokenizer, (*prompt.messages, answer))
        ids = encoded.token_ids[encoded.num_prompt :]
        return ids if finished else ids[:-1]
