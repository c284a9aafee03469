"""`moe sweep`: how attack success, over-refusal and capability go with the budget, and what the selection is worth.

The points are made by the caller, each of them three ordinary runs; this stage plans them, finds those that are there,
reads the finished evaluations, and writes `sweep.json` and its pages. A point that failed is listed with its reason.
Starts without torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from moe_cli.activity import begin_activity
from moe_cli.artifacts import Store, layout, open_run
from moe_cli.artifacts.files import write_atomic
from moe_cli.artifacts.journal import resumable
from moe_cli.artifacts.registry import require_unchanged_run
from moe_cli.artifacts.run_directory import free_directory
from moe_cli.codec import encode
from moe_cli.config import MoeConfig
from moe_cli.errors import ArtifactError
from moe_cli.records import Notice, Selection, Sweep
from moe_cli.records.manifest import Notify
from moe_cli.sweep.conclusions import conclude_sweep
from moe_cli.sweep.point_places import MeasuredPoint, PointPlace, find_places, is_complete, measure_point
from moe_cli.sweep.points import plan_points

Failures = Mapping[str, str]  # digest of a point -> why it has no evaluation, or what is wrong with it


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepPages:
    """Makers of the pages for people."""

    markdown: Callable[[Sweep], str]
    report: Callable[[Sweep], str]


@dataclass(frozen=True, slots=True)
class SweepOutput:
    """The result of `moe sweep`."""

    path: Path
    sweep: Sweep


def run(
    prepared: Path,
    config: MoeConfig,
    store: Store,
    notify: Notify,
    make: Callable[[Sequence[PointPlace]], Failures],
    *,
    pages: SweepPages,
    resume: bool = False,
) -> SweepOutput:
    """Make the points that are not there with `make`, which says why any failed, and conclude from all that are.

    Raises:
        ArtifactError: no complete prepare run there, not one point is complete, or runs of different items.
        StoppedError: asked to stop; `resume` goes on.
    """
    store.refuse_unwritable()
    source = require_unchanged_run(prepared, store, "prepare")
    model = source.record(layout.SELECTION, Selection).base
    output = free_directory(config.sweep.output_dir, "sweep", config if resume else None)
    with open_run(output, "sweep", config, resume=resume) as writer, resumable(output, f"{layout.POINTS}/*"):
        places = find_places(plan_points(config), config, source, store, output)
        missing = [place for place in places if not place.is_complete]
        if len(missing) < len(places):
            notify(Notice(text=f"{len(places) - len(missing)} of {len(places)} points are there already"))
        failures = make(missing) if missing else {}
        with begin_activity("reading the evaluations"):
            measured = [measure_point(place, source, store, failures.get(place.digest)) for place in places]
        _refuse_nothing(measured)
        with begin_activity("concluding"):
            sweep = conclude_sweep(measured, config, str(prepared), model.name)
        write_atomic(output / layout.SWEEP, encode(sweep, indent=True))
        write_atomic(output / layout.SWEEP_PAGE, pages.markdown(sweep).encode())
        write_atomic(output / layout.REPORT, pages.report(sweep).encode())
        writer.parents |= {"prepare": source.digest, **_parents(places, store)}
        store.add(writer, base_fingerprint=model.fingerprint, model_name=model.name, device="none")
    return SweepOutput(output, sweep)


def _refuse_nothing(measured: Sequence[MeasuredPoint]) -> None:
    if any(point.result.state == "complete" for point in measured):
        return
    reason = next((point.result.reason for point in measured if point.result.reason), "nothing was made")
    raise ArtifactError(f"no point of the sweep is complete; the first: {reason}", hint="mend that, and add --resume")


def _parents(places: Sequence[PointPlace], store: Store) -> dict[str, str]:
    """The evaluations that the sweep was made from."""
    evaluations = [place.evaluation for place in places if is_complete(place.evaluation)]
    return {
        f"evaluation {number}": require_unchanged_run(path, store, "evaluation").digest
        for number, path in enumerate(evaluations, start=1)
    }
