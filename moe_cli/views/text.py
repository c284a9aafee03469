"""Numbers and foreign text for people: counts beside every proportion, no markup from elsewhere.

Foreign text (a model's answer, a file name, a prompt) moves no cursor, changes no colour, writes no markup and keeps
its reading order: escape, C0 and C1 control, bidi and invisible format characters become visible stand-ins. A
missing number is `-`, never 0.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from rich.text import Text

from moe_cli.characters import escape_unsafe

if TYPE_CHECKING:
    from moe_cli.records import Estimate, PromptDrift, Rate, TrainableCount

MARKUP = re.compile(r"([\\`*_{}\[\]<>#|~!&$])")
SCHEME = re.compile(r"(?i)(https?|ftp|mailto|www)([:.])")  # what some readers of Markdown make a link of
NOTHING = "-"


def safe_text(value: object, *, style: str = "") -> Text:
    """`value` as rich text without markup, each unsafe character replaced by one visible character."""
    return Text(escape_unsafe(str(value)), style=style)


@lru_cache(maxsize=4096)
def markdown_text(text: str) -> str:
    """Foreign text escaped for Markdown, so that none of it becomes markup or a link."""
    return SCHEME.sub(r"\1\\\2", MARKUP.sub(r"\\\1", escape_unsafe(text)))


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table of plain text."""
    first, *others = (list(map(markdown_text, cells)) for cells in (head, *rows))
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (first, ["---"] * len(head), *others))


def rate_text(rate: Rate | None) -> str:
    """`12.4 % (12/97, 32.3 goals) [7.2, 20.4]`, with the goals that n is worth and the unscored outcomes, if any."""
    if rate is None:
        return NOTHING
    unscored = f", {rate.unscored} unscored" if rate.unscored else ""
    goals = None if rate.effective_clusters is None else goals_text(rate.n, rate.effective_clusters)
    worth = f", {goals} goals" if goals else ""
    if rate.rate is None or rate.lower is None or rate.upper is None:
        return f"{NOTHING} (0 scored{unscored})"
    counted = f"{rate.k}/{rate.n}{worth}{unscored}"
    return f"{100 * rate.rate:.1f} % ({counted}) [{100 * rate.lower:.1f}, {100 * rate.upper:.1f}]"


def goals_text(n: int, effective: float) -> str:
    """`32.3`: how many goals of one size n items are worth; empty where every item is a goal of its own."""
    return f"{effective:.1f}".removesuffix(".0") if effective < n - 0.05 else ""


FIXED, SMALL = ".3f", ".2g"  # formats of numbers near 1, and of those that can be far below it


def estimate_text(estimate: Estimate | None, form: str = FIXED) -> str:
    """`1.021 (n 60) [1.002, 1.043]`, or with `SMALL` `2.1e-05 (n 60) [1.4e-05, 3.9e-05]`."""
    if estimate is None:
        return NOTHING
    interval = ""
    if estimate.lower is not None and estimate.upper is not None:
        interval = f" [{estimate.lower:{form}}, {estimate.upper:{form}}]"
    return f"{estimate.value:{form}} (n {estimate.n}){interval}"


def fixed_layers_text(drift: PromptDrift) -> tuple[str, ...]:
    """`layers 0, 1: no router chooses the experts there`; nothing where routers choose in every layer."""
    fixed = ", ".join(str(layer.layer) for layer in drift.layers if layer.kl is None)
    return (f"layers {fixed}: no router chooses the experts there",) if fixed else ()


def trainable_text(count: TrainableCount) -> str:
    """The line about trainable parameters in the well-known form."""
    return (
        f"trainable params: {count.trainable_params:,} || all params: {count.total_params:,} || "
        f"trainable%: {100 * count.trainable_ratio:.4f}"
    )


def bytes_text(size: float | None) -> str:
    """`812 MB`, in powers of ten; `300.0 kB`, so that a small size is not shown as 0."""
    if size is None:
        return NOTHING
    if size < 999_500:
        return f"{size / 1e3:.1f} kB" if size else "0"
    return f"{size / 1e9:.2f} GB" if size >= 999.5e6 else f"{size / 1e6:.0f} MB"


def seconds_text(seconds: float | None) -> str:
    """`21.0 s`, `3 min 20 s`, `2 h 05 min`."""
    if seconds is None:
        return NOTHING
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 100:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def age_text(seconds: float) -> str:
    """`just now`, `5 min ago`, `3 h ago`, `12 days ago`."""
    minutes = int(seconds // 60)
    if minutes < 1:
        return "just now"
    if minutes < 60:
        return f"{minutes} min ago"
    hours = minutes // 60
    return f"{hours} h ago" if hours < 48 else f"{hours // 24} days ago"


def count_of(part: int | None, whole: int) -> str:
    """`12 / 64`."""
    return NOTHING if part is None else f"{part} / {whole}"


def percent_text(share: float | None) -> str:
    """`12.4 %`."""
    return NOTHING if share is None else f"{100 * share:.1f} %"


def optional_text(value: float | None, digits: int) -> str:
    """A number, or `-` for None; one that would be rounded to 0 is shown by its first digit: `3e-05`."""
    if value is None:
        return NOTHING
    text = f"{value:.{digits}f}"
    return f"{value:.1g}" if value and not float(text) else text
