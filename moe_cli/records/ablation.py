"""Interventions on experts, and `moe ablate`: what the model still does without the experts that were selected."""

from __future__ import annotations

import hashlib
from typing import Literal

from moe_cli.records.drift import Estimate
from moe_cli.records.inputs import ModelIdentity
from moe_cli.records.judging import JudgeIdentity
from moe_cli.records.preparation import Expert
from moe_cli.records.record import Rate, record
from moe_cli.records.training import TrainingMode

InterventionKind = Literal["reroute", "zero", "mean"]
TokenScope = Literal["all", "prompt", "answer"]
AblationVerdict = Literal["breaks the model", "opposite", "not specific", "specific", "inconclusive"]
AblationSide = Literal["unsafe", "safe"]
ABLATION_SCHEMA_VERSION = 1


@record
class Intervention:
    """Experts that are taken away, and how."""

    experts: tuple[Expert, ...]
    kind: InterventionKind  # others are chosen instead; their output is 0; or it is their mean over harmless texts
    tokens: TokenScope  # the tokens at which they are taken away
    without_router_effects: bool = False  # True: every router decides by the logits of the model as it is

    @property
    def digest(self) -> str:
        """A sha256 of what is done, the same for any order of the experts."""
        replayed = " replayed" if self.without_router_effects else ""
        kind = "reroute by logits and scores" if self.kind == "reroute" else self.kind
        return _sha256(f"{kind} {self.tokens}{replayed} {_names(self.experts)}")


@record
class Steering:
    """Experts whose logits are raised above all others of a token, or lowered below them."""

    activate: tuple[Expert, ...]
    deactivate: tuple[Expert, ...]
    epsilon: float  # 0.01; how far above or below

    @property
    def digest(self) -> str:
        """A sha256 of what is done, the same for any order of the experts."""
        return _sha256(f"steer logits and scores {self._words}")

    @property
    def name(self) -> str:
        """`steered-1a2b3c4d`: another one for other experts or another epsilon; what is done with them has none."""
        return f"steered-{_sha256(f'steer {self._words}')[:8]}"

    @property
    def _words(self) -> str:
        return f"{self.epsilon!r} up {_names(self.activate)} down {_names(self.deactivate)}"

    @property
    def title(self) -> str:
        """`steered-1a2b3c4d: experts activated 2, deactivated 1; epsilon 0.01`."""
        num = f"experts activated {len(self.activate)}, deactivated {len(self.deactivate)}"
        return f"{self.name}: {num}; epsilon {self.epsilon:g}"


def _names(experts: tuple[Expert, ...]) -> str:
    return " ".join(f"{expert.layer},{expert.index}" for expert in sorted(experts))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@record
class TextLoss:
    """The loss on all text items under one intervention; one line of `losses-*.jsonl`."""

    intervention: str  # its digest
    loss: float  # nats, summed
    num_tokens: int


@record
class ConditionOutcomes:
    """What the model did under one condition, on the items that every condition has a verdict for."""

    name: str  # "selected", "control 7", "layer 0 expert 1"; "untouched": nothing is taken away
    num_experts: int  # 12
    coverage: float | None  # 0.31; share of the answers' choices that these experts had; None: no expert
    overlap: float | None  # 0.42; share of the selected experts that are among these; None: no expert
    harmful: int  # 118; of `num_items` harmful items
    refused: int  # 2; in full
    neither: int  # 0; not harmful, and no full refusal
    degenerate: int  # 0; empty, symbol noise or a loop
    correct: Rate | None  # benign items with an expected answer that are right; None: there are none
    over_refused: Rate | None  # benign items refused in full; None: there are none
    benign_degenerate: Rate | None
    text_loss: float | None  # 1.21; nats a token on the text items; None: there are none
    effect: float  # 0.32; share of items that are no longer harmful (side safe: refused), less those that became so
    repair: float  # 0.12; share of items that are now refused (side safe: harmful), less those that no longer are


@record
class ExpertEffect:
    """What taking one expert away does."""

    expert: Expert
    effect: Estimate
    p_adjusted: float  # 0.004; sign-flip test of goals, Holm's correction over all experts of the set
    repair: float
    coverage: float


@record
class Ablation:
    """The result of `moe ablate`. Stored in `ablation.json`."""

    schema_version: int
    prepared: str  # "prepared"; as it was named
    model: ModelIdentity  # what was ablated
    run: str | None  # "selective"; the training run; None: the model that the prepare run was made on
    training_mode: TrainingMode
    side: AblationSide  # "unsafe": the selected experts; "safe": those more active when plain goals are refused
    intervention: Intervention  # on the whole set
    seed: int
    num_items: int  # 120; harmful items with a verdict in every condition
    num_goals: int  # 40
    num_unscored: int  # 0; harmful items that some condition has no verdict for
    same_goals: bool  # True: some of the goals chose the experts
    judges: tuple[JudgeIdentity, ...]
    generation: dict[str, str | int | float | bool | None]
    untouched: ConditionOutcomes
    selected: ConditionOutcomes
    controls: tuple[ConditionOutcomes, ...]
    effect: Estimate  # of the set
    repair: Estimate
    control_effect: float  # mean over the control sets
    control_spread: float  # their standard deviation
    specific: Estimate  # effect less the mean of the control sets; over goals and control sets
    p_value: float  # (1 + control sets with at least this effect) / (1 + control sets); one-sided
    p_opposite: float  # (1 + control sets with at most this effect) / (1 + control sets)
    least_p: float  # 0.025; that so many control sets can give
    harm_to_benign: Estimate | None  # share of right benign answers, controls' mean less the set's; None: no such items
    more_degenerate: Estimate  # share of degenerate answers, the set's less the controls' mean
    most_shared: float | None = None  # 0.42; share of control sets with the expert of the set that most of them hold
    chance_of_same: float | None = None  # 1e-9; that a control set is the set itself; None, too: an earlier version
    largest_own: float | None = None  # 0.08; effect left to these if no other expert has any; None: not known
    detectable: float | None  # a specific effect that would have been found in 80 of 100 cases; None: not testable
    margin: float  # 0.1; an effect of the set's own up to it does not matter
    utility_margin: float  # 0.02; benign answers lost, or degenerate ones, up to it do not matter
    verdict: AblationVerdict
    reason: str  # in plain words, with the numbers
    each: tuple[ExpertEffect, ...]  # largest effect first; empty: not measured
    warnings: tuple[str, ...]

    @property
    def deciding_p(self) -> float:
        """The p of the rank that the verdict rests on: of *opposite* that from the other end."""
        return self.p_opposite if self.verdict == "opposite" else self.p_value
