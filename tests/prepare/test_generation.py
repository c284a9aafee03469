"""Benign answers that the token limit cuts off: said while answering, named in the hint, mended by a resume."""

from __future__ import annotations

import orjson
import pytest
from pyarrow import parquet

from moe_cli.artifacts import Store, finished_run
from moe_cli.config import MoeConfig, PrepareConfig
from moe_cli.errors import StoppedError, UsageError
from moe_cli.model.engines import TransformersEngine
from moe_cli.prepare import stage
from moe_cli.records import Notice, Progress

FEW = {"tiny_pairs": 16}


@pytest.fixture
def prepare(small_settings, tmp_path):
    """`prepare(name, **settings)` of the tiny model; what it made, and what it said."""

    def run(name, *, resume=False, seen=None, **settings):
        config = small_settings(tmp_path / name, prepare={**FEW, **settings})
        notify = (lambda _: None) if seen is None else seen.append
        return stage.run(config, Store(tmp_path / "registry"), notify, resume=resume)

    return run


def asked_prompts(monkeypatch):
    """How many prompts each engine is given, with its limit."""
    asked, own = [], TransformersEngine.answers

    def answers(engine, prompts, done, keep):
        asked.append((engine.settings.max_new_tokens, len(prompts) - len(done)))
        return own(engine, prompts, done, keep)

    monkeypatch.setattr(TransformersEngine, "answers", answers)
    return asked


def test_benign_prompts_have_their_own_limit_and_are_answered_first(prepare, monkeypatch):
    asked = asked_prompts(monkeypatch)
    made = prepare("run", benign_max_new_tokens=30)
    assert asked == [(30, 16), (24, 32)]
    assert (made.summary.answering.max_new_tokens, made.summary.benign_max_new_tokens) == (24, 30)


def test_the_default_of_benign_prompts_is_never_below_the_one_of_pairs():
    assert PrepareConfig().benign_limit == 768
    assert PrepareConfig(max_new_tokens=1000).benign_limit == 1000
    assert PrepareConfig(max_new_tokens=1000, benign_max_new_tokens=200).benign_limit == 200
    assert PrepareConfig().benign_limit <= MoeConfig().train.max_length * 3 / 4


def test_a_limit_that_is_too_low_is_said_while_answering_and_in_the_hint(prepare):
    seen = []
    with pytest.raises(UsageError, match="no full batch") as caught:
        prepare("run", benign_max_new_tokens=4, seen=seen)
    (warning,) = (place for place, record in enumerate(seen) if isinstance(record, Notice))
    assert "--benign-max-new-tokens" in seen[warning].text
    assert [r.task for r in seen[:warning]] == ["benign"] * warning
    of_benign = [record for record in seen if isinstance(record, Progress) and record.task == "benign"]
    cut_off = of_benign[-1].num_cut_off
    assert cut_off == 15
    assert f"{cut_off} dropped: the benign answer was cut off" in caught.value.message
    begins = f"raise --benign-max-new-tokens ({cut_off} of 16 benign answers were cut off at 4 tokens) and add --resume"
    assert caught.value.hint.startswith(begins)


def test_resumed_with_a_larger_limit_it_answers_only_what_was_cut_off_and_ends_as_if_begun_so(
    prepare, monkeypatch, tmp_path
):
    whole = prepare("whole", benign_max_new_tokens=24)
    with pytest.raises(UsageError, match="no full batch"):
        prepare("run", benign_max_new_tokens=4)
    asked, seen = asked_prompts(monkeypatch), []
    made = prepare("run", benign_max_new_tokens=24, resume=True, seen=seen)
    num_kept = made.summary.num_answers_kept
    assert num_kept == 1
    assert asked == [(24, 16 - num_kept), (24, 0)]
    assert [record.text for record in seen if isinstance(record, Notice)] == [
        f"{num_kept} of 16 answers had ended within another token limit and are kept; "
        f"{16 - num_kept} are made with at most 24 tokens"
    ]
    for name in ("batch_outputs_tiny.parquet", "sft_dataset_tiny.jsonl", "routing_tiny.npz", "selection.json"):
        assert (made.path / name).read_bytes() == (whole.path / name).read_bytes(), name
    manifest = finished_run(made.path, "prepare").manifest
    assert manifest.config["prepare"]["benign_max_new_tokens"] == 24
    assert orjson.loads((made.path / "summary.json").read_bytes())["benign_max_new_tokens"] == 24
    assert not [path.name for path in made.path.iterdir() if path.name.startswith((".answers", ".verdicts"))]


def test_resumed_with_a_smaller_limit_it_holds_no_longer_answer(prepare, monkeypatch):
    monkeypatch.setattr(stage, "count_routing", interrupt)
    with pytest.raises(StoppedError):
        prepare("run", benign_max_new_tokens=24)
    monkeypatch.undo()
    made = prepare("run", benign_max_new_tokens=6, resume=True)
    rows = parquet.read_table(made.path / "batch_outputs_tiny.parquet").to_pylist()
    benign = [row for row in rows if row["side"] == "benign"]
    assert max(row["num_answer_tokens"] for row in benign) == 6
    assert 0 < made.summary.cut_off["benign"][0] < 16
    fresh = prepare("fresh", benign_max_new_tokens=6)
    assert (made.path / "batch_outputs_tiny.parquet").read_bytes() == (
        fresh.path / "batch_outputs_tiny.parquet"
    ).read_bytes()


def interrupt(*args, **kwargs):
    raise KeyboardInterrupt
