"""Answers: the same whatever the batch, whole, resumable from a journal."""

from __future__ import annotations

from dataclasses import replace
from unittest.mock import patch

import pytest
import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from moe_cli.artifacts.journal import ANSWERS
from moe_cli.codec import decode
from moe_cli.config import ModelConfig
from moe_cli.errors import EnvironmentFaultError, UsageError
from moe_cli.model import decoding, engines
from moe_cli.model.answering import answer_all
from moe_cli.model.chat import encode_prompt
from moe_cli.model.engine import Prompt
from moe_cli.model.engines import TransformersEngine, greedy
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


SETTINGS = greedy(max_new_tokens=24, batch_size=5)
HOT = replace(SETTINGS, decoding="sampling", temperature=4.0, top_p=0.99, seed=7)  # tiny is sure of itself


def answers(loaded, prompts, settings=SETTINGS, **changes) -> dict[str, Generation]:
    batches = TransformersEngine(loaded, replace(settings, **changes)).answers(prompts)
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


@pytest.mark.parametrize("settings", [SETTINGS, HOT], ids=["greedy", "sampling"])
@pytest.mark.parametrize("stretch", [1, 3])
def test_rows_that_leave_when_they_have_ended_change_no_token(loaded, prompts, monkeypatch, settings, stretch):
    monkeypatch.setattr(decoding, "CHUNK", settings.max_new_tokens)
    together = answers(loaded, prompts, settings, batch_size=12)
    monkeypatch.setattr(decoding, "CHUNK", stretch)
    left, keep = [], decoding._Rows.keep
    monkeypatch.setattr(decoding._Rows, "keep", lambda rows, places: left.append(rows.num_made) or keep(rows, places))
    assert answers(loaded, prompts, settings, batch_size=12) == together
    assert left[-1] > stretch  # not only after the first stretch
    assert len({len(answer.token_ids) for answer in together.values()}) > 2


def test_rows_leave_unless_a_family_keeps_more_of_them_than_a_cache_lets_leave(loaded):
    def cache_of(layer):
        cache = DynamicCache()
        cache.layers.append(layer())
        return cache

    class FamilyLayer(DynamicLayer):
        __module__ = "transformers.models.zorp.modeling_zorp"

    class WholeFamilyLayer(FamilyLayer):
        __module__ = "transformers.models.zorp.modeling_zorp"

        def reorder_cache(self, beam_idx):
            raise NotImplementedError

    bound = cache_of(DynamicLayer)
    assert decoding._rows_may_leave(loaded.model, bound)
    bound._is_user_defined = True  # as `generate` marks a cache that it did not make
    assert decoding._rows_may_leave(loaded.model, bound)
    bound.position_ids = None
    assert not decoding._rows_may_leave(loaded.model, bound)
    assert not decoding._rows_may_leave(loaded.model, cache_of(FamilyLayer))
    assert decoding._rows_may_leave(loaded.model, cache_of(WholeFamilyLayer))


def test_a_sampled_answer_depends_on_seed_and_prompt_alone(loaded, prompts):
    found = answers(loaded, prompts, HOT)
    assert answers(loaded, prompts[::-1], HOT, batch_size=1) == found
    assert answers(loaded, prompts[3:4], HOT) == {prompts[3].id: found[prompts[3].id]}
    assert found != answers(loaded, prompts)
    assert found != answers(loaded, prompts, HOT, seed=8)


def test_a_sampled_token_depends_on_no_later_place(loaded, prompts):
    whole = answers(loaded, prompts, HOT)
    for name, answer in answers(loaded, prompts, HOT, max_new_tokens=3).items():
        assert whole[name].token_ids[:3] == answer.token_ids


def test_penalties_of_the_checkpoint_s_own_settings_do_not_count(loaded, prompts, monkeypatch):
    found = answers(loaded, prompts)
    monkeypatch.setattr(loaded.model.generation_config, "repetition_penalty", 50.0)
    assert answers(loaded, prompts) == found


def test_a_budget_of_tokens_makes_smaller_batches(loaded, prompts):
    sizes = [len(batch) for batch in TransformersEngine(loaded, replace(SETTINGS, batch_tokens=120)).answers(prompts)]
    assert max(sizes) == 3  # 3 x (about ten tokens of the prompt + 24 of the answer)
    assert sum(sizes) == len(prompts)


def test_only_missing_answers_are_made(loaded, prompts, tmp_path):
    engine = TransformersEngine(loaded, replace(SETTINGS, batch_size=4))
    stopped = iter([None, None])  # lets the first report and one batch through

    def stop(progress: Progress) -> None:
        if next(stopped, StopIteration) is StopIteration:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        answer_all(engine, prompts, tmp_path, notify=stop)
    seen: list[Progress] = []
    everything = answer_all(engine, prompts, tmp_path, notify=seen.append)
    assert (seen[0].done, seen[-1].done) == (8, len(prompts))
    assert seen[0].tokens_per_second is None
    assert all(progress.tokens_per_second > 0 for progress in seen[1:])
    assert everything == answers(loaded, prompts)


def test_a_journal_that_a_kill_cut_in_the_middle_of_a_batch_gives_the_same_batches_again(loaded, prompts, tmp_path):
    engine = TransformersEngine(loaded, SETTINGS)
    whole = answer_all(engine, prompts, tmp_path, notify=lambda _: None)
    (journal,) = tmp_path.glob(ANSWERS)
    lines = journal.read_bytes().splitlines(keepends=True)
    for kept in (b"".join(lines[:7]), b"".join(lines[:7]) + lines[7][:20]):
        journal.write_bytes(kept)
        asked: list[tuple[str, ...]] = []
        with patch.object(engines, "answer_rows", side_effect=noted(asked, decoding.answer_rows)):
            assert answer_all(engine, prompts, tmp_path, notify=lambda _: None) == whole
        ids = [decode(Generation, line, source="a line").prompt_id for line in lines]
        assert asked == [tuple(ids[start : start + 5]) for start in range(5, len(ids), 5)]
        assert sorted(journal.read_bytes().splitlines()) == sorted(b"".join(lines).splitlines())


def noted(asked, answer_rows):
    """`answer_rows`, noting which prompts are answered together."""

    def answer(loaded, batch, settings):
        asked.append(tuple(batch))
        return answer_rows(loaded, batch, settings)

    return answer


def test_answers_of_another_model_to_other_prompts_or_made_in_another_way_are_not_taken(loaded, prompts, tmp_path):
    settings = greedy(max_new_tokens=2, batch_size=16)
    answer_all(TransformersEngine(loaded, settings), prompts, tmp_path, notify=lambda _: None)
    other = replace(loaded, identity=replace(loaded.identity, fingerprint="another"))
    sampling = replace(settings, decoding="sampling", temperature=1.0, seed=1)
    for engine, asked in (
        (TransformersEngine(other, settings), prompts),
        (TransformersEngine(loaded, settings), prompts[:5]),
        (TransformersEngine(loaded, sampling), prompts),
    ):
        seen: list[Progress] = []
        answer_all(engine, asked, tmp_path, notify=seen.append)
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
