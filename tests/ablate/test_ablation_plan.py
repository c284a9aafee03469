"""What an ablation refuses, it refuses in the plan: before a model is loaded or a file written, and in a dry run."""

from __future__ import annotations

from pathlib import Path

import pytest

from moe_cli.ablate import ablation_plan, stage
from moe_cli.ablate.ablation_plan import preview_ablation
from moe_cli.artifacts import Store, finished_run, layout
from moe_cli.errors import ArtifactError, UsageError
from moe_cli.prepare import stage as prepare
from moe_cli.records import Expert, TrainingSummary
from moe_cli.train import stage as train
from tests.ablate.test_ablate_stage import PAGES, settings
from tests.small_experiment import settings_of_small_experiment


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A prepare run of the tiny model, the selective arm of it, and their registry."""
    directory = tmp_path_factory.mktemp("plan")
    config, store = settings_of_small_experiment(directory), Store(directory / "registry")
    prepare.run(config, store, lambda _: None)
    train.run("selective", config, store, lambda _: None)
    return directory


def refusals(directory: Path, output: Path, on: str | None, **ablate) -> list[Exception]:
    """How the ablation and its dry run end."""
    store, config = Store(directory / "registry"), settings(directory, output, **ablate)
    found = []
    try:
        _, refusal = preview_ablation(directory / "prepared", on, config, store)
        found.append(refusal)
    except (UsageError, ArtifactError) as error:
        found.append(error)
    with pytest.raises((UsageError, ArtifactError)) as ended:
        stage.run(directory / "prepared", on, config, store, lambda _: None, pages=PAGES)
    return [*found, ended.value]


@pytest.mark.parametrize("on", ["nowhere", "tiny"])
def test_what_is_ablated_instead_of_the_model_must_be_a_training_run(trained, tmp_path, on):
    for refusal in refusals(trained, tmp_path / "out", on):
        assert type(refusal) is UsageError
        assert refusal.message == f"there is no training run in {on}, and --on names one"
        assert "moe runs list" in refusal.hint
    assert not (tmp_path / "out").exists()


def test_a_run_of_another_kind_is_no_training_run(trained, tmp_path):
    for refusal in refusals(trained, tmp_path / "out", str(trained / "prepared")):
        assert type(refusal) is ArtifactError and "prepare" in refusal.message
    assert not (tmp_path / "out").exists()


@pytest.fixture
def thirteen_of_a_layer(monkeypatch):
    """13 of the 16 experts of layer 2 are selected, of which a token gets 4."""
    experts = tuple(Expert(layer=2, index=index) for index in range(13))
    monkeypatch.setattr(ablation_plan, "selected_experts", lambda *_: experts)


@pytest.mark.usefixtures("thirteen_of_a_layer")
def test_a_layer_that_cannot_spare_so_many_experts_is_refused_before_anything_is_written(trained, tmp_path):
    for refusal in refusals(trained, tmp_path / "out", None):
        assert type(refusal) is UsageError
        assert "without 13 of its 16 experts layer 2 has fewer than the 4 that a token is given" in refusal.message
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("thirteen_of_a_layer")
def test_where_nothing_takes_their_place_any_number_may_be_taken_away(trained, tmp_path):
    config = settings(trained, tmp_path / "out", intervention="zero")
    _, refusal = preview_ablation(trained / "prepared", None, config, Store(trained / "registry"))
    assert refusal is None


def test_a_trained_run_is_ablated_in_place_of_the_model_it_was_made_from(trained, tmp_path):
    store = Store(trained / "registry")
    results = {}
    for on in (None, str(trained / "selective"), str(trained / "selective" / layout.FINAL_MODEL)):
        config = settings(trained, tmp_path / f"out-{len(results)}")
        results[on] = stage.run(trained / "prepared", on, config, store, lambda _: None, pages=PAGES)
    base, arm, model = (result.ablation for result in results.values())
    run = finished_run(trained / "selective", "selective")
    training = run.record(layout.METADATA, TrainingSummary)
    assert (base.run, base.training_mode) == (None, "base")
    assert (arm.run, arm.training_mode) == (str(run.path), "selective_experts")
    assert base.model.fingerprint == training.base.fingerprint != training.trained_fingerprint
    assert arm.model.fingerprint == training.trained_fingerprint
    assert arm.intervention == base.intervention
    assert arm.untouched.text_loss != base.untouched.text_loss
    assert (model.untouched, model.run) == (arm.untouched, arm.run)
    parents = [finished_run(result.path, "ablation").manifest.parents for result in results.values()]
    prepared = finished_run(trained / "prepared", "prepare").digest
    assert parents == [{"prepare": prepared}, *[{"prepare": prepared, "run": run.digest}] * 2]
