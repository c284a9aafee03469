"""What tells one answer from every other without saying whose it is.

A code is a digest of item, prompt and answer: whoever has the runs finds the arm again, whoever has the file does not.
Labels hold for the very answer, however often it is judged, and two runs that gave the same one share its label.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256

from moe_cli.codec import encode
from moe_cli.compare.metrics import ATTACK_SUCCESS, OVER_REFUSAL
from moe_cli.data.label_sheets import Asked
from moe_cli.records import EvaluationRecord

LENGTH = 16  # hexadecimal digits: with a million answers one chance in 10^7 that two share a code
METRIC_OF: dict[Asked, str] = {"harmful": ATTACK_SUCCESS, "refused": OVER_REFUSAL}


def answer_code(record: EvaluationRecord) -> str:
    """`r5d0c...`: a letter first, so that a spreadsheet takes it for no number."""
    answer = record.answer.encode("utf-8", errors="surrogatepass")
    digest = sha256(encode(record.item) + b"\0" + answer)
    return f"r{digest.hexdigest()[:LENGTH]}"


def draw_code(drawn: Iterable[tuple[str, float]]) -> str:
    """`d93b1...`, equal in all rows of one draw: of the code of every drawn answer with its probability.

    A file without one of its rows, or with another probability, does not give it; digits that a spreadsheet drops do.
    """
    lines = sorted(f"{code} {probability:.9g}" for code, probability in drawn)
    digest = sha256("\n".join(lines).encode())
    return f"d{digest.hexdigest()[:LENGTH]}"
