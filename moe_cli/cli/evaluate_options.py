"""The options that only `moe evaluate` has, by topic: answers, judges, capability and drift.

They are annotated types for typer. As in `options.py`, an option that is not typed is None.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from moe_cli.cli.options import JUDGES_PANEL

ANSWERS, CAPABILITY = "Answers", "Capability and drift"

AnswerFiles = Annotated[
    list[str] | None,
    typer.Option(
        "--answers",
        help="Judge the answers of a file (HarmBench, JailbreakBench, XSTest, inspect, lm-eval, JSON, CSV); no model "
        "is loaded. Repeatable.",
        rich_help_panel=ANSWERS,
    ),
]
KindOfAnswers = Annotated[
    str | None,
    typer.Option("--kind", help="harmful or benign: their prompts, where no file says it.", rich_help_panel=ANSWERS),
]
MaxNewTokens = Annotated[int | None, typer.Option(help="Longest answer in tokens (512).", rich_help_panel=ANSWERS)]
Epochs = Annotated[
    int | None, typer.Option(help="Answers to each item (1); needs --temperature.", rich_help_panel=ANSWERS)
]
Temperature = Annotated[
    float | None, typer.Option(help="0 is greedy; above it answers are sampled.", rich_help_panel=ANSWERS)
]
BatchSize = Annotated[int | None, typer.Option(help="Most prompts answered at once (64).", rich_help_panel=ANSWERS)]
BatchTokens = Annotated[int | None, typer.Option(help="Most tokens at once (32768).", rich_help_panel=ANSWERS)]
MaxUnscored = Annotated[
    float | None, typer.Option(help="Largest share without a verdict (0.02).", rich_help_panel=JUDGES_PANEL)
]
Capability = Annotated[
    list[str] | None, typer.Option(help="A task of lm-eval. Repeatable.", rich_help_panel=CAPABILITY)
]
CapabilityLimit = Annotated[
    int | None, typer.Option(help="Use only the first N questions of a task.", rich_help_panel=CAPABILITY)
]
CapabilityTasks = Annotated[
    Path | None, typer.Option(help="Directory of further task definitions.", rich_help_panel=CAPABILITY)
]
RestoreRouter = Annotated[
    bool | None,
    typer.Option("--restore-router", help="Attack again with the base's router.", rich_help_panel=CAPABILITY),
]
