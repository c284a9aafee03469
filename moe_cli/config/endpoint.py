"""Settings of an OpenAI-compatible endpoint.

Comes in: plain values. Goes out: `EndpointConfig`. Always holds: no secret is in it; a key is named by the environment
variable that holds it, and an address that carries one is refused.
"""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from moe_cli.config.section import Count, Section


def _address(url: str | None) -> str | None:
    """Refuse what is no address of a server, and one that holds a secret, which would be written to disk."""
    if url is None:
        return None
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("it begins with http:// or https:// and names a host, such as http://localhost:8000/v1")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("it holds no name, password or query; name a key's environment variable in endpoint.key_env")
    return url.rstrip("/")


class EndpointConfig(Section):
    """An OpenAI-compatible endpoint (vLLM, SGLang, `transformers serve`), used by `moe prepare`."""

    base_url: Annotated[str | None, AfterValidator(_address)] = Field(
        None, description="its address up to /v1, such as `http://localhost:8000/v1`"
    )
    model: str | None = Field(None, description="the model's name there; default: `model.name`")
    key_env: str | None = Field(
        None, min_length=1, description="environment variable that holds the key; the key itself is never stored"
    )
    concurrency: Count = Field(16, description="requests under way at once")
    timeout: float = Field(600.0, gt=0.0, description="longest wait for one answer, in seconds")
    retries: int = Field(6, ge=0, lt=2**31, description="further tries after 429, 5xx or a lost connection")
