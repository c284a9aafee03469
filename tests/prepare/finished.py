"""A complete prepare run without a model: simulated counts, made-up answers and examples."""

from __future__ import annotations

import dataclasses
import types
import typing
from pathlib import Path

import numpy as np

from moe_cli.artifacts import Store, open_run
from moe_cli.config import MoeConfig
from moe_cli.prepare.prepare_files import write_prepared
from moe_cli.prepare.selection_evidence import SelectionResult, find_experts
from moe_cli.records import AnsweredPrompt, Message, PrepareSummary, RoutingCounts, TrainingExample
from tests.prepare.simulated import counts_of, identity

NUM_BATCHES, PAIRS_IN_BATCH = 3, 6
PARAMS_PER_EXPERT = 100


def planted_counts(gradients: bool = False) -> RoutingCounts:
    """Expert 0 of both layers is favoured on the unsafe side."""
    counts = counts_of(NUM_BATCHES * PAIRS_IN_BATCH, shift=4.0)
    norms = np.random.default_rng(1).random((NUM_BATCHES, 2, 8)) if gradients else None
    return dataclasses.replace(counts, gradients=norms)


def finished_prepare(path: Path, store: Store, *, gradients: bool = False, **settings: object):
    """Write the run with these settings of `prepare`; what was found."""
    config, counts, base = config_of(path, **settings), planted_counts(gradients), identity()
    found = found_in(config, counts)
    summary = made(
        PrepareSummary,
        base=base,
        num_batches=NUM_BATCHES,
        num_plain=2,
        num_benign_in_batch=1,
        num_attacked=PAIRS_IN_BATCH,
    )
    with open_run(path, "prepare", config, resume=False) as writer:
        write_prepared(path, [made(AnsweredPrompt)], counts, found, [_example(b) for b in range(NUM_BATCHES)], summary)
        store.add(writer, base_fingerprint=base.fingerprint, model_name=base.name, device="cpu")
    return found


def config_of(path: Path, **settings: object) -> MoeConfig:
    """Few resamples, room for six experts, and these settings of `prepare`."""
    few = {"resamples": 60, "null_draws": 20, "budget": 0.2, "max_new_tokens": 5}
    return MoeConfig.model_validate({"prepare": {"output_dir": path, **few, **settings}})


def found_in(config: MoeConfig, counts: RoutingCounts) -> SelectionResult:
    """What `moe prepare` finds in these counts."""
    batches = [range(b * PAIRS_IN_BATCH, (b + 1) * PAIRS_IN_BATCH) for b in range(NUM_BATCHES)]
    return find_experts(config, identity(), PARAMS_PER_EXPERT, counts, batches)


def _example(batch: int) -> TrainingExample:
    turns = (Message(role="user", content="zorp?"), Message(role="assistant", content="No."))
    return made(TrainingExample, batch_idx=batch, messages=turns)


def made(record, **given):
    """A record with the plainest values that its types allow."""
    hints = typing.get_type_hints(record)
    return record(
        **{f.name: given[f.name] if f.name in given else _plain(hints[f.name]) for f in dataclasses.fields(record)}
    )


def _plain(hint):
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return None if type(None) in arguments else _plain(arguments[0])
    if origin is typing.Literal:
        return arguments[0]
    if origin is dict:
        return {}
    if origin is tuple:
        return () if arguments[-1] is Ellipsis else tuple(map(_plain, arguments))
    return made(hint) if dataclasses.is_dataclass(hint) else {str: "x", int: 1, float: 0.5, bool: True}[hint]
