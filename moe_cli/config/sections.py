"""What the settings are made of: sections that are parts of others, types, and the words that people write for values.

All conditions on the evidence of an expert must hold; a text that is not understood completely is refused with what was
expected.

No section contains a secret: a key is named by the environment variable that holds it, and an address that carries one
is refused.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import SplitResult, urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from moe_cli.errors import UsageError

Seed = Annotated[int, Field(ge=0, lt=2**32)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
# fmt: off
Method = Literal[
    "risk_diff", "text", "prompt", "did", "esft-token", "esft-gate", "gradient", "stability", "random", "frequency",
    "all", "file",
]
# fmt: on
CONTRASTS: tuple[Method, ...] = ("text", "prompt", "did")  # as `risk_diff`, by a part of the risk difference
MATCHED: tuple[Method, ...] = ("random", "frequency")  # controls: as many experts per layer as `risk_diff` would choose
IN_EVERY_BATCH: tuple[Method, ...] = (*MATCHED, "file", "all")  # not chosen by the risk differences of batches
BY_BUDGET: tuple[Method, ...] = ("risk_diff", "frequency", "gradient", "stability")  # what a sweep can cut
LONGEST_WAIT = 1e6  # seconds; sockets and threads cannot wait much longer
SMALLEST_TEMPERATURE = 1e-6  # below it logits divided by it are no finite numbers
Count = Annotated[int, Field(ge=1, lt=2**31)]
Threads = Annotated[int, Field(ge=1, le=1024)]  # a system may refuse more, and with them the process
Seconds = Annotated[float, Field(gt=0.0, le=LONGEST_WAIT)]
QUANTITIES = ("risk_diff", "text", "prompt", "did", "p", "q", "lower", "stability")
EXPECTED = f"write comparisons such as q<0.05, joined by ` and `; there are {', '.join(QUANTITIES)} and <, <=, >, >="
_CONDITION = re.compile(r"\s*([a-z_]+)\s*(<=|>=|<|>)\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*")


def as_share(value: object) -> object:
    """`5%` and `none` as people write them."""
    if isinstance(value, str) and value.strip().lower() == "none":
        return None
    if isinstance(value, str) and value.strip().endswith("%"):
        return float(value.strip()[:-1]) / 100
    return value


def as_nothing(value: object) -> object:
    """`none` takes a setting back."""
    return None if isinstance(value, str) and value.strip().lower() == "none" else value


def as_conditions(text: str | None) -> str | None:
    """Refuse a text that is no list of conditions."""
    if text is not None:
        conditions_of(text)
    return text


def as_word(value: object) -> object:
    """`gpu: 0` as people write it."""
    return str(value) if type(value) is int else value


def as_list(value: object) -> object:
    """`pairs: one.jsonl`, and `null` for none, as people write them."""
    if value is None:
        return ()
    return (str(value),) if isinstance(value, (str, int, Path)) and not isinstance(value, bool) else value


def _mapped(assignments: tuple[str, ...]) -> tuple[str, ...]:
    """Refuse what names no column."""
    if not assignments:
        return assignments
    from moe_cli.data.column_names import column_map  # here, as the readers of data take long to import

    try:
        column_map(assignments)
    except UsageError as error:
        raise ValueError(f"{error.message}; {error.hint}") from error
    return assignments


ColumnNames = Annotated[tuple[str, ...], BeforeValidator(as_list), AfterValidator(_mapped)]


def _as_words(value: object) -> object:
    """`tensorboard`, `tensorboard, wandb`, and `none`, as people write them."""
    if isinstance(value, str):
        names = [word.strip() for word in value.split(",")]
        return () if names in ([""], ["none"]) else tuple(names)
    return () if value is None else value


Sources = Annotated[tuple[str, ...], BeforeValidator(as_list)]
Words = Annotated[tuple[str, ...], BeforeValidator(_as_words)]


def _greedy_or_finite(temperature: float) -> float:
    """Refuse a temperature that no logit can be divided by."""
    if 0 < temperature < SMALLEST_TEMPERATURE:
        raise ValueError(f"it is 0, which is greedy, or at least {SMALLEST_TEMPERATURE:g}")
    return temperature


Temperature = Annotated[float, Field(ge=0.0, le=100.0), AfterValidator(_greedy_or_finite)]


class Section(BaseModel):
    """A group of settings: frozen, and strict about names."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_number_is_true(cls, value: object, info: ValidationInfo) -> object:
        """Refuse `true` where a number is meant, which would be 1."""
        kind = cls.model_fields[info.field_name].annotation if info.field_name else None
        if isinstance(value, bool) and kind is not bool and kind != bool | None:
            raise ValueError("`true` and `false` are no value of this setting")
        return value


@dataclass(frozen=True, slots=True)
class EvidenceCondition:
    """One comparison; an undefined quantity never meets it."""

    quantity: str  # "q"
    comparison: str  # "<"
    bound: float  # 0.05


def conditions_of(text: str | None) -> tuple[EvidenceCondition, ...]:
    """The comparisons in `text`, none where there is no text.

    Raises:
        ValueError: a part is no comparison, or compares something else; says what is expected.
    """
    return () if text is None else tuple(_condition(part) for part in re.split(r"\band\b", text))


def _condition(part: str) -> EvidenceCondition:
    match = _CONDITION.fullmatch(part)
    if match is None:
        raise ValueError(f"{part.strip()!r} is no comparison; {EXPECTED}")
    quantity, comparison, bound = match.groups()
    if quantity not in QUANTITIES:
        raise ValueError(f"{part.strip()!r} compares {quantity!r}; {EXPECTED}")
    if not math.isfinite(float(bound)):
        raise ValueError(f"{part.strip()!r} compares with a number that is not finite; {EXPECTED}")
    return EvidenceCondition(quantity, comparison, float(bound))


def _without_slash(url: str | None) -> str | None:
    return None if url is None else url.rstrip("/")


Address = Annotated[str | None, AfterValidator(_without_slash)]


def _port(parts: SplitResult) -> int | None:
    """The port; None where there is none, 0 where it is no number of one. (The library shows what it is.)"""
    try:
        return parts.port
    except ValueError:
        return 0


class EndpointConfig(Section):
    """An OpenAI-compatible endpoint (vLLM, SGLang, `transformers serve`), used by `moe prepare` and `moe evaluate`."""

    base_url: Address = Field(None, description="address of the endpoint up to /v1: `http://localhost:8000/v1`")
    model: str | None = Field(None, description="name of the model at the endpoint; default: `model.name`")
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


class JudgeConfig(EndpointConfig):
    """The judges of `moe prepare` and `moe evaluate`: the endpoint, local classifiers and programs that judge."""

    base_url: Address = Field(None, description="address of an endpoint that judges, up to /v1")
    model: str | None = Field(None, min_length=1, description="name of the judging model at the endpoint")
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
