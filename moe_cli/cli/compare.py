"""`moe compare`: parses the options, compares the runs and prints the result. Imports no torch."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from moe_cli.cli.boundary import catch_errors
from moe_cli.cli.options import REGISTRY, RUN, DryRun, Json, MoeCommand, TypedSettings, option, options, with_settings
from moe_cli.errors import UsageError

if TYPE_CHECKING:
    from moe_cli.cli.session import Session
    from moe_cli.compare.stage import ComparisonOutput

SETTINGS = (
    option("compare.output_dir", "--output-dir", "-o"),
    *options("compare.evaluation", "compare.margin", "compare.fail_if", "compare.labels"),
    *options("compare.intersect", "compare.strict"),
    REGISTRY,
)
VERSUS = "--vs"


class CompareCommand(MoeCommand):
    """A command whose `--vs` takes all words up to the next option."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        """`--vs a b` as `--vs a --vs b`."""
        return super().parse_args(ctx, list(split_arms(args)))


def split_arms(argv: list[str]) -> list[str]:
    """The arguments with `--vs` before each argument that it takes."""
    split: list[str] = []
    taking = False
    for index, word in enumerate(argv):
        if word == "--":
            return [*split, *argv[index:]]
        if taking and not word.startswith("-") and argv[index - 1] != VERSUS:
            split.append(VERSUS)
        taking = word == VERSUS or (taking and not word.startswith("-"))
        split.append(word)
    return split


@contextmanager
def collection_paused() -> Iterator[None]:
    """A block without garbage collection: no cycles are made here, and with many items it takes half of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.freeze()  # what is left is for the rest of the process
            gc.enable()


@catch_errors
@with_settings(*SETTINGS)
def compare(
    typed: TypedSettings,
    runs: Annotated[
        list[str] | None,
        typer.Argument(help="Runs, evaluations, model names; files or folders of results, or their columns."),
    ] = None,
    vs: Annotated[
        list[str] | None, typer.Option("--vs", help="The other arm: `SEL_1 SEL_2 --vs BASE_1 BASE_2`, a run per seed.")
    ] = None,
    base: Annotated[str | None, typer.Option(help="The untrained model, shown beside both arms.")] = None,
    imports: Annotated[
        list[str] | None,
        typer.Option("--import", help="A file of results as an argument is, or NAME=FILE. Repeatable."),
    ] = None,
    metric: Annotated[
        Literal["accuracy", "asr"] | None, typer.Option(help="What a 1 of a file means (accuracy).")
    ] = None,
    measure: Annotated[
        str | None, typer.Option(help="Which metric of lm-eval, score of an inspect log or column of a table.")
    ] = None,
    scale: Annotated[
        float, typer.Option(min=1, max=1e9, help="The full mark of a file's numbers: 100 for percents.")
    ] = 1.0,
    lm_filter: Annotated[str | None, typer.Option("--filter", help="Which filter of lm-eval's samples.")] = None,
    show_flips: Annotated[
        int, typer.Option(min=0, help="Show the N worst flips of each pair with prompt and answers.")
    ] = 0,
    report_flips: Annotated[
        int, typer.Option(min=0, help="Flips in report.html, the worst of every measure and suite of each pair.")
    ] = 20,
    redact: Annotated[
        bool, typer.Option("--redact", help="report.html without prompts, answers, ids of items and absolute paths.")
    ] = False,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print a Markdown document.", rich_help_panel=RUN)
    ] = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Is the comparison fair, and is the difference real? Each pair of runs is compared on the same items.

    Example: moe compare full_model_baseline unsafe_expert_finetuned_batch

    Example: moe compare selective_1 selective_2 --vs baseline_1 baseline_2 --base tiny --fail-if 'asr>+0.02'

    Example: moe compare tiny full_model_baseline unsafe_expert_finetuned_batch --json

    Example: moe compare full_model_baseline unsafe_expert_finetuned_batch --redact

    Example: moe compare full_model_baseline unsafe_expert_finetuned_batch --labels labels.csv

    Example: moe compare paired.csv

    Example: moe compare base.eval selective.eval

    Example: moe compare full=out/full selective=out/selective --filter strict-match

    Example: moe compare harmbench_sel.json --vs harmbench_full.json
    """
    if not (runs or vs or imports):
        raise UsageError("Missing argument: no run to compare", hint="moe compare OUT_A OUT_B, or moe compare FILE.csv")
    if json and markdown:
        raise UsageError("--json and --markdown are two documents", hint="choose one; both are in the output directory")
    from moe_cli.cli.session import open_session
    from moe_cli.compare import stage
    from moe_cli.compare.import_files import SourceContent
    from moe_cli.compare.imported import Import
    from moe_cli.compare.thresholds import raise_failed
    from moe_cli.views.compared import compared_markdown
    from moe_cli.views.report.page import report_page

    session = open_session(typed, json=json)
    if dry_run:
        session.show_settings_of_run()
        return
    with session.reporter() as notify, collection_paused():
        result = stage.run(
            runs or (),
            session.config,
            session.store,
            notify,
            against=vs or (),
            base=base,
            imports=Import(
                files=tuple(imports or ()),
                metric=metric,
                reading=SourceContent(lm_filter=lm_filter, measure=measure, scale=scale),
            ),
            pages=stage.Pages(markdown=compared_markdown, report=report_page, num_flips=report_flips, redact=redact),
            num_texts=show_flips,
        )
    _show(session, result, markdown=markdown)
    raise_failed(result.comparison.thresholds)


def _show(session: Session, result: ComparisonOutput, *, markdown: bool) -> None:
    from moe_cli.artifacts import layout
    from moe_cli.views.compared import compared_markdown, compared_view
    from moe_cli.views.console import stderr_console
    from moe_cli.views.text import safe_text

    done = f"wrote {result.path}; open {result.path / layout.REPORT}; next: moe runs list"
    if markdown:
        print(compared_markdown(result.comparison), end="")
        stderr_console().print(safe_text(done), soft_wrap=True)
    else:
        session.show(result.comparison, compared_view(result.comparison, result.texts), done)
