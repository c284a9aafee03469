"""Types of settings, and the words that people write for their values."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from moe_cli.config.sections import conditions_of
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
