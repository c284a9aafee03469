"""`moe export`: base + delta into a full checkpoint, and a full checkpoint back into a delta.

A delta on its base gives the weights of the run's final model, bit for bit. A checkpoint that differs from its base in
anything but whole experts has no delta and is refused. Nothing that exists is overwritten.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import torch

from moe_cli.activity import begin_activity
from moe_cli.artifacts import Store, layout
from moe_cli.artifacts.finished import kind_in
from moe_cli.artifacts.locks import new_directory, new_file
from moe_cli.artifacts.registry import require_unchanged_run
from moe_cli.config import ModelConfig
from moe_cli.errors import ArtifactError
from moe_cli.experts import apply_delta, attach, experts_of, frozen_digest, has_routers, read_delta, save_delta
from moe_cli.export.push import facts_of_run
from moe_cli.model.directory import base_directory, license_of
from moe_cli.model.final_model import refuse_unopened_not_finite, write_final_model
from moe_cli.model.load import LoadedModel, load_model
from moe_cli.model.tensors import weights_fingerprint
from moe_cli.records import CardFacts, Expert, Exported, ModelIdentity
from moe_cli.records.training import OF_EXPERTS
from moe_cli.version import __version__


def full_checkpoint(
    trained: Path,
    output: Path,
    config: ModelConfig,
    store: Store,
    *,
    base_name: str | None = None,
    scale: float = 1.0,
    card: Callable[[CardFacts], str] | None = None,
) -> Exported:
    """Merge the delta into its base and write a plain checkpoint to `output`; `card` writes its page.

    `trained` is a delta file or a run that has one; the base is the one the delta names, unless `base_name` names
    another place of the same weights. Of `config` only device and dtype matter. `scale` is the part of what training
    changed that is applied; with less than all of it the page says nothing of the run, whose figures are of other
    weights.

    Raises:
        ArtifactError: no delta there, damaged, or another base.
        UsageError: `output` exists.
        LockedError: another process writes to it.
    """
    run = require_unchanged_run(trained, store, *OF_EXPERTS) if kind_in(trained) is not None else None
    delta = run.file(layout.DELTA) if run is not None else trained
    base, slices = read_delta(delta)
    with new_directory(output) as staging:
        facts = facts_of_run(run, store, "model") if run is not None and scale == 1.0 else None
        source = {"name": base_name, "revision": None} if base_name else {"name": base.place, "revision": base.revision}
        loaded = load_model(config.model_copy(update=source))
        files = base_directory(loaded.identity)
        refuse_unopened_not_finite(loaded, files)
        apply_delta(loaded.model, delta, scale=scale)
        page = card(facts or _facts_of_delta(base, files, slices)) if card is not None else None
        write_final_model(loaded, files, staging, card=page)
        fingerprint = weights_fingerprint(loaded.model)
    return Exported(
        path=str(output),
        base=base,
        fingerprint=fingerprint,
        num_experts=len(experts_of(slices)),
        num_params=sum(tensor.numel() for tensor in slices.values()),
        routers=has_routers(slices),
    )


def _facts_of_delta(base: ModelIdentity, files: Path, slices: Iterable[str]) -> CardFacts:
    """Facts for the page of a model whose delta came without its run."""
    return CardFacts(
        holds="model",
        base=base,
        license=license_of(files),
        training=None,
        experts=experts_of(slices),
        routers=has_routers(slices),
        sources=None,
        evaluations=(),
        version=__version__,
    )


def delta_of(tuned: Path, output: Path, config: ModelConfig, store: Store) -> Exported:
    """Write the experts in which the checkpoint `tuned` differs from its base to `output`.

    Raises:
        ArtifactError: something else than whole experts differs, or nothing does; the run of a final model changed.
        UsageError: `output` exists.
        LockedError: another process writes to it.
    """
    if tuned.name == layout.FINAL_MODEL and kind_in(tuned.parent) is not None:
        require_unchanged_run(tuned.parent, store).directory(layout.FINAL_MODEL)
    with new_file(output) as temporary:
        base = load_model(config)
        other = load_model(config.model_copy(update={"name": str(tuned), "revision": None}))
        experts = _differing_experts(base, other)
        if frozen_digest(base.model, experts) != frozen_digest(other.model, experts):
            raise ArtifactError(
                f"{tuned} differs from {base.identity.name} in more than its experts, so a delta cannot hold it",
                hint="this finds the delta of moe train selective; a run of moe train alternating holds its own",
            )
        if not experts:
            raise ArtifactError(f"{tuned} has the weights of {base.identity.name}", hint="there is nothing to export")
        with attach(other.model, experts) as attached:
            slices = attached.take()
        save_delta(temporary, slices, base.identity)
    return Exported(
        path=str(output),
        base=base.identity,
        fingerprint=other.identity.fingerprint,
        num_experts=len(experts),
        num_params=sum(tensor.numel() for tensor in slices.values()),
    )


@begin_activity("comparing the weights")
def _differing_experts(base: LoadedModel, other: LoadedModel) -> tuple[Expert, ...]:
    """Experts of which any weight differs between the two models."""
    if [layer.layer for layer in base.layers] != [layer.layer for layer in other.layers]:
        raise ArtifactError(
            f"{other.identity.name} has its experts in other layers than {base.identity.name}",
            hint="name the base that the checkpoint was trained from with --model-name",
        )
    differing = []
    for ours, theirs in zip(base.layers, other.layers, strict=True):
        for index in range(ours.num_experts):
            rows = [
                (ours.module.get_parameter(name)[index], theirs.module.get_parameter(name)[index])
                for name in ours.weights
            ]
            if any(
                our_row.shape != their_row.shape or not torch.equal(our_row, their_row) for our_row, their_row in rows
            ):
                differing.append(Expert(layer=ours.layer, index=index))
    return tuple(differing)
