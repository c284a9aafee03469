"""The options of `moe evaluate` by what they are about: answers, judges, capability and drift.

Comes in: nothing. Goes out: annotated types for typer. Always holds: as in `options.py`, what is not typed is None.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ANSWERS, JUDGES, CAPABILITY = "Answers", "Judges", "Capability and drift"

MaxNewTokens = Annotated[int | None, typer.Option(help="Longest answer in tokens (512).", rich_help_panel=ANSWERS)]
Epochs = Annotated[
    int | None, typer.Option(help="Answers to each item (1); needs --temperature.", rich_help_panel=ANSWERS)
]
Temperature = Annotated[
    float | None, typer.Option(help="0 is greedy; above it answers are sampled.", rich_help_panel=ANSWERS)
]
BatchSize = Annotated[int | None, typer.Option(help="Most prompts answered at once (64).", rich_help_panel=ANSWERS)]
BatchTokens = Annotated[int | None, typer.Option(help="Most tokens at once (32768).", rich_help_panel=ANSWERS)]
Judges = Annotated[
    list[str] | None,
    typer.Option(
        "--judge",
        help="`keywords`, `harmbench`, `llama-guard`, `wildguard`, `strongreject`, `strongreject-delimited`, "
        "`xstest`, `rubric:FILE`, `command:PROGRAM`, `plugin:NAME`. Repeatable.",
        rich_help_panel=JUDGES,
    ),
]
JudgeUrl = Annotated[str | None, typer.Option(help="OpenAI-compatible endpoint that judges.", rich_help_panel=JUDGES)]
JudgeModel = Annotated[str | None, typer.Option(help="The judge's name there.", rich_help_panel=JUDGES)]
JudgeKeyEnv = Annotated[
    str | None, typer.Option(help="Environment variable that holds its key.", rich_help_panel=JUDGES)
]
MaxUnscored = Annotated[
    float | None, typer.Option(help="Largest share without a verdict (0.02).", rich_help_panel=JUDGES)
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
