"""Answers of an endpoint: the local model's own ids again, in any order, kept as they come."""

from __future__ import annotations

import signal
import threading
import time
from dataclasses import replace
from itertools import chain

import pytest
import torch

from moe_cli.config import EndpointConfig, ModelConfig, MoeConfig, PrepareConfig
from moe_cli.errors import EnvironmentFaultError
from moe_cli.model.answering import answer_all
from moe_cli.model.chat_endpoint import endpoint_of_prepare
from moe_cli.model.engine import Prompt
from moe_cli.model.engines import TransformersEngine, answering_engine, greedy
from moe_cli.model.http_requests import BACKLOG, results_as_they_come
from moe_cli.model.load import load_model
from moe_cli.records import Progress
from moe_cli.tiny.language import tiny_items
from tests.model.served import Reply, completion, served


@pytest.fixture(scope="module")
def loaded():
    torch.set_num_threads(1)
    return load_model(ModelConfig(name="tiny", device="cpu"))


@pytest.fixture(scope="module")
def prompts() -> list[Prompt]:
    return [Prompt(item.id, item.messages) for item in tiny_items(2, seed=3) if item.kind != "text"]


@pytest.fixture(scope="module")
def local(loaded, prompts):
    engine = TransformersEngine(loaded, greedy(max_new_tokens=24, batch_size=16))
    return {answer.prompt_id: answer for batch in engine.answers(prompts) for answer in batch}


def remote(loaded, url, *, seed=42, concurrency=3, retries=0, **prepare):
    settings = {"engine": "openai", "max_new_tokens": 24, **prepare}
    config = MoeConfig(
        seed=seed,
        model=ModelConfig(name="tiny"),
        endpoint=EndpointConfig(base_url=url, concurrency=concurrency, retries=retries),
        prepare=PrepareConfig(**settings),
    )
    return answering_engine(config, loaded, endpoint_of_prepare(config))


def as_the_model(local, prompts):
    """A server that answers as the local model does."""
    text_of = {prompt.messages[-1].content: local[prompt.id].text for prompt in prompts}
    return lambda asked, number: completion(text_of[asked.prompt])


def test_the_text_of_the_model_gives_the_ids_that_it_generated(loaded, prompts, local, tmp_path):
    with served(as_the_model(local, prompts)) as server:
        found = answer_all(remote(loaded, server.url), prompts, tmp_path, notify=lambda _: None)
    assert found == {name: replace(answer, answer_ids="retokenised") for name, answer in local.items()}
    assert [asked.body["max_tokens"] for asked in server.asked] == [24] * len(prompts)
    assert {asked.body["temperature"] for asked in server.asked} == {0.0}


def test_an_answer_that_was_cut_off_has_no_end_of_turn(loaded, prompts):
    with served(lambda asked, number: completion("Sure, here is how", "length")) as server:
        (answer,), *_ = remote(loaded, server.url).answers(prompts[:1], ())
    assert not answer.finished
    assert loaded.tokenizer.eos_token_id not in answer.token_ids
    assert loaded.tokenizer.decode(answer.token_ids) == "Sure, here is how"


def test_an_empty_answer_has_no_token(loaded, prompts):
    with served(lambda asked, number: completion("")) as server:
        (answer,), *_ = remote(loaded, server.url).answers(prompts[:1], ())
    assert answer.token_ids == ()


def test_what_is_done_is_read_once_however_many_prompts_there_are(loaded, prompts):
    with served(lambda asked, number: completion("An apple.")) as server:
        found = list(remote(loaded, server.url).answers(prompts, iter([prompt.id for prompt in prompts[1:]])))
    assert [answer.prompt_id for (answer,) in found] == [prompts[0].id]


def test_sampling_asks_with_a_seed_of_each_prompt(loaded, prompts):
    def seeds(seed: int) -> dict[str, object]:
        with served(lambda asked, number: completion("An apple.")) as server:
            list(
                chain.from_iterable(
                    remote(loaded, server.url, seed=seed, temperature=0.7, sampling_top_p=0.9).answers(prompts, ())
                )
            )
        assert {(asked.body["temperature"], asked.body["top_p"]) for asked in server.asked} == {(0.7, 0.9)}
        return {asked.prompt: asked.body["seed"] for asked in server.asked}

    assert seeds(1) == seeds(1)
    assert not set(seeds(1).values()) & set(seeds(2).values())
    assert len(set(seeds(1).values())) == len(prompts)


def test_no_more_requests_than_allowed_are_under_way(loaded, prompts):
    under_way, most, lock = 0, 0, threading.Lock()
    all_there = threading.Barrier(3)

    def reply(asked, number):
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        all_there.wait(timeout=30)  # three at once, or this times out
        with lock:
            under_way -= 1
        return completion("An apple.")

    with served(reply) as server:
        answers = list(chain.from_iterable(remote(loaded, server.url, concurrency=3).answers(prompts, ())))
    assert len(answers) == len(prompts) == 12
    assert most == 3


def test_what_was_answered_before_a_failure_is_kept_and_not_asked_again(loaded, prompts, local, tmp_path):
    good, seen = as_the_model(local, prompts), list[Progress]()
    with served(lambda asked, number: Reply(500) if number == 5 else good(asked, number)) as server:
        engine = remote(loaded, server.url, concurrency=1)
        with pytest.raises(EnvironmentFaultError):
            answer_all(engine, prompts, tmp_path, notify=lambda _: None)
        found = answer_all(engine, prompts, tmp_path, notify=seen.append)
    assert seen[0].done == 5
    assert len(server.asked) == len(prompts) + 1
    assert {name: answer.token_ids for name, answer in found.items()} == {
        name: answer.token_ids for name, answer in local.items()
    }


def test_the_first_error_stops_the_rest():
    begun: list[int] = []

    def work(item: int) -> int:
        begun.append(item)
        if item == 2:
            raise KeyError(item)
        return item

    results = results_as_they_come(work, range(1000), num_threads=1)
    with pytest.raises(KeyError):
        list(results)
    assert begun == [0, 1, 2]


def test_what_came_before_an_interruption_is_handed_out_and_nothing_new_is_begun():
    begun: list[int] = []

    def work(item: int) -> int:
        begun.append(item)
        if item == 20:
            signal.raise_signal(signal.SIGTERM)
        return item

    received: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        for group in results_as_they_come(work, range(1000), num_threads=4):
            received += group
    assert len(received) >= len(begun) - 4  # but for those under way
    assert len(begun) < 100


def test_answers_that_nobody_has_taken_hold_new_questions_back():
    begun: list[int] = []

    def work(item: int) -> int:
        begun.append(item)
        return item

    results = results_as_they_come(work, range(1000), num_threads=3)
    next(results)
    time.sleep(0.1)
    assert len(begun) <= 3 * BACKLOG
    assert sorted(chain.from_iterable(results)) != list(range(1000))  # the first group was taken before
    assert sorted(begun) == list(range(1000))


def test_leaving_early_begins_no_new_work():
    go_on, begun = threading.Event(), []

    def work(item: int) -> int:
        begun.append(item)
        if item:
            go_on.wait()
        return item

    results = results_as_they_come(work, range(10), num_threads=1)
    assert next(results) == [0]
    results.close()
    go_on.set()
    assert begun in ([0], [0, 1])
