"""The options for how experts are selected, the same in `moe prepare` and `moe select`.

They are annotated types for typer. An option that is not typed is None.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

PANEL = "Selection"

Method = Annotated[
    str | None,
    typer.Option(
        help="risk_diff, text, prompt, did, stability, esft-token, esft-gate, gradient, random, frequency, all, file.",
        rich_help_panel=PANEL,
    ),
]
SelectionFile = Annotated[
    Path | None,
    typer.Option(help="For method file: JSON list, config of ESFT, or CSV table.", rich_help_panel=PANEL),
]
SelectBy = Annotated[
    str | None,
    typer.Option(help="What candidates must meet: `q<0.05 and risk_diff>0.1`, or none.", rich_help_panel=PANEL),
]
Budget = Annotated[str | None, typer.Option(help="Largest trainable share: 0.05, 5% or none.", rich_help_panel=PANEL)]
Threshold = Annotated[
    float | None,
    typer.Option(help="Smallest pooled risk difference: 0.05, or 0 with --select-by.", rich_help_panel=PANEL),
]
TopK = Annotated[int | None, typer.Option(help="Most experts that one batch selects (50).", rich_help_panel=PANEL)]
TopP = Annotated[
    float | None, typer.Option(help="Share of a layer's score that ESFT's methods reach (0.2).", rich_help_panel=PANEL)
]
PerLayer = Annotated[int | None, typer.Option(help="Most candidates of one layer.", rich_help_panel=PANEL)]
Stability = Annotated[
    float | None,
    typer.Option(help="Smallest share of the resamples, for method stability (0.8).", rich_help_panel=PANEL),
]
