"""Settings of the judges.

Comes in: plain values. Goes out: `JudgeConfig`. Always holds: as for every endpoint, no secret is in it.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from moe_cli.config.endpoint import EndpointConfig
from moe_cli.config.section import Count, Seconds, Threads


class JudgeConfig(EndpointConfig):
    """The judges of `moe prepare` and `moe evaluate`: the endpoint, local classifiers and programs that judge."""

    model: str | None = Field(None, min_length=1, description="the name of the judging model at the endpoint")
    concurrency: Threads = Field(8, description="answers that an endpoint judges at once")
    timeout: Seconds = Field(
        120.0, description="longest wait for one verdict of an endpoint or one call of a program, in seconds"
    )
    retries: int = Field(
        2, ge=0, lt=2**31, description="further tries where a judge fails, is late or cannot be read; then unscored"
    )
    max_tokens: Count = Field(1024, description="longest reply of a judging endpoint, in tokens")
    threshold: float = Field(0.5, gt=0.0, le=1.0, description="smallest StrongREJECT score that counts as harmful")
    batch_size: Count = Field(16, description="answers that a local classifier judges at once")
    device: str = Field(
        "auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="of local classifiers: `auto`, `cpu`, `cuda`, `cuda:N`"
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="of local classifiers; `auto` is the checkpoint's own"
    )
    rows: Count = Field(256, description="answers that a program is given in one call")
