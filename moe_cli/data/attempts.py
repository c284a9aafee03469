"""Reading several sources so that one that cannot be used hides no other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from moe_cli.data.faults import list_names
from moe_cli.errors import MoeError
from moe_cli.records import UnreadableSource

Role = Literal["pairs", "benign", "attack", "refusals", "items", "answers"]
Content = TypeVar("Content")


@dataclass(slots=True)
class SourceReader:
    """Reads every source, and keeps why some cannot be used."""

    errors: list[MoeError] = field(default_factory=list)
    unreadable: list[UnreadableSource] = field(default_factory=list)

    def attempt(self, role: Role, name: str, read_source: Callable[[], Content]) -> Content | None:
        """What the source holds; None where it cannot be used, with the reason in `unreadable`."""
        try:
            return read_source()
        except MoeError as error:
            self.errors.append(error)
            self.unreadable.append(UnreadableSource(role=role, name=name, reason=error.message, hint=error.hint))
            return None

    def check(self, check: Callable[[], None]) -> None:
        """Keep the error of a check over all sources."""
        try:
            check()
        except MoeError as error:
            self.errors.append(error)

    def refusal(self) -> MoeError | None:
        """The one error, or all of them as one; None where all sources can be used."""
        if len(self.errors) < 2:
            return self.errors[0] if self.errors else None
        hints = dict.fromkeys(error.hint for error in self.errors)
        message = f"{len(self.errors)} sources cannot be used{list_names(error.message for error in self.errors)}"
        return type(self.errors[0])(message, hint="; ".join(hints))
