"""Answers: the same whatever the batch, whole, resumable from a journal."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from moe_cli.config import ModelConfig
from moe_cli.errors import EnvironmentFaultError, UsageError
from moe_cli.model.answering import answer_all
from moe_cli.model.chat import encode_prompt
from moe_cli.model.generate import Prompt, generate_answers
from moe_cli.model.load import load_model
from moe_cli.records import Generation, Progress
from moe_cli.tiny.language import tiny_items


@pytest.fixture(scope="module")
def loaded():
    torch.set_num_threads(1)
    return load_model(ModelConfig(name="tiny", device="cpu"))


@pytest.fixture(scope="module")
def prompts() -> list[Prompt]:
    return [Prompt(item.id, item.messages) for item in tiny_items(2, seed=3) if item.kind != "text"]


def answers(loaded, prompts, **settings) -> dict[str, Generation]:
    batches = generate_answers(loaded, prompts, **{"max_new_tokens": 24, "batch_size": 5, **settings})
    return {answer.prompt_id: answer for batch in batches for answer in batch}


def test_the_batch_changes_no_token(loaded, prompts):
    assert answers(loaded, prompts, batch_size=1) == answers(loaded, prompts, batch_size=12)


def test_an_answer_is_what_greedy_steps_without_padding_or_cache_give(loaded, prompts):
    prompt = prompts[0]
    ids = list(encode_prompt(loaded.tokenizer, prompt.messages))
    expected: list[int] = []
    while not expected or expected[-1] != loaded.tokenizer.eos_token_id:
        with torch.no_grad():
            expected.append(int(loaded.model(torch.tensor([ids + expected]), use_cache=False).logits[0, -1].argmax()))
    found = answers(loaded, prompts)[prompt.id]
    assert list(found.token_ids) == expected
    assert found.finished
    assert found.num_prompt_tokens == len(ids)


def test_an_answer_that_runs_into_the_limit_is_not_finished(loaded, prompts):
    for answer in answers(loaded, prompts, max_new_tokens=1).values():
        assert len(answer.token_ids) == 1
        assert not answer.finished


def test_only_missing_answers_are_made(loaded, prompts, tmp_path):
    settings = {"max_new_tokens": 24, "batch_size": 4}
    stopped = iter([None, None])  # lets the first report and one batch through

    def stop(progress: Progress) -> None:
        if next(stopped, StopIteration) is StopIteration:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        answer_all(loaded, prompts, tmp_path, notify=stop, **settings)
    seen: list[Progress] = []
    everything = answer_all(loaded, prompts, tmp_path, notify=seen.append, **settings)
    assert (seen[0].done, seen[-1].done) == (8, len(prompts))
    assert everything == answers(loaded, prompts)


def test_answers_of_another_model_or_to_other_prompts_are_not_taken(loaded, prompts, tmp_path):
    settings = {"max_new_tokens": 2, "batch_size": 16}
    answer_all(loaded, prompts, tmp_path, notify=lambda _: None, **settings)
    other = dataclasses.replace(loaded, identity=dataclasses.replace(loaded.identity, fingerprint="another"))
    for model, asked in ((other, prompts), (loaded, prompts[:5])):
        seen: list[Progress] = []
        answer_all(model, asked, tmp_path, notify=seen.append, **settings)
        assert seen[0].done == 0


def test_a_model_that_is_not_there_is_a_clear_error():
    with pytest.raises(UsageError, match="there is no directory"):
        load_model(ModelConfig(name="./nowhere", device="cpu"))


def test_a_card_that_is_not_there_is_an_error_of_the_environment():
    if torch.cuda.is_available():
        pytest.skip("this machine has a card")
    with pytest.raises(EnvironmentFaultError, match="--gpu 0 was asked for"):
        load_model(ModelConfig(name="tiny", gpu="0"))


def test_loading_twice_gives_the_same_identity(loaded):
    assert load_model(ModelConfig(name="tiny", device="cpu")).identity == loaded.identity
    assert loaded.identity.layers == (0, 1, 2, 3)
    assert not loaded.model.training
