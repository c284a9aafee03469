"""What a judge decides by, as one digest.

Comes in: plain values (texts, numbers, tuples of them). Goes out: a sha256. Always holds: it changes with every value,
and with the rules that are the same for all judges.
"""

from __future__ import annotations

from hashlib import sha256

from moe_cli.judges.screening import screening_rules


def revision_of(*decided_by: object) -> str:
    """The revision of a judge that decides by these values; give plain ones, whose `repr` says all."""
    return sha256(repr((screening_rules(), decided_by)).encode()).hexdigest()
