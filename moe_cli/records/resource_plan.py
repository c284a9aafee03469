"""`moe plan`: what training a model needs, before anything is loaded."""

from __future__ import annotations

from math import ceil
from typing import Literal

from moe_cli.records.record import record
from moe_cli.records.training import Arm

RESOURCE_PLAN_SCHEMA_VERSION = 1

SelectedBy = Literal["prepare run", "experts per layer", "budget"]
Placement = Literal["one process", "replicated", "sharded"]


@record
class StepMemory:
    """Bytes of one optimizer step of one arm in one process."""

    trained_params: int  # 2654208
    weights: int  # frozen weights and buffers in the checkpoint's dtype; of the baseline only buffers
    masters: int  # float32 copies of what trains
    gradients: int
    moments: int  # two of AdamW for each trained parameter
    saved: int  # what one forward keeps for its backward, each storage once
    saved_by_loss: int  # of these, what the loss over the answers' logits adds: log-probabilities in float32
    host: int  # the selected rows as they were found, in the memory of the host
    peak: int  # the largest sum of all that is alive at once, without `host`; the parts above are not all alive then


@record
class RankNeed:
    """One process of several that train together."""

    ranks: int  # 2
    placement: Placement
    peak: int  # bytes
    fits: bool  # False, too, where a share would hold no expert, which transformers refuses in most families
    num_steps: int | None  # of the whole run; None where the number of batches is not known
    sent: int  # bytes of a step that a process sends; arithmetic


def each_holds_experts(num_experts: int, ranks: int) -> bool:
    """Whether every one of `ranks` processes that share weights has an expert: of 16, not of 5, nor of 7."""
    return ceil(num_experts / ranks) * (ranks - 1) < num_experts


@record
class Remedy:
    """A change of settings, and the peak that follows from it."""

    settings: tuple[str, ...]  # ("train.gradient_checkpointing=true",)
    peak: int
    fits: bool
    ranks: int = 1  # 8; processes that share the weights


@record
class ArmNeed:
    """What one arm needs."""

    arm: Arm
    trained_params: int
    trainable_ratio: float
    step: StepMemory | None  # None: it cannot be followed, as `note` says
    note: str | None
    least: int  # bytes of weights, masters, gradients and moments: no process needs less
    ranks: tuple[RankNeed, ...]  # empty where `step` is None
    remedies: tuple[Remedy, ...]  # where one process does not fit
    seconds: float | None  # of one step, from a record of `moe bench`; None of alternating, which it does not measure
    joint: bool = False  # whether its experts and routers train in the same steps
    targets: int | None = None  # bytes in the host's memory of what a phase's routers train to; alternating alone


@record
class ResourcePlan:
    """The result of `moe plan`; the document of `--json`."""

    schema_version: int
    moe: str  # "0.1.0"
    model: str  # "allenai/OLMoE-1B-7B-0125-Instruct"
    architecture: str  # "OlmoeForCausalLM"
    dtype: str  # "bfloat16"; of the checkpoint
    total_params: int
    params: dict[str, int]  # {"experts": 6442450944, "attention": ...}
    layers: tuple[int, ...]  # the expert layers
    num_experts: int  # 64
    top_k: int | None
    selected: int  # experts of the union
    selected_by: SelectedBy
    rows: int  # of a batch
    length: int  # tokens of a row
    forward_tokens: int
    checkpointing: bool
    tokens_per_step: int
    num_batches: int | None
    num_epochs: int
    gradient_accumulation_steps: int
    memory: int  # bytes that one process has
    memory_of: str  # "--memory", "cuda:0", "this machine"
    time_of: str | None  # where the seconds come from
    arms: tuple[ArmNeed, ...]
