"""The report of a comparison: `report.html`, one static file.

It has no script, no link to elsewhere and no style but the one block that the content-security policy names by its
digest. Every text that is put in passes `show_value`, the one way by which foreign text reaches HTML.

A group of flips says how many of them are shown. A long text is cut and says so.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from moe_cli.characters import escape_unsafe
from moe_cli.records import Comparison, FlipText, ReportData
from moe_cli.version import __version__
from moe_cli.views.compared_columns import side_by_side
from moe_cli.views.compared_tables import difference_table, fairness_table, threshold_table
from moe_cli.views.judge_tables import agreement_table, judge_table, unscored_table
from moe_cli.views.report import measured_tables
from moe_cli.views.report.charts import cost_bars, layer_chart, loss_chart, prompt_chart, steps_per_point
from moe_cli.views.report.drawing import Series, series_of
from moe_cli.views.report.forest import forests, ordered_pairs, scatter
from moe_cli.views.report.heat import heat_maps
from moe_cli.views.transfer_tables import transfer_tables

MINUS = re.compile(r"(?<![^\s\[])-(?=\d)")
MOST_LETTERS = 1500  # of a prompt or an answer
DRIFT_SHEETS = (
    measured_tables.text_drift_sheet,
    measured_tables.routing_sheet,
    measured_tables.prompt_sheet,
    measured_tables.weight_sheet,
)
MAKING_SHEETS = (measured_tables.model_sheet, measured_tables.generation_sheet)


@dataclass(frozen=True, slots=True)
class FlipWords:
    """The text of a prompt or an answer."""

    title: str
    text: str | None  # None: only outcomes are known
    left_out: int  # letters that are not shown


@dataclass(frozen=True, slots=True)
class ShownFlip:
    """One flip with its texts."""

    item: str
    direction: str  # class name and word
    outcome: str
    words: tuple[FlipWords, ...]


@dataclass(frozen=True, slots=True)
class FlipGroup:
    """The flips of one measure and suite."""

    name: str  # "attack success: attacked"
    worse: int
    better: int
    shown: tuple[ShownFlip, ...]


@dataclass(frozen=True, slots=True)
class FlipPair:
    """The flips of one pair."""

    a: str
    b: str
    groups: tuple[FlipGroup, ...]


def flip_pairs(comparison: Comparison, texts: Sequence[FlipText]) -> tuple[FlipPair, ...]:
    """The flips of every pair, pairs of trained arms first."""
    of_group: defaultdict[tuple[str, str, str], list[FlipText]] = defaultdict(list)
    for text in texts:
        of_group[text.pair, text.flip.metric, text.flip.suite].append(text)
    found = []
    for pair in ordered_pairs(comparison):
        groups = tuple(
            FlipGroup(
                name=f"{metric}: {suite}",
                worse=worse,
                better=better,
                shown=tuple(_shown(text) for text in of_group[f"{pair.b} against {pair.a}", metric, suite]),
            )
            for metric, suite, worse, better in pair.flip_counts
        )
        found.append(FlipPair(pair.a, pair.b, groups))
    return tuple(found)


def _shown(text: FlipText) -> ShownFlip:
    flip = text.flip
    return ShownFlip(
        item=flip.item,
        direction=flip.direction,
        outcome=f"{_said(flip.share_a)} in A, {_said(flip.share_b)} in B",
        words=tuple(_words(text)),
    )


def _said(share: float) -> str:
    return {0.0: "no", 1.0: "yes"}.get(share, f"yes in {100 * share:.0f} % of the runs")


def _words(text: FlipText) -> Iterator[FlipWords]:
    for title, words in (("prompt", text.prompt), ("A answered", text.answer_a), ("B answered", text.answer_b)):
        yield FlipWords(
            title, words if words is None else words[:MOST_LETTERS], max(0, len(words or "") - MOST_LETTERS)
        )


TEMPLATES = Path(__file__).parent / "templates"


def report_page(comparison: Comparison, data: ReportData) -> str:
    """The whole report as HTML."""
    series = series_of(comparison)
    evaluated = measured_tables.evaluated_runs(series)
    trained = measured_tables.evaluated_runs(series, trained=True)
    return render_page(
        "page.html",
        _title(comparison, series),
        comparison=comparison,
        data=data,
        series=series,
        forests=forests(comparison),
        scatter=scatter(series),
        metrics=[difference_table(pair, comparison) for pair in ordered_pairs(comparison)],
        transfer=transfer_tables(comparison),
        maps=heat_maps(data.maps),
        loss=loss_chart(data.curves, series),
        turn_losses=measured_tables.turn_sheet(data.curves),
        held_out=any(curve.held_out for curve in data.curves),
        steps_per_point=steps_per_point(data.curves),
        layers=layer_chart(series),
        prompts=prompt_chart(series),
        drift=[sheet(trained) for sheet in DRIFT_SHEETS],
        bars=cost_bars(series),
        side_by_side=side_by_side(comparison),
        judges=judge_table(evaluated),
        unscored=unscored_table(evaluated),
        agreement=agreement_table(evaluated),
        capability=measured_tables.capability_sheet(evaluated),
        restored=measured_tables.restored_sheet(trained),
        fairness=fairness_table(comparison),
        thresholds=threshold_table(comparison),
        flips=flip_pairs(comparison, data.texts),
        making=[sheet(evaluated) for sheet in MAKING_SHEETS],
    )


def render_page(template: str, title: str, **values: object) -> str:
    """A page of a template that extends `base.html`, with the style and the policy that allows only it."""
    style = (TEMPLATES / "style.css").read_text(encoding="utf-8")
    made = _environment().get_template(template)
    return made.render(title=title, policy=policy(style), style=Markup(style), version=__version__, **values)


def policy(style: str) -> str:
    """The content-security policy, which allows only this style."""
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def show_value(value: object) -> object:
    """The text that the template inserts: without control, bidi and invisible characters; Jinja then escapes it.

    A template's own HTML (`Markup`) passes; records hold none.
    """
    return value if isinstance(value, Markup) else escape_unsafe(str(value))


def lines(text: str) -> Markup:
    """A prompt or an answer with its line breaks."""
    return Markup("\n").join(escape_unsafe(line) for line in text.split("\n"))


def signed_text(text: str) -> str:
    """The text with a true minus sign before every negative number in it."""
    return MINUS.sub("\N{MINUS SIGN}", text)


@cache
def _environment() -> Environment:
    """The templates, with every value shown by `show_value`."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=show_value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"lines": lines, "signed": signed_text}
    return made


def _title(comparison: Comparison, series: tuple[Series, ...]) -> str:
    """The trained arms, the last of them first: `selective against baseline`."""
    names = [one.name for one in series if one.style != "s0"] or [one.name for one in series]
    return " against ".join(reversed(names)) if len(names) < 3 else ", ".join(names)
