"""How many planted experts the selection finds, how many false ones, and how often it finds something in nothing.

    python -m tests.planted_truth --planted 100 --null 1000

Every run builds a small OLMoE whose routing is known. Each token of the vocabulary has a marked twin: the same
embedding but for one direction, which only the routers of the planted experts look at. Attention and experts add
nothing to a token, so every layer routes the embedding itself: a marked token goes to planted experts more often, and
to every other expert no more often than its twin. Answers to the attacked forms hold more marked tokens; in a null run
both sides hold the same share. Tokens of one goal, and of one answer, resemble each other. Counts come from the
program's own recorder, selection is `risk_diff` with `q<0.05`. The table of `docs/method.md` is what this prints.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import OlmoeConfig, OlmoeForCausalLM

from moe_cli.config.sections import conditions_of
from moe_cli.model.routing import record_routing
from moe_cli.prepare.methods import MethodInputs
from moe_cli.prepare.selection import Rule
from moe_cli.prepare.selection_evidence import chosen_by
from moe_cli.prepare.uncertainty import estimate_risk_differences
from moe_cli.records import RoutingCounts

LAYERS, EXPERTS, TOP_K, HIDDEN, WORDS = 4, 32, 4, 32, 64  # words without their marked twins
PLANTED_IN_LAYER = 3
MARK, PULL = 2.0, 4.0  # length of the mark in the embedding; how much a planted router looks at it
GOALS, GOALS_IN_BATCH, PROMPT, ANSWER = 40, 8, 4, 24  # tokens: all of a prompt, most of an answer
SHARES = (0.2, 0.6)  # of marked tokens in the answers of the safe and the unsafe side
RESAMPLES = 1000

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Outcome:
    """One run: what was planted, and what was selected."""

    planted: frozenset[int]  # flat (layer, expert)
    selected: frozenset[int]


@dataclass(frozen=True)
class Rates:
    """Over many runs."""

    num_planted: int
    num_found: int
    num_selected: int
    num_false: int
    num_null_runs: int
    num_null_runs_with_any: int


def routing_model(planted: Ints, random: np.random.Generator) -> OlmoeForCausalLM:
    """`planted` [L, P]: the experts of each layer whose routers look at the mark."""
    config = OlmoeConfig(
        vocab_size=2 * WORDS,
        hidden_size=HIDDEN,
        intermediate_size=8,
        num_hidden_layers=LAYERS,
        num_attention_heads=2,
        num_key_value_heads=2,
        num_experts=EXPERTS,
        num_experts_per_tok=TOP_K,
        max_position_embeddings=PROMPT + ANSWER,
        pad_token_id=None,
        eos_token_id=None,
        bos_token_id=None,
    )
    model = OlmoeForCausalLM(config).eval()
    words = random.normal(size=(WORDS, HIDDEN))
    words[:, 0] = 0.0
    marked = words.copy()
    marked[:, 0] = MARK
    with torch.no_grad():
        model.model.embed_tokens.weight.copy_(torch.tensor(np.concatenate([words, marked])))
        for layer, experts in zip(model.model.layers, planted, strict=True):
            router = random.normal(size=(EXPERTS, HIDDEN))
            router[:, 0] = 0.0
            router[experts, 0] = PULL
            layer.mlp.gate.weight.copy_(torch.tensor(router))
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.experts.down_proj.zero_()
    return model


def answers(shares: tuple[float, float], random: np.random.Generator) -> tuple[Ints, Ints]:
    """Ids [goals x sides, prompt + answer], side within goal, and the lengths of the rows."""
    rows, lengths = [], []
    for _ in range(GOALS):
        of_goal = random.dirichlet(np.full(WORDS, 0.3))
        for share in shares:
            of_answer = 0.5 * of_goal + 0.5 * random.dirichlet(np.full(WORDS, 0.3))
            words = random.choice(WORDS, size=PROMPT + ANSWER, p=of_answer)
            rows.append(words + WORDS * (random.random(PROMPT + ANSWER) < share))
            lengths.append(PROMPT + random.integers(ANSWER // 2, ANSWER + 1))
    return np.array(rows), np.array(lengths)


def recorded(model: OlmoeForCausalLM, ids: Ints, lengths: Ints) -> RoutingCounts:
    """What the program's recorder counts."""
    place_1S = torch.arange(ids.shape[1])[None]
    inside_BS = place_1S < torch.tensor(lengths)[:, None]
    answers_BS = inside_BS & (place_1S >= PROMPT)
    with torch.inference_mode(), record_routing(model) as recorder:
        recorder.watch(answers_BS[None])
        model(input_ids=torch.tensor(ids), attention_mask=inside_BS.long(), use_cache=False, logits_to_keep=1)
        counts_BLE, gates_BLE = recorder.counts()[:, 0].numpy(), recorder.gates()[:, 0].numpy()
    names = tuple(f"goal-{number}" for number in range(GOALS))
    return RoutingCounts(
        layers=tuple(range(LAYERS)),
        top_k=TOP_K,
        pair_ids=names,
        clusters=names,
        routed=counts_BLE.reshape(GOALS, 2, *counts_BLE.shape[1:]),
        seen=answers_BS.sum(-1).numpy().reshape(GOALS, 2),
        gates=gates_BLE.reshape(GOALS, 2, *gates_BLE.shape[1:]),
        gradients=None,
    )


def outcome(seed: int, shares: tuple[float, float]) -> Outcome:
    """Build, record, select."""
    random = np.random.default_rng(seed)
    planted = np.stack([random.choice(EXPERTS, size=PLANTED_IN_LAYER, replace=False) for _ in range(LAYERS)])
    counts = recorded(routing_model(planted, random), *answers(shares, random))
    rule = Rule("risk_diff", 0.0, 50, LAYERS * EXPERTS // 2, EXPERTS, conditions=conditions_of("q<0.05"))
    batches = [range(start, start + GOALS_IN_BATCH) for start in range(0, GOALS, GOALS_IN_BATCH)]
    risk = estimate_risk_differences(counts, batches, rule, resamples=RESAMPLES, seed=seed)
    chosen = chosen_by(rule, MethodInputs(counts, tuple(range(GOALS)), risk, seed))
    flat = (np.arange(LAYERS)[:, None] * EXPERTS + planted).ravel().tolist()
    return Outcome(frozenset(flat), frozenset(chosen.union))


def rates(num_planted_runs: int, num_null_runs: int, first_seed: int = 0) -> Rates:
    """Over that many runs with a planted difference and without one."""
    done = list(_outcomes(num_planted_runs, SHARES, first_seed))
    mean = sum(SHARES) / 2
    nothing = list(_outcomes(num_null_runs, (mean, mean), first_seed + 1_000_000))
    return Rates(
        num_planted=sum(len(one.planted) for one in done),
        num_found=sum(len(one.planted & one.selected) for one in done),
        num_selected=sum(len(one.selected) for one in done),
        num_false=sum(len(one.selected - one.planted) for one in done),
        num_null_runs=len(nothing),
        num_null_runs_with_any=sum(bool(one.selected) for one in nothing),
    )


def _outcomes(num_runs: int, shares: tuple[float, float], first_seed: int) -> Iterator[Outcome]:
    return (outcome(first_seed + run, shares) for run in range(num_runs))


def _share(part: int, whole: int) -> str:
    return f"{100 * part / max(1, whole):.2f} % ({part:,} of {whole:,})"


def main() -> None:
    """Print the rates."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--planted", type=int, default=100, help="runs with a planted difference")
    parser.add_argument("--null", type=int, default=1000, help="runs without one")
    words = parser.parse_args()
    found = rates(words.planted, words.null)
    print(f"planted experts that are selected: {_share(found.num_found, found.num_planted)}")
    print(f"selected experts that are not planted: {_share(found.num_false, found.num_selected)}")
    print(f"runs without a difference that select any: {_share(found.num_null_runs_with_any, found.num_null_runs)}")


if __name__ == "__main__":
    main()
