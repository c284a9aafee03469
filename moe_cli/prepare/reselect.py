"""`moe select`: another selection from the counts of a prepare run, without its model.

The result is a complete prepare run beside the first one, which is its parent in the manifest. Answers, training
examples and counts are the bytes of the parent; candidates, masks and evidence are computed anew. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from moe_cli.artifacts import Store, layout, open_run
from moe_cli.artifacts.files import write_atomic
from moe_cli.artifacts.registry import require_unchanged_run
from moe_cli.config import MoeConfig
from moe_cli.errors import ArtifactError, UsageError
from moe_cli.prepare.batches import Composition
from moe_cli.prepare.methods import gradients_of
from moe_cli.prepare.prepare_files import write_selection
from moe_cli.prepare.routing_file import HINT, read_counts
from moe_cli.prepare.selection_evidence import find_experts
from moe_cli.records import Notice, PrepareSummary, RoutingCounts, Selection
from moe_cli.records.manifest import Notify


@dataclass(frozen=True, slots=True)
class ReselectOutput:
    """Result of `moe select`."""

    path: Path
    selection: Selection


def run(prepared: Path, config: MoeConfig, store: Store, notify: Notify, *, resume: bool = False) -> ReselectOutput:
    """Select anew from the counts of `prepared`, into `prepare.output_dir`.

    Raises:
        ArtifactError: no complete prepare run there, it is damaged, or the output directory is taken.
        UsageError: the selection file names unknown experts, or the method needs a score that was not measured.
    """
    store.refuse_unwritable()
    source = require_unchanged_run(prepared, store, "prepare")
    notify(Notice(text=f"selecting from the counts of {source.path}; the model is not loaded"))
    before = source.record(layout.SELECTION, Selection)
    summary = source.record(layout.PREPARE_SUMMARY, PrepareSummary)
    counts_file = source.file(layout.routing_counts(before.base.name))
    counts = read_counts(counts_file)
    _refuse_other_experts(counts, before, counts_file)
    batches = batches_of(counts, summary, counts_file)
    result = find_experts(config, before.base, before.params_per_expert, counts, batches)
    output = config.prepare.output_dir
    with open_run(output, "prepare", config, resume=resume, lasting=False) as writer:
        for name in _kept(before.base.name):
            write_atomic(writer.path / name, source.file(name).read_bytes())
        write_selection(writer.path, before.base.name, result)
        writer.parents["prepare"] = source.digest
        store.add(
            writer,
            base_fingerprint=before.base.fingerprint,
            model_name=source.manifest.model_name,
            device="none",
        )
    return ReselectOutput(output, result.selection)


def refuse_unmeasured_methods(prepared: Path, methods: Collection[str], store: Store) -> None:
    """Refuse methods that rank by a score which the prepare run has not measured.

    Raises:
        ArtifactError: no complete prepare run there, or it is damaged.
        UsageError: there is one.
    """
    source = require_unchanged_run(prepared, store, "prepare")
    if "gradient" in methods:
        base = source.record(layout.SELECTION, Selection).base
        gradients_of(read_counts(source.file(layout.routing_counts(base.name))))


def _refuse_other_experts(counts: RoutingCounts, selection: Selection, file: Path) -> None:
    base, num_batches = selection.base, len(selection.batches)
    here = counts.layers, counts.routed.shape[-1], num_batches if counts.gradients is None else len(counts.gradients)
    if here != (base.layers, base.num_experts, num_batches):
        raise ArtifactError(f"{file} counts other layers, experts or batches than {layout.SELECTION} names", hint=HINT)


def run_draws(
    prepared: Path, config: MoeConfig, store: Store, notify: Notify, *, num_draws: int
) -> tuple[ReselectOutput, ...]:
    """Draw random experts `num_draws` times, into `prepare.output_dir` with _1, _2, ... behind its name.

    A draw is what `run` selects with a seed of its own, which follows from the seed and the draw's number.

    Raises:
        ArtifactError: as `run`; nothing is drawn where a directory is taken.
        UsageError: the method draws nothing.
    """
    settings = config.prepare
    if settings.method != "random":
        raise UsageError(
            f"--random-draws draws experts at random, but the method is {settings.method}", hint="add --method random"
        )
    outputs = [layout.beside(settings.output_dir, f"_{number}") for number in range(1, num_draws + 1)]
    if existing := [output for output in outputs if output.exists()]:
        raise ArtifactError(f"{existing[0]} is there already", hint="choose another name with --output-dir")
    return tuple(
        run(prepared, _draw(config, number, output), store, notify) for number, output in enumerate(outputs, start=1)
    )


def _draw(config: MoeConfig, number: int, output: Path) -> MoeConfig:
    settings = config.prepare.model_copy(update={"output_dir": output})
    return config.model_copy(update={"seed": draw_seed(config.seed, number), "prepare": settings})


def draw_seed(seed: int, number: int) -> int:
    """The seed of a random draw, which follows from the seed and the draw's number."""
    (of_draw,) = np.random.SeedSequence([seed, number]).generate_state(1)
    return int(of_draw)


def batches_of(counts: RoutingCounts, summary: PrepareSummary, file: Path) -> list[range]:
    """The counted pairs of each batch; they are stored batch after batch. `file` holds the counts.

    Raises:
        ArtifactError: the counts are not those of these batches.
    """
    size = Composition(summary.num_plain, summary.num_benign_in_batch, summary.num_attacked).num_pairs
    if size < 1 or len(counts.pair_ids) != size * summary.num_batches:
        raise ArtifactError(
            f"{file} counts {len(counts.pair_ids)} pairs, but {summary.num_batches} batches touch {size} each",
            hint=HINT,
        )
    return [range(batch * size, (batch + 1) * size) for batch in range(summary.num_batches)]


def _kept(model_name: str) -> tuple[str, ...]:
    return (
        layout.batch_outputs(model_name),
        layout.training_examples(model_name),
        layout.routing_counts(model_name),
        layout.PREPARE_SUMMARY,
    )
