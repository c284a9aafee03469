"""An OpenAI-compatible endpoint as the settings describe it, and one request to it, retried where that can help.

The key is sent only to the configured address, and masked in whatever the server replies (`masking.py`). A redirect is
not followed; a reply that is no chat completion is an error, never an answer; every try has a time limit, however
slowly the server sends.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from moe_cli.config import EndpointConfig, MoeConfig
from moe_cli.errors import EnvironmentFaultError, UsageError
from moe_cli.masking import LONGEST_FORM, holds_key, keep_secret, mask_answer, mask_keys
from moe_cli.model.http_requests import HttpReply, NoReplyError, post_request
from moe_cli.records import Message

JSON = "application/json"
HEADERS = {"Content-Type": JSON, "Accept": JSON, "Accept-Encoding": "identity", "User-Agent": "moe"}
TRY_AGAIN = (408, 409, 425, 429, *range(500, 600))
LONGEST_PAUSE = 60.0  # seconds
LARGEST = 2**24  # bytes of an answer that are read
ENDED_BY_ITSELF = ("stop", "eos", "eos_token", "end_turn", "stop_sequence")  # the finish_reason of several servers
CUT_OFF = ("length", "max_tokens", "model_length", "content_filter", "tool_calls", "function_call")
FAILED = ("abort", "aborted", "error", "cancelled")
REASONING = ("reasoning_content", "reasoning")  # where servers put what they cut out of an answer
HALF_SIGN = re.compile("[\ud800-\udfff]")  # of UTF-16, which JSON can hold alone and UTF-8 cannot
KEY_SIGNS = r"[!-~]+"  # printable ASCII without white space: what a header can carry
USUAL_NAME = r"[A-Z]{1,16}|[A-Z][A-Z0-9]*(_[A-Z0-9]+){1,6}"  # of an environment variable
SERVE_WHOLE = "serve the model without a reasoning parser: the whole answer is replayed or judged"


@dataclass(frozen=True, slots=True)
class Completion:
    """The answer of an endpoint."""

    text: str
    finished: bool  # ended by itself; False: cut off
    num_tokens: int | None = None  # as the server counts; None: it does not say


@dataclass(frozen=True, slots=True)
class EndpointOptions:
    """The options by which a user sets an endpoint, for hints."""

    base_url: str = "--base-url"
    key: str = "--api-key-env"
    model: str = "--api-model"


class NoAnswerError(EnvironmentFaultError):
    """The endpoint is there but failed on every try: late, overloaded, connection lost."""


class NoCompletionError(EnvironmentFaultError):
    """The reply of the endpoint is no chat completion."""


class FailedAnswerError(Exception):
    """The endpoint reports that it did not finish an answer, which may be temporary."""


class RefusedRequestError(UsageError):
    """The endpoint refuses the request itself; a retry cannot help."""

    def __init__(self, message: str, *, hint: str, status: int) -> None:
        super().__init__(message, hint=hint)
        self.status = status  # of HTTP


@dataclass(frozen=True, slots=True)
class ChatEndpoint:
    """Address, key and model of an endpoint, and how long to try."""

    url: str  # "http://localhost:8000/v1"
    model: str
    key: str | None = field(repr=False)
    timeout: float  # seconds of one try, from connecting to the last byte
    retries: int
    pause: Callable[[float], None] = field(default=time.sleep, repr=False)
    whole: bool = True  # refuse answers whose reasoning the server took out
    options: EndpointOptions = EndpointOptions()

    def __post_init__(self) -> None:
        keep_secret(self.key or "")

    def complete(self, messages: Sequence[Message], **settings: float) -> Completion:
        """The answer to `messages`; `settings` are fields of the request: `max_tokens`, `temperature`, `seed`.

        Raises:
            RefusedRequestError: the endpoint refuses the request, its key, or the model's name.
            NoAnswerError: it keeps failing.
            NoCompletionError: the reply is no chat completion.
            EnvironmentFaultError: it cannot be reached.
        """
        turns = [{"role": message.role, "content": message.content} for message in messages]
        body = json.dumps({"model": self.model, "messages": turns, "stream": False, **settings}).encode()
        for tries_left in range(self.retries, -1, -1):
            wait, reached = None, True
            try:
                reply = self._post(body)
                if reply.is_success:
                    return _completion(reply, self)
                if reply.status not in TRY_AGAIN:
                    raise _refused(reply, self)
                why, wait = f"status {reply.status} {_said(reply)}".strip(), _retry_after(reply)
            except FailedAnswerError as error:
                why = str(error)
            except NoReplyError as error:
                why, reached = str(error), error.reached
            if tries_left:
                self.pause(min(wait or 2.0 ** (self.retries - tries_left), LONGEST_PAUSE))
        tries = f"{self.retries + 1} times, the last time" if self.retries else "once,"
        raise (NoAnswerError if reached else EnvironmentFaultError)(
            f"the endpoint {self.url} failed {tries} with: {why}",
            hint="check that the server runs and serves the model; --resume goes on with the answers so far",
        )

    def _post(self, body: bytes) -> HttpReply:
        headers = HEADERS if self.key is None else {**HEADERS, "Authorization": f"Bearer {self.key}"}
        return post_request(f"{self.url}/chat/completions", body, headers, seconds=self.timeout, largest=LARGEST)


def endpoint_of_prepare(config: MoeConfig) -> ChatEndpoint | None:
    """The endpoint of `moe prepare`, if the config asks for one.

    Raises:
        UsageError: it has no address, or its key is missing.
    """
    if config.prepare.engine != "openai" and not config.prepare.refusals_are_written:
        return None
    return chat_endpoint(config.endpoint, config.model.name)


def chat_endpoint(
    config: EndpointConfig,
    model_name: str,
    environment: Mapping[str, str] = os.environ,
    *,
    whole: bool = True,
    options: EndpointOptions = EndpointOptions(),
) -> ChatEndpoint:
    """The configured endpoint, with `model_name` unless another name is set.

    `whole` refuses answers from which the server removed the reasoning; `options` are those of the user, for hints.

    Raises:
        UsageError: no address, or the environment variable of the key is empty or contains no valid key.
    """
    if config.base_url is None:
        raise UsageError(
            "an endpoint is asked for, but none is named",
            hint=f"set {options.base_url}, such as http://localhost:8000/v1",
        )
    key = environment.get(config.key_env) if config.key_env else None
    known = re.fullmatch(USUAL_NAME, config.key_env or "")  # another one may be a key that was typed in its place
    variable = f"the environment variable {config.key_env if known else f'that {options.key} names'}"
    if config.key_env and not key:
        raise UsageError(
            f"{variable} should hold the endpoint's key and is empty",
            hint=f"{options.key} takes the name of the variable, not the key: export NAME=..., or leave it away",
        )
    if key and not re.fullmatch(KEY_SIGNS, key):
        raise UsageError(
            f"{variable} holds white space or a sign that is not printable ASCII, which no key does",
            hint="export it again; a file with Windows line ends leaves a carriage return at the end",
        )
    keep_secret(key or "")
    if holds_key(config.base_url):
        raise UsageError(
            f"the address that {options.base_url} names holds a key, and an address is written to the results",
            hint="leave it out of the address: it is sent in a header",
        )
    served = config.model or model_name
    return ChatEndpoint(config.base_url, served, key, config.timeout, config.retries, whole=whole, options=options)


def _completion(reply: HttpReply, endpoint: ChatEndpoint) -> Completion:
    if not reply.whole:
        raise _no_completion(endpoint, f"more than {LARGEST:,} bytes")
    try:
        answer = json.loads(reply.body)
        choice = answer["choices"][0]
        message, reason = choice["message"], choice.get("finish_reason")
        text = message.get("content") or ""  # some servers leave it out where nothing was said
        hidden = any(message.get(name) for name in REASONING)
        is_text = isinstance(text, str)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        is_text = False
    if not is_text:
        raise _no_completion(endpoint, repr(mask_keys(reply.body.decode(errors="replace"))[:80]))
    if hidden and endpoint.whole:
        raise UsageError(f"{endpoint.url} takes the reasoning out of its answers", hint=SERVE_WHOLE)
    finished = _finished(reason, endpoint)
    whole = HALF_SIGN.sub("\ufffd", text).strip()
    return Completion(text=mask_answer(whole), finished=finished, num_tokens=_num_tokens(answer))


def _finished(reason: object, endpoint: ChatEndpoint) -> bool:
    """Whether the answer ended by itself, by the finish reasons of several servers."""
    name = reason.lower() if isinstance(reason, str) else ""
    if name in FAILED:
        raise FailedAnswerError(f"finish_reason {name}")
    if name not in (*ENDED_BY_ITSELF, *CUT_OFF):
        described = mask_keys(json.dumps(reason))[:80]
        raise NoCompletionError(
            f"{endpoint.url} does not say whether an answer is whole: its finish_reason is {described}",
            hint=f"use a server that says `stop` or `length`; known are {', '.join((*ENDED_BY_ITSELF, *CUT_OFF))}",
        )
    return name in ENDED_BY_ITSELF


def _num_tokens(answer: Mapping[str, object]) -> int | None:
    usage = answer.get("usage")
    count = usage.get("completion_tokens") if isinstance(usage, dict) else None
    return count if type(count) is int and count >= 0 else None


def _no_completion(endpoint: ChatEndpoint, what: str) -> NoCompletionError:
    return NoCompletionError(
        f"{endpoint.url} answered with something that is no chat completion: {what}",
        hint=f"{endpoint.options.base_url} is the address before /chat/completions, which often ends with /v1",
    )


def _refused(reply: HttpReply, endpoint: ChatEndpoint) -> RefusedRequestError:
    options, served = endpoint.options, endpoint.model
    name_key = f"name the environment variable that holds the key with {options.key}"
    hints = {
        401: name_key,
        403: name_key,
        404: f"check {options.base_url}, and that it serves {served}: {options.model} is the model's name there",
    }
    return RefusedRequestError(
        f"the endpoint {endpoint.url} refuses a request with status {reply.status} {_said(reply)}".rstrip(),
        hint=hints.get(reply.status, "the server's log says more; a prompt may be too long for it"),
        status=reply.status,
    )


def _said(reply: HttpReply) -> str:
    """The beginning of the server's message, on one line."""
    text = reply.body.decode(errors="replace")
    if not reply.whole:  # the last key in it may be cut
        text = text[:-LONGEST_FORM]
    return mask_keys(" ".join(text.split()))[:400]


def _retry_after(reply: HttpReply) -> float | None:
    seconds = reply.headers.get("Retry-After", "")
    return float(seconds) if seconds.isdecimal() else None
