"""What the report of a comparison shows beside the comparison: maps, loss curves, words of flips, origins.

Comes in: a comparison, its sources and the registry. Goes out: `ReportData`. Always holds: files are read only if their
digests match; what cannot be found is named, never drawn as zero. Starts without torch.
"""

from __future__ import annotations

from collections.abc import Sequence

from moe_cli.artifacts import Store, layout
from moe_cli.codec import decode_lines
from moe_cli.compare.expert_maps import expert_maps
from moe_cli.compare.flip_texts import worst_flips
from moe_cli.compare.origins import RunProvenance, provenance_of, report_provenance
from moe_cli.compare.sources import ComparedRun
from moe_cli.records.comparison import Comparison
from moe_cli.records.report import LossCurve, ReportData
from moe_cli.records.training import StepRecord
from moe_cli.version import __version__


def collect_report_data(
    comparison: Comparison, sources: Sequence[ComparedRun], store: Store, *, made: str, num_texts: int
) -> ReportData:
    """Everything that the report needs; `num_texts` worst flips of every measure and suite of each pair.

    Raises:
        ArtifactError: a file that is there is damaged.
    """
    found = provenance_of(sources, store)
    maps = expert_maps(comparison.arms, found)
    curves = [_curve(origin) for origin in found if origin.source.training is not None]
    return ReportData(
        version=__version__,
        made=made,
        redacted=False,
        maps=maps.maps,
        curves=tuple(curve for curve in curves if isinstance(curve, LossCurve)),
        texts=worst_flips(comparison, sources, num_texts),
        origins=report_provenance(found),
        missing_maps=maps.missing,
        missing_curves=tuple(curve for curve in curves if isinstance(curve, str)),
    )


def _curve(origin: RunProvenance) -> LossCurve | str:
    """The loss of every step; a sentence where the run does not have its steps."""
    name, run, training = origin.source.column.name, origin.run, origin.source.training
    if run is None or training is None or layout.STEPS not in run.manifest.files:
        return f"loss of {name}: its directory has no {layout.STEPS}"
    steps = list(decode_lines(StepRecord, run.file(layout.STEPS)))
    return LossCurve(
        run=name,
        steps=tuple(step.step for step in steps),
        losses=tuple(step.loss for step in steps),
        held_out=tuple((found.step, found.loss) for found in training.validation),
    )
