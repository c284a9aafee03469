"""`moe select` makes the selection that prepare would have made, from the stored counts alone."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from moe_cli.artifacts import Store, finished_run
from moe_cli.codec import decode
from moe_cli.errors import ArtifactError, UsageError
from moe_cli.prepare import reselect
from moe_cli.records import Notice, Selection
from tests.prepare.finished import config_of, finished_prepare, found_in, planted_counts


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "registry")


def selected(tmp_path, store, name="again", said=None, **settings):
    notify = (said if said is not None else []).append
    return reselect.run(tmp_path / "prepared", config_of(tmp_path / name, **settings), store, notify)


def test_the_same_settings_give_the_same_bytes_and_the_old_run_is_the_parent(tmp_path, store):
    finished_prepare(tmp_path / "prepared", store)
    said: list[Notice] = []
    made = selected(tmp_path, store, said=said)
    before, after = finished_run(tmp_path / "prepared"), finished_run(made.path, "prepare")
    files = {name: digest for name, digest in before.manifest.files.items() if name != "config.yaml"}
    assert {name: digest for name, digest in after.manifest.files.items() if name != "config.yaml"} == files
    assert after.manifest.parents == {"prepare": before.digest}
    assert after.manifest.base_fingerprint == before.manifest.base_fingerprint
    assert store.newest("prepare", base_fingerprint="f" * 64).path == made.path.resolve()
    assert "the model is not loaded" in said[0].text


@pytest.mark.parametrize("method", ["esft-token", "esft-gate", "gradient", "stability", "random", "frequency", "all"])
def test_every_method_gives_what_prepare_would_have_selected_with_it(tmp_path, store, method):
    finished_prepare(tmp_path / "prepared", store, gradients=True)
    expected = found_in(config_of(tmp_path, method=method), planted_counts(gradients=True))
    made = selected(tmp_path, store, method=method)
    assert made.selection == expected.selection
    masks = np.load(made.path / "batch_expert_masks.npy")
    assert np.array_equal(masks, expected.masks)
    assert decode(Selection, (made.path / "selection.json").read_bytes(), source="s") == expected.selection


def test_random_draws_are_runs_of_their_own_with_different_experts_in_every_batch(tmp_path, store):
    finished_prepare(tmp_path / "prepared", store)
    config = config_of(tmp_path / "control", method="random", threshold=-1.0)
    draws = reselect.run_draws(tmp_path / "prepared", config, store, [].append, num_draws=5)
    assert [draw.path.name for draw in draws] == [f"control_{number}" for number in range(1, 6)]
    assert len({draw.selection.union for draw in draws}) == 5
    assert len({draw.selection.seed for draw in draws} - {config.seed}) == 5
    for draw in draws:
        masks = np.load(draw.path / "batch_expert_masks.npy")
        assert masks.sum((1, 2)).tolist() == [len(draw.selection.candidates)] * len(masks)
        assert finished_run(draw.path, "prepare").manifest.seed == draw.selection.seed
    sizes = [np.bincount([e.layer for e in draw.selection.union], minlength=3).tolist() for draw in draws]
    assert sizes == [sizes[0]] * 5  # as many of each layer


def test_a_random_draw_depends_on_its_seed_and_number_alone(tmp_path, store):
    finished_prepare(tmp_path / "prepared", store)
    config = config_of(tmp_path / "one", method="random", threshold=-1.0)
    (first,) = reselect.run_draws(tmp_path / "prepared", config, store, [].append, num_draws=1)
    config = config_of(tmp_path / "two", method="random", threshold=-1.0)
    again, _ = reselect.run_draws(tmp_path / "prepared", config, store, [].append, num_draws=2)
    assert again.selection == first.selection
    alone = config_of(tmp_path / "alone", method="random", threshold=-1.0).model_copy(
        update={"seed": first.selection.seed}
    )
    assert reselect.run(tmp_path / "prepared", alone, store, [].append).selection == first.selection


def test_nothing_is_drawn_by_another_method_or_where_a_directory_is_taken(tmp_path, store):
    finished_prepare(tmp_path / "prepared", store)
    with pytest.raises(UsageError, match="the method is risk_diff"):
        reselect.run_draws(tmp_path / "prepared", config_of(tmp_path / "c"), store, [].append, num_draws=2)
    (tmp_path / "c_2").mkdir()
    with pytest.raises(ArtifactError, match="c_2 is there already"):
        reselect.run_draws(
            tmp_path / "prepared", config_of(tmp_path / "c", method="random"), store, [].append, num_draws=2
        )
    assert not (tmp_path / "c_1").exists()


def test_conditions_choose_the_planted_experts(tmp_path, store):
    finished_prepare(tmp_path / "prepared", store)
    made = selected(tmp_path, store, select_by="q<0.05")
    assert [(expert.layer, expert.index) for expert in made.selection.union] == [(1, 0), (2, 0)]
    assert made.selection.threshold == 0.0


def test_what_cannot_be_selected_leaves_nothing_behind(tmp_path, store):
    finished_prepare(tmp_path / "prepared", store)
    with pytest.raises(UsageError, match="not measured"):
        selected(tmp_path, store, method="gradient")
    assert not (tmp_path / "again").exists()


def test_a_damaged_or_foreign_run_is_refused(tmp_path, store):
    with pytest.raises(ArtifactError, match="is no run directory"):
        selected(tmp_path, store)
    finished_prepare(tmp_path / "prepared", store)
    counts = tmp_path / "prepared" / "routing_test--model.npz"
    counts.write_bytes(counts.read_bytes() + b"x")
    with pytest.raises(ArtifactError, match="changed since the run wrote it"):
        selected(tmp_path, store)


def test_an_output_directory_that_is_taken_is_refused(tmp_path, store):
    finished_prepare(tmp_path / "prepared", store)
    selected(tmp_path, store)
    with pytest.raises(ArtifactError, match="already holds a complete run"):
        selected(tmp_path, store)


def test_selecting_imports_no_torch():
    code = """
import sys
import moe_cli.cli.select, moe_cli.prepare.reselect, moe_cli.prepare.published
print(sorted({"torch", "transformers", "datasets"} & set(sys.modules)))
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
