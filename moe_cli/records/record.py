"""The decorator that makes a class a record, checks of ids and names in artifacts, and a proportion with its counts."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import PurePath, PurePosixPath
from typing import Annotated, TypeVar, dataclass_transform

from pydantic import AfterValidator

Class = TypeVar("Class", bound=type)

STRICT = {"extra": "forbid", "allow_inf_nan": False, "strict": True}  # pydantic's names; read by `codec.py`
KINDS = "prepare|selective|baseline|alternating|evaluation|comparison|ablation|sweep"
RUN_ID = re.compile(rf"({KINDS})-[0-9]{{8}}-[0-9]{{6}}-[0-9a-f]{{4,64}}")


def finite_tree(tree: dict[str, object]) -> dict[str, object]:
    """Check that every number in a JSON object is finite, which its type does not express.

    Raises:
        ValueError: a number is NaN or infinity.
    """
    pending: list[object] = [tree]
    while pending:
        match pending.pop():
            case dict() as inner:
                pending += inner.values()
            case list() as inner:
                pending += inner
            case float() as number if not math.isfinite(number):
                raise ValueError("a number in it is NaN or infinity")
    return tree


JsonObject = Annotated[dict[str, object], AfterValidator(finite_tree)]


def strict(cls: Class) -> Class:
    """Refuse unknown fields, NaN and infinity when the record is read from JSON; holds for nested records too."""
    cls.__pydantic_config__ = STRICT  # type: ignore[attr-defined]
    return cls


@dataclass_transform(frozen_default=True, kw_only_default=True)
def record(cls: Class) -> Class:
    """A frozen, slotted, keyword-only dataclass that is read back strictly."""
    return dataclass(frozen=True, slots=True, kw_only=True)(strict(cls))  # type: ignore[return-value]


def run_id(text: str) -> str:
    """The text, if it is the id of a run.

    Raises:
        ValueError: it is no id.
    """
    if RUN_ID.fullmatch(text) is None:
        raise ValueError(f"{text[:80]!r} is no id of a run, which is KIND-YYYYMMDD-HHMMSS-HEX")
    return text


def file_name(text: str) -> str:
    """The text, if it is the path of a file below a directory: relative, with `/`, each part a name.

    Raises:
        ValueError: it is absolute, leads upwards, or is no valid name.
    """
    path = PurePath(text)  # of this system: a drive and `\\` count where they do
    leads_out = path.is_absolute() or bool(path.drive) or ".." in path.parts
    if leads_out or "\0" in text or not path.parts or str(PurePosixPath(text)) != text:
        raise ValueError(f"{text[:80]!r} is no name of a file in the run: it is relative and holds no `..`")
    return text


def directory_name(text: str) -> str:
    """The text, if it is the name of a directory in another.

    Raises:
        ValueError: as `file_name`, or it has several parts.
    """
    if len(PurePath(file_name(text)).parts) != 1:
        raise ValueError(f"{text[:80]!r} is no name of one directory")
    return text


RunId = Annotated[str, AfterValidator(run_id)]  # "selective-20261122-171233-5f3a"
FileName = Annotated[str, AfterValidator(file_name)]  # "final_model/model.safetensors"
DirectoryName = Annotated[str, AfterValidator(directory_name)]  # "default"


@record
class Rate:
    """A proportion with its counts."""

    k: int  # 12
    n: int  # 97; scored
    unscored: int  # 3; counted apart, never in n
    rate: float | None  # 0.124; None where n is 0
    lower: float | None  # 95 %; Wilson's, of as many as the clusters are worth
    upper: float | None
    lowest: float | None  # bound if every unscored item were counted as no
    highest: float | None  # bound if every unscored item were counted as yes
    effective_clusters: float | None = None  # 32.3; goals of one size that n is worth; None: n is 0, or not known

    @classmethod
    def of_counts(cls, k: int, n: int, unscored: int) -> Rate:
        """The rate and its bounds from the counts alone, without an interval."""
        offered = n + unscored
        return cls(
            k=k,
            n=n,
            unscored=unscored,
            rate=k / n if n else None,
            lower=None,
            upper=None,
            lowest=k / offered if offered else None,
            highest=(k + unscored) / offered if offered else None,
        )


@record
class CountRatio:
    """(k_b + 1) / (k_a + 1) of rare outcomes."""

    value: float  # 39.0
    lower: float  # 95 %
    upper: float
