"""The cells of a table with one column per arm.

Comes in: the runs of an arm. Goes out: text. Always holds: an arm of several runs shows the mean with the smallest and
the largest; what is not known of every run is `-`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from moe_cli.records import RunColumn
from moe_cli.views.numbers import NOTHING

Runs = Sequence[RunColumn]
Rows = tuple[tuple[str, Callable[[Runs], str]], ...]


def spread_text(values: Sequence[float | None], text: Callable[[float], str]) -> str:
    """The value of one run; of several the mean, with its range where they differ; `-` where one is not known."""
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return NOTHING
    middle, low, high = (text(value) for value in (sum(known) / len(known), min(known), max(known)))
    return middle if low == high else f"{middle} ({low} to {high})"


def alike_text(texts: Sequence[str]) -> str:
    """What all runs of an arm say, or each of them."""
    return " / ".join(dict.fromkeys(texts)) if texts else NOTHING


def of_each(text: Callable[[RunColumn], str]) -> Callable[[Runs], str]:
    """What every run of an arm says."""
    return lambda runs: alike_text([text(column) for column in runs])


def of_all(value: Callable[[RunColumn], float | None], text: Callable[[float], str]) -> Callable[[Runs], str]:
    """The mean over the runs of an arm."""
    return lambda runs: spread_text([value(column) for column in runs], text)
