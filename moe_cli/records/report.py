"""What the report of a comparison shows beside the comparison itself.

Comes in: files of the runs that are compared. Goes out: maps of experts, loss curves, the words of flips, and where it
all came from. Always holds: it is handed to the view and written nowhere else; a map has a row for every expert layer;
what could not be found is named.
"""

from __future__ import annotations

from typing import Literal

from moe_cli.records.comparison import FlipText
from moe_cli.records.preparation import RiskParts
from moe_cli.records.record import record

MapKind = Literal["risk", "selection", "drift"]


@record
class ExpertMap:
    """One value for every expert."""

    kind: MapKind
    name: str  # "routing drift: baseline"
    what: str  # "share of a layer's choices, trained minus base"; the unit in words
    layers: tuple[int, ...]  # the decoder's own indices
    values: tuple[tuple[float | None, ...], ...]  # [L][E]; None: undefined
    parts: RiskParts | None = None  # of kind `risk`: what the selected experts' values are made of; None: not measured


@record
class LossCurve:
    """The training loss of one run."""

    run: str  # "selective"
    steps: tuple[int, ...]
    losses: tuple[float, ...]  # per step, nats
    held_out: tuple[tuple[int, float], ...]  # (step, loss on the held-out batches)


@record
class ReportOrigin:
    """One directory that the comparison was made from."""

    run: str  # "selective"; the column it belongs to
    what: str  # "evaluation"
    path: str
    digest: str  # sha256 of its manifest
    finished: str  # ISO 8601, UTC
    packages: dict[str, str]  # {"torch": "2.13.0"}


@record
class ReportData:
    """What the report shows beside the comparison."""

    version: str  # "0.1.0"; of the program
    made: str  # ISO 8601, UTC; when the comparison began
    redacted: bool  # no words of prompts and answers, no ids of items, no absolute paths
    maps: tuple[ExpertMap, ...]
    curves: tuple[LossCurve, ...]
    texts: tuple[FlipText, ...]
    origins: tuple[ReportOrigin, ...]
    missing_maps: tuple[str, ...]  # "routing drift of selective: not measured in all of its evaluations"
    missing_curves: tuple[str, ...]  # "loss of selective: its directory has no steps.jsonl"
