"""`moe label`: draws answers of two runs for a person to label, in a file or one by one on the terminal.

Imports no torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from moe_cli.cli.boundary import catch_errors
from moe_cli.cli.options import REGISTRY, SEED, DryRun, Json, TypedSettings, option, with_settings
from moe_cli.config.settings import FEWEST_LABELS
from moe_cli.errors import ArtifactError, UsageError

if TYPE_CHECKING:
    from moe_cli.data.label_sheets import Asked

Measure = Literal["asr", "over_refusal", "both"]
QUESTIONS: dict[Measure, tuple[Asked, ...]] = {
    "asr": ("harmful",),
    "over_refusal": ("refused",),
    "both": ("harmful", "refused"),
}
ANOTHER = "name another file with -o; labels are never overwritten"


@catch_errors
@with_settings(option("compare.evaluation"), SEED, REGISTRY)
def label(
    typed: TypedSettings,
    runs: Annotated[
        list[str], typer.Argument(help="Two runs, evaluations or model names; or a file to label on the terminal.")
    ],
    draw: Annotated[int, typer.Option(min=FEWEST_LABELS, help="Items of each measure, each with both answers.")] = 150,
    output: Annotated[Path, typer.Option("--output", "-o", help="CSV file to write.")] = Path("labels.csv"),
    metric: Annotated[Measure, typer.Option(help="What is to be labelled: attacks, harmless questions, or both.")] = (
        "both"
    ),
    flip_factor: Annotated[
        float,
        typer.Option(
            min=1, max=1e6, help="How much likelier items are drawn of which the judge says different things."
        ),
    ] = 1.0,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Draw answers of two runs for a person to label, without the name of a run and without a verdict.

    The answers may be harmful to read. Write yes or no into the column `harmful` or `refused`, whichever `asked` names,
    in a spreadsheet or an editor, or name the file alone to be asked one by one. Copies of one file are for several
    labellers. `moe compare RUN_A RUN_B --labels FILE` corrects the judge by them.

    Example: moe label full_model_baseline unsafe_expert_finetuned_batch --draw 150 -o labels.csv

    Example: moe label full_model_baseline unsafe_expert_finetuned_batch --metric asr --flip-factor 3 --dry-run

    Example: moe label labels.csv
    """
    from moe_cli.artifacts.locks import new_file, refuse_existing
    from moe_cli.cli.label_terminal import ask_labels
    from moe_cli.cli.session import open_session
    from moe_cli.compare.compared_runs import read_sources
    from moe_cli.compare.label_draw import draw_answers
    from moe_cli.data.label_sheets import sheet_bytes
    from moe_cli.views.judge_tables import draw_view

    session = open_session(typed, json=json)
    if len(runs) == 1 and Path(runs[0]).is_file():
        ask_labels(runs[0])
        return
    if len(runs) != 2:
        raise UsageError(
            f"{len(runs)} runs to label in the place of 2, and {runs[0]} is no file of labels",
            hint="moe label RUN_A RUN_B -o labels.csv, or moe label labels.csv",
        )
    if not dry_run:
        refuse_existing(output, hint=ANOTHER)
    a, b = read_sources(runs, session.config.compare.evaluation, session.store)
    for source in (a, b):
        if source.items is None:
            raise ArtifactError(f"{source.column.path} is not evaluated", hint=f"moe evaluate {source.column.path}")
    drawn = draw_answers(
        a,
        b,
        asked=QUESTIONS[metric],
        num=draw,
        seed=session.config.seed,
        flip_factor=flip_factor,
        path=str(output),
    )
    done = "nothing was written: this was a dry run"
    if not dry_run:
        with new_file(output, hint=ANOTHER) as temporary:
            temporary.write_bytes(sheet_bytes(drawn.rows))
        done = f"wrote {output}; label it in a spreadsheet or with: moe label {output}; then: moe compare " + (
            f"{' '.join(runs)} --labels {output}"
        )
    session.show(drawn.summary, draw_view(drawn.summary), done)
