"""How far the trained model moved from its base on held-out benign text, token by token and choice by choice.

Only answer tokens count: for probabilities those that are predicted, for routing those that are read. Both models see
the very same ids, once, and recording the routing changes no logit. Logarithms are in float32, in nats. Which texts
share a batch depends on all texts, not on those that are done, so a resumed run gives the same bits as one in a single
go. Every mean is weighted by tokens, intervals are over whole clusters, and the same items and seed give the same
numbers bit for bit, in any order of items.

Letters: B texts of a batch, S positions, T answer tokens of one text, V vocabulary, N = B x S tokens, K top-k,
L expert layers, E experts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice, pairwise

import numpy as np
import torch
from torch import Tensor

from moe_cli.errors import NumericError, UsageError
from moe_cli.evaluate.paired_forward import Batch, ForwardRecord, answers_of, rounds_of, run_paired_forward
from moe_cli.model.chat import encode_answered
from moe_cli.model.load import LoadedModel
from moe_cli.model.token_rows import length_batches
from moe_cli.ranks import on_first
from moe_cli.records import DriftItem, EvaluationItem, Progress
from moe_cli.records.drift import DriftSummary, Estimate
from moe_cli.records.manifest import Notify
from moe_cli.rounds import in_rounds
from moe_cli.stats.clusters import NUM_RESAMPLES, Floats, cluster_sums, estimate, resampled_sums
from moe_cli.stats.proportions import share_interval

# Columns of the sums of a cluster.
TOKENS, NLL_BASE, NLL_TUNED, KL, SAME_TOP = range(5)

LARGEST_LOGARITHM = 700.0  # whose exp is a number in float64
PROBABILITIES = "check the weights of both, or compute in another type: --set model.dtype=float32"
CHUNK_VALUES = 1 << 24  # float32 log probabilities of one model made at once: 64 MiB


def summarise_drift(items: Sequence[DriftItem], *, seed: int = 0, num_resamples: int = NUM_RESAMPLES) -> DriftSummary:
    """Perplexity ratio exp(mean nll_tuned - mean nll_base), mean KL and share of equal top tokens.

    Raises:
        UsageError: no item, or an item without a token.
        NumericError: a perplexity is too large for a number.
    """
    refuse_empty(items)
    ordered = sorted(items, key=lambda item: item.id)
    sums_CV = _cluster_sums(ordered)
    total_V = sums_CV.sum(axis=0)
    resampled_RV = np.concatenate(list(resampled_sums(sums_CV, seed=seed, num_resamples=num_resamples)))
    num_clusters = len(sums_CV)
    largest = float((sums_CV[:, [NLL_BASE, NLL_TUNED]] / sums_CV[:, [TOKENS]]).max())
    if largest > LARGEST_LOGARITHM:
        raise NumericError(
            f"the tokens of a text have a mean probability of exp(-{largest:.0f}), whose perplexity is no number",
            hint="the trained model is destroyed: train with a lower learning rate, or evaluate without texts",
        )
    return DriftSummary(
        perplexity_ratio=estimate(_perplexity_ratio(total_V), _perplexity_ratio(resampled_RV), num_clusters),
        kl_mean=estimate(_per_token(total_V, KL), _per_token(resampled_RV, KL), num_clusters),
        kl_99=float(np.quantile(np.concatenate([item.kl_tokens for item in ordered]), 0.99)),
        same_top_share=_same_top_share(sums_CV),
        perplexity_base=float(np.exp(_per_token(total_V, NLL_BASE))),
        perplexity_tuned=float(np.exp(_per_token(total_V, NLL_TUNED))),
        num_tokens=int(total_V[TOKENS]),
    )


def refuse_empty(items: Sequence[DriftItem]) -> None:
    """Refuse items without a mean over tokens.

    Raises:
        UsageError: no item, or an item without a token.
    """
    if not items:
        raise UsageError("there is no text to measure drift on", hint="give at least one item of kind 'text'")
    for item in items:
        if item.num_tokens < 1:
            raise UsageError(f"text {item.id!r} has no answer token to compare", hint="give it an assistant's answer")
        if len(item.kl_tokens) != item.num_tokens:
            raise ValueError(f"{item.id!r} has {item.num_tokens} tokens but {len(item.kl_tokens)} KL values")


def _cluster_sums(items: Sequence[DriftItem]) -> Floats:
    """Sums of every cluster [C, 5], clusters in order of name."""
    values_NV = np.array(
        [[item.num_tokens, item.nll_base, item.nll_tuned, sum(item.kl_tokens), item.same_top] for item in items],
        dtype=np.float64,
    )
    return cluster_sums([item.cluster for item in items], values_NV)


def _per_token(sums: Floats, column: int) -> Floats:
    mean: Floats = sums[..., column] / sums[..., TOKENS]
    return mean


def _same_top_share(sums_CV: Floats) -> Estimate:
    """With Wilson's interval: where no token differs, that of resamples would have no width."""
    value, num_clusters = float(_per_token(sums_CV.sum(axis=0), SAME_TOP)), len(sums_CV)
    if num_clusters < 2:
        return Estimate(value=value, lower=None, upper=None, n=num_clusters)
    lower, upper = share_interval(sums_CV[:, SAME_TOP], sums_CV[:, TOKENS])
    return Estimate(value=value, lower=lower, upper=upper, n=num_clusters)


def _perplexity_ratio(sums: Floats) -> Floats:
    ratio: Floats = np.exp((sums[..., NLL_TUNED] - sums[..., NLL_BASE]) / sums[..., TOKENS])
    return ratio


def measure_text_drift(
    base: LoadedModel,
    tuned: LoadedModel,
    items: Sequence[EvaluationItem],
    *,
    done: Collection[str],
    batch_size: int,
    batch_tokens: int | None,
    notify: Notify,
) -> Iterator[tuple[DriftItem, ...]]:
    """Drift on every text whose id is not in `done`, batch by batch, the longest texts first.

    A batch holds at most `batch_size` texts and, padded, `batch_tokens` tokens; one forward of each model reads it.
    Several processes share the batches out; the first gets what comes of them.
    """
    ordered = sorted(items, key=lambda item: item.id)
    encoded = [encode_answered(base.tokenizer, item.messages) for item in ordered]
    lengths = [len(row.token_ids) for row in encoded]
    done = frozenset(done)
    num_done = sum(item.id in done for item in ordered)
    batches = [
        [(ordered[index], encoded[index]) for index in indices]
        for indices in length_batches(lengths, max_rows=batch_size, max_tokens=batch_tokens)
        if any(ordered[index].id not in done for index in indices)
    ]

    def measured(group: Sequence[Batch]) -> list[DriftItem]:
        return [
            item
            for batch, of_base, of_tuned in run_paired_forward(base, tuned, group)
            for item in _drift_of_batch(batch, of_base, of_tuned, base.identity.num_experts)
            if item.id not in done
        ]

    sizes = on_first(lambda: [len(group) for group in rounds_of(base, tuned, batches)])
    remaining = iter(batches)
    for groups in in_rounds([list(islice(remaining, size)) for size in sizes], measured):
        missing = tuple(chain.from_iterable(groups))
        yield missing
        num_done += len(missing)
        notify(Progress(task="drift", done=num_done, total=len(ordered)))


def _drift_of_batch(batch: Batch, of_base: ForwardRecord, of_tuned: ForwardRecord, num_experts: int) -> list[DriftItem]:
    rows = [row for _, row in batch]
    same_BL = same_choices(of_base.chosen_LNK, of_tuned.chosen_LNK, answers_of(rows), num_experts)
    num_positions = max(len(row.token_ids) for row in rows)
    result = []
    for index, (item, row) in enumerate(batch):
        next_T = torch.tensor(row.token_ids[row.num_prompt :])
        first = of_base.logits_BSV.shape[1] - num_positions + row.num_prompt - 1  # what predicts the first of them
        of_text = slice(first, first + len(next_T))
        comparison = _compare_answer(of_base.logits_BSV[index, of_text], of_tuned.logits_BSV[index, of_text], next_T)
        if not np.isfinite([comparison.nll_base, comparison.nll_tuned, *comparison.kl_tokens]).all():
            raise NumericError(
                f"the probabilities of the text {item.id} are not finite in both models", hint=PROBABILITIES
            )
        result.append(
            DriftItem(
                id=item.id,
                cluster=item.cluster,
                num_tokens=len(next_T),
                nll_base=comparison.nll_base,
                nll_tuned=comparison.nll_tuned,
                kl_tokens=comparison.kl_tokens,
                same_top=comparison.same_top,
                experts_base=_table(of_base.experts_BLE[index]),
                experts_tuned=_table(of_tuned.experts_BLE[index]),
                same_choices=tuple(same_BL[index].tolist()),
            )
        )
    return result


def same_choices(
    base_LNK: Sequence[Tensor], tuned_LNK: Sequence[Tensor], answers_BS: Tensor, num_experts: int
) -> Tensor:
    """int64 [B, L]: number of choices that both models made for the same answer token, counted with multiplicity.

    Ids at or above `num_experts` are no choices.
    """
    return torch.stack(
        [_shared(base, tuned, answers_BS, num_experts) for base, tuned in zip(base_LNK, tuned_LNK, strict=True)], dim=1
    )


def _shared(base_NK: Tensor, tuned_NK: Tensor, answers_BS: Tensor, num_experts: int) -> Tensor:
    """int64 [B]: the same for one layer."""
    times = [
        torch.zeros(len(chosen_NK), num_experts + 1, dtype=torch.int16).scatter_add_(
            1, chosen_NK, torch.ones((), dtype=torch.int16).expand(chosen_NK.shape)
        )
        for chosen_NK in (base_NK, tuned_NK)
    ]
    shared_N = torch.minimum(*times)[:, :-1].sum(1)
    return (shared_N.view(answers_BS.shape) * answers_BS).sum(1)


def _table(counts_LE: Tensor) -> tuple[tuple[int, ...], ...]:
    return tuple(map(tuple, counts_LE.tolist()))


@dataclass(frozen=True, slots=True)
class _AnswerComparison:
    """Two models' probabilities of one answer, compared."""

    nll_base: float
    nll_tuned: float
    kl_tokens: tuple[float, ...]
    same_top: int


def _compare_answer(base_TV: Tensor, tuned_TV: Tensor, next_T: Tensor) -> _AnswerComparison:
    """Compare logits in chunks of tokens: a long text with a large vocabulary is too much in float32."""
    num_tokens, rows = len(next_T), max(1, CHUNK_VALUES // base_TV.shape[1])
    edges = [*range(0, num_tokens, rows), num_tokens]
    parts = [_compare_tokens(base_TV[a:b], tuned_TV[a:b], next_T[a:b]) for a, b in pairwise(edges)]
    nll_base_T, nll_tuned_T, kl_T, same_T = (torch.cat(part) for part in zip(*parts, strict=True))
    return _AnswerComparison(
        nll_base=float(nll_base_T.double().sum()),
        nll_tuned=float(nll_tuned_T.double().sum()),
        kl_tokens=tuple(kl_T.tolist()),
        same_top=int(same_T.sum()),
    )


def _compare_tokens(base_TV: Tensor, tuned_TV: Tensor, next_T: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Negative log likelihoods, KL(base || tuned) and whether the top tokens are equal, per token [T], on the CPU."""
    device = tuned_TV.device
    logs = base_TV.to(device).float().log_softmax(-1), tuned_TV.float().log_softmax(-1)
    same_T = logs[0].argmax(-1) == logs[1].argmax(-1)
    next_T1 = next_T.to(device)[:, None]
    nll_base_T, nll_tuned_T = (-log_TV.gather(1, next_T1)[:, 0] for log_TV in logs)
    base_TV = logs[0].exp()
    kl_T = (base_TV * (logs[0] - logs[1])).masked_fill_(base_TV == 0, 0.0).sum(-1).clamp(min=0.0)  # 0 log 0 is 0
    return nll_base_T.cpu(), nll_tuned_T.cpu(), kl_T.cpu(), same_T.cpu()
