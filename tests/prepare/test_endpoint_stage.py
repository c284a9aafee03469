"""`moe prepare` with an endpoint: the same routing as with the model itself, and nothing secret on disk."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from pyarrow import parquet

from moe_cli.artifacts import Store
from moe_cli.config import ModelConfig
from moe_cli.errors import StoppedError, UsageError
from moe_cli.model.engine import Prompt
from moe_cli.model.engines import generate_answers
from moe_cli.model.load import load_model
from moe_cli.prepare import stage
from moe_cli.tiny.language import tiny_benign, tiny_pairs
from tests.model.served import completion, served

KEY = "sk-not-to-be-seen"
NUM_PAIRS = 12
FOREIGN = "Gerne, so geht es: Nimm zuerst die Schachtel und öffne dann den Deckel."
CHINESE = "抱歉，我无法帮助你。"


@pytest.fixture(scope="module")
def model_answers() -> dict[str, str]:
    """By the last user turn."""
    torch.set_num_threads(1)
    loaded = load_model(ModelConfig(name="tiny", device="cpu"))
    asked = [turns for pair in tiny_pairs(NUM_PAIRS, 42) for turns in (pair.safe, pair.unsafe)]
    asked += [prompt.messages for prompt in tiny_benign(NUM_PAIRS, 42)]
    prompts = [Prompt(turns[-1].content, turns) for turns in asked]
    made = generate_answers(loaded, prompts, max_new_tokens=24, batch_size=64)
    return {answer.prompt_id: answer.text for batch in made for answer in batch}


def prepared(small_settings, path, **settings):
    changes = {"prepare": {"tiny_pairs": NUM_PAIRS, **settings.pop("prepare", {})}, **settings}
    return stage.run(small_settings(path, **changes), Store(path / "registry"), lambda _: None)


def test_answers_of_an_endpoint_that_serves_the_model_give_the_same_routing(
    small_settings, tmp_path, model_answers, monkeypatch
):
    monkeypatch.setenv("THE_KEY", KEY)
    local = prepared(small_settings, tmp_path / "local")
    with served(lambda asked, number: completion(model_answers[asked.prompt])) as server:
        remote = prepared(
            small_settings,
            tmp_path / "remote",
            prepare={"engine": "openai"},
            endpoint={"base_url": server.url, "model": "served-tiny", "key_env": "THE_KEY"},
        )
    assert {(asked.key, asked.body["model"]) for asked in server.asked} == {(f"Bearer {KEY}", "served-tiny")}
    for name in ("routed", "seen", "gates"):
        one, other = (np.load(made.path / "routing_tiny.npz")[name] for made in (local, remote))
        assert np.array_equal(one, other), name
    assert remote.selection == local.selection
    assert remote.summary.answering.answer_ids == "retokenised"
    assert (remote.summary.answering.base_url, remote.summary.answering.api_model) == (server.url, "served-tiny")
    assert not [file for file in remote.path.rglob("*") if file.is_file() and KEY.encode() in file.read_bytes()]


def test_an_endpoint_that_is_asked_for_and_not_named_is_refused_before_anything_is_made(small_settings, tmp_path):
    for asks in ({"engine": "openai"}, {"refusals": "endpoint"}):
        with pytest.raises(UsageError, match="none is named"):
            prepared(small_settings, tmp_path / "run", prepare=asks)
    assert not (tmp_path / "run" / "prepared").exists()


def test_ctrl_c_while_an_endpoint_answers_keeps_what_it_answered(small_settings, tmp_path, model_answers):
    def stop(record: object) -> None:
        if getattr(record, "done", 0) == 4:
            raise KeyboardInterrupt

    with served(lambda asked, number: completion(model_answers[asked.prompt])) as server:
        config = small_settings(
            tmp_path,
            prepare={"tiny_pairs": NUM_PAIRS, "engine": "openai"},
            endpoint={"base_url": server.url, "concurrency": 1},
        )
        with pytest.raises(StoppedError):
            stage.run(config, Store(tmp_path / "registry"), stop)
        made = stage.run(config, Store(tmp_path / "registry"), lambda _: None, resume=True)
    times = Counter(asked.prompt for asked in server.asked)
    assert len(times) == 3 * NUM_PAIRS
    assert [times[asked.prompt] for asked in server.asked[:4]] == [1, 1, 1, 1]  # a request under way is asked again
    assert made.summary.seconds_generate is None


def test_whole_answers_to_wrapped_benign_prompts_are_targets(small_settings, tmp_path):
    made = prepared(small_settings, tmp_path)
    rows = parquet.read_table(made.path / "batch_outputs_tiny.parquet").to_pylist()
    wrapped = {row["prompt_id"]: row for row in rows if row["side"] == "benign" and row["attack"] and row["kept"]}
    taught = [line for line in (made.path / "sft_dataset_tiny.jsonl").read_text().splitlines() if '"benign"' in line]
    found = [name for name in wrapped if any(f'"id":"{name}"' in line for line in taught)]
    assert found
    for name in found:
        (line,) = (line for line in taught if f'"id":"{name}"' in line)
        assert f'"content":"{wrapped[name]["answer"]}"' in line


def test_answers_in_another_language_are_left_out_and_counted_and_never_taken_for_compliance(
    small_settings, tmp_path, model_answers
):
    first, second, *_ = tiny_pairs(NUM_PAIRS, 42)
    foreign = {first.unsafe[-1].content: FOREIGN, second.safe[-1].content: CHINESE}
    with served(lambda asked, number: completion((model_answers | foreign)[asked.prompt])) as server:
        made = prepared(
            small_settings, tmp_path, prepare={"engine": "openai"}, endpoint={"base_url": server.url, "model": "tiny"}
        )
    rows = parquet.read_table(made.path / "batch_outputs_tiny.parquet").to_pylist()
    left_out = {row["source_id"] for row in rows if not row["kept"] and row["side"] != "benign"}
    assert left_out == {first.id, second.id}
    assert [row["label"] for row in rows if row["answer"] in (FOREIGN, CHINESE)] == [None, None]
    assert {reason: n for reason, n in made.summary.drop_reasons.items() if "not English" in reason} == {
        "the answer to the attacked form has no verdict: not English": 1,
        "the answer to the plain form has no verdict: not English": 1,
    }
    assert not {first.id, second.id} & {row["source_id"] for row in rows if row["batch"] is not None}
