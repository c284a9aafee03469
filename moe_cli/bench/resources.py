"""What training a model needs, from its config alone: memory of each arm, steps, and what processes send each other.

Weights, masters, gradients and moments are exact. The peak is that of a followed step (`fake_step.py`). What several
processes need and send is arithmetic from the sizes of the tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from moe_cli.activity import begin_activity
from moe_cli.artifacts import finished_run, layout
from moe_cli.artifacts.examples import require_trainable
from moe_cli.bench.arm_needs import ResourceRequest, followed_step, needs_of_ranks, remedies
from moe_cli.bench.bench_model import draw_selection
from moe_cli.bench.fake_step import StepShape
from moe_cli.bench.rank_needs import FLOAT32, ModelSizes, sizes_of
from moe_cli.codec import decode_file
from moe_cli.config import MoeConfig
from moe_cli.errors import ArtifactError, UsageError
from moe_cli.experts.trainable import least_bytes, refuse_underflow
from moe_cli.model.load import resolve_device
from moe_cli.model.memory import total_bytes
from moe_cli.model.skeleton import meta_model
from moe_cli.records import (
    RESOURCE_PLAN_SCHEMA_VERSION,
    Arm,
    ArmNeed,
    Benchmark,
    Expert,
    PrepareSummary,
    RankNeed,
    ResourcePlan,
    SelectedBy,
    Selection,
)
from moe_cli.records.training import STORED_TARGETS
from moe_cli.version import __version__

OF_MACHINE = "this machine"  # what its processes share
LONGEST_ROW = 2**20  # tokens; the sizes of longer ones, squared in attention, are no numbers that torch counts with
ROWS_OF_BENCH: dict[Arm, str] = {"selective": "selective", "baseline": "full_grouped_mm"}


def plan_resources(config: MoeConfig, request: ResourceRequest) -> ResourcePlan:
    """The plan of the arms.

    Raises:
        UsageError: no such model, more experts than there are, or memory that is no number of bytes.
        ArtifactError: the prepare run or the benchmark is damaged, or of another model.
        EnvironmentFaultError: the model is not local and the hub cannot be reached, or there is no such device.
    """
    with begin_activity(f"reading the config of {config.model.name}"):
        sizes = sizes_of(meta_model(config.model))
    refuse_underflow(sizes.dtype, config.model.name)
    if (length := request.length or config.train.max_length) > LONGEST_ROW:
        raise UsageError(
            f"a row of {length:,} tokens is longer than the {LONGEST_ROW:,} that a step is followed with",
            hint="lower --length, or train.max_length",
        )
    selection = _selection(config)
    union, selected_by = _union(config, sizes, request, selection)
    num_rows, num_attacked, num_pairs = _rows(config, selection)
    shape = StepShape(
        rows=num_rows,
        length=length,
        forward_tokens=config.train.max_forward_tokens or num_rows * length,
        checkpointing=config.train.gradient_checkpointing,
        attacked_rows=num_attacked,
        target=config.alternating.consistency_target,
        joint=config.alternating.joint,
        num_batches=config.train.gradient_accumulation_steps,
    )
    memory, memory_of = _memory(config, request)
    num_batches = request.num_batches or (len(selection.batches) if selection is not None else None)
    known = replace(request, memory=memory, memory_is_shared=memory_of == OF_MACHINE, num_batches=num_batches)
    benchmark = _benchmark(request.benchmark)
    arms = tuple(_need(arm, config, sizes, union, shape, known, benchmark, num_pairs) for arm in request.arms)
    return ResourcePlan(
        schema_version=RESOURCE_PLAN_SCHEMA_VERSION,
        moe=__version__,
        model=config.model.name,
        architecture=type(sizes.model).__name__,
        dtype=str(sizes.dtype).removeprefix("torch."),
        total_params=sizes.total,
        params=sizes.params,
        layers=tuple(layer.layer for layer in sizes.layers),
        num_experts=sizes.layers[0].num_experts,
        top_k=sizes.layers[0].top_k,
        selected=len(union),
        selected_by=selected_by,
        rows=shape.rows,
        length=shape.length,
        forward_tokens=shape.forward_rows * shape.length,
        checkpointing=shape.checkpointing,
        tokens_per_step=shape.rows * shape.length * config.train.gradient_accumulation_steps,
        num_batches=num_batches,
        num_epochs=config.train.num_epochs,
        gradient_accumulation_steps=config.train.gradient_accumulation_steps,
        memory=memory,
        memory_of=memory_of,
        time_of=None if benchmark is None else _time_of(benchmark, sizes, request),
        arms=arms,
    )


def _selection(config: MoeConfig) -> Selection | None:
    if config.train.prepared is None:
        return None
    selection = finished_run(config.train.prepared, "prepare").record(layout.SELECTION, Selection)
    return require_trainable(selection, config.train.validation_batches)


def _rows(config: MoeConfig, selection: Selection | None) -> tuple[int, int, int | None]:
    """Rows of a batch, attacked ones of them, and the pairs of an epoch with both forms as rows; None: not known."""
    if config.train.prepared is None or selection is None:
        rows = config.prepare.batch_size
        return rows, rows - round(rows * config.prepare.safe_ratio), None
    of_run = finished_run(config.train.prepared, "prepare").record(layout.PREPARE_SUMMARY, PrepareSummary)
    num_pairs = len(selection.batches) * min(of_run.num_plain, of_run.num_attacked)
    return of_run.batch_size, of_run.num_attacked, num_pairs


def _union(
    config: MoeConfig, sizes: ModelSizes, request: ResourceRequest, selection: Selection | None
) -> tuple[tuple[Expert, ...], SelectedBy]:
    """The experts that the selective arm trains, and what says so."""
    experts_of = {layer.layer: layer.num_experts for layer in sizes.layers}
    if selection is not None and request.per_layer is None:
        if unknown := [expert for expert in selection.union if not expert.index < experts_of.get(expert.layer, 0)]:
            raise ArtifactError(
                f"{config.train.prepared} selects expert {unknown[0].index} of layer {unknown[0].layer}, which "
                f"{config.model.name} does not have",
                hint="name the model that the run was prepared with",
            )
        if not selection.union:
            raise UsageError(f"{config.train.prepared} selects no expert", hint="add --experts N for a plan without it")
        return selection.union, "prepare run"
    per_layer = request.per_layer
    selected_by: SelectedBy = "experts per layer"
    if per_layer is None:
        share = 1.0 if config.prepare.budget is None else config.prepare.budget
        one_of_each = sum(layer.params_per_expert for layer in sizes.layers)
        per_layer, selected_by = max(1, int(share * sizes.total) // one_of_each), "budget"
    if per_layer > min(experts_of.values()):
        raise UsageError(
            f"--experts {per_layer} are more than the {min(experts_of.values())} experts of a layer",
            hint="ask for fewer",
        )
    return tuple(draw_selection(sizes.layers, per_layer)), selected_by


def _memory(config: MoeConfig, request: ResourceRequest) -> tuple[int, str]:
    if request.memory is not None:
        return request.memory, "--memory"
    device = torch.device(resolve_device(config.model))
    return min(total_bytes(device)), OF_MACHINE if device.type == "cpu" else str(device)


def _benchmark(file: Path | None) -> Benchmark | None:
    if file is None:
        return None
    if not file.is_file():
        raise UsageError(f"there is no file {file}", hint="moe bench --json -o FILE writes one")
    return decode_file(Benchmark, file)


def _need(
    arm: Arm,
    config: MoeConfig,
    sizes: ModelSizes,
    union: Sequence[Expert],
    shape: StepShape,
    request: ResourceRequest,
    benchmark: Benchmark | None,
    num_pairs: int | None,
) -> ArmNeed:
    params_of = {layer.layer: layer.params_per_expert for layer in sizes.layers}
    rounds = config.alternating
    routers = arm == "alternating" and rounds.trains_routers
    if arm == "alternating" and rounds.skip_expert_training:
        union = ()
    followed: Arm = "selective" if arm == "alternating" and not routers else arm
    trained = sizes.total if arm == "baseline" else sum(params_of[expert.layer] for expert in union)
    frozen = 0 if arm == "baseline" else sizes.total * sizes.dtype.itemsize
    step, note = followed_step(followed, config, sizes.dtype, union, shape)
    if routers:  # which parameters of a router train, a backward tells
        trained = step.trained_params if step is not None else trained + sizes.params.get("router", 0)
    targets = None
    if routers and rounds.consistency_target in STORED_TARGETS and num_pairs is not None:
        targets = FLOAT32 * num_pairs * sum(layer.num_experts for layer in sizes.layers)
        request = replace(request, targets=targets)
    ranks: tuple[RankNeed, ...] = ()
    if step is not None:
        ranks = needs_of_ranks(arm, config, sizes, step, shape, request)
    fits = bool(ranks) and ranks[0].fits
    return ArmNeed(
        arm=arm,
        trained_params=trained,
        trainable_ratio=trained / sizes.total,
        step=step,
        note=note,
        least=least_bytes(frozen_bytes=frozen, trained_params=trained),
        ranks=ranks,
        remedies=()
        if step is None or fits
        else tuple(remedies(followed, config, sizes, union, shape, request, may_share=arm != "alternating")),
        seconds=None if benchmark is None else _seconds(arm, config, sizes, shape, benchmark),
        joint=routers and rounds.joint,
        targets=targets,
    )


def _seconds(arm: Arm, config: MoeConfig, sizes: ModelSizes, shape: StepShape, benchmark: Benchmark) -> float | None:
    """Seconds of a step at the measured tokens per second, scaled by the parameters that a token meets."""
    row = next((row for row in benchmark.rows if row.name == ROWS_OF_BENCH.get(arm)), None)
    if row is None or row.tokens_per_second is None:
        return None
    measured = benchmark.model
    share = (measured.top_k or measured.num_experts) / measured.num_experts
    active = measured.total_params - measured.expert_params + measured.expert_params * share
    tokens = shape.rows * shape.length * config.train.gradient_accumulation_steps
    return tokens / row.tokens_per_second * sizes.active / active


def _time_of(benchmark: Benchmark, sizes: ModelSizes, request: ResourceRequest) -> str:
    same = benchmark.model.total_params == sizes.total
    how = "the same model" if same else f"{benchmark.model.architecture}, scaled by the parameters that a token meets"
    return f"{request.benchmark}: {benchmark.machine.device_name or benchmark.machine.processor}, {how}"
