"""The extra replays of a prepare run on the tiny model: what they count, and that they change nothing else."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from moe_cli.artifacts import Store, layout
from moe_cli.codec import decode
from moe_cli.config import ModelConfig
from moe_cli.errors import StoppedError, UsageError
from moe_cli.model.chat import encode_prompt
from moe_cli.model.load import load_model
from moe_cli.model.routing import record_routing
from moe_cli.prepare import replays, reselect, stage
from moe_cli.prepare.harmless import HarmlessPrompts
from moe_cli.prepare.replays import count_routing
from moe_cli.prepare.routing_file import read_counts
from moe_cli.records import SIDES, Progress, Selection
from moe_cli.tiny.language import tiny_benign, tiny_pairs
from tests.builders import generation

NUM_PAIRS = 16


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("replays")


@pytest.fixture(scope="module")
def prepare(small_settings, place):
    def run(name, *, resume=False, seen=None, **settings):
        config = small_settings(place / name, prepare={"tiny_pairs": NUM_PAIRS, **settings})
        notify = (lambda _: None) if seen is None else seen.append
        return stage.run(config, Store(place / "registry"), notify, resume=resume)

    return run


@pytest.fixture(scope="module")
def both(prepare):
    """The same run with the extra replays and without, and what the first one said."""
    seen = []
    return prepare("with", seen=seen), prepare("without", extra_replays=False), seen


def counts_in(made):
    return read_counts(made.path / layout.routing_counts("tiny"))


def test_they_change_no_answer_batch_count_mask_or_evidence(both):
    there, here, _ = both
    for name in (layout.MASKS, layout.training_examples("tiny"), layout.batch_outputs("tiny")):
        assert (there.path / name).read_bytes() == (here.path / name).read_bytes(), name
    counts, bare = counts_in(there), counts_in(here)
    for field in ("routed", "seen", "gates"):
        assert np.array_equal(getattr(counts, field), getattr(bare, field)), field
    tables = [pq.read_table(made.path / layout.risk_table("tiny")) for made in (there, here)]
    added = ["text", "wrapper", "harm"]
    assert tables[0].drop(added).equals(tables[1].drop(added))
    assert tables[0]["text"].null_count == 0 and tables[1]["text"].null_count == len(tables[1])
    assert (bare.crossed, bare.harmless, here.selection.parts) == (None, None, None)


def test_every_form_is_counted_with_the_answer_to_the_other_one_and_harmless_forms_with_one_answer():
    loaded, pairs = load_model(ModelConfig(name="tiny")), tiny_pairs(3, 42)
    random = np.random.default_rng(0)
    ids = {f"{pair.id}#{side}": random.integers(5, 40, size=random.integers(3, 9)) for pair in pairs for side in SIDES}
    answers = {name: generation(name, token_ids=tuple(some.tolist())) for name, some in ids.items()}
    exchanged = {
        name: answers[name.replace("unsafe", "x").replace("safe", "unsafe").replace("x", "safe")] for name in ids
    }
    harmless = [
        HarmlessPrompts(pair.id, pair.cluster, pair.safe, pair.unsafe, answers[f"{pair.id}#unsafe"])
        for pair in pairs[:2]
    ]
    one_answer = {f"{pair.id}#{side}": answers[f"{pair.id}#unsafe"] for pair in pairs for side in SIDES}
    found = count(loaded, pairs, answers, harmless, crossed=True)
    assert np.array_equal(found.crossed, count(loaded, pairs, exchanged).routed)
    assert np.array_equal(found.harmless.routed, count(loaded, pairs, one_answer).routed[:2])
    assert found.harmless.seen.tolist() == found.seen[:2, 1].tolist()
    assert np.array_equal(found.crossed.sum(-1), np.repeat(4 * found.seen[:, ::-1, None], 4, axis=2))  # top-4, 4 layers
    assert np.array_equal(found.routed, count(loaded, pairs, answers).routed)


def count(loaded, pairs, answers, *more, **settings):
    return count_routing(
        loaded, pairs, answers, *more, **settings, batch_size=4, batch_tokens=4096, notify=lambda _: None
    )


def test_harmless_prompts_are_kept_ones_with_both_forms_drawn_by_the_seed(both):
    harmless = counts_in(both[0]).harmless
    offered = {prompt.id: prompt for prompt in tiny_benign(NUM_PAIRS, 42)}
    assert len(harmless.prompt_ids) == len(set(harmless.prompt_ids)) == NUM_PAIRS
    assert set(harmless.prompt_ids) == set(offered)
    assert harmless.clusters == tuple(offered[name].cluster for name in harmless.prompt_ids)
    for prompt in offered.values():
        assert prompt.other_form is not None and prompt.other_form != prompt.messages


def test_progress_counts_the_extra_replays_and_the_selection_holds_the_shares(both):
    made, _, seen = both
    done = [record for record in seen if isinstance(record, Progress) and record.task == "routing"]
    assert {record.total for record in done} == {6 * NUM_PAIRS} and done[-1].done == 6 * NUM_PAIRS
    stored = decode(Selection, (made.path / layout.SELECTION).read_bytes(), source="selection")
    assert stored.parts == made.selection.parts
    assert stored.parts.text.share + stored.parts.prompt.share == pytest.approx(1)
    assert stored.parts.num_harmless == NUM_PAIRS
    assert stored.parts.harm.lower < stored.parts.harm.share < stored.parts.harm.upper
    table = pq.read_table(made.path / layout.risk_table("tiny")).to_pylist()
    of_run = {(row["layer"], row["expert"]): row["harm"] for row in table if row["batch"] is None}
    assert [one.harm for one in stored.evidence] == [
        of_run[one.expert.layer, one.expert.index] for one in stored.evidence
    ]
    assert stored.parts.harm.share * stored.parts.risk_diff == pytest.approx(sum(one.harm for one in stored.evidence))


def test_a_selection_of_an_earlier_version_has_no_harm_and_is_read(both):
    stored = json.loads((both[0].path / layout.SELECTION).read_bytes())
    for part in (stored["parts"], *stored["evidence"]):
        del part["harm"]
    earlier = decode(Selection, json.dumps(stored).encode(), source="selection")
    assert earlier.parts == dataclasses.replace(both[0].selection.parts, harm=None)
    assert {one.harm for one in earlier.evidence} == {None}


def test_a_resume_counts_them_too(prepare, both, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(stage, "count_routing", interrupt)
        with pytest.raises(StoppedError):
            prepare("resumed")
    made = prepare("resumed", resume=True)
    assert made.selection == both[0].selection


def test_pairs_that_bring_a_harmless_prompt_have_it_answered_and_counted_in_both_forms(prepare, place, monkeypatch):
    rows = [
        {
            "id": pair.id,
            "goal": pair.goal,
            "safe": pair.safe[0].content,
            "unsafe": pair.unsafe[0].content,
            "benign": benign.messages[0].content,
            "benign_attacked": benign.other_form[0].content,
        }
        for pair, benign in zip(tiny_pairs(NUM_PAIRS, 42), tiny_benign(2 * NUM_PAIRS, 7)[::2], strict=True)
    ]
    file = place / "pairs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    made = prepare("brought", pairs=[str(file)], benign_ratio=0.0, method="did")
    counts = counts_in(made)
    assert counts.harmless.prompt_ids == tuple(f"{name}#harmless" for name in counts.pair_ids)
    assert counts.harmless.clusters == counts.clusters
    assert (counts.harmless.seen > 0).all()
    assert made.selection.parts.num_harmless == len(set(counts.clusters))
    outputs = pq.read_table(made.path / layout.batch_outputs("tiny"))
    assert set(outputs["side"].to_pylist()) == {"safe", "unsafe"}  # it is neither judged nor trained on


# --- reasoning --------------------------------------------------------------------------------------------------------


def first_half(_tokenizer, _prompt, answer):
    """As if the first half of an answer were reasoning."""
    return ((0, len(answer) // 2),) if len(answer) > 1 else ()


def test_reasoning_is_counted_at_its_tokens_in_their_context_and_changes_no_other_count(monkeypatch):
    loaded, pairs = load_model(ModelConfig(name="tiny")), tiny_pairs(3, 42)
    random = np.random.default_rng(0)
    ids = {f"{pair.id}#{side}": random.integers(5, 40, size=random.integers(3, 9)) for pair in pairs for side in SIDES}
    answers = {name: generation(name, token_ids=tuple(some.tolist())) for name, some in ids.items()}
    harmless = [
        HarmlessPrompts(pair.id, pair.cluster, pair.safe, pair.unsafe, answers[f"{pair.id}#unsafe"]) for pair in pairs
    ]
    bare = count(loaded, pairs, answers, harmless, crossed=True)
    asked = count(loaded, pairs, answers, harmless, crossed=True, reasoning=True)
    monkeypatch.setattr(replays, "reasoning_tokens", first_half)
    found = count(loaded, pairs, answers, harmless, crossed=True)
    for counts in (asked, found):
        for name in ("routed", "seen", "gates", "crossed"):
            assert np.array_equal(getattr(counts, name), getattr(bare, name)), name
        assert np.array_equal(counts.harmless.routed, bare.harmless.routed)
    assert bare.reasoning is None
    assert not asked.reasoning.seen.any() and not asked.reasoning.routed.any() and not asked.reasoning.gates.any()

    def alone(turns, answer, parts=2):
        """Counts [L, E] and weights [L, E] of the first of so many parts of the answer, in one row without padding."""
        prompt, span = encode_prompt(loaded.tokenizer, turns), len(answer.token_ids) // parts
        row = torch.tensor([prompt + answer.token_ids])
        inside = torch.zeros(1, *row.shape, dtype=torch.bool)
        inside[..., len(prompt) : len(prompt) + span] = True
        with record_routing(loaded.model) as recorder, torch.no_grad():
            recorder.watch(inside)
            loaded.model(input_ids=row, use_cache=False)
            return recorder.counts()[0, 0].numpy(), recorder.gates()[0, 0].numpy(), span

    reasoning = found.reasoning
    for row, pair in enumerate(pairs):
        of_side = {side: answers[f"{pair.id}#{side}"] for side in SIDES}
        for place, (turns, own, other) in enumerate(
            ((pair.safe, of_side["safe"], of_side["unsafe"]), (pair.unsafe, of_side["unsafe"], of_side["safe"]))
        ):
            routed, gates, span = alone(turns, own)
            assert np.array_equal(reasoning.routed[row, place], routed)
            assert reasoning.gates[row, place] == pytest.approx(gates, abs=1e-5)
            assert reasoning.seen[row, place] == span
            routed, gates, span = alone(turns, own, parts=1)
            assert np.array_equal(found.routed[row, place], routed)
            assert found.gates[row, place] == pytest.approx(gates, abs=1e-5)
            assert found.seen[row, place] == span == len(own.token_ids)
            assert np.array_equal(reasoning.crossed[row, place], alone(turns, other)[0])
            assert np.array_equal(reasoning.harmless[row, place], alone(turns, of_side["unsafe"])[0])
        assert reasoning.harmless_seen[row] == len(of_side["unsafe"].token_ids) // 2


def test_a_model_that_thinks_is_selected_on_the_part_that_is_asked_for_and_anew_from_its_counts(
    prepare, both, place, small_settings, monkeypatch
):
    with monkeypatch.context() as patch:
        patch.setattr(replays, "reasoning_tokens", first_half)
        whole = prepare("thinking")
        spoken = prepare("spoken", answer_part="spoken")
    name = layout.routing_counts("tiny")
    assert (whole.path / name).read_bytes() == (spoken.path / name).read_bytes()
    assert (whole.selection.answer_part, spoken.selection.answer_part) == ("whole", "spoken")
    assert whole.selection.evidence == both[0].selection.evidence
    assert whole.selection.evidence != spoken.selection.evidence
    assert "of the counted answer tokens are reasoning, which the judge does not read" in whole.selection.warnings[-1]
    assert "is not counted: --answer-part spoken" in spoken.selection.warnings[-1]
    settings = {"tiny_pairs": NUM_PAIRS, "answer_part": "spoken"}
    again = reselect.run(
        whole.path, small_settings(place / "anew", prepare=settings), Store(place / "registry"), lambda _: None
    )
    assert again.selection == spoken.selection
    assert (again.path / layout.MASKS).read_bytes() == (spoken.path / layout.MASKS).read_bytes()


def test_of_a_model_that_does_not_think_the_spoken_part_is_the_whole_and_no_count_of_reasoning_is_stored(
    prepare, both, place, small_settings
):
    with np.load(both[0].path / layout.routing_counts("tiny")) as stored:
        assert not [name for name in stored.files if "reasoning" in name]
    spoken = prepare("unthinking", answer_part="spoken")
    assert spoken.selection.evidence == both[0].selection.evidence
    assert spoken.selection.union == both[0].selection.union
    settings = {"tiny_pairs": NUM_PAIRS, "answer_part": "reasoning"}
    for source, name in ((both[0], "refused"), (spoken, "refused-too")):
        config = small_settings(place / name, prepare=settings)
        with pytest.raises(UsageError, match="the reasoning part of the answers is asked for"):
            reselect.run(source.path, config, Store(place / "registry"), lambda _: None)
