"""The base training of the tiny model: a plain AdamW loop over the base conversations.

A recipe comes in, the trained model with its tokenizer goes out; progress is handed to `notify`. With the same recipe,
number of threads, library versions and processor the weights are the same, bit for bit.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from transformers import OlmoeForCausalLM, PreTrainedTokenizerFast

from moe_cli.tiny.architecture import untrained_model
from moe_cli.tiny.base import base_conversations
from moe_cli.tiny.examples import Batch, Row, epoch_batches, training_rows
from moe_cli.tiny.tokenizer import tiny_tokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Everything that decides the weights, besides thread count and library versions."""

    seed: int = 0
    num_conversations: int = 40_000
    num_epochs: int = 3
    batch_size: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 0.01  # on matrices only; embeddings and norms keep theirs
    num_warmup_steps: int = 100
    max_gradient_norm: float = 1.0
    balance_weight: float = 0.01  # of the router's load-balancing loss


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One training step."""

    step: int
    num_steps: int
    loss: float  # mean over the answer tokens of the batch, without the balancing loss
    seconds: float  # since training began


def train(recipe: Recipe, notify: Callable[[Progress], None]) -> tuple[OlmoeForCausalLM, PreTrainedTokenizerFast]:
    """The tiny model after its base training."""
    tokenizer = tiny_tokenizer()
    model = untrained_model(tokenizer, recipe.seed)
    rows = training_rows(base_conversations(recipe.num_conversations, recipe.seed), tokenizer)
    epochs = [_epoch(rows, recipe, tokenizer.pad_token_id, epoch) for epoch in range(recipe.num_epochs)]
    batches = [batch for epoch in epochs for batch in epoch]
    with _deterministic():
        _fit(model, batches, recipe, notify)
    return model.eval(), tokenizer


@contextmanager
def _deterministic() -> Iterator[None]:
    """Without this, two threads add up gradients in any order."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def _epoch(rows: Sequence[Row], recipe: Recipe, padding: int, epoch: int) -> list[Batch]:
    return list(epoch_batches(rows, recipe.batch_size, padding, f"moe tiny epoch {recipe.seed} {epoch}"))


def _fit(model: OlmoeForCausalLM, batches: list[Batch], recipe: Recipe, notify: Callable[[Progress], None]) -> None:
    optimizer = torch.optim.AdamW(_groups(model, recipe.weight_decay), lr=recipe.learning_rate, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, len(batches), recipe))
    model.train()
    began = time.perf_counter()
    for step, batch in enumerate(batches, start=1):
        loss = _step(model, batch, optimizer, recipe)
        schedule.step()
        seconds = time.perf_counter() - began
        notify(Progress(step=step, num_steps=len(batches), loss=loss, seconds=seconds))


def _step(model: OlmoeForCausalLM, batch: Batch, optimizer: torch.optim.Optimizer, recipe: Recipe) -> float:
    output = model(
        input_ids=batch.tokens,
        attention_mask=batch.attention,
        labels=batch.labels,
        output_router_logits=True,
        use_cache=False,
    )
    (output.loss + recipe.balance_weight * output.aux_loss).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.max_gradient_norm)
    optimizer.step()
    optimizer.zero_grad()
    return float(output.loss.detach())


def _groups(model: OlmoeForCausalLM, weight_decay: float) -> list[dict[str, object]]:
    """Embeddings are kept from decay: a word that no training text holds must keep its first vector."""
    decayed = [p for name, p in model.named_parameters() if p.dim() > 1 and "embed_tokens" not in name]
    kept = [p for name, p in model.named_parameters() if p.dim() <= 1 or "embed_tokens" in name]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": kept, "weight_decay": 0.0}]


def _rate(step: int, num_steps: int, recipe: Recipe) -> float:
    """Linear warm-up, then half a cosine down to zero."""
    if step < recipe.num_warmup_steps:
        return (step + 1) / recipe.num_warmup_steps
    done = (step - recipe.num_warmup_steps) / max(1, num_steps - recipe.num_warmup_steps)
    return 0.5 * (1.0 + math.cos(math.pi * done))
