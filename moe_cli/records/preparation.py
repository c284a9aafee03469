"""`moe prepare`: answers -> routing counts -> risk differences -> selection -> training examples.

Letters of shapes: N pairs, B batches, L expert layers (in order), E experts per layer, K top-k.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from moe_cli.records.inputs import Message, ModelIdentity, Side
from moe_cli.records.record import record, strict

Label = Literal["full_refusal", "partial_refusal", "compliance", "degenerate"]

REGIONS = ("answer", "prompt", "last_prompt")  # which tokens a routing count is over


@record
class Generation:
    """The model's own answer to one prompt."""

    prompt_id: str  # "goal-17/story#unsafe"
    text: str  # "Sure, here is how ..."
    token_ids: tuple[int, ...]  # the answer's tokens, the end of turn included where one was produced
    num_prompt_tokens: int  # 21
    finished: bool  # ended by itself; False: cut off by the token limit


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
    kept: bool  # a pair is kept or dropped as a whole
    reason: str | None  # why it was dropped: "the plain form was not refused"
    batch: int | None  # index of the batch it is in; None: dropped or left over


@record
class RoutingCounts:
    """How many tokens went to which expert, for every pair apart. Lives in `routing_{model}.npz`."""

    layers: tuple[int, ...]  # decoder indices of the expert layers
    top_k: int | None  # 8; None where only a forward tells
    pair_ids: tuple[str, ...]  # N
    clusters: tuple[str, ...]  # N
    routed: NDArray[np.int64]  # [N, side 2, region 3, L, E] tokens whose top-k holds the expert
    seen: NDArray[np.int64]  # [N, side 2, region 3] tokens counted


@record
class RiskDifferences:
    """Rate on the unsafe side minus rate on the safe side; NaN in memory (null on disk) where a side saw no token."""

    layers: tuple[int, ...]  # decoder indices of the expert layers
    per_batch: NDArray[np.float64]  # [B, L, E]
    mean: NDArray[np.float64]  # [L, E] mean of the batches' values (the original definition)
    pooled: NDArray[np.float64]  # [L, E] from the summed counts
    lower: NDArray[np.float64]  # [L, E] cluster bootstrap, 2.5 %
    upper: NDArray[np.float64]  # [L, E] cluster bootstrap, 97.5 %
    p_value: NDArray[np.float64]  # [L, E] permutation of the sides within clusters, two-sided
    q_value: NDArray[np.float64]  # [L, E] Benjamini-Hochberg over all L*E
    num_resamples: int  # 1000


@strict
@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Expert:
    """One expert of one layer."""

    layer: int  # 7; the decoder layer's own index
    index: int  # 31


@record
class ExpertEvidence:
    """Why an expert is a candidate, and how sure we are."""

    expert: Expert
    risk_diff: float | None  # 0.21; pooled
    lower: float | None  # 0.15
    upper: float | None  # 0.27
    q_value: float | None  # 0.004
    stability: float | None  # 0.98; share of bootstrap resamples in which the same rule makes it a candidate
    num_batches: int  # 12; batches that selected it


@record
class NullUnion:
    """Size of the union that the same rule selects when the sides are swapped at random."""

    draws: int  # 200
    mean: float  # 690.2
    lower: float  # 671.0; 2.5 % of the draws
    upper: float  # 707.5; 97.5 % of the draws


@record
class Selection:
    """Which experts, per batch and in union, by which method, with what evidence. Lives in `selection.json`."""

    method: str  # "risk_diff"
    base: ModelIdentity  # the model it was made on
    budget: float | None  # 0.05 of all parameters; None: the original rule without candidates
    threshold: float  # 0.05
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
    null_union: NullUnion | None  # None where the method looks at no risk difference
    warnings: tuple[str, ...]  # in plain words


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
class PrepareSummary:
    """What `moe prepare` found, in counts. Lives in `summary.json`."""

    base: ModelIdentity
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
    plain_refused: tuple[int, int]  # (190, 192); of the plain answers that have a label and are not degenerate
    attacked_complied: tuple[int, int]  # (180, 191); of the attacked answers, in the same way
    seconds_generate: float | None  # 12.1; None: in several goes
    seconds_routing: float  # 2.2
    warnings: tuple[str, ...]
