"""What makes a class a record: frozen, slotted, keyword-only, and strict when it is read back from a file."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, TypeVar, dataclass_transform

from pydantic import AfterValidator

Class = TypeVar("Class", bound=type)

STRICT = {"extra": "forbid", "allow_inf_nan": False, "strict": True}  # pydantic's names; read by `codec.py`


def finite_tree(tree: dict[str, object]) -> dict[str, object]:
    """The values of a JSON object, where each number in it is finite: no field's own type says so of them.

    Raises:
        ValueError: one is NaN or infinity.
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
