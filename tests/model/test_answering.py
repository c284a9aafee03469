"""Another token limit on resume, and the warning that answers are cut off."""

from __future__ import annotations

from dataclasses import replace
from unittest.mock import patch

import pytest
import torch

from moe_cli.config import ModelConfig
from moe_cli.model import decoding, engines
from moe_cli.model.answering import MANY, TELLING, answer_all, kept_answers
from moe_cli.model.engine import Prompt
from moe_cli.model.engines import TransformersEngine
from moe_cli.model.load import load_model
from moe_cli.records import Notice, Progress
from moe_cli.tiny.language import tiny_items
from tests.model.served import completion, served
from tests.model.test_decoding import HOT, SETTINGS, answers, noted
from tests.model.test_endpoint_engine import remote

SHORT, LONG = 10, 24


@pytest.fixture(scope="module")
def loaded():
    torch.set_num_threads(1)
    return load_model(ModelConfig(name="tiny", device="cpu"))


@pytest.fixture(scope="module")
def prompts() -> list[Prompt]:
    return [Prompt(item.id, item.messages) for item in tiny_items(2, seed=3) if item.kind != "text"]


def resumed(engine, prompts, run, **how):
    """Answers with what another limit left, and the prompts that were answered together for it."""
    asked: list[tuple[str, ...]] = []
    with patch.object(engines, "answer_rows", side_effect=noted(asked, decoding.answer_rows)):
        kept = kept_answers(engine, prompts, run)
        return kept, answer_all(engine, prompts, run, kept=kept, **{"notify": lambda _: None, **how}), asked


def engine_of(loaded, limit, settings=SETTINGS):
    return TransformersEngine(loaded, replace(settings, max_new_tokens=limit))


@pytest.mark.parametrize("settings", [SETTINGS, HOT], ids=["greedy", "sampling"])
@pytest.mark.parametrize(("before", "now"), [(SHORT, LONG), (LONG, SHORT)])
def test_with_another_limit_only_what_is_not_whole_within_both_is_answered_again(
    loaded, prompts, tmp_path, settings, before, now
):
    first = answer_all(engine_of(loaded, before, settings), prompts, tmp_path, notify=lambda _: None)
    whole = {name for name, answer in first.items() if answer.finished and len(answer.token_ids) <= SHORT}
    kept, found, asked = resumed(engine_of(loaded, now, settings), prompts, tmp_path)
    assert 0 < len(whole) < len(prompts)
    assert kept.keys() == whole
    assert {name for batch in asked for name in batch} == {prompt.id for prompt in prompts} - whole
    assert found == answers(loaded, prompts, settings, max_new_tokens=now)


def test_a_run_that_was_stopped_under_the_first_limit_keeps_what_had_ended(loaded, prompts, tmp_path):
    engine = engine_of(loaded, SHORT)
    with pytest.raises(KeyboardInterrupt):
        answer_all(engine, prompts, tmp_path, notify=stop_at(10))
    kept, found, _ = resumed(engine_of(loaded, LONG), prompts, tmp_path)
    assert 0 < len(kept) < 10
    assert found == answers(loaded, prompts, max_new_tokens=LONG)


def test_a_second_interruption_forms_the_same_batches(loaded, prompts, tmp_path):
    pairwise = replace(SETTINGS, batch_size=2)
    engine = engine_of(loaded, LONG, pairwise)
    for run in (tmp_path / "whole", tmp_path / "stopped"):
        run.mkdir()
        answer_all(engine_of(loaded, SHORT, pairwise), prompts, run, notify=lambda _: None)
    kept, found, uninterrupted = resumed(engine, prompts, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        resumed(engine, prompts, tmp_path / "stopped", notify=stop_at(len(kept) + 2))
    again, same, rest = resumed(engine, prompts, tmp_path / "stopped")
    assert (again, same) == (kept, found)
    assert rest == uninterrupted[1:]


def test_a_third_limit_keeps_what_the_second_kept(loaded, prompts, tmp_path):
    for limit in (SHORT - 4, SHORT):
        resumed(engine_of(loaded, limit), prompts, tmp_path)
    kept, found, _ = resumed(engine_of(loaded, LONG), prompts, tmp_path)
    within = answers(loaded, prompts, max_new_tokens=SHORT)
    assert kept == {name: answer for name, answer in within.items() if answer.finished}
    assert found == answers(loaded, prompts, max_new_tokens=LONG)


def test_answers_made_in_another_way_are_not_kept(loaded, prompts, tmp_path):
    answer_all(engine_of(loaded, SHORT), prompts, tmp_path, notify=lambda _: None)
    assert kept_answers(engine_of(loaded, LONG), prompts, tmp_path)
    for engine, asked in (
        (engine_of(loaded, LONG, replace(SETTINGS, batch_size=6)), prompts),
        (engine_of(loaded, LONG, HOT), prompts),
        (engine_of(loaded, LONG), prompts[1:]),
    ):
        assert kept_answers(engine, asked, tmp_path) == {}


def test_an_endpoint_s_answers_are_kept_under_a_larger_limit_alone(loaded, prompts, tmp_path):
    with served(lambda asked, number: completion("An apple.", "stop" if number % 2 else "length")) as server:
        answer_all(remote(loaded, server.url, max_new_tokens=8), prompts, tmp_path, notify=lambda _: None)
        assert kept_answers(remote(loaded, server.url, max_new_tokens=7), prompts, tmp_path) == {}
        kept = kept_answers(remote(loaded, server.url, max_new_tokens=9), prompts, tmp_path)
    assert len(kept) == len(prompts) // 2


def test_a_warning_names_the_cure_once_and_as_soon_as_it_can_be_told(loaded, prompts, tmp_path):
    seen: list[object] = []
    engine = TransformersEngine(loaded, replace(SETTINGS, max_new_tokens=2, batch_size=2))
    answer_all(engine, prompts, tmp_path, notify=seen.append, advice="raise it")
    (place,) = (place for place, record in enumerate(seen) if isinstance(record, Notice))
    num_cut_off = seen[place - 1].num_cut_off
    assert seen[place - 1].done == TELLING < len(prompts)
    assert num_cut_off > MANY * TELLING
    text = f"{num_cut_off} of {TELLING} answers so far were cut off at 2 tokens: raise it"
    assert seen[place] == Notice(text=text, warning=True)


def test_few_answers_that_are_cut_off_are_counted_without_a_warning(loaded, prompts, tmp_path):
    length = {name: len(answer.token_ids) for name, answer in answers(loaded, prompts).items()}
    order = sorted(prompts, key=lambda prompt: length[prompt.id])
    few, limit = order[:7], length[order[6].id] - 1
    assert length[order[5].id] <= limit
    seen: list[object] = []
    answer_all(engine_of(loaded, limit), few, tmp_path, notify=seen.append, advice="raise it")
    assert all(isinstance(record, Progress) for record in seen)
    assert 0 < seen[-1].num_cut_off == 1 <= MANY * len(few)


def stop_at(done):
    """Interrupts as soon as so many answers are there."""

    def notify(record):
        if getattr(record, "done", 0) >= done:
            raise KeyboardInterrupt

    return notify
