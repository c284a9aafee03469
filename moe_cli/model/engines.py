"""The engines that answer prompts, the loaded model and an endpoint that serves it, and the choice between them.

The model answers prompts of similar length together, and every batch is returned as soon as it is done. Batches are
formed over all prompts, even if some are answered already; in float32 an answer does not depend on its batch. Of
several processes each answers its share of the batches; an endpoint is asked by one.

An endpoint returns text, so the ids of an answer are tokenised from it, as `chat.py` does for any answer, and are
marked `retokenised`; an answer that stopped by itself ends with the end of turn.

What an engine cannot do is refused before anything is answered.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from moe_cli.config import MoeConfig
from moe_cli.model.chat import answer_text, encode_answered, encode_prompt, end_of_turn_ids, with_opening
from moe_cli.model.chat_endpoint import ChatEndpoint, Completion
from moe_cli.model.decoding import answer_rows, seed_of
from moe_cli.model.engine import Engine, Keep, Prompt, keep_nothing
from moe_cli.model.http_requests import results_as_they_come
from moe_cli.model.load import LoadedModel
from moe_cli.model.token_rows import length_batches
from moe_cli.records import AnswerSettings, Generation, Message
from moe_cli.rounds import in_rounds

EngineOf = Callable[[MoeConfig, LoadedModel, ChatEndpoint | None], Engine]
REFUSAL_TOKENS = 128  # longest refusal that an endpoint is asked to write


@dataclass(frozen=True, slots=True)
class TransformersEngine:
    """The loaded model as the engine."""

    loaded: LoadedModel
    settings: AnswerSettings

    @property
    def depends_on(self) -> tuple[object, ...]:
        """The model that answers, and the machine it runs on."""
        return self.loaded.depends_on

    def answers(
        self, prompts: Sequence[Prompt], done: Collection[str] = (), keep: Keep = keep_nothing
    ) -> Iterator[tuple[Generation, ...]]:
        """Answers, batch by batch, longest prompts first; a batch that is partly done is answered again as a whole."""
        answered = set(done)
        missing = [batch for batch in self._batches(prompts) if batch.keys() - answered]

        def answers_to(batch: Mapping[str, tuple[int, ...]]) -> tuple[Generation, ...]:
            answer_ids = answer_rows(self.loaded, batch, self.settings)
            made = tuple(
                self._generation(prompt_id, batch[prompt_id], answer_ids[prompt_id])
                for prompt_id in batch
                if prompt_id not in answered
            )
            keep(made)
            return made

        for groups in in_rounds(missing, answers_to):
            yield tuple(chain.from_iterable(groups))

    def _batches(self, prompts: Sequence[Prompt]) -> list[dict[str, tuple[int, ...]]]:
        """The ids of all prompts by their names, batch by batch."""
        encoded = {prompt.id: encode_prompt(self.loaded.tokenizer, prompt.messages) for prompt in prompts}
        ids = sorted(encoded)
        room = self.settings.max_new_tokens
        batches = length_batches(
            [len(encoded[prompt_id]) + room for prompt_id in ids],
            max_rows=self.settings.batch_size or len(ids),
            max_tokens=self.settings.batch_tokens,
        )
        return [{ids[place]: encoded[ids[place]] for place in places} for places in batches]

    def _generation(self, prompt_id: str, prompt: tuple[int, ...], answer: tuple[int, ...]) -> Generation:
        return Generation(
            prompt_id=prompt_id,
            text=answer_text(self.loaded.tokenizer, prompt, answer),
            token_ids=answer,
            num_prompt_tokens=len(prompt),
            finished=bool(answer) and answer[-1] in end_of_turn_ids(self.loaded.model, self.loaded.tokenizer),
            answer_ids="generated",
        )


def greedy(*, max_new_tokens: int, batch_size: int, batch_tokens: int | None = None) -> AnswerSettings:
    """Settings of greedy decoding by the model itself."""
    return AnswerSettings(
        engine="transformers",
        base_url=None,
        api_model=None,
        decoding="greedy",
        temperature=0.0,
        top_p=1.0,
        seed=None,
        max_new_tokens=max_new_tokens,
        batch_size=batch_size,
        batch_tokens=batch_tokens,
        answer_ids="generated",
    )


def generate_answers(
    loaded: LoadedModel, prompts: Sequence[Prompt], *, max_new_tokens: int, batch_size: int
) -> Iterator[tuple[Generation, ...]]:
    """Greedy answers, batch by batch, longest prompts first."""
    return TransformersEngine(loaded, greedy(max_new_tokens=max_new_tokens, batch_size=batch_size)).answers(prompts)


def request_completions(
    endpoint: ChatEndpoint,
    settings: AnswerSettings,
    concurrency: int,
    prompts: Sequence[Prompt],
    done: Collection[str] = (),
) -> Iterator[list[tuple[Prompt, Completion]]]:
    """Completions of the prompts whose ids are not in `done`, in groups, as they arrive.

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
    """An endpoint as the engine; the loaded model's tokenizer makes the ids."""

    loaded: LoadedModel
    endpoint: ChatEndpoint
    settings: AnswerSettings
    concurrency: int

    @property
    def depends_on(self) -> tuple[object, ...]:
        """The model through which the answers are replayed."""
        return self.loaded.identity.fingerprint, self.loaded.identity.settings

    def answers(
        self, prompts: Sequence[Prompt], done: Collection[str] = (), keep: Keep = keep_nothing
    ) -> Iterator[tuple[Generation, ...]]:
        """Answers as they arrive, in groups of as many as are ready.

        Raises:
            UsageError, EnvironmentFaultError: as `ChatEndpoint.complete`.
        """
        for group in request_completions(self.endpoint, self.settings, self.concurrency, prompts, done):
            made = tuple(self._generation(prompt, completion) for prompt, completion in group)
            keep(made)
            yield made

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


def answering_engine(config: MoeConfig, loaded: LoadedModel, endpoint: ChatEndpoint | None) -> Engine:
    """The engine that answers the prompts of `moe prepare`."""
    if endpoint is not None and config.prepare.engine == "openai":
        return EndpointEngine(loaded, endpoint, _settings(config, endpoint), config.endpoint.concurrency)
    return TransformersEngine(loaded, _settings(config, None))


def writing_engine(config: MoeConfig, loaded: LoadedModel, endpoint: ChatEndpoint) -> Engine:
    """The engine that writes refusals."""
    settings = _settings(config, endpoint, max_new_tokens=REFUSAL_TOKENS)
    return EndpointEngine(loaded, endpoint, settings, config.endpoint.concurrency)


def _settings(config: MoeConfig, endpoint: ChatEndpoint | None, *, max_new_tokens: int | None = None) -> AnswerSettings:
    prepare = config.prepare
    sampling = prepare.temperature > 0
    return AnswerSettings(
        engine="transformers" if endpoint is None else "openai",
        base_url=None if endpoint is None else endpoint.url,
        api_model=None if endpoint is None else endpoint.model,
        decoding="sampling" if sampling else "greedy",
        temperature=prepare.temperature,
        top_p=prepare.sampling_top_p if sampling else 1.0,
        seed=config.seed if sampling else None,
        max_new_tokens=max_new_tokens or prepare.max_new_tokens,
        batch_size=prepare.generation_batch_size if endpoint is None else None,
        batch_tokens=prepare.generation_tokens if endpoint is None else None,
        answer_ids="generated" if endpoint is None else "retokenised",
    )
