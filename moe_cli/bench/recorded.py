"""What recording the routing adds to the forward of a replay.

Comes in: a model and the rows of one batch, as `moe prepare` replays them. Goes out: `RecordingCost`. Always holds: the
two forwards take turns, so that a machine that is slow for a while is slow for both; a repeat of the recorded one ends
when its counts are on the CPU. On the CPU it is processor time, which other processes add less to.

Letters: R regions, B rows, S positions.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from moe_cli.bench.rounds import wait_for
from moe_cli.bench.spread import ratio, spread
from moe_cli.model.load import LoadedModel
from moe_cli.model.padding import attention_mask, right_padded
from moe_cli.model.routing import RoutingRecorder, recording
from moe_cli.records import RecordingCost, Spread

Row = tuple[tuple[int, ...], int]  # ids of prompt + answer, and how many of them are the prompt


def recording_cost(loaded: LoadedModel, rows: Sequence[Row], *, repeats: int) -> RecordingCost:
    """Seconds of the forward with and without recording."""
    ids_BS = right_padded([ids for ids, _ in rows]).to(loaded.device)
    mask_BS = attention_mask([ids for ids, _ in rows]).to(loaded.device)
    regions_RBS = _regions(mask_BS, torch.tensor([[num_prompt] for _, num_prompt in rows], device=loaded.device))

    def forward() -> None:
        loaded.model(input_ids=ids_BS, attention_mask=mask_BS, use_cache=False, logits_to_keep=1)

    plain, watched = [], []
    with torch.inference_mode():
        for _ in range(repeats):
            plain.append(_seconds(forward, loaded.device))
            with recording(loaded.model) as recorder:
                watched.append(_seconds(partial(_recorded, recorder, regions_RBS, forward), loaded.device))
    return RecordingCost(
        rows=len(rows),
        positions=ids_BS.shape[1],
        forward=known(spread(plain)),
        recorded=known(spread(watched)),
        ratio=known(ratio(watched, plain)),
    )


def _recorded(recorder: RoutingRecorder, regions_RBS: Tensor, forward: Callable[[], None]) -> None:
    recorder.watch(regions_RBS)
    forward()
    recorder.counts()
    recorder.gates()


def _regions(mask_BS: Tensor, prompts_B1: Tensor) -> Tensor:
    """Answer, prompt, and last position of the prompt."""
    position_1S = torch.arange(mask_BS.shape[1], device=mask_BS.device)[None]
    return torch.stack(
        [mask_BS.bool() & (position_1S >= prompts_B1), position_1S < prompts_B1, position_1S == prompts_B1 - 1]
    )


def _seconds(work: Callable[[], None], device: torch.device) -> float:
    """Of the second of two, so that what was done between the repeats does not count."""
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    work()
    wait_for(device)
    started = clock()
    work()
    wait_for(device)
    return clock() - started


def known(found: Spread | None) -> Spread:
    """A spread of at least one repeat.

    Raises:
        ValueError: there was none.
    """
    if found is None:
        raise ValueError("nothing was measured: at least one repeat is needed")
    return found
