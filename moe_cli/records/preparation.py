"""`moe prepare`: answers -> routing counts -> risk differences -> selection.

Letters of shapes: N pairs, B batches, L expert layers (in order), E experts per layer, K top-k.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from moe_cli.records.drift import Estimate
from moe_cli.records.inputs import AnswerSettings, Message, ModelIdentity, SourceCount
from moe_cli.records.judging import Label, SideJudge
from moe_cli.records.record import record, strict

AnswerPart = Literal["whole", "spoken", "reasoning"]  # of an answer, whose tokens a selection counts


@record
class AnsweredPrompt:
    """One row of `batch_outputs`: a prompt, its answer, and whether it was kept."""

    prompt_id: str  # "goal-17/story#unsafe"
    source_id: str  # id of the pair or of the benign prompt
    cluster: str  # "goal-17"
    side: Literal["safe", "unsafe", "benign"]  # "unsafe"
    attack: str | None  # "story"
    messages: tuple[Message, ...]  # the prompt
    answer: str  # "Sure, here is how ..."
    num_answer_tokens: int  # 12
    finished: bool  # False: cut off by the token limit
    label: Label | None  # "compliance"; None: the judge could not tell
    harmful: bool | None  # True; None: not asked, the judge could not tell, or degenerate
    verdict: str  # "no phrase of refusal"; the judge's own reason
    kept: bool  # a pair is kept or dropped as a whole
    reason: str | None  # why it was dropped: "the plain form was not refused"
    batch: int | None  # index of the batch it is in; None: dropped or left over


@record
class HarmlessCounts:
    """Answer tokens of harmless prompts per expert, each prompt with the same answer in both forms."""

    prompt_ids: tuple[str, ...]  # M
    clusters: tuple[str, ...]  # M
    routed: NDArray[np.int32]  # [M, form 2, L, E] tokens whose top-k holds the expert; plain, inside an attack
    seen: NDArray[np.int64]  # [M] tokens counted, in each form


@record
class ReasoningCounts:
    """Those of the counted answer tokens that are reasoning, its marks included."""

    routed: NDArray[np.int32]  # [N, side 2, L, E] tokens whose top-k holds the expert
    seen: NDArray[np.int64]  # [N, side 2] tokens counted
    gates: NDArray[np.float64]  # [N, side 2, L, E] the router's weights of these tokens, summed
    crossed: NDArray[np.int32] | None  # [N, side 2, L, E] as routed, of the other side's answer; None: not measured
    harmless: NDArray[np.int32] | None  # [M, form 2, L, E] of the answers to harmless prompts; None: not measured
    harmless_seen: NDArray[np.int64] | None  # [M]


@record
class RoutingCounts:
    """Answer tokens per expert, reasoning included, for every pair separately. Stored in `routing_{model}.npz`."""

    layers: tuple[int, ...]  # decoder indices of the expert layers
    top_k: int | None  # 8; None where only a forward tells
    pair_ids: tuple[str, ...]  # N
    clusters: tuple[str, ...]  # N
    routed: NDArray[np.int32]  # [N, side 2, L, E] tokens whose top-k holds the expert
    seen: NDArray[np.int64]  # [N, side 2] tokens counted
    gates: NDArray[np.float64]  # [N, side 2, L, E] the router's weights of these tokens, summed
    gradients: NDArray[np.float64] | None  # [B, L, E] squared gradient norm of the refusal loss; None: not measured
    crossed: NDArray[np.int32] | None = (
        None  # [N, side 2, L, E] as routed, of the other side's answer; None: not measured
    )
    harmless: HarmlessCounts | None = None  # None: not measured
    reasoning: ReasoningCounts | None = None  # None: no answer holds reasoning, or an earlier version counted
    turns: NDArray[np.int64] | None = None  # [N, side 2] turn of the answer, from 1; None: the first, or not known


@record
class RiskDifferences:
    """Rate while complying inside attacks minus rate while refusing plain goals, or a part of that difference.

    NaN in memory (null on disk) if a side has no tokens.
    """

    layers: tuple[int, ...]  # decoder indices of the expert layers
    per_batch: NDArray[np.float64]  # [B, L, E]
    mean: NDArray[np.float64]  # [L, E] mean of the batches' values (the original definition)
    pooled: NDArray[np.float64]  # [L, E] from the summed counts
    lower: NDArray[np.float64]  # [L, E] cluster bootstrap, 2.5 %
    upper: NDArray[np.float64]  # [L, E] cluster bootstrap, 97.5 %
    batch_lower: NDArray[np.float64]  # [B, L, E] the same of one batch; undefined with a single cluster
    batch_upper: NDArray[np.float64]  # [B, L, E]
    p_value: NDArray[np.float64]  # [L, E] permutation of the sides within clusters, two-sided
    q_value: NDArray[np.float64]  # [L, E] Benjamini-Hochberg over all L*E
    stability: NDArray[np.float64]  # [L, E] share of bootstrap resamples whose largest differences hold the expert
    num_resamples: int  # 1000
    num_permutations: int  # 20480; most swaps that the p-value of an expert is over
    num_clusters: int  # 96; what is resampled and swapped


@strict
@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Expert:
    """One expert of one layer."""

    layer: int  # 7; the decoder layer's own index
    index: int  # 31


@record
class ExpertEvidence:
    """Why an expert is a candidate, and with what certainty."""

    expert: Expert
    risk_diff: float | None  # 0.21; pooled
    lower: float | None  # 0.15
    upper: float | None  # 0.27
    p_value: float | None  # 0.0002
    q_value: float | None  # 0.004
    stability: float | None  # 0.98; share of bootstrap resamples that make it a candidate by its risk difference
    num_batches: int  # 12; batches that selected it
    text: float | None = None  # 0.19; the part of risk_diff that is the text of the answers; None: not measured
    wrapper: float | None = None  # 0.01; the same difference of harmless prompts; None: not measured
    harm: float | None = None  # 0.03; complying inside attacks, harmful minus harmless prompts; None: not measured
    ranked_by: float | None = (
        None  # 0.19; where the method is text, prompt or did: the interval, p, q, stability are its
    )


@record
class PartOfRisk:
    """One part of a risk difference, as a share of it."""

    share: float | None  # 0.886; None: the risk difference is not above 0, or not surely
    lower: float | None  # 0.877; cluster bootstrap, 2.5 %
    upper: float | None  # 0.897; 97.5 %


@record
class RiskParts:
    """The parts of the summed risk differences of the selected experts."""

    num_experts: int  # 12
    risk_diff: float  # 1.86; summed over the experts
    text: PartOfRisk  # the answers, whatever prompt they answer
    prompt: PartOfRisk  # the prompts, with the same answer; the rest of 1
    wrapper: PartOfRisk | None  # what harmless prompts do inside an attack; None: not measured
    num_goals: int  # 96; what is resampled
    num_harmless: int  # 90; the same of harmless prompts
    harm: PartOfRisk | None = None  # complying inside attacks, harmful minus harmless prompts; None: not measured


@record
class TurnEvidence:
    """The selected experts over the pairs whose attack is answered at one turn of its conversation."""

    turn: int  # 3; the answer to the attacked form is the third answer of its conversation
    num_pairs: int  # 40
    num_goals: int  # 31; what is resampled
    num_tokens: int  # 1810; counted tokens of the answers to the attacked forms
    risk_diff: float | None  # 1.86; summed over the selected experts; None: a side has no token, or none is selected
    lower: float | None  # 1.70; cluster bootstrap, 2.5 %; None: fewer than two goals
    upper: float | None  # 2.01; 97.5 %


@record
class NullUnion:
    """Size of the union that the same rule selects if the sides are swapped at random."""

    draws: int  # 200
    mean: float  # 690.2
    lower: float  # 671.0; 2.5 % of the draws
    upper: float  # 707.5; 97.5 % of the draws


@record
class Separation:
    """How the share of an answer's choices on selected experts tells the sides apart, of goals that selected none."""

    num_goals_selecting: int  # 96; the same rule selects from these
    num_experts: int  # 4; that it selects from them
    num_shared: int  # 3; of these in the union
    num_answers: int  # 192; of the held-out goals, as many of either side
    auroc: Estimate  # 0.98; 1: every answer of the unsafe side has a larger share; n: held-out goals
    num_control_sets: int  # 200; random experts, as many of each layer and use
    control_mean: float  # 0.87; AUROC of the control sets
    control_lower: float  # 0.64; 2.5 % of the control sets
    control_upper: float  # 0.98; 97.5 % of the control sets
    p_value: float  # 0.02; rank among the control sets
    chance_of_same: float  # 0.004; that a control set is the selected set: p is hardly ever below it


@record
class MethodOverlap:
    """The selection of another method from the same counts, compared with the actual one."""

    method: str  # "esft-token"
    num_candidates: int  # 37
    union_size: int  # 31
    num_shared: int  # 12; in its union and in the selection's
    jaccard: float | None  # 0.28; shared / in either union; None: both are empty


@record
class Selection:
    """The selected experts, per batch and in union, with method and evidence. Stored in `selection.json`."""

    method: str  # "risk_diff"
    base: ModelIdentity  # the model it was made on
    budget: float | None  # 0.05 of all parameters; None: the original rule without candidates
    threshold: float  # 0.05
    select_by: str | None  # "q<0.05"; what candidates had to meet
    per_layer: int | None  # 8; most candidates of one layer
    top_p: float | None  # 0.2; None: the method has none
    top_k: int  # 50; most experts that one batch selects
    seed: int  # 42
    params_per_expert: int  # 6291456
    num_experts_total: int  # 1024; L * E
    candidates: tuple[Expert, ...]  # ordered by (layer, index)
    batches: tuple[tuple[Expert, ...], ...]  # B; the experts batch b selected
    union: tuple[Expert, ...]  # every expert that any batch selected
    trainable_params: int  # len(union) * params_per_expert
    trainable_ratio: float  # of all parameters
    evidence: tuple[ExpertEvidence, ...]  # one for every expert of the union
    null_union: NullUnion | None  # None where the rule cannot be repeated on swapped sides
    num_significant: int  # 31; experts of the model with a positive risk difference and q < 0.05
    overlaps: tuple[MethodOverlap, ...]  # other methods that the stored counts allow
    warnings: tuple[str, ...]  # in plain words
    parts: RiskParts | None = None  # None: not measured, or no expert is selected
    separation: Separation | None = None  # None: not measured
    no_separation: str | None = None  # why: "the experts come from a file"; None: measured, or an earlier version
    answer_part: AnswerPart = "whole"  # the tokens of the answers that were counted
    turns: tuple[TurnEvidence, ...] = ()  # by the turn that answers the attack; empty: each is the first, or unknown


@record
class RankedExpert:
    """One row of a published table."""

    expert: Expert
    score: float | None  # 0.258; None: a side of the table has no token
    published: float | None  # 0.258; what the table itself says
    selected: bool


@record
class RankedTable:
    """A published table of counts or scores, ranked, with the selection of the rule from it."""

    source: str  # "counts.csv"
    kind: Literal["risk_diff", "token_scores", "gate_scores", "scores"]  # what the scores are
    rows: tuple[RankedExpert, ...]  # largest score first; without a score last
    num_layers: int  # 16
    num_selected: int  # 50
    num_compared: int  # 1024; rows with a published value, or layers with published experts
    num_equal: int | None  # 26; layers whose published experts are those selected; None: no experts are published
    largest_deviation: float | None  # 1.1e-16; from the published values; None: there are none
    rule: str  # "risk_diff>0.05, at most 50"


@record
class PrepareSummary:
    """The counts of `moe prepare`. Stored in `summary.json`."""

    base: ModelIdentity
    sources: tuple[SourceCount, ...]  # in the order they were named; empty: the tiny language
    answering: AnswerSettings
    num_pairs: int  # 160; offered
    num_kept: int  # 151
    drop_reasons: dict[str, int]  # {"the plain form was not refused": 9}
    num_benign: int  # 80; offered
    num_benign_kept: int  # 80
    num_batches: int  # 18
    num_pairs_left_over: int  # 7; kept, but no full batch left for them
    batch_size: int  # 16
    num_plain: int  # 4; plain goals in a batch
    num_benign_in_batch: int  # 4
    num_attacked: int  # 8
    distinct_targets: int  # 12; different refusal texts
    own_refusals: int  # 140; refusal targets that are the model's own words
    written_refusals: int  # 0; refusal targets that an endpoint wrote
    unwritten_refusals: dict[str, int]  # {"it is no refusal": 3}; why what an endpoint wrote was not used
    plain_refused: tuple[int, int]  # (190, 192); of the plain answers that have a label and are not degenerate
    attacked_complied: tuple[int, int]  # (180, 191); of the attacked answers, in the same way
    seconds_generate: float | None  # 12.1; None: in several goes
    seconds_routing: float  # 2.2
    warnings: tuple[str, ...]
    judges: tuple[SideJudge, ...] = ()  # empty: an earlier version, by `keywords`
    unscored: dict[str, tuple[int, int]] | None = None  # {"attacked": (3, 192)}; no verdict; None: an earlier version
    cut_off: dict[str, tuple[int, int]] | None = None  # {"benign": (31, 32)}; by the token limit; None: the same
    benign_max_new_tokens: int | None = None  # 768; None: no benign prompts, or an earlier version
    num_answers_kept: int = 0  # 5; made under another token limit before a resume, within which they had ended
