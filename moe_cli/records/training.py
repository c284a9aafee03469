"""`moe train`: steps, counts, proofs, and the summary of a training run."""

from __future__ import annotations

from typing import Literal

from moe_cli.records.inputs import Message, ModelIdentity, Side
from moe_cli.records.preparation import Expert
from moe_cli.records.record import record

Arm = Literal["selective", "baseline", "alternating"]
ARMS: tuple[Arm, ...] = ("selective", "baseline", "alternating")
OF_EXPERTS: tuple[Arm, ...] = ("selective", "alternating")  # that train a selection, and leave a delta of it
Masking = Literal["update", "none"]
TrainedMode = Literal["selective_experts", "full_model_baseline", "alternating_optimization"]
TrainingMode = Literal["selective_experts", "full_model_baseline", "alternating_optimization", "base", "imported"]
MODES: dict[Arm, TrainedMode] = {
    "selective": "selective_experts",
    "baseline": "full_model_baseline",
    "alternating": "alternating_optimization",
}
MODES_OF_EXPERTS = tuple(MODES[arm] for arm in OF_EXPERTS)
Phase = Literal["experts", "router", "joint"]  # what trains in it, the other locked; or both, by one loss
Divergence = Literal["forward", "reverse", "symmetric"]
ComparedRegion = Literal["answer", "last_prompt", "all"]
ConsistencyTarget = Literal["round", "base", "current", "both"]
STORED_TARGETS: tuple[ConsistencyTarget, ...] = ("round", "base")  # the others are where plain goals are routed now
Reselection = Literal["none", "replay", "answers", "gradient"]
ConsistencyOver = Literal["pair", "batch", "token"]
BATCHES_PER_STEP = "batches_per_step"  # a hyperparameter: fixed batches in one step, of all processes together
UNTRAINED: TrainingMode = "base"  # of a model before training
IMPORTED: TrainingMode = "imported"  # of answers and outcomes that were made elsewhere


@record
class TrainingExample:
    """One row of `sft_dataset`: a prompt with its target as the last message."""

    id: str  # "goal-17/story#unsafe"
    batch_idx: int  # 3
    side: Side  # "unsafe": the attacked form
    kind: Literal["refuse_plain", "refuse_attacked", "benign"]  # what the target teaches
    cluster: str  # "goal-17"
    messages: tuple[Message, ...]  # ends with the assistant's target


@record
class TrainableCount:
    """Counts of trainable parameters; the only source of these counts and ratios."""

    trainable_params: int  # 4718592
    total_params: int  # 6919161856
    trainable_ratio: float  # 0.000682
    experts_per_layer: tuple[int, ...]  # L; unfrozen experts of every expert layer, in order
    num_experts: int  # 64 in each of them


@record
class RouterTraining:
    """What the routers are trained to in an alternating run, and with what."""

    num_rounds: int  # 3
    expert_epochs_per_round: int  # 1; 0: no expert trains
    router_epochs_per_round: int  # 1; 0: the routers train in the experts' steps
    learning_rate: float  # 1e-4; peak
    warmup_steps: int  # of the routers' own schedule
    num_steps: int  # 54; of all router phases, or of all joint ones
    largest_move: float  # 0.0029; the learning rates of all steps added up: AdamW moves a weight about that far at most
    median_weight: float  # 0.019; median absolute weight of the routers before training
    divergence: Divergence
    region: ComparedRegion
    target: ConsistencyTarget
    over: ConsistencyOver
    layers: tuple[int, ...]  # decoder layers whose routers train
    keep: float  # beta, the weight of the drift on benign and plain tokens
    temperature: float
    num_pairs: int  # 144; plain and attacked forms that are compared
    num_params: int  # 16384; in the routers
    reselect: Reselection = "none"  # how experts of rounds 2 and on are selected; a resumed run may change it
    joint_weight: float = 0.0  # W of joint steps, which lower cross-entropy + W L_cons; 0: routers train by themselves

    @property
    def joint(self) -> bool:
        """Whether the steps are those of the experts, by one loss."""
        return self.joint_weight > 0

    @property
    def num_own_steps(self) -> int:
        """Steps that come on top of those of the experts."""
        return 0 if self.joint else self.num_steps

    @property
    def alone(self) -> bool:
        """Whether the routers train and no expert does."""
        return self.expert_epochs_per_round == 0


@record
class RoundSelection:
    """Experts that are selected anew before a round."""

    batches: tuple[tuple[Expert, ...], ...]  # of every batch
    num_pairs: int  # 96; whose routing decided
    num_left_out: int  # 9; experts that the rule selects as well, and for which the budget has no room


@record
class PhaseRecord:
    """One phase of an alternating run: experts train with the routers locked, routers with the experts, or both."""

    phase: Phase
    round: int  # 1 for the first
    first_step: int  # 37
    last_step: int  # 54
    locked_digest: str  # sha256 of what did not train, equal before and after; of nothing where both did
    consistency_before: float | None  # nats, over all pairs, from the target; None in a phase of the experts
    consistency_after: float | None  # None: the phase is not over, or of the experts
    num_tokens: int  # of forwards beside those that train: for targets, for what is kept, and measuring; no padding
    seconds: float  # that it took to begin and to end the phase; the steps say their own
    divergence_before: float | None = None  # as consistency_before, from the plain goals as they are routed then
    divergence_after: float | None = None
    selected: tuple[tuple[Expert, ...], ...] | None = None  # experts of every batch, selected anew before the phase
    selected_by: Reselection | None = None  # "answers"; None: not selected anew
    num_selecting_pairs: int | None = None  # 31; whose routing decided
    num_left_out: int | None = None  # 9; experts selected anew for which the budget had no room


@record
class TrainingPlan:
    """The plan of a training run; given to `notify` before the first step, never written."""

    arm: Arm
    base: ModelIdentity
    prepared: str  # path of the prepare run
    output: str  # path of this run
    count: TrainableCount
    masking: Masking | None  # None where no selection trains
    union_size: int | None
    null_union_mean: float | None  # what the same rule selects from noise
    hyperparameters: dict[str, str | int | float | bool | None]
    num_batches: int
    num_steps: int
    first_step: int  # 1, or the step after the checkpoint that is resumed
    num_ranks: int = 1  # processes that train together
    routers: RouterTraining | None = None  # alternating only; None there: the routers stay locked


@record
class TurnLoss:
    """The loss of one step on the rows whose answer is at one turn of its conversation."""

    turn: int  # 3; the answer is the third one of its conversation
    num_rows: int  # 5
    num_answer_tokens: int  # 41
    loss: float  # 2.44; mean over these tokens


@record
class StepRecord:
    """One optimizer step; one line of `steps.jsonl`."""

    step: int  # 1 for the first
    epoch: float  # 0.055; of all epochs, those of the routers included
    batches: tuple[int, ...]  # fixed batches this step consumed
    loss: float  # 2.31; mean over the answer tokens of the step; of the routers alone what they lower, in nats
    grad_norm: float  # 1.7; before clipping
    learning_rate: float  # 5e-5
    num_answer_tokens: int  # 112
    num_tokens: int  # 700; padding not counted
    num_padded_tokens: int  # 768; padding counted
    num_experts_updated: int | None  # 7; None in the baseline
    seconds: float  # 0.31
    gradient_bytes: int = 0  # 638976; of gradients that several processes added up
    phase: Phase | None = None  # alternating only
    turns: tuple[TurnLoss, ...] = ()  # of this step; empty: the run's answers are all of one turn, or of a router
    consistency: float | None = None  # 0.011; L_cons of a joint step, in nats; None: of none, or without a pair


@record
class ValidationLoss:
    """The loss on the held-out batches after one step."""

    step: int  # 12
    loss: float  # 1.93; mean over their answer tokens


@record
class CheckpointState:
    """Position of a checkpoint in the training; stored as its `state.json`."""

    owner: str  # sha256 over base model, arm, prepare run and settings: whose state this is
    step: int  # 12
    schedule_position: int  # 12; of the learning rate schedule
    learning_rates: tuple[float, ...]  # of the optimizer's groups
    validation: tuple[ValidationLoss, ...]  # so far; empty where no batch is held out
    batches_per_step: int  # 1; fixed batches in a step, of all processes together
    phases: tuple[PhaseRecord, ...] = ()  # alternating only: those so far, the last one may be under way


@record
class TrainingProof:
    """The checks before the first step and after the last one."""

    requested: int  # 66; parameters that the arm asked to train
    in_optimizer: int  # 66; parameters given to the optimizer
    with_gradient: int  # 66; parameters with a gradient in the probe step
    frozen_digest_before: str | None  # sha256 over everything that must not move; None in the baseline
    frozen_digest_after: str | None
    num_moved: int | None  # baseline: parameters that changed
    num_parameters: int | None  # baseline: parameters there are


@record
class TurnTraining:
    """How the loss fell on the rows whose answer is at one turn of its conversation."""

    turn: int  # 3
    num_rows: int  # 24; in an epoch
    num_answer_tokens: int  # 230; in an epoch
    first_loss: float | None  # 2.51; mean over the first epoch; None: there is only one
    final_loss: float  # 0.14; mean over the last epoch


@record
class TrainingSummary:
    """The content of `training_metadata.json`."""

    training_mode: TrainedMode
    base: ModelIdentity
    trained_fingerprint: str  # of the weights in final_model/
    prepared: str  # digest of the prepare run's manifest
    batches_digest: str  # sha256 of sft_dataset: equal in both arms
    schedule_digest: str  # sha256 over the order of batches of all steps: equal in both arms
    total_unique_unsafe_experts: int | None  # 12; 0: the routers alone trained; None in the baseline
    per_batch_unsafe_expert_counts: tuple[int, ...] | None  # B; None where no selection trains
    batch_unsafe_experts_summary: tuple[tuple[Expert, ...], ...] | None  # the first 3 batches
    count: TrainableCount
    trainable_params: int  # repeated from `count`: names of the original file
    total_params: int
    trainable_ratio: float
    masking: Masking | None  # None where no selection trains
    note: str  # "standard training of all parameters on the same batches"
    hyperparameters: dict[str, str | int | float | bool | None]
    num_steps: int  # 54; on the loss of the answers
    validation: tuple[ValidationLoss, ...]  # at every checkpoint; empty where no batch is held out
    final_step: int  # 54; the step after which the weights were those of final_model/
    num_answer_tokens: int  # 6048; loss tokens over these steps
    num_tokens: int  # 37800; padding not counted
    num_padded_tokens: int  # 40120; padding counted
    final_loss: float | None  # 0.12; mean over the last epoch; None: no step was on the answers
    seconds_training: float  # 21.0; of all steps, those of the routers included
    peak_memory_bytes: int  # 812000000
    peak_memory_of: str  # "process (resident set)" or "cuda:0 (allocated)"; of several processes the largest
    experts_implementation: str  # "moe_slices"
    experts_dtype: str  # "bfloat16": what the expert matmuls ran in
    num_threads: int  # 2
    proof: TrainingProof
    num_ranks: int = 1  # processes that trained together
    gradient_bytes: int = 0  # of all steps; gradients that the processes added up
    routers: RouterTraining | None = None  # alternating only; None there: the routers stayed locked
    phases: tuple[PhaseRecord, ...] = ()  # alternating only, in order
    num_router_tokens: int = 0  # of all forwards for the routers, in steps and beside them; padding not counted
    turns: tuple[TurnTraining, ...] = ()  # by the turn of the answers; empty: all are of one turn, or it is not known

    @property
    def final_answer_step(self) -> int:
        """How many of the `num_steps` had been done when the weights were those of final_model/."""
        return self._num_done("experts", "joint") if self.phases else self.final_step

    @property
    def final_router_step(self) -> int:
        """How many steps that train routers had been done then."""
        return self._num_done("router", "joint")

    @property
    def reselected(self) -> str | None:
        """How the experts of rounds 2 and on were selected; `answers, none` where a resumed run changed the way."""
        later = [phase for phase in self.phases if phase.phase == "experts" and phase.round > 1]
        ways = [phase.selected_by or ("none" if phase.selected is None else "replay") for phase in later]
        return ", ".join(dict.fromkeys(ways)) or (self.routers.reselect if self.routers else None)

    def _num_done(self, *kinds: Phase) -> int:
        of_kind = [phase for phase in self.phases if phase.phase in kinds]
        return sum(max(0, min(phase.last_step, self.final_step) - phase.first_step + 1) for phase in of_kind)


@record
class Exported:
    """The result of `moe export`."""

    path: str  # "merged" or "expert_delta.safetensors"
    base: ModelIdentity
    fingerprint: str  # of the tuned weights
    num_experts: int  # 12
    num_params: int  # 221184; in those experts, and in the routers where they trained
    routers: bool = False  # whether the delta holds routers, too
