"""Replay prompt + own answer once and count which experts the tokens went to.

Comes in: the kept pairs and the model's answers to both forms. Goes out: `RoutingCounts` per pair. Always holds: the
replayed ids are the prompt's ids followed by the very ids the model generated, the end of turn included; padding is
never counted; answer, prompt and last prompt position are counted apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

from moe_cli.model.chat import encode_prompt
from moe_cli.model.load import LoadedModel
from moe_cli.model.padding import attention_mask, right_padded
from moe_cli.model.routing import recording
from moe_cli.records import REGIONS, SIDES, Generation, Progress, PromptPair, RoutingCounts


def count_routing(
    loaded: LoadedModel,
    pairs: Sequence[PromptPair],
    answers: Mapping[str, Generation],
    *,
    batch_size: int,
    notify: Callable[[object], None],
) -> RoutingCounts:
    """Counts of both sides of every pair; `answers` is keyed by `{pair id}#{side}`."""
    num_layers, num_experts = len(loaded.layers), loaded.identity.num_experts
    routed = np.zeros((len(pairs), len(SIDES), len(REGIONS), num_layers, num_experts), dtype=np.int64)
    seen = np.zeros((len(pairs), len(SIDES), len(REGIONS)), dtype=np.int64)
    rows = _rows(loaded, pairs, answers)
    order = sorted(range(len(rows)), key=lambda row: -len(rows[row][0]))
    for start in range(0, len(order), batch_size):
        places = order[start : start + batch_size]
        counts_BRLE, tokens_BR = _count(loaded, [rows[row] for row in places])
        for place, counts_RLE, tokens_R in zip(places, counts_BRLE, tokens_BR, strict=True):
            routed[place // 2, place % 2], seen[place // 2, place % 2] = counts_RLE, tokens_R
        notify(Progress(task="routing", done=min(start + batch_size, len(order)), total=len(order)))
    return RoutingCounts(
        layers=loaded.identity.layers,
        top_k=loaded.identity.top_k,
        pair_ids=tuple(pair.id for pair in pairs),
        clusters=tuple(pair.cluster for pair in pairs),
        routed=routed,
        seen=seen,
    )


def _rows(
    loaded: LoadedModel, pairs: Sequence[PromptPair], answers: Mapping[str, Generation]
) -> list[tuple[tuple[int, ...], int]]:
    """Ids of prompt + answer and the number of prompt ids; safe and unsafe side of every pair in turn."""
    rows = []
    for pair in pairs:
        for side, turns in zip(SIDES, (pair.safe, pair.unsafe), strict=True):
            prompt = encode_prompt(loaded.tokenizer, turns)
            rows.append((prompt + answers[f"{pair.id}#{side}"].token_ids, len(prompt)))
    return rows


def _count(
    loaded: LoadedModel, rows: Sequence[tuple[tuple[int, ...], int]]
) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.int64]], np.ndarray[tuple[int, ...], np.dtype[np.int64]]]:
    """Counts [B, R, L, E] and tokens [B, R] of right-padded rows."""
    input_ids = right_padded([ids for ids, _ in rows]).to(loaded.device)
    inside_BS = attention_mask([ids for ids, _ in rows]).to(loaded.device).bool()
    prompts_B1 = torch.tensor([[num_prompt] for _, num_prompt in rows], device=loaded.device)
    position_1S = torch.arange(input_ids.shape[1], device=loaded.device)[None]
    is_answer_BS = inside_BS & (position_1S >= prompts_B1)
    is_prompt_BS = position_1S < prompts_B1
    is_last_BS = position_1S == prompts_B1 - 1
    regions_RBS = torch.stack([is_answer_BS, is_prompt_BS, is_last_BS])
    with torch.inference_mode(), recording(loaded.model) as recorder:
        recorder.watch(regions_RBS)
        loaded.model(input_ids=input_ids, attention_mask=inside_BS.long(), use_cache=False, logits_to_keep=1)
        counts_BRLE = recorder.counts().cpu().numpy()
    return counts_BRLE, regions_RBS.sum(-1).T.cpu().numpy()
