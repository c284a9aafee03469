"""What a selection is made of is on disk as the page says, and counts are read back equal."""

from __future__ import annotations

import dataclasses
import xml.etree.ElementTree as ET

import numpy as np
import pyarrow.parquet as pq
import pytest

from moe_cli.artifacts import Store, finished_run
from moe_cli.errors import ArtifactError
from moe_cli.prepare import routing_file
from moe_cli.prepare.prepare_files import draw_pictures, risk_figure
from moe_cli.prepare.routing_file import read_counts, write_counts
from tests.prepare.finished import finished_prepare, planted_counts
from tests.prepare.replayed import replayed, with_reasoning
from tests.prepare.simulated import risk_of


@pytest.fixture
def run(tmp_path):
    found = finished_prepare(tmp_path / "prepared", Store(tmp_path / "registry"))
    return finished_run(tmp_path / "prepared"), found


@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize("top_k", [2, None])
def test_counts_are_read_back_equal(tmp_path, gradients, top_k):
    counts = dataclasses.replace(planted_counts(gradients), top_k=top_k)
    write_counts(tmp_path / "counts.npz", counts)
    again = read_counts(tmp_path / "counts.npz")
    for field in dataclasses.fields(counts):
        assert np.array_equal(getattr(again, field.name), getattr(counts, field.name)), field.name
    assert again.routed.dtype == np.int32


def test_the_file_of_counts_is_what_numpy_writes(tmp_path):
    counts = replayed(5, text=1, harmless=3)
    write_counts(tmp_path / "counts.npz", dataclasses.replace(counts, routed=counts.routed.astype(np.int32)))
    with np.load(tmp_path / "counts.npz") as stored:
        assert stored["routed"].dtype == np.dtype("int32")
        np.savez_compressed(tmp_path / "numpy.npz", allow_pickle=False, **stored)
    assert (tmp_path / "numpy.npz").read_bytes() == (tmp_path / "counts.npz").read_bytes()


def test_of_counts_that_an_earlier_version_stored_over_three_regions_in_64_bits_the_answers_are_read(tmp_path):
    counts = with_reasoning(replayed(9, text=1, harmless=4))
    write_counts(tmp_path / "counts.npz", counts)

    def widen(name, array):
        """As that version stored it: the answer, the prompt and its last token."""
        if name not in ("routed", "seen", "gates"):
            return array.astype(np.int64) if array.dtype.kind == "i" else array
        others = np.stack([array * 2, np.zeros_like(array)], axis=2)
        wide = np.concatenate([array[:, :, None], others], axis=2)
        return wide if name == "gates" else wide.astype(np.int64)

    with np.load(tmp_path / "counts.npz") as stored:
        np.savez_compressed(tmp_path / "old.npz", **{name: widen(name, stored[name]) for name in stored.files})
    here, there = read_counts(tmp_path / "counts.npz"), read_counts(tmp_path / "old.npz")
    assert there.routed.dtype == np.int32
    for field in ("routed", "seen", "gates", "crossed"):
        assert np.array_equal(getattr(there, field), getattr(here, field)), field
    assert np.array_equal(there.reasoning.routed, here.reasoning.routed)
    assert np.array_equal(there.harmless.routed, here.harmless.routed)


def test_counts_in_blocks_of_a_few_pairs_are_the_same(tmp_path, monkeypatch):
    counts = replayed(9, text=1, harmless=4)
    write_counts(tmp_path / "counts.npz", counts)
    whole = read_counts(tmp_path / "counts.npz")
    monkeypatch.setattr(routing_file, "BLOCK_BYTES", 2000)  # of two pairs
    small = read_counts(tmp_path / "counts.npz")
    assert np.array_equal(small.routed, whole.routed) and np.array_equal(small.gates, whole.gates)
    assert np.array_equal(small.crossed, whole.crossed) and np.array_equal(small.seen, whole.seen)
    wrong = counts.routed.copy()
    wrong[8, 1, 0, 7] = counts.seen[8, 1] + 1  # of the last pair
    write_counts(tmp_path / "wrong.npz", dataclasses.replace(counts, routed=wrong))
    with pytest.raises(ArtifactError, match="routed counts more tokens than were seen"):
        read_counts(tmp_path / "wrong.npz")


def test_counts_that_32_bits_do_not_hold_are_refused(tmp_path):
    counts = planted_counts()
    write_counts(tmp_path / "counts.npz", dataclasses.replace(counts, seen=counts.seen + 2**31))
    with pytest.raises(ArtifactError, match="seen counts more tokens than one answer can have"):
        read_counts(tmp_path / "counts.npz")


def test_counts_of_replays_are_read_back_equal_and_those_of_another_shape_are_refused(tmp_path):
    counts = replayed(4, text=1, harmless=3)
    write_counts(tmp_path / "counts.npz", counts)
    again = read_counts(tmp_path / "counts.npz")
    assert np.array_equal(again.crossed, counts.crossed)
    for field in dataclasses.fields(counts.harmless):
        assert np.array_equal(getattr(again.harmless, field.name), getattr(counts.harmless, field.name)), field.name
    write_counts(tmp_path / "cut.npz", dataclasses.replace(counts, crossed=counts.crossed[1:]))
    with pytest.raises(ArtifactError, match=r"crossed is int64 \[3, 2, 1, 8\], not whole numbers \[4, 2, 1, 8\]"):
        read_counts(tmp_path / "cut.npz")


def test_counts_of_reasoning_are_read_back_equal_and_without_any_the_file_is_as_it_was(tmp_path):
    bare = replayed(4, text=1, harmless=3)
    counts = with_reasoning(bare)
    write_counts(tmp_path / "counts.npz", counts)
    again = read_counts(tmp_path / "counts.npz")
    for field in dataclasses.fields(counts.reasoning):
        assert np.array_equal(getattr(again.reasoning, field.name), getattr(counts.reasoning, field.name)), field.name
    write_counts(tmp_path / "bare.npz", bare)
    assert read_counts(tmp_path / "bare.npz").reasoning is None
    with np.load(tmp_path / "bare.npz") as stored, np.load(tmp_path / "counts.npz") as more:
        assert not [name for name in stored.files if "reasoning" in name]
        assert {name for name in more.files if "reasoning" not in name} == set(stored.files)
        assert all(np.array_equal(stored[name], more[name]) for name in stored.files)
        np.savez(tmp_path / "part.npz", **{name: more[name] for name in more.files if name != "reasoning_gates"})
    with pytest.raises(ArtifactError, match="only a part of the counts of reasoning"):
        read_counts(tmp_path / "part.npz")


def test_the_turns_of_the_answers_are_read_back_equal_and_begin_with_1(tmp_path):
    counts = replayed(3)
    turns = np.array([[1, 1], [1, 3], [2, 2]])
    write_counts(tmp_path / "counts.npz", dataclasses.replace(counts, turns=turns))
    assert np.array_equal(read_counts(tmp_path / "counts.npz").turns, turns)
    write_counts(tmp_path / "wrong.npz", dataclasses.replace(counts, turns=turns - 1))
    with pytest.raises(ArtifactError, match="turns are not counted from 1"):
        read_counts(tmp_path / "wrong.npz")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ("seen", "reasoning_seen counts more tokens than the answers have"),
        ("harmless_seen", "reasoning_harmless_seen counts more tokens than the answers have"),
        ("routed", "reasoning_routed counts more tokens than were seen"),
        ("crossed", "reasoning_crossed counts more tokens than were seen"),
        ("harmless", "reasoning_harmless counts more tokens than were seen"),
    ],
)
def test_more_reasoning_than_there_are_tokens_is_refused(tmp_path, changed, message):
    counts = with_reasoning(replayed(4, text=1, harmless=3))
    wrong = dataclasses.replace(counts.reasoning, **{changed: getattr(counts.reasoning, changed) + 100})
    write_counts(tmp_path / "counts.npz", dataclasses.replace(counts, reasoning=wrong))
    with pytest.raises(ArtifactError, match=message):
        read_counts(tmp_path / "counts.npz")


def test_counts_that_lack_an_array_or_have_another_shape_are_refused_by_name(tmp_path):
    counts = planted_counts()
    np.savez(tmp_path / "old.npz", routed=counts.routed, seen=counts.seen)
    with pytest.raises(ArtifactError, match="lacks clusters, gates, layers, pair_ids, top_k"):
        read_counts(tmp_path / "old.npz")
    write_counts(tmp_path / "cut.npz", dataclasses.replace(counts, routed=counts.routed[1:]))
    with pytest.raises(ArtifactError, match=r"routed is int64 \[17, 2, 2, 8\], not whole numbers \[18, 2, 2, E\]"):
        read_counts(tmp_path / "cut.npz")


def test_the_risk_table_holds_every_batch_and_the_run_with_null_for_the_undefined(run):
    finished, found = run
    table = pq.read_table(finished.file("risk_diff_test--model.parquet")).to_pandas()
    assert len(table) == (3 + 1) * 16
    whole, batch = table[table.batch.isna()], table[table.batch == 1]
    assert whole.risk_diff.to_numpy() == pytest.approx(found.risk.pooled.ravel())
    assert whole.stability.to_numpy() == pytest.approx(found.risk.stability.ravel())
    assert whole[["layer", "expert"]].to_numpy().tolist() == [[layer, e] for layer in (1, 2) for e in range(8)]
    assert whole.selected.sum() == len(found.selection.union)
    assert batch.risk_diff.to_numpy() == pytest.approx(found.risk.per_batch[1].ravel())
    assert batch.lower.to_numpy() == pytest.approx(found.risk.batch_lower[1].ravel())
    assert batch[["risk_diff_mean", "p_value", "q_value", "stability"]].isna().all(axis=None)


def test_an_undefined_risk_difference_is_null_on_disk(tmp_path, run):
    finished, _ = run
    schema = pq.read_table(finished.file("risk_diff_test--model.parquet"))
    for name in schema.column_names:
        values = schema[name]
        assert name == "selected" or not values.null_count or values.to_pandas().isna().sum() == values.null_count


def test_the_pictures_belong_to_the_run_and_are_the_same_bytes_again(tmp_path, run):
    finished, found = run
    names = ("risk_diff_test--model.png", "risk_diff_test--model.svg")
    assert set(names) < set(finished.manifest.files)
    draw_pictures(tmp_path, found.risk, found.selection)
    for name in names:
        assert (tmp_path / name).read_bytes() == finished.file(name).read_bytes()
    assert (tmp_path / names[0]).read_bytes().startswith(b"\x89PNG")
    text = "".join(ET.parse(tmp_path / names[1]).getroot().itertext())
    assert "risk difference (unsafe - safe)" in text and "selected by risk_diff" in text


def test_the_picture_marks_each_selected_expert_and_survives_undefined_values_and_odd_names(run):
    _, found = run
    axes = risk_figure(found.risk, found.selection).axes[0]
    marked = {(int(y), int(x)) for x, y in axes.collections[0].get_offsets()}
    assert marked == {(found.risk.layers.index(e.layer), e.index) for e in found.selection.union}
    nothing = risk_of([[[np.nan] * 8] * 2], [[np.nan] * 8] * 2)
    odd = dataclasses.replace(found.selection, union=(), base=dataclasses.replace(found.selection.base, name="a$b$c_{"))
    figure = risk_figure(nothing, odd)
    figure.canvas.draw()
    assert "a" in figure.axes[0].get_title()
