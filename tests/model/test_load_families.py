"""A whole checkpoint of every family is opened, answers, is replayed, trains, is saved and opens again: text alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from moe_cli.config import ModelConfig
from moe_cli.experts.interface import attach
from moe_cli.model import decoding
from moe_cli.model.chat import encode_prompt, end_of_turn_ids
from moe_cli.model.engine import Prompt
from moe_cli.model.engines import generate_answers
from moe_cli.model.final_model import write_final_model
from moe_cli.model.load import LoadedModel, load_model
from moe_cli.model.routing import record_routing
from moe_cli.model.skeleton import meta_model
from moe_cli.model.tensors import weights_fingerprint
from moe_cli.model.token_rows import IGNORED, answer_loss_sum, attention_mask, loss_sum, right_padded
from moe_cli.records import Expert, Message
from tests.experts.checkpoints import layout_of, openable, written

TEXTS = ("repeat apple", "zorp the glim story of the apple", "apple")  # prompts of three lengths
PROMPTS = [Prompt(text, (Message(role="user", content=text),)) for text in TEXTS]

torch.set_num_threads(1)


def opened(directory: Path) -> LoadedModel:
    return load_model(ModelConfig(name=str(directory), device="cpu"))


def answers(loaded: LoadedModel, batch_size: int) -> dict[str, tuple[int, ...]]:
    batches = generate_answers(loaded, PROMPTS, max_new_tokens=8, batch_size=batch_size)
    return {answer.prompt_id: answer.token_ids for batch in batches for answer in batch}


def answered_rows(loaded: LoadedModel) -> dict[str, Tensor]:
    """Prompts and the model's own answers as a training batch, padded on the right."""
    told = answers(loaded, batch_size=1)
    prompts = [encode_prompt(loaded.tokenizer, prompt.messages) for prompt in PROMPTS]
    rows = [ids + told[prompt.id] for ids, prompt in zip(prompts, PROMPTS, strict=True)]
    labels = [(IGNORED,) * len(ids) + told[prompt.id] for ids, prompt in zip(prompts, PROMPTS, strict=True)]
    mask_BS = attention_mask(rows)
    labels_BS = right_padded(labels).masked_fill(mask_BS == 0, IGNORED)
    return {"input_ids": right_padded(rows), "attention_mask": mask_BS, "labels": labels_BS}


def logits(loaded: LoadedModel, batch: dict[str, Tensor]) -> Tensor:
    words = {name: batch[name] for name in ("input_ids", "attention_mask")}
    return loaded.model(**words, use_cache=False).logits


def most_chosen(loaded: LoadedModel, batch: dict[str, Tensor]) -> list[Expert]:
    """In every layer the two experts that most of the positions before an answer's token choose."""
    told_BS = torch.zeros_like(batch["labels"], dtype=torch.bool)
    told_BS[:, :-1] = batch["labels"][:, 1:] != IGNORED
    with torch.inference_mode(), record_routing(loaded.model) as recorder:
        recorder.watch(told_BS[None])
        logits(loaded, batch)
        counts_LE = recorder.counts().sum((0, 1))
    return [
        Expert(layer=layer.layer, index=int(index))
        for layer, counts_E in zip(loaded.layers, counts_LE, strict=True)
        for index in counts_E.topk(2).indices
        if counts_E[index]
    ]


def ending(answers_alone: dict[str, tuple[int, ...]]) -> list[int]:
    """Tokens that let the answers end at different places if they are ends of a turn."""
    first, _, last = answers_alone.values()
    return [first[min(1, len(first) - 1)], last[min(3, len(last) - 1)]]


@pytest.mark.parametrize("family", openable())
def test_a_checkpoint_answers_the_same_in_any_batch_and_its_replay_agrees(family, tmp_path, monkeypatch):
    loaded = opened(written(family, tmp_path))
    alone = answers(loaded, batch_size=1)
    assert answers(loaded, batch_size=3) == alone
    batch = answered_rows(loaded)
    monkeypatch.setattr(decoding, "CHUNK", 2)  # rows leave on the way
    monkeypatch.setattr(loaded.model.generation_config, "eos_token_id", ending(alone))
    ends = end_of_turn_ids(loaded.model, loaded.tokenizer)
    cut = {name: ids[: next((n + 1 for n, i in enumerate(ids) if i in ends), None)] for name, ids in alone.items()}
    assert answers(loaded, batch_size=3) == cut
    with torch.inference_mode():
        logits_BSV = logits(loaded, batch)
        told_BS = batch["labels"][:, 1:] != IGNORED
        assert torch.equal(logits_BSV[:, :-1].argmax(-1)[told_BS], batch["labels"][:, 1:][told_BS])
        whole = answer_loss_sum(logits_BSV, batch["labels"])
        torch.testing.assert_close(loss_sum(loaded.model, batch), whole, rtol=1e-5, atol=0)


@pytest.mark.parametrize("family", openable())
def test_a_checkpoint_trains_and_is_saved_as_its_base_with_other_weights(family, tmp_path):
    base = written(family, tmp_path / "base")
    loaded = opened(base)
    planned = meta_model(ModelConfig(name=str(base)))  # what `moe plan` and the check before training see
    assert type(planned) is type(loaded.model)
    assert [p.shape for p in planned.parameters()] == [p.shape for p in loaded.model.parameters()]
    batch = answered_rows(loaded)
    chosen = most_chosen(loaded, batch)
    loaded.model.train()
    with attach(loaded.model, chosen) as slices:
        loss_sum(loaded.model, batch).backward()
        assert all(master.grad is not None and master.grad.any() for master in slices.parameters.values())
        torch.optim.SGD(slices.parameters.values(), lr=0.1).step()
        slices.merge()
    final = tmp_path / "final"
    final.mkdir()
    write_final_model(loaded, base, final)
    assert layout_of(final) == layout_of(base)
    assert (final / "config.json").read_bytes() == (base / "config.json").read_bytes()
    again = opened(final)
    assert type(again.model) is type(loaded.model)
    assert again.identity.layers == loaded.identity.layers
    assert again.identity.fingerprint == weights_fingerprint(loaded.model) != loaded.identity.fingerprint
