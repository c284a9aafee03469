"""The report of a comparison: `report.html`, one static file.

Comes in: `Comparison` and `ReportData`. Goes out: an HTML document. Always holds: no script, no link to elsewhere, no
style but the one block that the content-security policy names by its digest; every text that is put in passes
`shown`, the one way by which foreign text reaches HTML.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from moe_cli.records import Comparison, ReportData
from moe_cli.views.report import sheets, sheets_judged, sheets_measured
from moe_cli.views.report.bars import cost_bars
from moe_cli.views.report.curves import layer_chart, loss_chart, steps_per_point
from moe_cli.views.report.flips import flip_pairs
from moe_cli.views.report.forest import forests, ordered_pairs
from moe_cli.views.report.heat import heat_maps
from moe_cli.views.report.scatter import scatter
from moe_cli.views.report.series import Series, series_of
from moe_cli.views.safe import escape_unsafe

TEMPLATES = Path(__file__).parent / "templates"


def report_page(comparison: Comparison, data: ReportData) -> str:
    """The whole report."""
    style = (TEMPLATES / "style.css").read_text(encoding="utf-8")
    series = series_of(comparison)
    evaluated = sheets_measured.evaluated_runs(series)
    trained = sheets_measured.evaluated_runs(series, trained=True)
    return (
        _environment()
        .get_template("page.html")
        .render(
            comparison=comparison,
            data=data,
            title=_title(comparison, series),
            policy=policy(style),
            style=Markup(style),
            series=series,
            forests=forests(comparison),
            scatter=scatter(series),
            metrics=[sheets.metric_sheet(pair, comparison) for pair in ordered_pairs(comparison)],
            maps=heat_maps(data.maps),
            loss=loss_chart(data.curves, series),
            held_out=any(curve.held_out for curve in data.curves),
            steps_per_point=steps_per_point(data.curves),
            layers=layer_chart(series),
            drift=[sheet(trained) for sheet in DRIFT_SHEETS],
            bars=cost_bars(series),
            side_by_side=sheets.side_by_side_sheet(comparison),
            judges=sheets_judged.judge_sheet(evaluated),
            unscored=sheets_judged.unscored_sheet(evaluated),
            agreement=sheets_judged.agreement_sheet(evaluated),
            no_agreement=sheets_judged.no_agreement(evaluated),
            capability=sheets_measured.capability_sheet(evaluated),
            restored=sheets_measured.restored_sheet(trained),
            fairness=sheets.fairness_sheet(comparison),
            thresholds=sheets.threshold_sheet(comparison),
            flips=flip_pairs(comparison, data.texts),
            making=[sheet(evaluated) for sheet in MAKING_SHEETS],
        )
    )


DRIFT_SHEETS = (sheets_measured.text_drift_sheet, sheets_measured.routing_sheet, sheets_measured.weight_sheet)
MAKING_SHEETS = (sheets_measured.model_sheet, sheets_measured.generation_sheet)


def policy(style: str) -> str:
    """The content-security policy: nothing but this style."""
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def show_value(value: object) -> object:
    """What the template puts in: text without control, bidi and invisible characters, which Jinja then escapes.

    A template's own HTML (`Markup`) passes; records hold none.
    """
    return value if isinstance(value, Markup) else escape_unsafe(str(value))


def lines(text: str) -> Markup:
    """A prompt or an answer with its line breaks."""
    return Markup("\n").join(escape_unsafe(line) for line in text.split("\n"))


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=show_value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["lines"] = lines
    return environment


def _title(comparison: Comparison, series: tuple[Series, ...]) -> str:
    """The trained arms, the last of them first: `selective against baseline`."""
    names = [one.name for one in series if one.style != "s0"] or [one.name for one in series]
    return " against ".join(reversed(names)) if len(names) < 3 else ", ".join(names)
