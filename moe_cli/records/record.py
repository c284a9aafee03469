"""What makes a class a record: frozen, slotted, keyword-only, and strict when it is read back from a file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar, dataclass_transform

Class = TypeVar("Class", bound=type)

STRICT = {"extra": "forbid", "allow_inf_nan": False, "strict": True}  # pydantic's names; read by `codec.py`


def strict(cls: Class) -> Class:
    """Refuse unknown fields, NaN and infinity when the record is read from JSON; holds for nested records too."""
    cls.__pydantic_config__ = STRICT  # type: ignore[attr-defined]
    return cls


@dataclass_transform(frozen_default=True, kw_only_default=True)
def record(cls: Class) -> Class:
    """A frozen, slotted, keyword-only dataclass that is read back strictly."""
    return dataclass(frozen=True, slots=True, kw_only=True)(strict(cls))  # type: ignore[return-value]
