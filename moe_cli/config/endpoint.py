"""Settings of an OpenAI-compatible endpoint.

Comes in: plain values. Goes out: `EndpointConfig`. Always holds: no secret is in it; a key is named by the environment
variable that holds it, and an address that carries one is refused.
"""

from __future__ import annotations

import re
from typing import Annotated, Self
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, Field, model_validator

from moe_cli.config.section import Seconds, Section, Threads


def _without_slash(url: str | None) -> str | None:
    return None if url is None else url.rstrip("/")


def _port(parts: SplitResult) -> int | None:
    """The port; None where there is none, 0 where it is no number of one. (The library shows what it is.)"""
    try:
        return parts.port
    except ValueError:
        return 0


class EndpointConfig(Section):
    """An OpenAI-compatible endpoint (vLLM, SGLang, `transformers serve`), used by `moe prepare` and `moe evaluate`."""

    base_url: Annotated[str | None, AfterValidator(_without_slash)] = Field(
        None, description="its address up to /v1, such as `http://localhost:8000/v1`"
    )
    model: str | None = Field(None, description="the model's name there; default: `model.name`")
    key_env: str | None = Field(
        None, min_length=1, description="environment variable that holds the key; the key itself is never stored"
    )
    concurrency: Threads = Field(16, description="requests under way at once")
    timeout: Seconds = Field(600.0, description="longest wait for one answer, in seconds")
    retries: int = Field(6, ge=0, lt=2**31, description="further tries after 429, 5xx or a lost connection")

    @model_validator(mode="after")
    def _plain_address(self) -> Self:
        """Refuse what is no address, or holds a secret, which would be written to disk.

        A check of the whole section: an error of one setting shows its value, and with it the secret.
        """
        if self.key_env is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", self.key_env):
            raise ValueError("key_env is no name of an environment variable; the key itself goes into that variable")
        if self.base_url is None:
            return self
        if not re.fullmatch(r"[!-~]+", self.base_url):
            raise ValueError(
                "base_url holds white space or a sign that is not printable ASCII; percent-encode it (%20)"
            )
        parts = urlsplit(self.base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("base_url begins with http:// or https:// and names a host: http://localhost:8000/v1")
        if "@" in self.base_url or parts.query or parts.fragment:
            raise ValueError("base_url holds no name, password or query; key_env names the variable of a key")
        try:
            parts.hostname.encode("idna")
        except UnicodeError:
            raise ValueError("base_url names no host: a part of it is empty or has more than 63 letters") from None
        if _port(parts) == 0:
            raise ValueError("base_url names a port that no server has: they are 1 to 65535")
        return self
