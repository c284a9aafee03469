"""One request to an OpenAI-compatible endpoint, tried again where that can help.

Comes in: messages. Goes out: a `Completion`. Always holds: the key is sent to the configured address only, never
written and never part of an error; a redirect is not followed; what is no chat completion is an error, never an answer.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from email.message import Message as Headers

from moe_cli.config import EndpointConfig
from moe_cli.errors import EnvironmentFaultError, UsageError
from moe_cli.records import Message

TRY_AGAIN = (408, 409, 425, 429, 500, 502, 503, 504)
LONGEST_PAUSE = 60.0  # seconds
REASONING = ("reasoning_content", "reasoning")  # where servers put what they cut out of an answer
KEY_SIGNS = r"[!-~]+"  # printable ASCII without white space: what a header can carry
SERVE_WHOLE = "serve the model without a reasoning parser: prompt and whole answer are replayed"


@dataclass(frozen=True, slots=True)
class Completion:
    """What an endpoint answered."""

    text: str
    finished: bool  # ended by itself; False: cut off


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the key to another address."""

    def redirect_request(self, *args: object) -> None:
        """None: the redirect is an error of its status."""


@dataclass(frozen=True, slots=True)
class ChatEndpoint:
    """Where to ask, and how long to try."""

    url: str  # "http://localhost:8000/v1"
    model: str
    key: str | None = field(repr=False)
    timeout: float  # seconds
    retries: int
    pause: Callable[[float], None] = field(default=time.sleep, repr=False)

    def complete(self, messages: Sequence[Message], **settings: float) -> Completion:
        """The answer to `messages`; `settings` are fields of the request: `max_tokens`, `temperature`, `seed`.

        Raises:
            UsageError: the endpoint refuses the request, its key, or the model's name.
            EnvironmentFaultError: it cannot be reached, keeps failing, or answers with something else.
        """
        turns = [{"role": message.role, "content": message.content} for message in messages]
        body = json.dumps({"model": self.model, "messages": turns, "stream": False, **settings}).encode()
        for tries_left in range(self.retries, -1, -1):
            try:
                return _completion(self._post(body), self.url)
            except urllib.error.HTTPError as error:
                if error.code not in TRY_AGAIN:
                    raise _refused(error, self) from None
                why, asked = f"status {error.code} {_said(error)}".strip(), _retry_after(error.headers)
            except (OSError, http.client.HTTPException) as error:
                why, asked = str(getattr(error, "reason", error)) or type(error).__name__, None
            if tries_left:
                self.pause(min(asked or 2.0 ** (self.retries - tries_left), LONGEST_PAUSE))
        raise EnvironmentFaultError(
            f"the endpoint {self.url} failed {self.retries + 1} times, the last time with: {why}",
            hint="check that the server runs and serves the model; --resume goes on with the answers so far",
        )

    def _post(self, body: bytes) -> bytes:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self.key is not None:
            headers["Authorization"] = f"Bearer {self.key}"
        request = urllib.request.Request(f"{self.url}/chat/completions", data=body, headers=headers, method="POST")
        opener = urllib.request.build_opener(NoRedirect)
        with opener.open(request, timeout=self.timeout) as response:
            data: bytes = response.read()
        return data


def chat_endpoint(config: EndpointConfig, model_name: str, environment: Mapping[str, str] = os.environ) -> ChatEndpoint:
    """The configured endpoint; it serves `model_name` where no other name is set.

    Raises:
        UsageError: no address, or the variable that should hold the key is empty or holds what is no key.
    """
    if config.base_url is None:
        raise UsageError("an endpoint is asked for, but none is named", hint="add --base-url http://localhost:8000/v1")
    key = environment.get(config.key_env) if config.key_env else None
    if config.key_env and not key:
        raise UsageError(
            f"the environment variable {config.key_env} should hold the endpoint's key and is empty",
            hint=f"export {config.key_env}=..., or leave --api-key-env away",
        )
    if key and not re.fullmatch(KEY_SIGNS, key):
        raise UsageError(
            f"the environment variable {config.key_env} holds white space or a sign that is not printable ASCII, "
            "which no key does",
            hint=f"export {config.key_env} again; a file with Windows line ends leaves a carriage return at the end",
        )
    return ChatEndpoint(config.base_url, config.model or model_name, key, config.timeout, config.retries)


def _completion(data: bytes, url: str) -> Completion:
    try:
        answer = json.loads(data)
        choice = answer["choices"][0]
        message, reason = choice["message"], choice["finish_reason"]
        text = message["content"] or ""
        hidden = any(message.get(name) for name in REASONING)
        is_text = isinstance(text, str) and isinstance(reason, str)
    except (ValueError, LookupError, TypeError, AttributeError):
        is_text = False
    if not is_text:
        raise EnvironmentFaultError(
            f"{url} answered with something that is no chat completion: {data[:80]!r}",
            hint="--base-url is the address before /chat/completions, which often ends with /v1",
        )
    if hidden:
        raise UsageError(f"{url} takes the reasoning out of its answers", hint=SERVE_WHOLE)
    return Completion(text=text.strip(), finished=reason == "stop")


def _refused(error: urllib.error.HTTPError, endpoint: ChatEndpoint) -> UsageError:
    hints = {
        401: "name the environment variable that holds the key with --api-key-env",
        403: "name the environment variable that holds the key with --api-key-env",
        404: f"check --base-url, and that it serves {endpoint.model}: --api-model is the model's name there",
    }
    return UsageError(
        f"the endpoint {endpoint.url} refuses a request with status {error.code} {_said(error)}".rstrip(),
        hint=hints.get(error.code, "the server's log says more; a prompt may be too long for it"),
    )


def _said(error: urllib.error.HTTPError) -> str:
    """The beginning of what the server says, on one line."""
    return " ".join(error.read(400).decode(errors="replace").split())


def _retry_after(headers: Headers) -> float | None:
    asked = headers.get("Retry-After", "")
    return float(asked) if asked.isdecimal() else None
