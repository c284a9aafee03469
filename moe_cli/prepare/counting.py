"""Replay prompt + own answer once and count which experts the tokens went to.

Comes in: the kept pairs and the model's answers to both forms. Goes out: `RoutingCounts` per pair. Always holds: the
replayed ids are the prompt's ids followed by the very ids the model generated, the end of turn included; padding is
never counted; answer, prompt and last prompt position are counted apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from moe_cli.model.chat import encode_prompt
from moe_cli.model.length_batches import length_batches
from moe_cli.model.load import LoadedModel
from moe_cli.model.padding import attention_mask, right_padded
from moe_cli.model.routing import RoutingRecorder, recording
from moe_cli.records import REGIONS, SIDES, Generation, Progress, PromptPair, RoutingCounts


def count_routing(
    loaded: LoadedModel,
    pairs: Sequence[PromptPair],
    answers: Mapping[str, Generation],
    *,
    batch_size: int,
    batch_tokens: int,
    notify: Callable[[object], None],
) -> RoutingCounts:
    """Counts of both sides of every pair; `answers` is keyed by `{pair id}#{side}`."""
    num_layers, num_experts = len(loaded.layers), loaded.identity.num_experts
    routed = np.zeros((len(pairs), len(SIDES), len(REGIONS), num_layers, num_experts), dtype=np.int64)
    gates = np.zeros(routed.shape)
    seen = np.zeros((len(pairs), len(SIDES), len(REGIONS)), dtype=np.int64)
    rows = _rows(loaded, pairs, answers)
    num_done = 0
    batches = length_batches([len(ids) for ids, _ in rows], max_rows=batch_size, max_tokens=batch_tokens)
    with torch.inference_mode(), recording(loaded.model) as recorder:
        for places in batches:
            counted = _count(loaded, recorder, [rows[row] for row in places])
            pair, side = np.array(places) // 2, np.array(places) % 2
            routed[pair, side], gates[pair, side], seen[pair, side] = counted
            num_done += len(places)
            notify(Progress(task="routing", done=num_done, total=len(rows)))
    return RoutingCounts(
        layers=loaded.identity.layers,
        top_k=loaded.identity.top_k,
        pair_ids=tuple(pair.id for pair in pairs),
        clusters=tuple(pair.cluster for pair in pairs),
        routed=routed,
        seen=seen,
        gates=gates,
        gradients=None,
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
    loaded: LoadedModel, recorder: RoutingRecorder, rows: Sequence[tuple[tuple[int, ...], int]]
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """Counts and gates [B, R, L, E], and tokens [B, R], of right-padded rows."""
    input_ids = right_padded([ids for ids, _ in rows]).to(loaded.device)
    inside_BS = attention_mask([ids for ids, _ in rows]).to(loaded.device).bool()
    prompts_B1 = torch.tensor([[num_prompt] for _, num_prompt in rows], device=loaded.device)
    position_1S = torch.arange(input_ids.shape[1], device=loaded.device)[None]
    is_answer_BS = inside_BS & (position_1S >= prompts_B1)
    is_prompt_BS = position_1S < prompts_B1
    is_last_BS = position_1S == prompts_B1 - 1
    regions_RBS = torch.stack([is_answer_BS, is_prompt_BS, is_last_BS])
    recorder.watch(regions_RBS)
    loaded.model(input_ids=input_ids, attention_mask=inside_BS.long(), use_cache=False, logits_to_keep=1)
    counts_BRLE, gates_BRLE = recorder.counts().numpy(), recorder.gates().numpy()
    return counts_BRLE, gates_BRLE, regions_RBS.sum(-1).T.cpu().numpy()
