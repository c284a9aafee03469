"""`moe sweep`: parses the options, makes the points in processes of their own, and prints what they show."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from moe_cli.cli.boundary import catch_errors
from moe_cli.cli.options import (
    HARDWARE,
    JUDGES,
    MACHINE,
    REGISTRY,
    SEED,
    DryRun,
    Json,
    Resume,
    TypedSettings,
    option,
    options,
    with_settings,
)
from moe_cli.errors import ArtifactError, UnscoredError, UsageError

if TYPE_CHECKING:
    from moe_cli.cli.session import Session
    from moe_cli.records import ResourcePlan, Sweep

SETTINGS = (
    option("sweep.output_dir", "--output-dir", "-o"),
    *options("sweep.budgets", "sweep.methods", "sweep.random_draws", "sweep.seeds"),
    option("sweep.scales", "--lambda"),
    *options("compare.margin", "train.num_epochs", "train.learning_rate"),
    *options("evaluate.items", "evaluate.limit"),
    option("evaluate.judges", "--judge", panel=JUDGES),
    *HARDWARE,
    SEED,
    REGISTRY,
)


@catch_errors
@with_settings(*SETTINGS)
def sweep(
    typed: TypedSettings,
    prepared: Annotated[Path, typer.Argument(help="Directory of a prepare run.")],
    at_once: Annotated[
        int | None,
        typer.Option(
            min=1, max=1024, help="Points at once on a CPU; of --gpu 0,1 one on each.", rich_help_panel=MACHINE
        ),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            help="Ray cluster with this file system: `auto`, `local`, HOST:PORT; needs the extra `ray`.",
            rich_help_panel=MACHINE,
        ),
    ] = None,
    bench: Annotated[
        Path | None, typer.Option(help="Record of `moe bench --json -o FILE`: the time, in a dry run.")
    ] = None,
    resume: Resume = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """How small may the trained share be? Is the selection worth more than random experts? One prepare run, many runs.

    Trains and evaluates every method, budget, random draw and seed; the model before training and the baseline stand
    beside them. Settings that are not typed are those of the prepare run.

    Example: moe sweep prepared --budgets 1%,2%,5%,10%,20% --random-draws 19 --seeds 1,2,3

    Example: moe sweep prepared --methods risk_diff,frequency --items items.jsonl --gpu 0,1

    Example: moe sweep prepared --seeds 1,2,3 --items items.jsonl --ray auto

    Example: moe sweep prepared --lambda 0.25,0.5,0.75 --dry-run
    """
    from moe_cli.cli.select import with_settings_of
    from moe_cli.cli.session import open_session
    from moe_cli.prepare.reselect import draw_seed, refuse_unmeasured_methods

    session = open_session(with_settings_of(prepared, typed), json=json)
    config = session.config
    train = config.train.model_copy(update={"prepared": prepared})
    session = replace(session, config=config.model_copy(update={"train": train}))
    if bench is not None and not dry_run:
        raise UsageError("--bench says how long a sweep would take, without making it", hint="add --dry-run")
    refuse_unmeasured_methods(prepared, config.sweep.methods, session.store)
    if dry_run:
        _show_dry_run(session, prepared, bench, at_once)
        return
    if ray is not None and session.config.model.gpu is not None:
        raise UsageError("--gpu names cards of this machine, and --ray takes those of a cluster", hint="choose one")
    from moe_cli.artifacts import layout
    from moe_cli.cli.child_commands import start_ray
    from moe_cli.cli.sweep_points import PointMaker, points_at_once
    from moe_cli.sweep import stage
    from moe_cli.views.report.sweep_page import sweep_page
    from moe_cli.views.swept import swept_markdown, swept_view

    settings, gpu = session.config.sweep, session.config.model.gpu
    seeds: dict[int | None, int] = {None: session.config.seed}
    seeds |= {number: draw_seed(session.config.seed, number) for number in range(1, settings.random_draws + 1)}
    cluster = None if ray is None else start_ray(ray)
    num = points_at_once(session.config, at_once) if cluster is None else cluster.at_once(session.config.model.threads)
    with session.reporter() as notify:
        maker = PointMaker(
            prepared=prepared,
            config=session.config,
            store=session.store,
            notify=notify,
            selection_seeds=seeds,
            cards=tuple(gpu.split(",")) if gpu else (),
            at_once=at_once or num,
            cluster=cluster,
        )
        pages = stage.SweepPages(markdown=swept_markdown, report=sweep_page)
        result = stage.run(prepared, session.config, session.store, notify, maker.make, pages=pages, resume=resume)
    done = f"wrote {result.path}; open {result.path / layout.REPORT}; next: {_next(result.sweep, prepared)}"
    session.show(result.sweep, swept_view(result.sweep), done)
    _refuse_missing(result.sweep)


def _refuse_missing(sweep: Sweep) -> None:
    """Refuse points that are missing, then those of which too many answers have no verdict."""
    if num_missing := _num_missing(sweep):
        raise ArtifactError(
            f"{num_missing} of {len(sweep.points)} points are missing, and no finding is about them",
            hint="their reasons are listed above; mend them, and run the same command again",
        )
    if unscored := [point for point in sweep.points if point.is_overly_unscored]:
        raise UnscoredError(
            f"of {len(unscored)} of {len(sweep.points)} points too many answers have no verdict; the first: "
            f"{unscored[0].reason}; everything is written",
            hint="judge again with another judge: --judge, which trains nothing anew",
        )


def _num_missing(sweep: Sweep) -> int:
    return sum(point.state != "complete" for point in sweep.points)


def _next(sweep: Sweep, prepared: Path) -> str:
    """The points that are missing, then more draws while they limit the p, else the comparison of single runs."""
    if num_missing := _num_missing(sweep):
        return f"the same command, once what failed is mended: it makes only the {num_missing} points that are missing"
    if sweep.num_draws < 19:
        return f"moe sweep {quote(str(prepared))} ... --random-draws 19, which trains only the draws that are new"
    return "moe compare BASELINE POINT, with directories of the points, for all metrics of two runs"


def _show_dry_run(session: Session, prepared: Path, bench: Path | None, at_once: int | None) -> None:
    """Show the points, what of them is there, and their share, time and memory where these are known."""
    from moe_cli.cli.sweep_points import points_at_once
    from moe_cli.sweep.stage import preview_sweep
    from moe_cli.views.swept import sweep_plan_view

    with session.importing():
        from moe_cli.bench.arm_needs import ResourceRequest
        from moe_cli.bench.resources import plan_resources

    config = session.config

    def plan_of(budget: float, num_batches: int) -> ResourcePlan:
        """What both arms need at a budget."""
        prepare = config.prepare.model_copy(update={"budget": budget})
        train = config.train.model_copy(update={"prepared": None})
        request = ResourceRequest(num_batches=num_batches, ranks=(1,), benchmark=bench, arms=("selective", "baseline"))
        return plan_resources(config.model_copy(update={"prepare": prepare, "train": train}), request)

    cards = config.model.gpu.split(",") if config.model.gpu else []
    num = len(cards) or points_at_once(config, at_once)
    with session.reporter():
        plan = preview_sweep(prepared, config, session.store, plan_of, at_once=num)
    session.show_dry_run(plan, sweep_plan_view(plan), None)
