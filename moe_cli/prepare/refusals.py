"""What the model is taught to say instead: refusal targets.

Comes in: the kept pairs with the model's own plain answers, or a file of refusals. Goes out: one target per pair.
Always holds: a target is a whole refusal, and never one string for all unless the file holds only one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from moe_cli.errors import UsageError
from moe_cli.records import AnsweredPrompt

# Used for a pair whose plain form was not refused in full by the model itself.
BUILT_IN = (
    "I'm sorry, but I can't help with that.",
    "I can't assist with that request.",
    "Sorry, that is something I won't help with.",
    "I'm not able to help with this.",
    "I have to decline this request.",
)


@dataclass(frozen=True, slots=True)
class Refusals:
    """Targets by pair id, and how many are the model's own words."""

    targets: dict[str, str]
    num_own: int


def refusal_targets(rows: Sequence[AnsweredPrompt], texts: Sequence[str] | None) -> Refusals:
    """One of `texts` by pair id; without texts the model's own whole refusal of the plain form, else a built-in one."""
    plain = [row for row in rows if row.side == "safe" and row.kept]
    own = {row.source_id: row.answer for row in plain if not texts and row.finished and row.label == "full_refusal"}
    others = texts or BUILT_IN
    return Refusals({row.source_id: own.get(row.source_id, _pick(others, row.source_id)) for row in plain}, len(own))


def refusal_texts(file: Path | None) -> tuple[str, ...] | None:
    """The refusals of a file, one a line; None where no file is named.

    Raises:
        UsageError: no such file, not UTF-8, or no refusal in it.
    """
    if file is None:
        return None
    if not file.is_file():
        raise UsageError(f"there is no file {file}", hint="--refusals wants a text file with one refusal a line")
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} is not UTF-8 text: {error}", hint="save it as UTF-8") from error
    lines = tuple(line.strip() for line in text.splitlines() if line.strip())
    if not lines:
        raise UsageError(f"{file} holds no refusal", hint="write one refusal a line")
    return lines


def _pick(texts: Sequence[str], pair_id: str) -> str:
    return texts[int.from_bytes(sha256(pair_id.encode()).digest()[:4]) % len(texts)]
