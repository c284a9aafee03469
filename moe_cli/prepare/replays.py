"""Replays of prompt + answer: which experts the tokens went to, and how much the refusal loss pulls on each.

The replayed ids are the prompt's ids followed by the very ids the model generated, the end of turn included. Only the
answer is counted, and its reasoning apart, where some answer holds any.

Several processes share out the batches; the first gets all counts and gradients, the others zeros and nothing.

Gradients are of the loss of training, over the examples of a batch whose target is a refusal: one forward and one
backward for each batch. No weight and no gradient of the model is left changed.

Letters: N rows or pairs, R regions, B batches or rows of one, S positions, L expert layers, E experts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from moe_cli.artifacts.files import RowFile
from moe_cli.errors import NumericError
from moe_cli.experts.gradient_norms import measure_gradient_norms
from moe_cli.model.chat import EncodedChat, encode_answered, encode_prompt, reasoning_tokens
from moe_cli.model.load import LoadedModel
from moe_cli.model.routing import RoutingRecorder, record_routing
from moe_cli.model.token_rows import (
    answer_mask,
    answered_rows,
    attention_mask,
    length_batches,
    loss_sum,
    num_answer_tokens,
    right_padded,
)
from moe_cli.prepare.harmless import HarmlessPrompts
from moe_cli.records import (
    SIDES,
    Generation,
    HarmlessCounts,
    Message,
    Progress,
    PromptPair,
    ReasoningCounts,
    RoutingCounts,
    TrainingExample,
)
from moe_cli.records.inputs import form_id
from moe_cli.records.manifest import Notify
from moe_cli.rounds import in_rounds


class Replay(NamedTuple):
    """One row to replay."""

    ids: tuple[int, ...]  # of prompt + answer
    num_prompt: int
    reasoning: tuple[tuple[int, int], ...]  # spans of the ids


def count_routing(
    loaded: LoadedModel,
    pairs: Sequence[PromptPair],
    answers: Mapping[str, Generation],
    harmless: Sequence[HarmlessPrompts] = (),
    directory: Path | None = None,
    *,
    crossed: bool = False,
    reasoning: bool = False,
    batch_size: int,
    batch_tokens: int,
    notify: Notify,
) -> RoutingCounts:
    """Routing counts of both sides of every pair; `answers` is keyed by `form_id`.

    With `crossed` each form is replayed with the answer to the other form, too. These and the harmless prompts are
    replayed after the forms with their own answers, so that they change none of their batches. Reasoning is counted
    where some answer holds any, and with `reasoning` even where none does. Counts lie in unnamed files in `directory`,
    not in memory.
    """
    own, other = _rows(loaded, pairs, answers), _crossed_rows(loaded, pairs, answers) if crossed else []
    harmless_rows = [
        _row(loaded, turns, prompt.answer) for prompt in harmless for turns in (prompt.plain, prompt.wrapped)
    ]
    progress = _Progress(len(own) + len(other) + len(harmless_rows), notify)
    sizes = _Sizes(batch_size, batch_tokens)
    apart = reasoning or any(row.reasoning for row in (*own, *other, *harmless_rows))
    with torch.inference_mode(), record_routing(loaded.model) as recorder:
        gates = RowFile(directory, _shape(loaded, own, 1 + apart), np.float64)
        routed, seen = _replayed(loaded, recorder, own, sizes, progress, directory, apart, gates)
        crossed_routed, _ = _replayed(loaded, recorder, other, sizes, progress, directory, apart)
        harmless_routed, harmless_seen = _replayed(loaded, recorder, harmless_rows, sizes, progress, directory, apart)
    own_routed, own_seen, own_gates = _in_pairs(routed), _in_pairs(seen), _in_pairs(gates.array())
    other_routed = _in_pairs(crossed_routed) if crossed else None
    both_routed, both_seen = (_in_pairs(harmless_routed), _in_pairs(harmless_seen)) if harmless else (None, None)
    return RoutingCounts(
        layers=loaded.identity.layers,
        top_k=loaded.identity.top_k,
        pair_ids=tuple(pair.id for pair in pairs),
        clusters=tuple(pair.cluster for pair in pairs),
        routed=own_routed[:, :, 0],
        seen=own_seen[:, :, 0],
        gates=own_gates[:, :, 0],
        gradients=None,
        crossed=None if other_routed is None else other_routed[:, :, 0],
        harmless=HarmlessCounts(
            prompt_ids=tuple(prompt.id for prompt in harmless),
            clusters=tuple(prompt.cluster for prompt in harmless),
            routed=both_routed[:, :, 0],
            seen=both_seen[:, 0, 0],
        )
        if both_routed is not None and both_seen is not None
        else None,
        reasoning=ReasoningCounts(
            routed=own_routed[:, :, -1],
            seen=own_seen[:, :, -1],
            gates=own_gates[:, :, -1],
            crossed=None if other_routed is None else other_routed[:, :, -1],
            harmless=None if both_routed is None else both_routed[:, :, -1],
            harmless_seen=None if both_seen is None else both_seen[:, 0, -1],
        )
        if apart
        else None,
        turns=_turns(pairs),
    )


def _turns(pairs: Sequence[PromptPair]) -> NDArray[np.int64] | None:
    """[N, 2] which answer of its conversation follows each form; None where each is the first."""
    turns_NS = np.array([[_turn(pair.safe), _turn(pair.unsafe)] for pair in pairs], dtype=np.int64)
    return turns_NS if (turns_NS > 1).any() else None


def _turn(prompt: Sequence[Message]) -> int:
    return 1 + sum(message.role == "assistant" for message in prompt)


def _rows(loaded: LoadedModel, pairs: Sequence[PromptPair], answers: Mapping[str, Generation]) -> list[Replay]:
    """Safe and unsafe form of every pair in turn, each with its own answer."""
    return [
        _row(loaded, turns, answers[form_id(pair.id, side)])
        for pair in pairs
        for side, turns in zip(SIDES, (pair.safe, pair.unsafe), strict=True)
    ]


def _crossed_rows(loaded: LoadedModel, pairs: Sequence[PromptPair], answers: Mapping[str, Generation]) -> list[Replay]:
    """Safe and unsafe form of every pair in turn, each with the answer to the other one."""
    return [
        _row(loaded, turns, answers[form_id(pair.id, side)])
        for pair in pairs
        for side, turns in zip(SIDES[::-1], (pair.safe, pair.unsafe), strict=True)
    ]


def _row(loaded: LoadedModel, turns: tuple[Message, ...], answer: Generation) -> Replay:
    prompt = encode_prompt(loaded.tokenizer, turns)
    spans = reasoning_tokens(loaded.tokenizer, prompt, answer.token_ids)
    shifted = tuple((len(prompt) + start, len(prompt) + end) for start, end in spans)
    return Replay(prompt + answer.token_ids, len(prompt), shifted)


class _Sizes(NamedTuple):
    rows: int  # most of one batch
    tokens: int


class _Progress:
    """Reports how many of all rows are replayed."""

    def __init__(self, total: int, notify: Notify) -> None:
        self._done, self._total, self._notify = 0, total, notify

    def add(self, number: int) -> None:
        self._done += number
        self._notify(Progress(task="routing", done=self._done, total=self._total))


def _replayed(
    loaded: LoadedModel,
    recorder: RoutingRecorder,
    rows: Sequence[Replay],
    sizes: _Sizes,
    progress: _Progress,
    directory: Path | None,
    apart: bool,
    gates: RowFile | None = None,
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Counts [N, R, L, E], and tokens [N, R], of every row; `gates` are filled.

    The regions are the answer, and with `apart` its reasoning.

    Raises:
        OverflowError: a row has more tokens than 32 bits count.
    """
    shape = _shape(loaded, rows, 1 + apart)
    routed, seen = RowFile(directory, shape, np.int32), np.zeros(shape[:2], dtype=np.int64)
    batches = length_batches([len(row.ids) for row in rows], max_rows=sizes.rows, max_tokens=sizes.tokens)

    def count(batch: list[int]) -> tuple[list[int], _Counted]:
        of_batch = [rows[index] for index in batch]
        return batch, _count(loaded, recorder, of_batch, _regions(of_batch, apart))

    counted = in_rounds(batches, count)
    for indices, (counts_BRLE, gates_BRLE, seen_BR) in chain.from_iterable(counted):
        seen[indices] = seen_BR
        routed.write(indices, counts_BRLE)
        if gates is not None:
            gates.write(indices, gates_BRLE)
        progress.add(len(indices))
    return routed.array(), seen


def _shape(loaded: LoadedModel, rows: Sequence[Replay], num_regions: int) -> tuple[int, int, int, int]:
    return len(rows), num_regions, len(loaded.layers), loaded.identity.num_experts


def _in_pairs(rows: NDArray[Any]) -> NDArray[Any]:
    """Reshape [2 N, ...] to [N, 2, ...]."""
    return rows.reshape(-1, 2, *rows.shape[1:])


_Counted = tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]


def _count(loaded: LoadedModel, recorder: RoutingRecorder, rows: Sequence[Replay], regions_RBS: Tensor) -> _Counted:
    """Counts and gates [B, R, L, E], and tokens [B, R], of right-padded rows."""
    input_ids = right_padded([row.ids for row in rows]).to(loaded.device)
    mask_BS = attention_mask([row.ids for row in rows]).to(loaded.device)
    recorder.watch(regions_RBS.to(loaded.device))
    loaded.model(input_ids=input_ids, attention_mask=mask_BS, use_cache=False, logits_to_keep=1)
    counts_BRLE, gates_BRLE = recorder.counts().numpy(), recorder.gates().numpy()
    return counts_BRLE, gates_BRLE, regions_RBS.sum(-1).T.numpy()


def _regions(rows: Sequence[Replay], apart: bool) -> Tensor:
    """bool [R, B, S]: the answers, and with `apart` their reasoning."""
    answers_BS = answer_mask([(row.ids, row.num_prompt) for row in rows])
    if not apart:
        return answers_BS[None]
    reasoning_BS = torch.zeros_like(answers_BS)
    for reasoning_S, row in zip(reasoning_BS, rows, strict=True):
        for start, end in row.reasoning:
            reasoning_S[start:end] = True
    return torch.stack([answers_BS, reasoning_BS])


def refusal_gradients(
    loaded: LoadedModel, examples: Sequence[TrainingExample], *, max_length: int, notify: Notify
) -> NDArray[np.float64]:
    """[B, L, E] squared norms of each expert's gradient; batch indices run from 0 without a gap.

    Raises:
        UsageError: an answer is longer than `max_length`, or the model's family is not understood.
        NumericError: the gradient of a batch is not finite.
    """
    batches: list[list[EncodedChat]] = [[] for _ in range(1 + max(example.batch_idx for example in examples))]
    for example in examples:
        if example.kind != "benign":
            row = encode_answered(loaded.tokenizer, example.messages, max_length=max_length)
            batches[example.batch_idx].append(row)
    measured: list[NDArray[np.float64]] = []
    with measure_gradient_norms(loaded.model) as norms, torch.enable_grad():

        def measure(index: int) -> NDArray[np.float64]:
            batch = {name: tensor.to(loaded.device) for name, tensor in answered_rows(batches[index]).items()}
            (loss_sum(loaded.model, batch) / num_answer_tokens(batch["labels"])).backward()
            squares: NDArray[np.float64] = norms.take().numpy()
            if not np.isfinite(squares).all():
                raise NumericError(
                    f"the gradients of the refusals of batch {index} are not finite",
                    hint="check the model's weights, or compute in another type: --set model.dtype=float32",
                )
            return squares

        for squares in chain.from_iterable(in_rounds(range(len(batches)), measure)):
            measured.append(squares)
            notify(Progress(task="gradients", done=len(measured), total=len(batches)))
    return np.array(measured)
