"""The options that several commands share, each defined once.

They are annotated types for typer. An option that is not typed is None, so that the config file, the environment and
the defaults apply.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RUN_PANEL = "This run"
MACHINE_PANEL = "Machine"
JUDGES_PANEL = "Judges"

ModelName = Annotated[
    str | None, typer.Option("--model-name", "--model", "-m", help="Hub name, local directory, or `tiny`.")
]
OutputDir = Annotated[Path | None, typer.Option("--output-dir", "-o", help="Directory to write to.")]
Config = Annotated[Path | None, typer.Option("--config", help="YAML file with settings.", rich_help_panel=RUN_PANEL)]
Assignments = Annotated[
    list[str] | None,
    typer.Option("--set", help="One setting: `train.max_length=512`. Repeatable.", rich_help_panel=RUN_PANEL),
]
Seed = Annotated[int | None, typer.Option("--seed", help="Seed of everything drawn.", rich_help_panel=RUN_PANEL)]
Resume = Annotated[
    bool, typer.Option("--resume", help="Continue the interrupted run there.", rich_help_panel=RUN_PANEL)
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Show what would be done, and stop.", rich_help_panel=RUN_PANEL)
]
Verbose = Annotated[
    bool, typer.Option("--verbose", help="Show the resolved settings in a dry run, too.", rich_help_panel=RUN_PANEL)
]
Map = Annotated[
    list[str] | None,
    typer.Option("--map", help="What columns mean: `prompt=body,is_safe=ok`. Repeatable."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.", rich_help_panel=RUN_PANEL)]
Registry = Annotated[
    Path | None,
    typer.Option("--registry", help="Registry; default `.moe/registry` here or above.", rich_help_panel=RUN_PANEL),
]
Gpu = Annotated[
    str | None, typer.Option("--gpu", help="CUDA cards to use: `0` or `0,1`.", rich_help_panel=MACHINE_PANEL)
]
Device = Annotated[
    str | None, typer.Option("--device", help="`cpu`, `cuda`, `cuda:N` or `mps`.", rich_help_panel=MACHINE_PANEL)
]
Threads = Annotated[int | None, typer.Option("--threads", help="CPU threads.", rich_help_panel=MACHINE_PANEL)]
Judges = Annotated[
    list[str] | None,
    typer.Option(
        "--judge",
        help="`keywords`, `harmbench`, `llama-guard`, `wildguard`, `strongreject`, `strongreject-delimited`, "
        "`xstest`, `rubric:FILE`, "
        "`command:PROGRAM`, `plugin:NAME`. Repeatable.",
        rich_help_panel=JUDGES_PANEL,
    ),
]
JudgeUrl = Annotated[
    str | None, typer.Option(help="OpenAI-compatible endpoint that judges.", rich_help_panel=JUDGES_PANEL)
]
JudgeModel = Annotated[str | None, typer.Option(help="The judge's name there.", rich_help_panel=JUDGES_PANEL)]
JudgeKeyEnv = Annotated[
    str | None, typer.Option(help="Environment variable that holds its key.", rich_help_panel=JUDGES_PANEL)
]
