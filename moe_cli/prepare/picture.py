"""The risk difference of every expert as a picture, with the selected ones marked.

Comes in: risk differences and the selection. Goes out: a PNG and an SVG. Always holds: the same input gives the same
bytes; white is no difference and grey is undefined; no window, no global state of matplotlib is touched.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from moe_cli.artifacts import layout
from moe_cli.artifacts.files import atomic_file
from moe_cli.characters import escape_unsafe
from moe_cli.records import RiskDifferences, Selection

MARK_POINTS = 3.0  # side of the square around a selected expert


def draw_pictures(path: Path, risk: RiskDifferences, selection: Selection) -> None:
    """Write `risk_diff_{model}.png` and `.svg` into the directory `path`."""
    png, svg = layout.risk_pictures(selection.base.name)
    with mpl.rc_context({"svg.hashsalt": "moe", "svg.fonttype": "none"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # of a name; the SVG holds it as text
        figure = risk_figure(risk, selection)
        with atomic_file(path / png) as temporary:
            figure.savefig(temporary, format="png", metadata={"Software": None})
        with atomic_file(path / svg) as temporary:
            figure.savefig(temporary, format="svg", metadata={"Date": None, "Creator": None})


def risk_figure(risk: RiskDifferences, selection: Selection) -> Figure:
    """Layers from top to bottom, experts from left to right."""
    num_layers, num_experts = risk.pooled.shape
    figure = Figure(figsize=(3 + num_experts / 10, max(2.6, 1.2 + num_layers / 6)), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    axes.set_facecolor("0.8")
    bound = float(np.nanmax(np.abs(risk.pooled), initial=0.0)) or 1.0
    image = axes.imshow(risk.pooled, cmap="RdBu_r", vmin=-bound, vmax=bound, aspect="auto", interpolation="nearest")
    figure.colorbar(image, ax=axes, label="risk difference (unsafe - safe)")
    rows = [risk.layers.index(expert.layer) for expert in selection.union]
    columns = [expert.index for expert in selection.union]
    axes.scatter(columns, rows, marker="s", s=MARK_POINTS**2, facecolors="none", edgecolors="black", linewidths=0.7)
    every = max(1, num_layers // 24)
    axes.set_yticks(range(0, num_layers, every), [str(layer) for layer in risk.layers[::every]])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins="auto"))
    axes.set_xlabel("expert")
    axes.set_ylabel("layer")
    model = escape_unsafe(selection.base.name).replace("$", r"\$")  # a name, never mathematics
    axes.set_title(f"{model}: {len(selection.union)} selected by {selection.method}", fontsize="medium")
    return figure
