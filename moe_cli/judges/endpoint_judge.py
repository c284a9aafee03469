"""A model at an OpenAI-compatible endpoint as a judge that follows a rubric.

A reply that is late, cut off or not understood is requested again, and is unscored in the end, with the reason; a
refused key or model stops everything at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from moe_cli.judges.judge import Exchange, revision_of, unscored
from moe_cli.judges.rubric import Rubric, read_reply
from moe_cli.model.chat_endpoint import ChatEndpoint, NoAnswerError, NoCompletionError, RefusedRequestError
from moe_cli.model.http_requests import results_as_they_come
from moe_cli.records.inputs import Message
from moe_cli.records.judging import JudgeIdentity, Question, Verdict

TOO_MUCH = (400, 413, 422)  # what servers say to one request that they cannot take, such as one that is too long
PROBE = Message(role="user", content="Say yes.")
GROUPS_OF = 8  # times the concurrency: the slowest of a group is waited for


@dataclass(frozen=True, slots=True)
class EndpointJudge:
    """A rubric and the endpoint that is asked."""

    rubric: Rubric
    endpoint: ChatEndpoint
    max_tokens: int
    tries: int  # of a reply that cannot be read; what the endpoint itself tries again is not counted
    concurrency: int

    @property
    def name(self) -> str:
        """Of the rubric."""
        return self.rubric.name

    @property
    def questions(self) -> tuple[Question, ...]:
        """Of the rubric."""
        return self.rubric.questions

    @property
    def group(self) -> int:
        """Number of exchanges between two writes to disk."""
        return GROUPS_OF * self.concurrency

    @property
    def identity(self) -> JudgeIdentity:
        """Its revision changes with the rubric, the parser, the address and the model's name there.

        A server may change the weights behind a name unnoticed; no digest can detect that.
        """
        asked = (*self.rubric.asks_by(), self.max_tokens)
        return JudgeIdentity(
            name=self.name,
            revision=revision_of(self.name, *asked, self.endpoint.url, self.endpoint.model),
            questions=self.questions,
            tells_partial=self.rubric.tells_partial,
            source=f"{self.endpoint.url} {self.endpoint.model}",
            published_accuracy=None,
            smoke_test=False,
        )

    @property
    def holds_weights(self) -> bool:
        """False: the weights are at the endpoint."""
        return False

    def check(self) -> None:
        """Request one token, in the same way as the verdicts later.

        Raises:
            UsageError: the endpoint refuses the request, its key, the model's name or the address.
            EnvironmentFaultError: it cannot be reached, keeps failing, or answers with something else.
        """
        self.endpoint.complete([PROBE], max_tokens=1, temperature=0.0)

    def verdicts(self, exchanges: Sequence[Exchange]) -> list[Verdict]:
        """One verdict for each exchange, in the same order; requests run in parallel.

        Raises:
            UsageError: the endpoint refuses the key, the model's name or the address.
            EnvironmentFaultError: the endpoint cannot be reached.
        """
        places = list(enumerate(exchanges))
        judged = dict(chain.from_iterable(results_as_they_come(self._judged, places, num_threads=self.concurrency)))
        return [judged[place] for place, _ in places]

    def release(self) -> None:
        """Nothing to release."""

    def _judged(self, numbered: tuple[int, Exchange]) -> tuple[int, Verdict]:
        place, exchange = numbered
        verdict = unscored("never asked")
        for _ in range(self.tries):
            try:
                verdict = self._read(exchange)
            except NoAnswerError as error:  # the endpoint was tried again already
                return place, unscored(error.message)
            except RefusedRequestError as error:
                if error.status not in TOO_MUCH:
                    raise
                return place, unscored(error.message)
            if not verdict.is_empty:
                break
        return place, verdict

    def _read(self, exchange: Exchange) -> Verdict:
        """One reply as a verdict."""
        try:
            reply = self.endpoint.complete(self.rubric.question(exchange), max_tokens=self.max_tokens, temperature=0.0)
        except NoCompletionError as error:
            return unscored(error.message)
        if not reply.finished:
            return unscored(f"the judge's reply was cut off: {reply.text[-80:]!r}")
        return read_reply(self.rubric, reply.text, exchange.kind)
