"""The options for what answers `moe prepare`'s prompts, and how; those of an endpoint are shared with `moe evaluate`.

They are annotated types for typer. An option that is not typed is None.
"""

from __future__ import annotations

from typing import Annotated

import typer

PANEL = "Answers"

MaxNewTokens = Annotated[int | None, typer.Option(help="Longest answer in tokens (128).", rich_help_panel=PANEL)]
BenignMaxNewTokens = Annotated[
    int | None, typer.Option(help="The same of benign prompts; default: 768.", rich_help_panel=PANEL)
]
Temperature = Annotated[
    float | None, typer.Option(help="0 is greedy; above it answers are sampled.", rich_help_panel=PANEL)
]
SamplingTopP = Annotated[
    float | None, typer.Option(help="Sampling: the likeliest tokens only (1.0).", rich_help_panel=PANEL)
]
Engine = Annotated[str | None, typer.Option(help="transformers, or openai: an endpoint.", rich_help_panel=PANEL)]
BaseUrl = Annotated[str | None, typer.Option(help="Endpoint: http://localhost:8000/v1.", rich_help_panel=PANEL)]
ApiModel = Annotated[str | None, typer.Option(help="The model's name there.", rich_help_panel=PANEL)]
ApiKeyEnv = Annotated[str | None, typer.Option(help="Variable that holds its key.", rich_help_panel=PANEL)]
Concurrency = Annotated[int | None, typer.Option(help="Requests under way at once (16).", rich_help_panel=PANEL)]
